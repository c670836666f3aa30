//! What one tree changed beside another: files, modes and line ranges. Reads only; nothing is written.
//!
//! One `git diff-tree` process answers for any number of pairs of trees. Renames are followed as `git merge`
//! follows them (histogram diff, 50 % similarity); external diff programs and text conversions never run.

use super::{Error, Repository};
use crate::model::{LineRange, ObjectId};
use bstr::{BString, ByteSlice};

/// One file that differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Its path in the new tree; in the old one if it was deleted.
    pub path: BString,
    /// The path it was renamed from.
    pub old_path: Option<BString>,
    /// What happened to it.
    pub status: ChangeStatus,
    /// Its mode in the old tree; 0 if it was not there.
    pub old_mode: u32,
    /// Its mode in the new tree; 0 if it is not there.
    pub new_mode: u32,
    /// Its content in the old tree.
    pub old_id: Option<ObjectId>,
    /// Its content in the new tree.
    pub new_id: Option<ObjectId>,
    /// Whether its lines cannot be compared: binary content, or a submodule.
    pub binary: bool,
    /// The lines that differ, in order; empty for binary files and pure renames or mode changes.
    pub hunks: Vec<Hunk>,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeStatus {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// Its content or its mode differs.
    Modified,
    /// It has another path, and perhaps another content.
    Renamed,
    /// It became another kind of thing: a symbolic link, a submodule.
    TypeChanged,
}

/// Lines that were replaced by other lines; one of the two ranges may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hunk {
    /// The lines of the old file.
    pub old: LineRange,
    /// The lines of the new file.
    pub new: LineRange,
}

/// Two contents of a file, an old and a new one; `None` where it is not there.
pub type Contents = (Option<ObjectId>, Option<ObjectId>);

/// How much two trees differ, as `git diff --shortstat` counts it; binary files count as files only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffStat {
    /// Files that differ.
    pub files: u32,
    /// Lines that only the new tree has.
    pub added: u64,
    /// Lines that only the old tree has.
    pub removed: u64,
}

const OPTIONS: [&str; 14] = [
    "-r",
    "-M",
    "-l1000",
    "-z",
    "--raw",
    "-p",
    "-U0",
    "--inter-hunk-context=0",
    "--diff-algorithm=histogram",
    "--full-index",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--submodule=short",
];

const STAT_OPTIONS: [&str; 8] =
    ["-r", "-M", "-l1000", "-z", "--numstat", "--no-ext-diff", "--no-textconv", "--diff-algorithm=histogram"];

/// The name of a file that stands for a pair of contents.
pub(super) fn numbered(at: usize) -> String {
    format!("{at:09}")
}

/// How git's merge compares two contents: by histogram, hunks where they come to lie without any liking for
/// indentation. With a line of context, or git would cut off what the ends have in common before it compares.
const MERGE_OPTIONS: [&str; 13] = [
    "-r",
    "--no-renames",
    "-z",
    "--raw",
    "-p",
    "-U1",
    "--inter-hunk-context=0",
    "--diff-algorithm=histogram",
    "--no-indent-heuristic",
    "--full-index",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
];

impl FileChange {
    /// The mode of a submodule's entry.
    pub(super) const SUBMODULE: u32 = 0o160_000;

    /// The path by which the old tree knows it, which is where changes of two branches meet.
    pub fn base_path(&self) -> &BString {
        self.old_path.as_ref().unwrap_or(&self.path)
    }

    /// Every path that it concerns: the new one, and the old one of a rename.
    pub fn paths(&self) -> impl Iterator<Item = &BString> {
        std::iter::once(&self.path).chain(self.old_path.as_ref())
    }

    /// Whether one of its two versions is a submodule.
    pub const fn is_submodule(&self) -> bool {
        self.old_mode == Self::SUBMODULE || self.new_mode == Self::SUBMODULE
    }
}

impl DiffStat {
    /// The sum over `changes`.
    pub fn of(changes: &[FileChange]) -> Self {
        let mut stat = Self::default();
        for change in changes {
            stat.files += 1;
            for hunk in &change.hunks {
                stat.added += u64::from(hunk.new.len);
                stat.removed += u64::from(hunk.old.len);
            }
        }
        stat
    }
}

impl Repository {
    /// What `tip` changed beside `base`; both may be commits or trees. In the order of git: by path.
    pub fn changes(&self, base: &ObjectId, tip: &ObjectId) -> Result<Vec<FileChange>, Error> {
        let command =
            self.git(["diff-tree"]).args(OPTIONS).args(["--end-of-options", base.as_str(), tip.as_str()]);
        let out = command.read()?;
        let mut parser = Parser { rest: &out };
        let changes = parser.changes()?;
        if parser.rest.is_empty() { Ok(changes) } else { Err(parser.lost()) }
    }

    /// What each pair's second tree changed beside its first; both must be trees. One process for all pairs.
    pub fn changes_between(&self, pairs: &[(ObjectId, ObjectId)]) -> Result<Vec<Vec<FileChange>>, Error> {
        self.diff_pairs(pairs, &OPTIONS, true)
    }

    /// The paths at which each pair of trees differs, without a look at their lines: `hunks` stay empty.
    pub fn paths_between(&self, pairs: &[(ObjectId, ObjectId)]) -> Result<Vec<Vec<FileChange>>, Error> {
        self.diff_pairs(pairs, &["-r", "-M", "-l1000", "-z", "--raw", "--full-index"], false)
    }

    /// The lines at which each pair of files differs, an old and a new content, exactly as git's merge compares them;
    /// `None` where one is binary.
    ///
    /// A content that is not there is an empty file.
    pub fn lines_between(&self, pairs: &[Contents]) -> Result<Vec<Option<Vec<Hunk>>>, Error> {
        self.in_parts(pairs, Self::compare_contents)
    }

    fn compare_contents(&self, pairs: &[Contents]) -> Result<Vec<Option<Vec<Hunk>>>, Error> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        // git compares trees: two that nobody keeps, in which each pair is a file.
        let made;
        let (dir, beside) = if let Some(dir) = &self.scratch {
            (&**dir, self.clone())
        } else {
            made = tempfile::tempdir().map_err(|e| Error::file("create", std::env::temp_dir(), e))?;
            (made.path(), self.with_scratch(made.path())?)
        };
        let side = |of: fn(&Contents) -> &Option<ObjectId>| {
            let files = pairs.iter().enumerate();
            let files = files.filter_map(|(at, pair)| Some((numbered(at), of(pair).as_ref()?)));
            self.write_scratch_tree(dir, files)
        };
        let (old, new) = (side(|pair| &pair.0)?, side(|pair| &pair.1)?);
        let command = beside.git(["diff-tree"]).args(MERGE_OPTIONS).args([old.as_str(), new.as_str()]);
        let out = command.read()?;
        let mut parser = Parser { rest: &out };
        let mut all = vec![Some(Vec::new()); pairs.len()];
        for change in parser.changes()? {
            let at = number::<usize>(&change.path).filter(|&at| at < all.len());
            let at = at.ok_or_else(|| Error::unexpected("diff-tree", &change.path))?;
            all[at] = (!change.binary).then_some(change.hunks);
        }
        if parser.rest.is_empty() { Ok(all) } else { Err(parser.lost()) }
    }

    /// The entries at which each pair of trees differs: as [`Repository::paths_between`], and nothing counts as a rename.
    pub(super) fn entries_between(
        &self,
        pairs: &[(ObjectId, ObjectId)],
    ) -> Result<Vec<Vec<FileChange>>, Error> {
        self.diff_pairs(pairs, &["-r", "--no-renames", "-z", "--raw", "--full-index"], false)
    }

    /// Their changes, with the lines of each if `options` ask for patches (`patched`).
    fn diff_pairs(
        &self,
        pairs: &[(ObjectId, ObjectId)],
        options: &[&str],
        patched: bool,
    ) -> Result<Vec<Vec<FileChange>>, Error> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let input: Vec<_> = pairs.iter().map(|(old, new)| format!("{old} {new}\n")).collect();
        let out = self.git(["diff-tree", "--stdin"]).args(options).stdin(input.concat()).read()?;
        let mut parser = Parser { rest: &out };
        let mut all = Vec::with_capacity(pairs.len());
        for (old, new) in pairs {
            parser.begin(old, new)?;
            all.push(if patched { parser.changes()? } else { parser.records()? });
        }
        if parser.rest.is_empty() { Ok(all) } else { Err(parser.lost()) }
    }

    /// How much each pair's second tree differs from its first. One process for all pairs.
    pub fn diff_stats(&self, pairs: &[(ObjectId, ObjectId)]) -> Result<Vec<DiffStat>, Error> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let input: Vec<_> = pairs.iter().map(|(old, new)| format!("{old} {new}\n")).collect();
        let command = self.git(["diff-tree", "--stdin"]).args(STAT_OPTIONS);
        let out = command.stdin(input.concat()).read()?;
        let mut parser = Parser { rest: &out };
        let mut stats = Vec::with_capacity(pairs.len());
        for (old, new) in pairs {
            parser.begin(old, new)?;
            stats.push(parser.numstat()?);
        }
        if parser.rest.is_empty() { Ok(stats) } else { Err(parser.lost()) }
    }

    /// How much `tip` differs from `base`, without reading more of the output than the figures.
    pub fn diff_stat(&self, base: &ObjectId, tip: &ObjectId) -> Result<DiffStat, Error> {
        let out = self
            .git(["diff-tree"])
            .args(STAT_OPTIONS)
            .args(["--end-of-options", base.as_str(), tip.as_str()])
            .read()?;
        Parser { rest: &out }.numstat()
    }
}

/// Parses what `--raw -p -z` prints for one pair of trees.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn parse_patches(out: &[u8]) -> Option<Vec<FileChange>> {
    let mut parser = Parser { rest: out };
    parser.changes().ok().filter(|_| parser.rest.is_empty())
}

/// Parses what `--numstat -z` prints for one pair of trees.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn parse_numstat(out: &[u8]) -> Result<DiffStat, Error> {
    Parser { rest: out }.numstat()
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    text.to_str().ok()?.parse().ok()
}

/// Reads what `--raw -p -z` prints for one pair of trees: the raw records, NUL, and for each a patch.
///
/// Paths are taken from the raw records alone. Lines of content are counted off by their hunk's header, so that
/// nothing a file contains is ever taken for a header.
struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    fn changes(&mut self) -> Result<Vec<FileChange>, Error> {
        let mut changes = self.records()?;
        if changes.is_empty() {
            return Ok(changes);
        }
        self.rest = self.rest.strip_prefix(b"\0").ok_or_else(|| self.lost())?;
        for change in &mut changes {
            self.patch(change)?;
            if change.status == ChangeStatus::TypeChanged {
                // git shows it as a deletion and a creation.
                self.patch(change)?;
            }
            if change.is_submodule() {
                change.hunks.clear();
                change.binary = true;
            }
        }
        Ok(changes)
    }

    /// The records of one pair, without their patches.
    fn records(&mut self) -> Result<Vec<FileChange>, Error> {
        let mut changes = Vec::new();
        while self.rest.first() == Some(&b':') {
            changes.push(self.record()?);
        }
        Ok(changes)
    }

    /// `:<old mode> <new mode> <old id> <new id> <status> NUL <path> NUL [<new path> NUL]`
    fn record(&mut self) -> Result<FileChange, Error> {
        let header = self.field();
        let unexpected = || Error::unexpected("diff-tree --raw", header);
        let mut words = header.get(1..).unwrap_or_default().split_str(b" ");
        let mut mode = || words.next().and_then(|word| u32::from_str_radix(word.to_str().ok()?, 8).ok());
        let (old_mode, new_mode) = mode().zip(mode()).ok_or_else(unexpected)?;
        let mut id = || words.next().and_then(|word| word.to_str().ok()?.parse().ok());
        let (old_id, new_id): (Option<ObjectId>, Option<ObjectId>) = (id(), id());
        let letter = words.next().and_then(|word| word.first()).copied().ok_or_else(unexpected)?;
        let status = match letter {
            b'A' => ChangeStatus::Added,
            b'D' => ChangeStatus::Deleted,
            b'M' => ChangeStatus::Modified,
            b'R' => ChangeStatus::Renamed,
            b'T' => ChangeStatus::TypeChanged,
            _ => return Err(unexpected()),
        };
        let first: BString = self.field().into();
        let (path, old_path) =
            if status == ChangeStatus::Renamed { (self.field().into(), Some(first)) } else { (first, None) };
        // git writes zeros where there is nothing.
        let there = |mode: u32, id: Option<ObjectId>| id.filter(|_| mode != 0);
        Ok(FileChange {
            path,
            old_path,
            status,
            old_mode,
            new_mode,
            old_id: there(old_mode, old_id),
            new_id: there(new_mode, new_id),
            binary: false,
            hunks: Vec::new(),
        })
    }

    fn patch(&mut self, change: &mut FileChange) -> Result<(), Error> {
        if !self.rest.starts_with(b"diff --git ") {
            return Err(self.lost());
        }
        self.line();
        loop {
            if self.rest.starts_with(b"@@ ") {
                self.hunks(&mut change.hunks)?;
            } else if self.rest.starts_with(b"diff --git ") || self.at_pair() || self.rest.is_empty() {
                return Ok(());
            } else if self.line().starts_with(b"Binary files ") {
                change.binary = true;
            }
        }
    }

    /// `@@ -<start>[,<len>] +<start>[,<len>] @@ …`, then the lines it announces; lines of context part hunks.
    fn hunks(&mut self, hunks: &mut Vec<Hunk>) -> Result<(), Error> {
        let header = self.line();
        let mut words = header.split_str(b" ").skip(1);
        let mut range = |sign: &[u8]| -> Option<LineRange> {
            let word = words.next()?.strip_prefix(sign)?;
            let (start, len): (u32, u32) = match word.split_once_str(b",") {
                Some((start, len)) => (number(start)?, number(len)?),
                None => (number(word)?, 1),
            };
            // git names the line before an empty range, the model the line after it.
            let start = if len == 0 { start.checked_add(1)? } else { start };
            start.checked_add(len)?;
            Some(LineRange { start, len })
        };
        let (old, new) =
            range(b"-").zip(range(b"+")).ok_or_else(|| Error::unexpected("diff-tree -p", header))?;
        let mut hunk = Hunk { old: LineRange { len: 0, ..old }, new: LineRange { len: 0, ..new } };
        let (old_end, new_end) = (old.end(), new.end());
        while hunk.old.end() < old_end || hunk.new.end() < new_end || self.rest.first() == Some(&b'\\') {
            if self.rest.is_empty() {
                return Err(Error::unexpected("diff-tree -p", header));
            }
            // A line of context that is empty has lost its space where `diff.suppressBlankEmpty` is set.
            match self.line().first().copied().unwrap_or(b' ') {
                b'-' if hunk.old.end() < old_end => hunk.old.len += 1,
                b'+' if hunk.new.end() < new_end => hunk.new.len += 1,
                b' ' if hunk.old.end() < old_end && hunk.new.end() < new_end => {
                    let (old, new) = (hunk.old.end() + 1, hunk.new.end() + 1);
                    hunks.extend(not_empty(hunk));
                    let at = |start| LineRange { start, len: 0 };
                    hunk = Hunk { old: at(old), new: at(new) };
                }
                b'\\' => {}
                _ => return Err(Error::unexpected("diff-tree -p", header)),
            }
        }
        hunks.extend(not_empty(hunk));
        Ok(())
    }

    /// The sum of what `--numstat -z` prints for one pair: `<added> TAB <removed> TAB <path> NUL`, where a rename has an
    /// empty path that two more fields follow.
    fn numstat(&mut self) -> Result<DiffStat, Error> {
        let mut stat = DiffStat::default();
        while !self.rest.is_empty() && !self.at_pair() {
            let field = self.field();
            let mut columns = field.splitn_str(3, b"\t");
            let mut count = || columns.next().map(|text| if text == b"-" { Some(0) } else { number(text) });
            let (Some(Some(added)), Some(Some(removed))) = (count(), count()) else {
                return Err(Error::unexpected("diff-tree --numstat", field));
            };
            if columns.next() == Some(b"") {
                self.field();
                self.field();
            }
            stat.files += 1;
            stat.added = stat.added.saturating_add(added);
            stat.removed = stat.removed.saturating_add(removed);
        }
        Ok(stat)
    }

    /// The line that names a pair of trees.
    fn begin(&mut self, old: &ObjectId, new: &ObjectId) -> Result<(), Error> {
        let line = self.line();
        let expected = line == format!("{old} {new}").as_bytes();
        if expected { Ok(()) } else { Err(Error::unexpected("diff-tree", line)) }
    }

    /// Whether the next line names the next pair of trees.
    fn at_pair(&self) -> bool {
        let line = self.rest.lines().next().unwrap_or_default();
        line.split_once_str(b" ").is_some_and(|(a, b)| is_hex_id(a) && is_hex_id(b))
    }

    fn field(&mut self) -> &'a [u8] {
        self.until(0)
    }

    fn line(&mut self) -> &'a [u8] {
        self.until(b'\n')
    }

    fn until(&mut self, end: u8) -> &'a [u8] {
        let at = memchr::memchr(end, self.rest).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(at);
        self.rest = rest.get(1..).unwrap_or_default();
        taken
    }

    fn lost(&self) -> Error {
        Error::unexpected("diff-tree", self.rest.lines().next().unwrap_or_default())
    }
}

fn not_empty(hunk: Hunk) -> Option<Hunk> {
    (hunk.old.len + hunk.new.len > 0).then_some(hunk)
}

fn is_hex_id(text: &[u8]) -> bool {
    matches!(text.len(), 40 | 64) && text.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::{FORMATS, Sandbox};
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn commit_and_tree(sandbox: &Sandbox, message: &str) -> (ObjectId, ObjectId) {
        sandbox.git(&["add", "-A"]);
        sandbox.git(&["commit", "-q", "-m", message]);
        let id = |revision: &str| sandbox.git(&["rev-parse", revision]).parse().unwrap();
        (id("HEAD"), id("HEAD^{tree}"))
    }

    fn range(start: u32, len: u32) -> LineRange {
        LineRange { start, len }
    }

    #[test]
    fn every_kind_of_change_is_told_with_its_lines() {
        for format in FORMATS {
            let sandbox = Sandbox::new(&format);
            let repo = sandbox.open();
            let at = |name: &[u8]| sandbox.path().join(std::ffi::OsStr::from_bytes(name));
            let numbers = (1..=20).map(|n| format!("{n}\n")).collect::<Vec<_>>().concat();
            for name in [&b"edit"[..], b"move me", b"run", b"kind", b"odd\n\"name\xff"] {
                fs::write(at(name), &numbers).unwrap();
            }
            fs::write(at(b"bin"), b"\0\x01").unwrap();
            fs::write(at(b"empty"), b"").unwrap();
            fs::write(at(b"gone"), b"-- a/x\n++ b/x\n@@ -1 +1 @@\ndiff --git a/x b/x\n").unwrap();
            let (base, base_tree) = commit_and_tree(&sandbox, "base");
            // Line 2 replaced, two inserted after 5, 10 to 12 deleted, no newline at the end.
            let edited = numbers.replacen("2\n", "two\n", 1).replace("\n5\n", "\n5\na\nb\n");
            fs::write(at(b"edit"), edited.replace("10\n11\n12\n", "").trim_end()).unwrap();
            sandbox.git(&["mv", "move me", "moved"]);
            fs::set_permissions(at(b"run"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::remove_file(at(b"kind")).unwrap();
            symlink("edit", at(b"kind")).unwrap();
            fs::write(at(b"odd\n\"name\xff"), format!("{numbers}-- more\n")).unwrap();
            fs::write(at(b"bin"), b"\0\x02").unwrap();
            fs::remove_file(at(b"gone")).unwrap();
            fs::write(at(b"new"), "1\n").unwrap();
            let (tip, tip_tree) = commit_and_tree(&sandbox, "tip");

            let changes = repo.changes(&base, &tip).unwrap();
            let find = |path: &[u8]| changes.iter().find(|c| c.path == path).unwrap();
            assert_eq!(changes.len(), 8, "{changes:#?}");
            let hunks: Vec<_> = find(b"edit").hunks.iter().map(|hunk| (hunk.old, hunk.new)).collect();
            let expected = [
                (range(2, 1), range(2, 1)),
                (range(6, 0), range(6, 2)),
                (range(10, 3), range(12, 0)),
                (range(20, 1), range(19, 1)),
            ];
            assert_eq!(hunks, expected);
            let moved = find(b"moved");
            assert_eq!(
                (moved.status, moved.base_path().as_bytes()),
                (ChangeStatus::Renamed, &b"move me"[..])
            );
            assert!(find(b"bin").binary && find(b"bin").hunks.is_empty());
            assert_eq!((find(b"run").old_mode, find(b"run").new_mode), (0o100_644, 0o100_755));
            assert_eq!(find(b"kind").status, ChangeStatus::TypeChanged);
            assert_eq!(find(b"gone").hunks[0].old, range(1, 4), "content is never taken for a header");
            assert_eq!(find(b"odd\n\"name\xff").hunks[0].old, range(21, 0));
            assert_eq!(find(b"new").status, ChangeStatus::Added);

            let pairs = [(base_tree.clone(), base_tree.clone()), (base_tree.clone(), tip_tree.clone())];
            let both = repo.changes_between(&[&pairs[..], &[(tip_tree, base_tree)]].concat()).unwrap();
            assert!(both[0].is_empty());
            assert_eq!(both[1], changes);
            let paths = repo.paths_between(&[pairs[1].clone(), pairs[0].clone(), pairs[1].clone()]).unwrap();
            assert!(paths[1].is_empty() && paths[0] == paths[2]);
            let named = |changes: &[FileChange]| -> Vec<_> {
                changes.iter().map(|c| (c.path.clone(), c.old_path.clone(), c.status)).collect()
            };
            assert_eq!(named(&paths[0]), named(&changes));
            assert_eq!(both[2].len(), 8);
            assert_eq!(repo.diff_stat(&base, &tip).unwrap(), DiffStat::of(&changes));
        }
    }

    #[test]
    fn submodules_have_no_lines() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        let head = sandbox.git(&["rev-parse", "HEAD"]);
        let base = head.parse().unwrap();
        sandbox.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},sub")]);
        sandbox.git(&["commit", "-q", "-m", "submodule"]);
        let tip = sandbox.git(&["rev-parse", "HEAD"]).parse().unwrap();
        let changes = repo.changes(&base, &tip).unwrap();
        assert!(changes[0].is_submodule() && changes[0].binary && changes[0].hunks.is_empty());
    }
}
