//! Merging in the object database, with `git merge-tree` as the judge. No checkout, no index, no ref moves.

use super::diff::numbered;
use super::{Error, Repository, path_text};
use crate::model::{Conflict, ObjectId};
use bstr::{BStr, BString, ByteSlice};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::sync::OnceLock;

/// What merging two commits gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeTree {
    /// The merged tree; where it conflicts, files hold markers.
    pub tree: ObjectId,
    /// Whether git merged everything by itself. A merge can be unclean without a conflicting path.
    pub clean: bool,
    /// The paths that conflict, in git's order.
    pub conflicts: Vec<Conflict>,
    /// What git said, in its order; also about what it merged by itself.
    pub messages: Vec<MergeMessage>,
}

impl MergeTree {
    /// The conflicting paths of a merge of two commits as these have them, each once, with whether the two have things of
    /// different kinds there. Then git makes a path of its own for one that it moves aside: `<path>~<commit>`.
    pub fn own_paths(&self, commits: [&ObjectId; 2]) -> Vec<(String, bool)> {
        if self.clean {
            return Vec::new();
        }
        let conflicts = self.conflicts.iter().map(|conflict| &conflict.path);
        // A merge can stop without such a path.
        let said = self.messages.iter().filter(|_| self.conflicts.is_empty());
        let said = said.filter(|message| message.kind != "Auto-merging").flat_map(|message| &message.paths);
        let mut own = BTreeMap::<String, bool>::new();
        for path in conflicts.chain(said) {
            let before = commits.iter().find_map(|id| path.split_once(&format!("~{id}")));
            let (path, aside) = before.map_or((path.as_str(), false), |(before, _)| (before, true));
            *own.entry(path.to_owned()).or_default() |= aside;
        }
        own.into_iter().collect()
    }
}

/// One of git's remarks on a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeMessage {
    /// The paths it speaks of, as [`path_text`] spells them.
    pub paths: Vec<String>,
    /// git's short type: `CONFLICT (contents)`, `Auto-merging`.
    pub kind: String,
    /// The sentence.
    pub text: String,
}

/// What [`Repository::merge_file`] does with hunks that conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Favour {
    /// Leaves markers of this many characters, with all three versions between them.
    Markers(usize),
    /// Takes the first side's lines.
    Ours,
    /// Takes the other side's lines.
    Theirs,
}

/// Three versions of one file, to be merged by lines.
#[derive(Debug, Clone, Copy)]
pub struct FileMerge<'a> {
    /// The common ancestor's blob; none if both sides added the file.
    pub base: Option<&'a ObjectId>,
    /// The first side's blob.
    pub ours: &'a ObjectId,
    /// The other side's blob.
    pub theirs: &'a ObjectId,
    /// What markers call the first side, the base and the other side.
    pub labels: [&'a str; 3],
}

/// The oldest git that has `merge-tree --stdin`.
const NEEDED: (u32, u32) = (2, 39);
/// The oldest git that is told merge bases there.
const TAKES_BASES: (u32, u32) = (2, 40);

impl Repository {
    /// The best common ancestor; `None` for unrelated histories. git's first one if there are several.
    pub fn merge_base(&self, a: &ObjectId, b: &ObjectId) -> Result<Option<ObjectId>, Error> {
        let command = self.git(["merge-base", "--end-of-options", a.as_str(), b.as_str()]);
        let output = command.output()?;
        match output.status.code() {
            Some(0) => Ok(output.stdout.trim().to_str_lossy().parse().ok()),
            Some(1) => Ok(None),
            _ => Err(command.failed(&output).into()),
        }
    }

    /// How many commits only `a` has, and how many only `b`.
    pub fn ahead_behind(&self, a: &ObjectId, b: &ObjectId) -> Result<(u32, u32), Error> {
        let range = format!("{a}...{b}");
        let text = self.read(["rev-list", "--left-right", "--count", "--end-of-options", &range])?;
        let counts = text.split_once('\t').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        counts.ok_or_else(|| Error::unexpected("rev-list", text.as_bytes()))
    }

    /// Merges `theirs` into `ours` (commits) without touching any checkout, as `git merge` would.
    ///
    /// Unrelated histories are merged too; whoever must not asks [`Repository::merge_base`] first.
    pub fn merge_tree(&self, ours: &ObjectId, theirs: &ObjectId) -> Result<MergeTree, Error> {
        let mut merges = self.merge_trees(&[(ours.clone(), theirs.clone())])?;
        Ok(merges.pop().expect("one answer for one pair"))
    }

    /// Merges each pair, in one process. Nothing of one merge enters another.
    pub fn merge_trees(&self, pairs: &[(ObjectId, ObjectId)]) -> Result<Vec<MergeTree>, Error> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        self.require_merge_tree()?;
        let input: Vec<_> = pairs.iter().map(|(ours, theirs)| format!("{ours} {theirs}\n")).collect();
        self.ask_merges(&input.concat(), pairs.len())
    }

    /// Says of each merge what git makes of it, and keeps nothing: neither the trees nor what is in them.
    ///
    /// With its merge base, where there is exactly one, git need not look for it.
    pub fn forecast_merges(
        &self,
        merges: &[(Option<&ObjectId>, &ObjectId, &ObjectId)],
    ) -> Result<Vec<MergeTree>, Error> {
        if merges.is_empty() {
            return Ok(Vec::new());
        }
        self.require_merge_tree()?;
        let told = version(self.version()).is_none_or(|version| version >= TAKES_BASES);
        let line = |(base, ours, theirs): &(Option<&ObjectId>, &ObjectId, &ObjectId)| match base {
            Some(base) if told => format!("{base} -- {ours} {theirs}\n"),
            _ => format!("{ours} {theirs}\n"),
        };
        self.in_parts(merges, |repo, merges| {
            let input: Vec<_> = merges.iter().map(line).collect();
            if repo.scratch.is_some() {
                return repo.ask_merges(&input.concat(), merges.len());
            }
            let dir = tempfile::tempdir().map_err(|e| Error::file("create", std::env::temp_dir(), e))?;
            repo.with_scratch(dir.path())?.ask_merges(&input.concat(), merges.len())
        })
    }

    fn ask_merges(&self, input: &str, count: usize) -> Result<Vec<MergeTree>, Error> {
        let args =
            ["merge-tree", "--write-tree", "--allow-unrelated-histories", "--messages", "-z", "--stdin"];
        let out = self.git(args).stdin(input).read()?;
        let mut fields = Fields { rest: &out };
        let merges = (0..count).map(|_| fields.merge()).collect::<Result<Vec<_>, _>>()?;
        if fields.rest.is_empty() { Ok(merges) } else { Err(Error::unexpected("merge-tree", fields.rest)) }
    }

    /// Those of `paths` that git does not merge by their lines alone, because an attribute or the configuration says so:
    /// by a driver of the user's, as a union, not at all, or after other line ends.
    pub fn merged_otherwise(&self, paths: &BTreeSet<&BStr>) -> Result<HashSet<BString>, Error> {
        let configured = |key: &str| self.config(key).is_some();
        if configured("merge.default") || configured("merge.renormalize") {
            return Ok(paths.iter().map(|&path| path.to_owned()).collect());
        }
        let any = numbered(0);
        let mut input = Vec::new();
        for path in paths.iter().copied().chain([any.as_str().into()]) {
            input.extend_from_slice(path);
            input.push(0);
        }
        let out = self.git(["check-attr", "-z", "--stdin", "merge", "diff"]).stdin(input).read()?;
        let (mut fields, mut found) = (out.split(|&byte| byte == 0), HashSet::new());
        while let (Some(path), Some(attribute), Some(value)) = (fields.next(), fields.next(), fields.next()) {
            match (attribute, value) {
                (b"merge", b"unspecified" | b"set") => {}
                (b"merge", _) => {
                    found.insert(path.into());
                }
                // Where everything is text, binary content is not told from other content.
                (_, b"set") if path == any.as_bytes() => {
                    found.extend(paths.iter().map(|&path| path.to_owned()));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Merges one file by lines, as `git merge-file` does. `None` if one version is binary.
    pub fn merge_file(&self, file: FileMerge<'_>, favour: Favour) -> Result<Option<Vec<u8>>, Error> {
        let read = |blob: Option<&ObjectId>| blob.map(|id| self.read_blob(id)).transpose();
        let base = read(file.base)?.unwrap_or_default();
        let (ours, theirs) = (self.read_blob(file.ours)?, self.read_blob(file.theirs)?);
        let marked;
        let args = match favour {
            Favour::Markers(size) => {
                marked = format!("--marker-size={size}");
                vec!["--diff3", &marked]
            }
            Favour::Ours => vec!["--ours"],
            Favour::Theirs => vec!["--theirs"],
        };
        Ok(self.merge_versions([&ours, &base, &theirs], &args, file.labels)?.map(|(merged, _)| merged))
    }

    /// How many conflicts `git merge-file` has between two versions of a file whose common ancestor is `base`, at most
    /// 127. `None` if one is binary.
    pub fn conflicts_between(&self, base: &[u8], ours: &[u8], theirs: &[u8]) -> Result<Option<i32>, Error> {
        Ok(self.merge_versions([ours, base, theirs], &[], ["", "", ""])?.map(|(_, conflicts)| conflicts))
    }

    fn merge_versions(
        &self,
        versions: [&[u8]; 3],
        args: &[&str],
        labels: [&str; 3],
    ) -> Result<Option<(Vec<u8>, i32)>, Error> {
        let dir = tempfile::tempdir().map_err(|e| Error::file("create", std::env::temp_dir(), e))?;
        let mut command = self.git(["merge-file", "-p"]).args(args);
        for label in labels {
            command = command.args(["-L", label]);
        }
        for (name, content) in ["ours", "base", "theirs"].iter().zip(versions) {
            let path = dir.path().join(name);
            fs::write(&path, content).map_err(|e| Error::file("write", &path, e))?;
            command = command.arg(&path);
        }
        let output = command.output()?;
        match output.status.code() {
            Some(conflicts @ 0..=127) => Ok(Some((output.stdout, conflicts))),
            _ if output.stderr.contains_str("binary") => Ok(None),
            _ => Err(command.failed(&output).into()),
        }
    }

    /// Refuses a git without `merge-tree --stdin`, in one sentence.
    fn require_merge_tree(&self) -> Result<(), Error> {
        let found = self.version();
        if version(found).is_none_or(|version| version >= NEEDED) {
            return Ok(());
        }
        let (major, minor) = NEEDED;
        Err(Error::TooOld { what: "merge", found: found.to_owned(), needed: format!("{major}.{minor}") })
    }

    /// What git calls itself. Asked once in a process.
    fn version(&self) -> &'static str {
        static FOUND: OnceLock<String> = OnceLock::new();
        match FOUND.get() {
            Some(found) => found,
            None => FOUND.get_or_init(|| self.read(["version"]).unwrap_or_default()),
        }
    }
}

/// `git version 2.47.3 (Apple Git-1)`; `None` for what no release is called.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_ascii_whitespace().nth(2)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Parses what `merge-tree -z --stdin` prints for one pair.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn parse_merge(out: &[u8]) -> Option<MergeTree> {
    let mut fields = Fields { rest: out };
    fields.merge().ok().filter(|_| fields.rest.is_empty())
}

/// Reads what `merge-tree -z --stdin` prints: fields that end with NUL; an empty one ends a section.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<&'a [u8], Error> {
        let (field, rest) =
            self.rest.split_once_str(b"\0").ok_or_else(|| Error::unexpected("merge-tree", self.rest))?;
        self.rest = rest;
        Ok(field)
    }

    /// Status, tree, conflicting entries, empty, messages, empty.
    fn merge(&mut self) -> Result<MergeTree, Error> {
        let clean = match self.next()? {
            b"1" => true,
            b"0" => false,
            other => return Err(Error::unexpected("merge-tree", other)),
        };
        let tree = self.next()?;
        let tree = object_id(tree).ok_or_else(|| Error::unexpected("merge-tree", tree))?;
        let mut conflicts = Vec::<Conflict>::new();
        loop {
            let entry = self.next()?;
            if entry.is_empty() {
                break;
            }
            stage(entry, &mut conflicts).ok_or_else(|| Error::unexpected("merge-tree", entry))?;
        }
        let mut messages = Vec::new();
        loop {
            let count = self.next()?;
            // git before 2.43 advises about submodules in the middle of its answer, where the section ends.
            if count.is_empty() || count.starts_with(b"Recursive merging with submodules") {
                break;
            }
            messages.push(self.message(count)?);
        }
        for conflict in &mut conflicts {
            conflict.message = words_on(&conflict.path, &messages);
        }
        Ok(MergeTree { tree, clean, conflicts, messages })
    }

    fn message(&mut self, count: &[u8]) -> Result<MergeMessage, Error> {
        let count: usize = count
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::unexpected("merge-tree", count))?;
        let paths = (0..count)
            .map(|_| self.next().map(|path| path_text(path.as_bstr())))
            .collect::<Result<_, _>>()?;
        let kind = self.next()?.to_str_lossy().into_owned();
        let text = self.next()?.trim().to_str_lossy().into_owned();
        Ok(MergeMessage { paths, kind, text })
    }
}

/// Adds `<mode> <id> <stage> TAB <path>` to the conflict of its path.
fn stage(entry: &[u8], conflicts: &mut Vec<Conflict>) -> Option<()> {
    let (info, path) = entry.split_once_str(b"\t")?;
    let mut words = info.split_str(b" ");
    let mode = u32::from_str_radix(words.next()?.to_str().ok()?, 8).ok()?;
    let id = object_id(words.next()?)?;
    let path = path_text(BStr::new(path));
    if conflicts.last().is_none_or(|last| last.path != path) {
        let message = String::new();
        conflicts.push(Conflict { path, base: None, ours: None, theirs: None, message });
    }
    let conflict = conflicts.last_mut()?;
    let side = match words.next()? {
        b"1" => &mut conflict.base,
        b"2" => &mut conflict.ours,
        b"3" => &mut conflict.theirs,
        _ => return None,
    };
    *side = Some((mode, id));
    Some(())
}

/// What git said about the conflict at `path`.
fn words_on(path: &str, messages: &[MergeMessage]) -> String {
    let about = messages.iter().filter(|m| m.kind != "Auto-merging" && m.paths.iter().any(|p| p == path));
    about.map(|message| message.text.as_str()).collect::<Vec<_>>().join("\n")
}

fn object_id(text: &[u8]) -> Option<ObjectId> {
    text.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::{FORMATS, Sandbox};

    fn id(sandbox: &Sandbox, revision: &str) -> ObjectId {
        sandbox.git(&["rev-parse", revision]).parse().unwrap()
    }

    /// `main` and two branches that change line 2 of `f` differently; `x` also renames `d/one` and deletes `gone`,
    /// which `y` edits.
    fn diverged(options: &[&str]) -> Sandbox {
        let sandbox = Sandbox::new(options);
        let write = |path: &str, text: &str| {
            let path = sandbox.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let commit = |message: &str| {
            sandbox.git(&["add", "-A"]);
            sandbox.git(&["commit", "-q", "-m", message]);
        };
        write("f", "1\n2\n3\n4\n5\n6\n");
        write("gone", "g\n");
        write("d/one", "one\ntwo\nthree\n");
        write("bin", "a\0b");
        commit("base");
        sandbox.git(&["checkout", "-q", "-b", "x"]);
        write("f", "1\nX\n3\n4\n5\n6\n");
        write("bin", "a\0x");
        sandbox.git(&["mv", "d/one", "d/uno"]);
        sandbox.git(&["rm", "-q", "gone"]);
        commit("x");
        sandbox.git(&["checkout", "-q", "-b", "y", "main"]);
        write("f", "1\nY\n3\n4\n5\n6\nseven\n");
        write("gone", "kept\n");
        write("bin", "a\0y");
        write("d/one", "one\ntwo\nthree\nfour\n");
        commit("y");
        sandbox.git(&["checkout", "-q", "main"]);
        sandbox
    }

    #[test]
    fn conflicts_carry_their_three_versions_and_gits_words() {
        for format in FORMATS {
            let sandbox = diverged(&format);
            let repo = sandbox.open();
            let (main, x, y) = (id(&sandbox, "main"), id(&sandbox, "x"), id(&sandbox, "y"));
            let merges =
                repo.merge_trees(&[(main.clone(), x.clone()), (x.clone(), y.clone()), (x.clone(), main)]);
            let [up, crossed, down] = &merges.unwrap()[..] else { panic!("three answers") };
            assert!(up.clean && down.clean && up.tree == id(&sandbox, "x^{tree}") && up.tree == down.tree);
            assert!(!crossed.clean);
            let paths: Vec<_> = crossed.conflicts.iter().map(|c| c.path.as_str()).collect();
            assert_eq!(paths, ["bin", "f", "gone"]);
            let [bin, f, gone] = &crossed.conflicts[..] else { panic!() };
            assert!(bin.message.contains("binary"), "{}", bin.message);
            assert_eq!(f.message, "CONFLICT (content): Merge conflict in f");
            assert_eq!(f.ours, Some((0o100_644, id(&sandbox, "x:f"))));
            assert_eq!(f.theirs, Some((0o100_644, id(&sandbox, "y:f"))));
            assert_eq!(f.base, Some((0o100_644, id(&sandbox, "main:f"))));
            assert!(gone.ours.is_none() && gone.message.starts_with("CONFLICT (modify/delete)"));
            assert_eq!(&repo.merge_tree(&x, &y).unwrap(), crossed, "alone and in a batch");
        }
    }

    #[test]
    fn files_are_merged_by_lines_with_a_side_or_with_markers() {
        let sandbox = diverged(&[]);
        let repo = sandbox.open();
        let [base, ours, theirs] = ["main:f", "x:f", "y:f"].map(|revision| id(&sandbox, revision));
        let labels = ["blue-heron", "before both", "grey-fox"];
        let file = FileMerge { base: Some(&base), ours: &ours, theirs: &theirs, labels };
        let text = |favour| String::from_utf8(repo.merge_file(file, favour).unwrap().expect("text")).unwrap();
        assert_eq!(text(Favour::Ours), "1\nX\n3\n4\n5\n6\nseven\n", "what does not conflict stays of both");
        assert_eq!(text(Favour::Theirs), "1\nY\n3\n4\n5\n6\nseven\n");
        let markers = "1\n<<<<<<< blue-heron\nX\n||||||| before both\n2\n=======\nY\n>>>>>>> grey-fox\n3\n";
        assert!(text(Favour::Markers(7)).starts_with(markers), "{}", text(Favour::Markers(7)));
        let [base, ours, theirs] = ["main:bin", "x:bin", "y:bin"].map(|revision| id(&sandbox, revision));
        let binary = FileMerge { base: Some(&base), ours: &ours, theirs: &theirs, labels };
        assert_eq!(repo.merge_file(binary, Favour::Ours).unwrap(), None);
    }

    #[test]
    fn distances_and_bases() {
        let sandbox = diverged(&[]);
        let repo = sandbox.open();
        let (main, x, y) = (id(&sandbox, "main"), id(&sandbox, "x"), id(&sandbox, "y"));
        assert_eq!(repo.merge_base(&x, &y).unwrap(), Some(main.clone()));
        assert_eq!(repo.ahead_behind(&x, &main).unwrap(), (1, 0));
        assert_eq!(repo.ahead_behind(&x, &y).unwrap(), (1, 1));
        sandbox.git(&["checkout", "-q", "--orphan", "alien"]);
        sandbox.git(&["commit", "-q", "-m", "alien"]);
        assert_eq!(repo.merge_base(&x, &id(&sandbox, "alien")).unwrap(), None);
    }

    #[test]
    fn advice_in_the_answer_is_passed_over() {
        let id = "1".repeat(40);
        let one = format!(
            "0\0{id}\0160000 {id} 2\tlib\0160000 {id} 3\tlib\0\0001\0lib\0CONFLICT (contents)\0Merge conflict in lib\n\0\
             Recursive merging with submodules currently only supports trivial cases.\nPlease\n\0"
        );
        let out = one.repeat(2);
        let mut fields = Fields { rest: out.as_bytes() };
        for _ in 0..2 {
            let merge = fields.merge().unwrap();
            assert_eq!((merge.clean, merge.conflicts[0].path.as_str()), (false, "lib"));
        }
        assert!(fields.rest.is_empty());
    }

    #[test]
    fn old_releases_are_told_apart() {
        assert_eq!(version("git version 2.47.3"), Some((2, 47)));
        assert_eq!(version("git version 2.38.1 (Apple Git-140)"), Some((2, 38)));
        assert!(version("git version 2.38.1").unwrap() < NEEDED);
        assert_eq!(version("git version next"), None);
    }
}
