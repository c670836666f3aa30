//! Branches that were really open at the same time, as a repository's merges tell; and a repository to take them from
//! where there is none.
//!
//! Shared by `benches/forecast.rs` and the suite over real repositories. Starts nothing: texts of git go in, texts come out.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Branches that were open when the main line was at `target`, in the order in which they landed later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    /// A commit of the main line.
    pub(crate) target: String,
    /// The branches' tips.
    pub(crate) tips: Vec<String>,
}

/// The sizes of sets that are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// A set of fewer branches is none.
    pub(crate) least: usize,
    /// Of more that were open at once several sets are made.
    pub(crate) most: usize,
    /// How many commits of the main line later the last of a set has landed.
    pub(crate) ahead: usize,
}

/// Sets of branches, none in two of them: the largest first, of as many branches the newest. `history` is what `git rev-list --topo-order --reverse
/// --parents HEAD` says: all commits with their parents, parents first, HEAD last.
///
/// A branch is what a commit of the main line (the first parents of HEAD) merged as its second parent. It was open where
/// everything of that line that it builds on was there, and itself was not.
pub(crate) fn sets(history: &str, wanted: Wanted) -> Vec<Set> {
    let commits: Vec<Vec<&str>> = history.lines().map(|line| line.split_whitespace().collect()).collect();
    let numbers: HashMap<&str, usize> = commits.iter().enumerate().map(|(at, row)| (row[0], at)).collect();
    let parent = |at: usize| commits[at].get(1).map(|parent| numbers[parent]);
    let mut main: Vec<usize> =
        std::iter::successors(commits.len().checked_sub(1), |&at| parent(at)).collect();
    main.reverse();
    let places: HashMap<usize, usize> = main.iter().enumerate().map(|(place, &at)| (at, place)).collect();

    // Where on the main line the newest commit is that each commit builds on.
    let mut forks = Vec::<Option<usize>>::with_capacity(commits.len());
    for (at, row) in commits.iter().enumerate() {
        let inherited = row[1..].iter().filter_map(|parent| forks[numbers[parent]]).max();
        forks.push(places.get(&at).copied().or(inherited));
    }

    // By where they landed: what was merged there, and from where on it was open.
    let mut seen = HashSet::new();
    let mut landed = BTreeMap::<usize, (usize, &str)>::new();
    for (place, &at) in main.iter().enumerate() {
        if let [_, _, tip] = commits[at][..]
            && let Some(fork) = forks[numbers[tip]]
            && fork < place
            && seen.insert(tip)
        {
            landed.insert(place, (fork, tip));
        }
    }

    let mut sets = Vec::new();
    for size in (wanted.least.max(1)..=wanted.most).rev() {
        for at in (0..main.len()).rev() {
            loop {
                let after = landed.range(at + 1..=at + wanted.ahead);
                let open = after.filter(|(_, (fork, _))| *fork <= at).take(size);
                let places: Vec<usize> = open.map(|(place, _)| *place).collect();
                if places.len() < size {
                    break;
                }
                let tips = places.iter().filter_map(|place| landed.remove(place));
                let tips = tips.map(|(_, tip)| tip.to_owned()).collect();
                sets.push(Set { target: commits[main[at]][0].to_owned(), tips });
            }
        }
    }
    sets
}

/// A repository for `git fast-import`: `files` files of 60 lines on `main`, and four rounds of `branches` branches that edit
/// some lines, add and move files, all merged one after the other; of two who changed the same line the later one won.
pub(crate) fn generated(files: usize, branches: usize, seed: u64) -> Vec<u8> {
    let mut made =
        Generated { stream: Vec::new(), mark: 0, random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 };
    let mut tree: BTreeMap<String, Vec<String>> =
        (0..files).map(|n| (format!("d{:02}/e{}/f{n:04}.txt", n % 80, n % 7), made.lines(n))).collect();
    let mut main = made.commit("main", &[], &tree, tree.keys());
    for round in 0..4 {
        let start = main.clone();
        let begun: Vec<_> =
            (0..branches).map(|n| (n, made.edits(&tree, files, round * branches + n))).collect();
        let base = tree.clone();
        for (n, edits) in begun {
            let mut own = base.clone();
            let touched: Vec<String> = edits.iter().flat_map(|edit| edit.on(&mut own)).collect();
            let tip = made.commit(&format!("work-{round}-{n}"), &[&start], &own, touched.iter());
            let touched: Vec<String> = edits.iter().flat_map(|edit| edit.on(&mut tree)).collect();
            main = made.commit("main", &[&main, &tip], &tree, touched.iter());
        }
    }
    made.stream.extend_from_slice(b"done\n");
    made.stream
}

/// What a branch does with one file.
enum Edit {
    /// Writes a line anew.
    Line(String, usize, String),
    /// Puts lines before one.
    Insert(String, usize, String),
    /// Moves it.
    Move(String, String),
    /// Makes it.
    Add(String, String),
}

impl Edit {
    /// Does it, as far as that is possible, and says which paths are others now.
    fn on(&self, tree: &mut BTreeMap<String, Vec<String>>) -> Vec<String> {
        match self {
            Self::Line(path, line, text) => {
                let Some(old) = tree.get_mut(path).and_then(|lines| lines.get_mut(*line)) else {
                    return Vec::new();
                };
                old.clone_from(text);
                vec![path.clone()]
            }
            Self::Insert(path, line, text) => {
                let Some(lines) = tree.get_mut(path) else { return Vec::new() };
                lines.insert((*line).min(lines.len()), text.clone());
                vec![path.clone()]
            }
            Self::Move(from, to) => {
                let Some(lines) = tree.remove(from) else { return Vec::new() };
                tree.insert(to.clone(), lines);
                vec![from.clone(), to.clone()]
            }
            Self::Add(path, text) => {
                tree.insert(path.clone(), vec![text.clone()]);
                vec![path.clone()]
            }
        }
    }
}

struct Generated {
    stream: Vec<u8>,
    mark: usize,
    random: u64,
}

impl Generated {
    fn below(&mut self, n: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).expect("31 bits fit") % n
    }

    fn lines(&mut self, file: usize) -> Vec<String> {
        (0..60).map(|line| format!("{file} {line} {}\n", self.below(1_000_000))).collect()
    }

    /// A few edits of the files of which much is changed, one in fifty of all, most of them near their beginnings.
    fn edits(&mut self, tree: &BTreeMap<String, Vec<String>>, files: usize, who: usize) -> Vec<Edit> {
        let mut edits = Vec::new();
        for n in 0..3 {
            let path = tree.keys().nth(self.below((files / 50).max(1))).expect("a file").clone();
            let text = format!("changed by {who} {n}\n");
            edits.push(match self.below(10) {
                0 => Edit::Move(path.clone(), format!("moved/{}", path.replace('/', "-"))),
                1 => Edit::Add(format!("{path}-{}", self.below(3)), text),
                2 | 3 => Edit::Insert(path, self.below(61), text),
                4 | 5 => Edit::Line(path, self.below(60), text),
                _ => Edit::Line(path, self.below(12), text),
            });
        }
        edits
    }

    /// A commit of these paths of a tree, on top of the first of its parents.
    fn commit<'a>(
        &mut self,
        branch: &str,
        parents: &[&str],
        tree: &BTreeMap<String, Vec<String>>,
        paths: impl Iterator<Item = &'a String>,
    ) -> String {
        self.mark += 1;
        let mark = self.mark;
        let time = 1_700_000_000 + self.mark;
        let mut lines = vec![
            format!("commit refs/heads/{branch}\nmark :{mark}\n"),
            format!("committer Ada <ada@example.org> {time} +0000\ndata 5\nwork\n\n"),
        ];
        lines
            .extend(["from", "merge"].iter().zip(parents).map(|(word, parent)| format!("{word} {parent}\n")));
        lines.extend(paths.map(|path| match tree.get(path).map(|lines| lines.concat()) {
            Some(content) => format!("M 100644 inline {path}\ndata {}\n{content}\n", content.len()),
            None => format!("D {path}\n"),
        }));
        self.stream.extend(lines.concat().into_bytes());
        format!(":{mark}")
    }
}
