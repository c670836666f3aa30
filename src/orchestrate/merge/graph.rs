//! Which branches can land together: a set without conflicts between its members, as heavy as possible.
//!
//! Pure: it knows numbers of branches, not branches.

/// The conflicts and dependencies of some branches, numbered from 0.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    /// What each is worth.
    pub(super) weights: Vec<u64>,
    /// Which others each conflicts with.
    pub(super) conflicts: Vec<Vec<bool>>,
    /// Which others each needs to have landed before, transitively.
    pub(super) needs: Vec<Vec<usize>>,
    /// Which cannot land at all, because they conflict with the target.
    pub(super) blocked: Vec<bool>,
}

/// Up to this many branches the heaviest set is found exactly.
const EXACT: usize = 20;

impl Graph {
    /// An order in which everything comes after what it needs; otherwise heaviest first, then as numbered.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.len());
        let mut left: Vec<usize> = (0..self.len()).collect();
        left.sort_by_key(|&i| std::cmp::Reverse(self.weights[i]));
        while !left.is_empty() {
            let ready = left.iter().position(|&i| self.needs[i].iter().all(|need| order.contains(need)));
            // Branches that contain each other are equal: whichever is first.
            order.push(left.remove(ready.unwrap_or(0)));
        }
        order
    }

    /// Which branches to land: no two of them conflict, each one's needs are among them, and their weight is the
    /// greatest possible (up to 20 branches; beyond that, a good one).
    pub(super) fn independent(&self) -> Vec<bool> {
        let order = self.order();
        let mut search = Search {
            graph: self,
            chosen: vec![false; self.len()],
            best: vec![false; self.len()],
            best_weight: 0,
        };
        if self.len() <= EXACT {
            let left = order.iter().map(|&i| self.weights[i]).sum();
            search.exact(&order, 0, left);
        } else {
            search.greedy(&order);
        }
        search.best
    }

    /// With how many others each conflicts.
    pub(super) fn degree(&self, i: usize) -> usize {
        self.conflicts[i].iter().filter(|&&conflicts| conflicts).count()
    }

    fn len(&self) -> usize {
        self.weights.len()
    }
}

struct Search<'a> {
    graph: &'a Graph,
    chosen: Vec<bool>,
    best: Vec<bool>,
    best_weight: u64,
}

impl Search<'_> {
    fn fits(&self, i: usize) -> bool {
        let graph = self.graph;
        !graph.blocked[i]
            && graph.needs[i].iter().all(|&need| self.chosen[need])
            && !graph.conflicts[i].iter().zip(&self.chosen).any(|(&conflicts, &chosen)| conflicts && chosen)
    }

    /// Tries each branch of `order` in and out; `left` is what the rest could add at most.
    fn exact(&mut self, order: &[usize], weight: u64, left: u64) {
        if weight > self.best_weight {
            self.best_weight = weight;
            self.best.clone_from(&self.chosen);
        }
        let Some((&i, rest)) = order.split_first() else { return };
        if weight + left <= self.best_weight {
            return;
        }
        let own = self.graph.weights[i];
        if self.fits(i) {
            self.chosen[i] = true;
            self.exact(rest, weight + own, left - own);
            self.chosen[i] = false;
        }
        self.exact(rest, weight, left - own);
    }

    /// Takes, again and again, whichever still fits and conflicts least.
    fn greedy(&mut self, order: &[usize]) {
        while let Some(&i) =
            order.iter().filter(|&&i| !self.chosen[i] && self.fits(i)).min_by_key(|&&i| self.graph.degree(i))
        {
            self.chosen[i] = true;
        }
        self.best.clone_from(&self.chosen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrate::testing::Rng;

    fn graph(weights: &[u64], conflicts: &[(usize, usize)], needs: &[(usize, usize)]) -> Graph {
        let n = weights.len();
        let mut matrix = vec![vec![false; n]; n];
        for &(a, b) in conflicts {
            matrix[a][b] = true;
            matrix[b][a] = true;
        }
        let needs =
            (0..n).map(|i| needs.iter().filter(|(a, _)| *a == i).map(|&(_, b)| b).collect()).collect();
        Graph { weights: weights.to_vec(), conflicts: matrix, needs, blocked: vec![false; n] }
    }

    fn members(set: &[bool]) -> Vec<usize> {
        (0..set.len()).filter(|&i| set[i]).collect()
    }

    #[test]
    fn the_heaviest_set_wins() {
        let star = graph(&[10, 10, 10, 10], &[(0, 1), (0, 2), (0, 3)], &[]);
        assert_eq!(members(&star.independent()), [1, 2, 3]);
        let heavy = graph(&[40, 10, 10, 10], &[(0, 1), (0, 2), (0, 3)], &[]);
        assert_eq!(members(&heavy.independent()), [0]);
    }

    #[test]
    fn needs_hold() {
        let chain = graph(&[10, 10, 10], &[(1, 2)], &[(2, 0)]);
        assert_eq!(chain.order(), [0, 1, 2]);
        let mut blocked = chain.clone();
        blocked.blocked[0] = true;
        assert_eq!(members(&blocked.independent()), [1], "2 needs 0, which cannot land");
        assert_eq!(graph(&[1, 9], &[], &[(1, 0)]).order(), [0, 1]);
    }

    #[test]
    fn exact_is_no_worse_than_every_subset_and_greedy_is_valid() {
        let mut rng = Rng::new(7);
        for round in 0..40 {
            let n = if round % 8 == 0 { 24 } else { 2 + rng.below(9) };
            let weights: Vec<u64> = (0..n).map(|_| 1 + rng.below(5) as u64).collect();
            let mut conflicts = Vec::new();
            for a in 0..n {
                conflicts.extend((a + 1..n).filter(|_| rng.below(3) == 0).map(|b| (a, b)));
            }
            let graph = graph(&weights, &conflicts, &[]);
            let set = graph.independent();
            assert!(!conflicts.iter().any(|&(a, b)| set[a] && set[b]));
            let weight = |set: u32| (0..n).filter(|i| set & (1 << i) != 0).map(|i| weights[i]).sum::<u64>();
            if n <= 12 {
                let free =
                    |set: u32| !conflicts.iter().any(|(a, b)| set & (1 << a) != 0 && set & (1 << b) != 0);
                let best = (0..1_u32 << n).filter(|&set| free(set)).map(weight).max();
                let found: u64 = members(&set).into_iter().map(|i| weights[i]).sum();
                assert_eq!(Some(found), best);
            }
        }
    }
}
