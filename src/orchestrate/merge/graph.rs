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

/// Up to this many branches the heaviest set is looked for exactly.
const EXACT: usize = 128;
/// How many sets are looked at before the best one so far is good enough. (40 branches of which every third pair
/// conflicts need some hundreds.)
const LOOKS: usize = 100_000;

impl Graph {
    /// An order in which everything comes after what it needs; otherwise heaviest first, then as numbered.
    pub(super) fn order(&self) -> Vec<usize> {
        self.order_by(|i| std::cmp::Reverse(self.weights[i]))
    }

    /// An order in which everything comes after what it needs; otherwise by `key`, then as numbered.
    pub(super) fn order_by<K: Ord>(&self, key: impl Fn(usize) -> K) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.len());
        let mut left: Vec<usize> = (0..self.len()).collect();
        left.sort_by_key(|&i| key(i));
        while !left.is_empty() {
            let ready = left.iter().position(|&i| self.needs[i].iter().all(|need| order.contains(need)));
            // Branches that contain each other are equal: whichever is first.
            order.push(left.remove(ready.unwrap_or(0)));
        }
        order
    }

    /// Which branches to land: no two of them conflict, each one's needs are among them, and their weight is the
    /// greatest possible (of very many branches, or after very many looks: a good one).
    pub(super) fn independent(&self) -> Vec<bool> {
        let good = self.swapped(self.greedy());
        if self.len() > EXACT { good } else { Search::new(self, &good).finish() }
    }

    /// With how many others each conflicts.
    pub(super) fn degree(&self, i: usize) -> usize {
        self.conflicts[i].iter().filter(|&&conflicts| conflicts).count()
    }

    /// What a set of branches is worth.
    pub(super) fn weight(&self, set: &[bool]) -> u64 {
        self.weights.iter().zip(set).filter(|(_, chosen)| **chosen).map(|(weight, _)| weight).sum()
    }

    fn len(&self) -> usize {
        self.weights.len()
    }

    /// With everything it needs.
    fn closure(&self, i: usize) -> impl Iterator<Item = usize> {
        std::iter::once(i).chain(self.needs[i].iter().copied())
    }

    /// Whether it can join `chosen`.
    fn fits(&self, i: usize, chosen: &[bool]) -> bool {
        !chosen[i]
            && !self.blocked[i]
            && self.needs[i].iter().all(|&need| chosen[need])
            && !self.conflicts[i].iter().zip(chosen).any(|(&conflicts, &chosen)| conflicts && chosen)
    }

    /// Takes, again and again, whichever still fits and conflicts least.
    fn greedy(&self) -> Vec<bool> {
        self.filled(vec![false; self.len()], &self.order())
    }

    fn filled(&self, mut chosen: Vec<bool>, order: &[usize]) -> Vec<bool> {
        while let Some(&i) = order.iter().filter(|&&i| self.fits(i, &chosen)).min_by_key(|&&i| self.degree(i))
        {
            chosen[i] = true;
        }
        chosen
    }

    /// Takes in what is worth more than what has to go for it, as long as there is such a thing.
    fn swapped(&self, mut chosen: Vec<bool>) -> Vec<bool> {
        let order = self.order();
        loop {
            let better = order.iter().filter(|&&i| !chosen[i]).find_map(|&i| {
                let mut other = chosen.clone();
                for member in self.closure(i) {
                    other[member] = true;
                    for (rival, stays) in other.iter_mut().enumerate() {
                        *stays &= !self.conflicts[member][rival];
                    }
                }
                // What went takes along what needs it, which may be what should have come.
                while let Some(orphan) =
                    (0..self.len()).find(|&j| other[j] && self.needs[j].iter().any(|&need| !other[need]))
                {
                    other[orphan] = false;
                }
                let other = self.filled(other, &order);
                let is_free = self.closure(i).all(|member| !self.blocked[member]);
                (is_free && other[i] && self.weight(&other) > self.weight(&chosen)).then_some(other)
            });
            match better {
                Some(other) => chosen = other,
                None => return chosen,
            }
        }
    }
}

/// A set of branches, a bit each.
type Set = u128;

/// Branch and bound over sets.
struct Search<'a> {
    graph: &'a Graph,
    conflicts: Vec<Set>,
    needs: Vec<Set>,
    /// Which need each.
    dependents: Vec<Set>,
    best: Set,
    best_weight: u64,
    looks: usize,
}

fn members(set: Set) -> impl Iterator<Item = usize> {
    let mut rest = set;
    std::iter::from_fn(move || {
        let next = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
        rest &= rest - 1;
        Some(next)
    })
}

impl<'a> Search<'a> {
    /// From a set that is good already.
    fn new(graph: &'a Graph, good: &[bool]) -> Self {
        let bits =
            |flags: &[bool]| flags.iter().enumerate().fold(0, |set, (i, &on)| set | Set::from(on) << i);
        let needs: Vec<Set> =
            graph.needs.iter().map(|needs| needs.iter().fold(0, |set, &need| set | 1 << need)).collect();
        let dependents = (0..graph.len())
            .map(|i| (0..graph.len()).filter(|&j| needs[j] >> i & 1 == 1).fold(0, |set, j| set | 1 << j))
            .collect();
        Self {
            graph,
            conflicts: graph.conflicts.iter().map(|row| bits(row)).collect(),
            needs,
            dependents,
            best: bits(good),
            best_weight: graph.weight(good),
            looks: LOOKS,
        }
    }

    fn finish(mut self) -> Vec<bool> {
        self.look(0, self.open(), 0);
        (0..self.graph.len()).map(|i| self.best >> i & 1 == 1).collect()
    }

    /// What can land at all.
    fn open(&self) -> Set {
        let free = |&i: &usize| self.graph.closure(i).all(|member| !self.graph.blocked[member]);
        (0..self.graph.len()).filter(free).fold(0, |set, i| set | 1 << i)
    }

    /// Goes on from `chosen` with what is `open`: what conflicts with nothing chosen, and needs nothing beside the two.
    fn look(&mut self, chosen: Set, open: Set, weight: u64) {
        if weight > self.best_weight {
            (self.best, self.best_weight) = (chosen, weight);
        }
        if open == 0 || self.looks == 0 || weight + self.bound(open) <= self.best_weight {
            return;
        }
        self.looks -= 1;
        let degree = |i: usize| (self.conflicts[i] & open).count_ones();
        let i = members(open).max_by_key(|&i| (degree(i), self.graph.weights[i])).expect("it is not empty");
        if degree(i) == 0 {
            self.look(chosen | open, 0, weight + members(open).map(|i| self.graph.weights[i]).sum::<u64>());
            return;
        }
        let group = (1 << i) | self.needs[i] & open;
        let rivals = members(group).fold(0, |set, member| set | self.conflicts[member]);
        if group & rivals == 0 {
            let gained: u64 = members(group).map(|member| self.graph.weights[member]).sum();
            self.look(chosen | group, self.without(open & !group, rivals), weight + gained);
        }
        self.look(chosen, self.without(open, 1 << i), weight);
    }

    /// Without `gone` and what needs any of it.
    fn without(&self, open: Set, gone: Set) -> Set {
        members(gone).fold(open & !gone, |open, i| open & !self.dependents[i])
    }

    /// At most this much can be added: of branches that all conflict with each other one can land.
    fn bound(&self, open: Set) -> u64 {
        let (mut rest, mut sum) = (open, 0);
        while rest != 0 {
            let first = rest.trailing_zeros() as usize;
            let (mut clique, mut heaviest) = (self.conflicts[first] & rest, self.graph.weights[first]);
            rest &= !(1 << first);
            while clique != 0 {
                let next = clique.trailing_zeros() as usize;
                heaviest = heaviest.max(self.graph.weights[next]);
                rest &= !(1 << next);
                clique &= self.conflicts[next] & rest;
            }
            sum += heaviest;
        }
        sum
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

    fn chosen(set: &[bool]) -> Vec<usize> {
        (0..set.len()).filter(|&i| set[i]).collect()
    }

    #[test]
    fn the_heaviest_set_wins() {
        let star = graph(&[10, 10, 10, 10], &[(0, 1), (0, 2), (0, 3)], &[]);
        assert_eq!(chosen(&star.independent()), [1, 2, 3]);
        let heavy = graph(&[40, 10, 10, 10], &[(0, 1), (0, 2), (0, 3)], &[]);
        assert_eq!(chosen(&heavy.independent()), [0]);
    }

    #[test]
    fn needs_hold() {
        let chain = graph(&[10, 10, 10], &[(1, 2)], &[(2, 0)]);
        assert_eq!(chain.order(), [0, 1, 2]);
        let mut blocked = chain.clone();
        blocked.blocked[0] = true;
        assert_eq!(chosen(&blocked.independent()), [1], "2 needs 0, which cannot land");
        assert_eq!(graph(&[1, 9], &[], &[(1, 0)]).order(), [0, 1]);
    }

    /// A graph in which about one pair in `sparse` conflicts, and some branches need earlier ones.
    fn random(rng: &mut Rng, n: usize, sparse: usize) -> Graph {
        let weights: Vec<u64> = (0..n).map(|_| 1 + rng.below(5) as u64).collect();
        let (mut conflicts, mut needs) = (Vec::new(), Vec::<(usize, usize)>::new());
        for a in 0..n {
            conflicts.extend((a + 1..n).filter(|_| rng.below(sparse) == 0).map(|b| (a, b)));
        }
        for i in 1..n {
            if rng.below(4) == 0 {
                let need = rng.below(i);
                let further: Vec<_> =
                    needs.iter().filter(|(a, _)| *a == need).map(|&(_, b)| (i, b)).collect();
                needs.push((i, need));
                needs.extend(further);
            }
        }
        let mut graph = graph(&weights, &conflicts, &needs);
        graph.blocked = (0..n).map(|_| rng.below(8) == 0).collect();
        graph
    }

    fn is_valid(graph: &Graph, set: &[bool]) -> bool {
        chosen(set).into_iter().all(|i| {
            !graph.blocked[i]
                && graph.needs[i].iter().all(|&need| set[need])
                && !chosen(set).into_iter().any(|j| graph.conflicts[i][j])
        })
    }

    #[test]
    fn the_set_is_the_heaviest_of_all_and_swapping_alone_gives_a_valid_one() {
        let mut rng = Rng::new(7);
        for _ in 0..120 {
            let n = 2 + rng.below(11);
            let graph = random(&mut rng, n, 3);
            let set = graph.independent();
            assert!(is_valid(&graph, &set), "{graph:?}");
            let subsets = (0..1_u32 << n).map(|set| (0..n).map(|i| set >> i & 1 == 1).collect::<Vec<_>>());
            let best = subsets.filter(|set| is_valid(&graph, set)).map(|set| graph.weight(&set)).max();
            assert_eq!(Some(graph.weight(&set)), best, "{graph:?}");
            let quick = graph.swapped(graph.greedy());
            assert!(is_valid(&graph, &quick) && graph.weight(&quick) <= graph.weight(&set), "{graph:?}");
        }
    }

    #[test]
    fn forty_branches_are_solved_exactly_and_many_more_are_ordered() {
        let mut rng = Rng::new(11);
        for sparse in [2, 3, 6, 20] {
            let graph = random(&mut rng, 40, sparse);
            let mut search = Search::new(&graph, &[false; 40]);
            search.look(0, search.open(), 0);
            assert!(search.looks > 0, "all sets that could be better were looked at (one pair in {sparse})");
            assert_eq!(search.best_weight, graph.weight(&graph.independent()));
        }
        let many = random(&mut rng, 150, 6);
        assert!(is_valid(&many, &many.independent()));
    }
}
