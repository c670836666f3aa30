//! The read cache: one file a kind, keyed by the tree it was made from, thrown away on any doubt.
//!
//! A kind's file holds every record without its stamps, in the order of ids, beside the blob it came from; when the
//! tree has moved on, records of unchanged blobs are taken over and only the others are read.

use super::{Error, local};
use crate::git::{EntryMode, Repository};
use crate::model::{Id, ObjectId};
use bstr::ByteSlice;
use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;

/// The first line of a cache file; a file of another build starts differently and is not read.
const MAGIC: &str = "git-orchestra cache 1";

/// All records of one kind.
pub(super) struct Kind {
    bytes: Vec<u8>,
    records: Vec<(Id, Range<usize>)>,
}

/// The id that a file name of the state stands for; anything else is somebody else's file and not ours to read.
pub(super) fn id_of_file(name: &[u8]) -> Option<Id> {
    name.strip_suffix(b".json")?.to_str().ok()?.parse().ok()
}

impl Kind {
    /// The records of `tree`, the directory of `kind` in a state.
    pub(super) fn load(repo: &Repository, kind: crate::model::Kind, tree: &ObjectId) -> Result<Self, Error> {
        let path = repo.local_dir().join("cache").join(kind.directory());
        let old = std::fs::read(&path).ok();
        if let Some(bytes) = &old
            && let Some(parsed) = parse(bytes)
            && parsed.tree == tree.as_str()
        {
            let records = parsed.lines.into_iter().map(|line| (line.id, line.json)).collect();
            return Ok(Self { bytes: old.unwrap_or_default(), records });
        }
        let bytes = build(repo, tree, old.as_deref())?;
        store(repo, &path, &bytes);
        let records = parse(&bytes).expect("what was just built parses").lines;
        let records = records.into_iter().map(|line| (line.id, line.json)).collect();
        Ok(Self { bytes, records })
    }

    /// Every id with its record as JSON without stamps.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Id, &[u8])> {
        self.records.iter().map(|(id, json)| (id, &self.bytes[json.clone()]))
    }
}

/// Every id of `tree`, in order, from a file of its own: shortening one id must not cost reading every record.
pub(super) fn ids(repo: &Repository, kind: crate::model::Kind, tree: &ObjectId) -> Result<Vec<Id>, Error> {
    let path = repo.local_dir().join("cache").join(format!("{}.ids", kind.directory()));
    if let Some(ids) = std::fs::read(&path).ok().and_then(|bytes| parse_ids(&bytes, tree)) {
        return Ok(ids);
    }
    let ids: Vec<Id> = Kind::load(repo, kind, tree)?.entries().map(|(id, _)| *id).collect();
    let mut bytes = format!("{MAGIC} {tree}\n").into_bytes();
    for id in &ids {
        bytes.extend_from_slice(id.as_str().as_bytes());
    }
    writeln!(bytes, "\nend {}", ids.len()).expect("writing to memory");
    store(repo, &path, &bytes);
    Ok(ids)
}

fn parse_ids(bytes: &[u8], tree: &ObjectId) -> Option<Vec<Id>> {
    let mut lines = bytes.lines();
    if lines.next()?.to_str().ok()?.strip_prefix(MAGIC)?.trim() != tree.as_str() {
        return None;
    }
    let ids = lines.next()?.chunks(Id::LEN).map(|id| id.to_str().ok()?.parse().ok());
    let ids = ids.collect::<Option<Vec<Id>>>()?;
    let count = lines.next()?.strip_prefix(b"end ")?.to_str().ok()?.parse::<usize>().ok()?;
    (count == ids.len()).then_some(ids)
}

struct Parsed<'a> {
    tree: &'a str,
    lines: Vec<Line<'a>>,
}

struct Line<'a> {
    id: Id,
    blob: &'a str,
    json: Range<usize>,
}

/// `None` on any doubt. The last line repeats how many records there are, so a cut file is noticed.
fn parse(bytes: &[u8]) -> Option<Parsed<'_>> {
    let mut lines = bytes.lines_with_terminator();
    let first = lines.next()?;
    let tree = first.to_str().ok()?.strip_prefix(MAGIC)?.trim();
    let mut records = Vec::new();
    let mut next = first.len();
    for line in lines {
        let start = next;
        next += line.len();
        let line = line.strip_suffix(b"\n")?;
        if let Some(count) = line.strip_prefix(b"end ") {
            return (count.to_str().ok()?.parse() == Ok(records.len()))
                .then_some(Parsed { tree, lines: records });
        }
        let id = line.get(..Id::LEN)?.to_str().ok()?.parse().ok()?;
        let space = Id::LEN + 1 + line.get(Id::LEN + 1..)?.find_byte(b' ')?;
        let blob = line[Id::LEN + 1..space].to_str().ok()?;
        records.push(Line { id, blob, json: start + space + 1..start + line.len() });
    }
    None
}

fn build(repo: &Repository, tree: &ObjectId, old: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    let old_bytes = old.unwrap_or_default();
    let known: HashMap<&str, Range<usize>> = parse(old_bytes)
        .map(|old| old.lines.into_iter().map(|line| (line.blob, line.json)).collect())
        .unwrap_or_default();
    let mut files = Vec::<(Id, ObjectId)>::new();
    let mut trees = vec![tree.clone()];
    while let Some(tree) = trees.pop() {
        for entry in repo.read_tree(&tree)? {
            match entry.mode {
                EntryMode::Tree => trees.push(entry.id),
                _ => files.extend(id_of_file(&entry.name).map(|id| (id, entry.id))),
            }
        }
    }
    files.sort_unstable();
    let mut bytes = format!("{MAGIC} {tree}\n").into_bytes();
    for (id, blob) in &files {
        write!(bytes, "{id} {blob} ").expect("writing to memory");
        match known.get(blob.as_str()) {
            Some(json) => bytes.extend_from_slice(&old_bytes[json.clone()]),
            None => compact(&repo.read_blob(blob)?, &mut bytes),
        }
        bytes.push(b'\n');
    }
    writeln!(bytes, "end {}", files.len()).expect("writing to memory");
    Ok(bytes)
}

/// Appends a record on one line and without stamps. What is no JSON object is kept as a JSON string, so that
/// reading it as an entity fails with the entity's path instead of spoiling the whole cache.
fn compact(record: &[u8], out: &mut Vec<u8>) {
    let value = match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(record) {
        Ok(mut fields) => {
            for merging in ["_s", "_l", "_v"] {
                fields.remove(merging);
            }
            serde_json::Value::Object(fields)
        }
        Err(_) => serde_json::Value::String("unreadable".to_owned()),
    };
    serde_json::to_writer(out, &value).expect("writing to memory");
}

/// A cache that cannot be written is no error: the next reader builds it again.
fn store(repo: &Repository, path: &PathBuf, bytes: &[u8]) {
    // Reading commands make no directory in a repository that has no orchestra of its own.
    if !repo.local_dir().is_dir() {
        return;
    }
    let Some(dir) = path.parent() else { return };
    if local::create_private(dir).is_err() {
        return;
    }
    let written = tempfile::NamedTempFile::new_in(dir).and_then(|mut file| {
        file.write_all(bytes)?;
        Ok(file)
    });
    if let Ok(file) = written
        && let Err(e) = file.persist(path)
    {
        tracing::debug!("cannot keep the cache {}: {}", path.display(), e.error);
    }
}
