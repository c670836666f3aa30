//! Reading and changing files.

use super::{Input, place};
use crate::agent::tool::start;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How many lines are read if nobody says otherwise.
const LINES: u64 = 2_000;
/// The most bytes of one line, and of all that is read at once.
const MAX_LINE: usize = 2_000;
const MAX_OUTPUT: usize = 100 * 1024;
/// The largest file that is looked into, and that is edited.
const MAX_READ: u64 = 256 << 20;
const MAX_EDIT: u64 = 16 << 20;
/// How many names of a directory are listed.
const MAX_NAMES: usize = 500;

/// The files of one worktree, and which of them the model has seen as they are.
#[derive(Debug)]
pub(in super::super) struct Files {
    worktree: PathBuf,
    seen: HashMap<PathBuf, Stamp>,
}

/// What tells that a file was changed.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    changed: Option<SystemTime>,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self { length: meta.len(), changed: meta.modified().ok() }
    }
}

impl Files {
    pub(in super::super) fn new(worktree: PathBuf) -> Self {
        Self { worktree, seen: HashMap::new() }
    }

    /// Lines with their numbers, or the names in a directory.
    pub(in super::super) fn read(&mut self, input: Input<'_>) -> Result<String, String> {
        let path = place::from(&self.worktree, input.need("file_path")?);
        let meta = std::fs::metadata(&path).map_err(|error| cannot("read", &path, &error))?;
        if meta.is_dir() {
            return list(&path);
        }
        if !meta.is_file() {
            return Err(format!("`{}` is neither a file nor a directory", path.display()));
        }
        if meta.len() > MAX_READ {
            return Err(format!("`{}` has {} MiB: too large to be read", path.display(), meta.len() >> 20));
        }
        let file = File::open(&path).map_err(|error| cannot("read", &path, &error))?;
        let from = input.number("offset").unwrap_or(1).max(1);
        let text = numbered(BufReader::new(file), from, input.number("limit").unwrap_or(LINES))
            .map_err(|error| cannot("read", &path, &error))?
            .ok_or_else(|| format!("`{}` is no text", path.display()))?;
        self.saw(&path);
        Ok(text)
    }

    /// Makes a file, or replaces one that the model has read.
    pub(in super::super) fn write(&mut self, input: Input<'_>) -> Result<String, String> {
        let (path, content) =
            (place::inside(&self.worktree, input.need("file_path")?)?, input.need("content")?);
        let is_there = path.symlink_metadata().is_ok();
        if is_there {
            self.require_seen(&path)?;
        } else if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| cannot("write", &path, &error))?;
        }
        std::fs::write(&path, content).map_err(|error| cannot("write", &path, &error))?;
        self.saw(&path);
        Ok(format!("{} {} bytes", if is_there { "replaced it:" } else { "made it:" }, content.len()))
    }

    /// Replaces a text in a file that the model has read.
    pub(in super::super) fn edit(&mut self, input: Input<'_>) -> Result<String, String> {
        let path = place::inside(&self.worktree, input.need("file_path")?)?;
        let (old, new) = (input.need("old_string")?, input.need("new_string")?);
        self.require_seen(&path)?;
        let meta = std::fs::metadata(&path).map_err(|error| cannot("edit", &path, &error))?;
        if meta.len() > MAX_EDIT {
            return Err(format!("`{}` has {} MiB: too large to be edited", path.display(), meta.len() >> 20));
        }
        let before = std::fs::read(&path).map_err(|error| cannot("edit", &path, &error))?;
        let before = String::from_utf8(before)
            .map_err(|_| format!("`{}` is not UTF-8: use a command", path.display()))?;
        // The model sees and writes lines; how they end is the file's.
        let crlf = before.contains("\r\n") && !old.contains('\r');
        let ends = |text: &str| if crlf { text.replace('\n', "\r\n") } else { text.to_owned() };
        let (old, new) = (ends(old), if new.contains('\r') { new.to_owned() } else { ends(new) });
        if old == new {
            return Err("the text and what replaces it are the same".to_owned());
        }
        let found = if old.is_empty() { 0 } else { before.matches(&old).count() };
        let after = match found {
            0 => return Err("the text to replace is not there: it must be there letter by letter".to_owned()),
            1 => before.replacen(&old, &new, 1),
            _ if input.is_true("replace_all") => before.replace(&old, &new),
            _ => {
                return Err(format!(
                    "the text to replace is there {found} times: give more of what is around it, or set replace_all"
                ));
            }
        };
        // In place: its mode, owner and other names stay.
        std::fs::write(&path, after).map_err(|error| cannot("edit", &path, &error))?;
        self.saw(&path);
        Ok(format!("replaced {found}"))
    }

    fn saw(&mut self, path: &Path) {
        if let (Ok(real), Ok(meta)) = (path.canonicalize(), std::fs::metadata(path)) {
            self.seen.insert(real, Stamp::of(&meta));
        }
    }

    fn require_seen(&self, path: &Path) -> Result<(), String> {
        let meta = std::fs::metadata(path).map_err(|error| cannot("open", path, &error))?;
        if !meta.is_file() {
            return Err(format!("`{}` is no file", path.display()));
        }
        let real = path.canonicalize().map_err(|error| cannot("open", path, &error))?;
        match self.seen.get(&real) {
            None => Err(format!("`{}` was not read yet: read it first", path.display())),
            Some(stamp) if *stamp != Stamp::of(&meta) => {
                Err(format!("`{}` was changed since it was read: read it again", path.display()))
            }
            Some(_) => Ok(()),
        }
    }
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {what} `{}`: {error}", path.display())
}

fn list(dir: &Path) -> Result<String, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| cannot("list", dir, &error))?;
    let name = |entry: std::fs::DirEntry| {
        let slash = if entry.file_type().is_ok_and(|kind| kind.is_dir()) { "/" } else { "" };
        format!("{}{slash}", entry.file_name().to_string_lossy())
    };
    let mut names: Vec<String> = entries.flatten().map(name).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(MAX_NAMES);
    names.truncate(MAX_NAMES);
    let mut text = names.join("\n");
    if more > 0 {
        let _ = write!(text, "\n(and {more} more)");
    }
    Ok(if text.is_empty() { "(the directory is empty)".to_owned() } else { text })
}

/// Lines `from` (from 1) on, at most `limit`, each with its number; `None` if it is no text.
fn numbered(mut file: impl BufRead, from: u64, limit: u64) -> std::io::Result<Option<String>> {
    if file.fill_buf()?.contains(&0) {
        return Ok(None);
    }
    let (mut out, mut line) = (String::new(), Vec::new());
    let mut number = 0_u64;
    loop {
        line.clear();
        // The rest of a line without end is read and left out.
        if file.by_ref().take(MAX_LINE as u64 * 4).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let whole = line.ends_with(b"\n");
        if !whole {
            file.skip_until(b'\n')?;
        }
        number += 1;
        if number < from {
            continue;
        }
        if number - from >= limit || out.len() >= MAX_OUTPUT {
            let _ = writeln!(out, "(there is more: go on with offset {number})");
            return Ok(Some(out));
        }
        if line.contains(&0) {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        let cut = start(text, MAX_LINE);
        let _ = writeln!(
            out,
            "{number:>6}\t{cut}{}",
            if cut.len() < text.len() { " … (the line is cut)" } else { "" }
        );
    }
    Ok(Some(match (number, out.is_empty()) {
        (0, _) => "(the file is empty)".to_owned(),
        (_, true) => format!("(the file has only {number} lines)"),
        _ => out,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::os::unix::fs::PermissionsExt;

    struct Tree(tempfile::TempDir, Files);

    impl Tree {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let files = Files::new(dir.path().to_owned());
            Self(dir, files)
        }

        fn put(&self, name: &str, bytes: &[u8]) {
            std::fs::write(self.0.path().join(name), bytes).unwrap();
        }

        fn get(&self, name: &str) -> String {
            std::fs::read_to_string(self.0.path().join(name)).unwrap()
        }

        fn read(&mut self, input: &Value) -> Result<String, String> {
            self.1.read(Input::new(input))
        }

        fn edit(&mut self, path: &str, old: &str, new: &str) -> Result<String, String> {
            self.1.edit(Input::new(&json!({"file_path": path, "old_string": old, "new_string": new})))
        }

        fn write(&mut self, path: &str, content: &str) -> Result<String, String> {
            self.1.write(Input::new(&json!({"file_path": path, "content": content})))
        }
    }

    #[test]
    fn lines_come_with_numbers_and_within_limits() {
        let mut tree = Tree::new();
        tree.put("a", b"one\r\ntwo\nthree");
        assert_eq!(
            tree.read(&json!({"file_path": "a"})).unwrap(),
            "     1\tone\n     2\ttwo\n     3\tthree\n"
        );
        assert_eq!(
            tree.read(&json!({"file_path": "a", "offset": 2, "limit": 1})).unwrap(),
            "     2\ttwo\n(there is more: go on with offset 3)\n"
        );
        assert_eq!(
            tree.read(&json!({"file_path": "a", "offset": 9})).unwrap(),
            "(the file has only 3 lines)"
        );
        tree.put("long", &[vec![b'x'; 1 << 20], b"\nend\n".to_vec()].concat());
        let text = tree.read(&json!({"file_path": "long"})).unwrap();
        assert!(text.len() < 3_000 && text.ends_with("     2\tend\n"), "{}", text.len());
        tree.put("many", "0123456789\n".repeat(100_000).as_bytes());
        let text = tree.read(&json!({"file_path": "many", "limit": 1_000_000})).unwrap();
        assert!(text.len() < MAX_OUTPUT + 100 && text.contains("go on with offset"), "{}", text.len());
        tree.put("empty", b"");
        assert_eq!(tree.read(&json!({"file_path": "empty"})).unwrap(), "(the file is empty)");
    }

    #[test]
    fn what_is_no_text_file_is_refused_and_a_directory_is_listed() {
        let mut tree = Tree::new();
        tree.put("binary", b"ELF\0\x01");
        tree.put("late", &[b"text\n".repeat(10_000), b"\0".to_vec()].concat());
        std::fs::create_dir(tree.0.path().join("dir")).unwrap();
        assert!(tree.read(&json!({"file_path": "binary"})).unwrap_err().contains("no text"));
        assert!(tree.read(&json!({"file_path": "late", "offset": 9_999})).unwrap_err().contains("no text"));
        assert!(tree.read(&json!({"file_path": "/dev/zero"})).unwrap_err().contains("neither"));
        assert!(tree.read(&json!({"file_path": "none"})).unwrap_err().contains("cannot read"));
        assert!(tree.read(&json!({"path": "a"})).unwrap_err().contains("file_path"));
        assert_eq!(tree.read(&json!({"file_path": "."})).unwrap(), "binary\ndir/\nlate");
    }

    #[test]
    fn what_was_not_read_or_has_changed_is_not_touched() {
        let mut tree = Tree::new();
        tree.put("a", b"one two two");
        assert!(tree.edit("a", "one", "1").unwrap_err().contains("was not read"));
        assert!(tree.write("a", "x").unwrap_err().contains("was not read"));
        tree.read(&json!({"file_path": "a"})).unwrap();
        assert_eq!(tree.edit("a", "one", "1").unwrap(), "replaced 1");
        assert!(tree.edit("a", "two", "2").unwrap_err().contains("2 times"));
        assert!(tree.edit("a", "gone", "2").unwrap_err().contains("not there"));
        assert!(tree.edit("a", "", "2").is_err() && tree.edit("a", "1", "1").is_err());
        let all = json!({"file_path": "a", "old_string": "two", "new_string": "2", "replace_all": true});
        assert_eq!(tree.1.edit(Input::new(&all)).unwrap(), "replaced 2");
        assert_eq!(tree.get("a"), "1 2 2");
        tree.put("a", b"somebody else was here");
        assert!(tree.edit("a", "some", "any").unwrap_err().contains("changed since"));
        assert_eq!(tree.get("a"), "somebody else was here");
        assert!(tree.write("new/dir/file", "x").is_ok() && tree.write("new/dir/file", "y").is_ok());
        assert!(tree.write("../out", "x").is_err());
    }

    #[test]
    fn mode_and_line_ends_stay() {
        let mut tree = Tree::new();
        tree.put("run", b"#!/bin/sh\r\necho one\r\necho two\r\n");
        let path = tree.0.path().join("run");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
        tree.read(&json!({"file_path": "run"})).unwrap();
        tree.edit("run", "one\necho two", "1\necho 2").unwrap();
        assert_eq!(tree.get("run"), "#!/bin/sh\r\necho 1\r\necho 2\r\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o750);
        tree.put("latin", b"caf\xe9\n");
        tree.read(&json!({"file_path": "latin"})).unwrap();
        assert!(tree.edit("latin", "caf", "x").unwrap_err().contains("UTF-8"));
    }
}
