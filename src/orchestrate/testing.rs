//! Generated histories for tests: many branches that edit, move, delete and retype the same few files.

use crate::git::testing::Sandbox;
use crate::model::ObjectId;
use crate::process::Command;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A small generator, so that a failing seed can be run again.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits fit") % n
    }
}

type Tree = BTreeMap<String, (&'static str, Vec<u8>)>;

/// Imports `main` and branches `b0` to `b<n-1>` into a new repository, and returns it with the branches' tips.
/// Most branches start at the first commit of `main`, which may have moved on; some are stacked on another.
pub(crate) fn history(seed: u64, branches: usize) -> (Sandbox, Vec<ObjectId>) {
    build(seed, branches, false)
}

/// The same with everything that git merges in a way of its own: submodules, other line ends, names that differ in case,
/// missing last newlines, lines that look alike, moved blocks, attributes.
pub(crate) fn odd_history(seed: u64, branches: usize) -> (Sandbox, Vec<ObjectId>) {
    build(seed, branches, true)
}

fn build(seed: u64, branches: usize, odd: bool) -> (Sandbox, Vec<ObjectId>) {
    let sandbox = Sandbox::new(&[]);
    let mut rng = Rng::new(seed);
    let mut stream = Vec::new();
    let mut base = first_tree(&mut rng);
    if odd {
        let alike = (0..120).map(|_| ALIKE[rng.below(ALIKE.len())]).collect::<String>();
        base.insert("alike".to_owned(), ("100644", alike.into_bytes()));
        if rng.below(4) == 0 {
            let attributes = "lib/one merge=union\nsrc/y -merge\nb merge=binary\nlib/two diff=word\n";
            base.insert(".gitattributes".to_owned(), ("100644", attributes.into()));
        }
    }
    let mut mark = 0;
    let mut commit = |branch: &str, from: &str, tree: &Tree, stream: &mut Vec<u8>| {
        mark += 1;
        let mut head = format!("commit refs/heads/{branch}\nmark :{mark}\n");
        writeln!(head, "committer Ada <ada@example.org> {} +0000\ndata 2\nc\n", 1_700_000_000 + mark)
            .expect("text");
        if !from.is_empty() {
            writeln!(head, "from {from}").expect("text");
        }
        head.push_str("deleteall\n");
        stream.extend_from_slice(head.as_bytes());
        for (path, (mode, content)) in tree {
            if *mode == SUBMODULE {
                stream.extend_from_slice(format!("M {mode} ").as_bytes());
                stream.extend_from_slice(content);
                stream.extend_from_slice(format!(" {path}\n").as_bytes());
                continue;
            }
            stream.extend_from_slice(format!("M {mode} inline {path}\ndata {}\n", content.len()).as_bytes());
            stream.extend_from_slice(content);
            stream.push(b'\n');
        }
        format!(":{mark}")
    };
    let first = commit("main", "", &base, &mut stream);
    let mut ends: Vec<(String, Tree)> = Vec::new();
    for number in 0..branches {
        let stacked = !ends.is_empty() && rng.below(6) == 0;
        let (mut from, mut tree) =
            if stacked { ends[rng.below(ends.len())].clone() } else { (first.clone(), base.clone()) };
        for _ in 0..=rng.below(2) {
            for _ in 0..=rng.below(3) {
                if odd && rng.below(2) == 0 {
                    change_oddly(&mut tree, &mut rng);
                } else {
                    change(&mut tree, &mut rng, number);
                }
            }
            from = commit(&format!("b{number}"), &from, &tree, &mut stream);
        }
        ends.push((from, tree));
    }
    if rng.below(2) == 0 {
        let mut tree = base.clone();
        change(&mut tree, &mut rng, 99);
        commit("main", &first, &tree, &mut stream);
    }
    stream.extend_from_slice(b"done\n");
    let path = sandbox.path();
    let import = Command::new("git").env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir(&path);
    import
        .args(["fast-import", "--quiet", "--done", "--force"])
        .stdin(stream)
        .read()
        .expect("a valid stream");
    sandbox.git(&["reset", "-q", "--hard"]);
    let tips = (0..branches).map(|n| sandbox.git(&["rev-parse", &format!("b{n}")]).parse().expect("an id"));
    let tips = tips.collect();
    (sandbox, tips)
}

fn first_tree(rng: &mut Rng) -> Tree {
    let mut tree = Tree::new();
    for name in ["a", "b", "lib/one", "lib/two", "lib/three", "src/x/deep", "src/x/more", "src/y"] {
        let lines = (0..30).map(|n| format!("{name} {n} {}\n", rng.below(1000))).collect::<Vec<_>>().concat();
        tree.insert(name.to_owned(), ("100644", lines.into_bytes()));
    }
    tree.insert("bin".to_owned(), ("100644", b"\0\x01\x02".to_vec()));
    tree.insert("run".to_owned(), ("100755", b"#!/bin/sh\necho one\necho two\n".to_vec()));
    tree
}

fn change(tree: &mut Tree, rng: &mut Rng, who: usize) {
    let own = tree.iter().filter(|(_, (mode, _))| *mode != SUBMODULE);
    let paths: Vec<String> = own.map(|(path, _)| path.clone()).collect();
    let Some(path) = paths.get(rng.below(paths.len().max(1))) else { return };
    let word = format!("changed by {who} {}", rng.below(1000));
    match rng.below(12) {
        0..=4 => edit(&mut tree.get_mut(path).expect("it is there").1, rng, &word),
        5 => {
            let file = tree.remove(path).expect("it is there");
            tree.insert(format!("{path}-moved{}", rng.below(2)), file);
        }
        6 => {
            let (from, to) = if rng.below(2) == 0 { ("lib/", "library/") } else { ("src/x/", "src/z/") };
            for path in paths.iter().filter(|path| path.starts_with(from)) {
                let file = tree.remove(path).expect("it is there");
                tree.insert(path.replacen(from, to, 1), file);
            }
        }
        7 => {
            tree.remove(path);
        }
        8 => {
            let place = ["lib/", "src/x/", ""][rng.below(3)];
            tree.insert(format!("{place}new{}", rng.below(3)), ("100644", format!("{word}\n").into_bytes()));
        }
        9 => {
            let file = tree.get_mut(path).expect("it is there");
            file.0 = if file.0 == "100644" { "100755" } else { "100644" };
        }
        10 => {
            tree.insert("bin".to_owned(), ("100644", [b"\0", word.as_bytes()].concat()));
        }
        _ => {
            // A file becomes a directory, or a directory's place is taken by a file.
            if tree.remove("a").is_some() {
                tree.insert("a/inside".to_owned(), ("100644", format!("{word}\n").into_bytes()));
            } else {
                tree.retain(|path, _| !path.starts_with("a/"));
                tree.insert("a".to_owned(), ("120000", b"b".to_vec()));
            }
        }
    }
}

const SUBMODULE: &str = "160000";

/// Lines of which a file has many.
const ALIKE: [&str; 6] = ["\n", "{\n", "}\n", "    }\n", "one\n", "two\n"];

fn change_oddly(tree: &mut Tree, rng: &mut Rng) {
    let paths: Vec<String> =
        tree.iter().filter(|(_, file)| file.0 == "100644").map(|(path, _)| path.clone()).collect();
    let Some(path) = paths.get(rng.below(paths.len().max(1))) else { return };
    let file = &mut tree.get_mut(path).expect("it is there").1;
    match rng.below(9) {
        0..=3 => {
            if let Some((_, alike)) = tree.get_mut("alike") {
                for _ in 0..=rng.below(3) {
                    edit_alike(alike, rng);
                }
            }
        }
        4 => {
            let id = format!("{:040x}", 1 + rng.below(3));
            tree.insert("sub".to_owned(), (SUBMODULE, id.into_bytes()));
        }
        5 => *file = String::from_utf8_lossy(file).replace("\r\n", "\n").replace('\n', "\r\n").into_bytes(),
        6 => {
            let file = tree.remove(path).expect("it is there");
            tree.insert(path.to_uppercase(), file);
        }
        7 => drop(file.pop()),
        _ => {
            let Ok(text) = std::str::from_utf8(file) else { return };
            let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
            if lines.len() > 8 {
                let block: Vec<_> = lines.drain(2..5).collect();
                let at = rng.below(lines.len());
                lines.splice(at..at, block);
                *file = lines.concat().into_bytes();
            }
        }
    }
}

/// Adds, takes away or replaces a few lines by others that look like their neighbours.
fn edit_alike(content: &mut Vec<u8>, rng: &mut Rng) {
    let Ok(text) = std::str::from_utf8(content) else { return };
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = rng.below(lines.len() + 1);
    let end = (at + rng.below(4)).min(lines.len());
    let new: Vec<&str> = (0..rng.below(4)).map(|_| ALIKE[rng.below(ALIKE.len())]).collect();
    lines.splice(at..end, new);
    *content = lines.concat().into_bytes();
}

fn edit(content: &mut Vec<u8>, rng: &mut Rng, word: &str) {
    let Ok(text) = std::str::from_utf8(content) else { return };
    let mut lines: Vec<&str> = text.lines().collect();
    let at = rng.below(lines.len() + 1);
    match rng.below(3) {
        0 if at < lines.len() => lines[at] = word,
        1 if at + 2 < lines.len() => drop(lines.drain(at..at + 2)),
        _ => lines.insert(at, word),
    }
    *content = (lines.join("\n") + "\n").into_bytes();
}
