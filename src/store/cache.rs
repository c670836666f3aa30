//! The read cache: one file for each directory of the first level (`tasks/k`), thrown away on any doubt.
//!
//! A file is keyed by the tree it was made from. It starts with an index (the trees below, and for each record its id,
//! blob, length, dependencies and title), so that ids and titles are read without the records, which follow without
//! their stamps. When a tree has moved on, only its file is made anew, and of that only what changed is read from git.

use super::{Error, local};
use crate::git::{EntryMode, Repository};
use crate::model::{Id, Kind, ObjectId};
use bstr::{BString, ByteSlice};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::Path;

/// The first words of a cache file; a file of another build starts differently and is not read.
const MAGIC: &str = "git-orchestra cache 2";
/// No header is longer.
const HEADER: usize = 256;

/// The id that a file name of the state stands for; anything else is somebody else's file and not ours to read.
pub(super) fn id_of_file(name: &[u8]) -> Option<Id> {
    name.strip_suffix(b".json")?.to_str().ok()?.parse().ok()
}

/// How much of the cache is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Ids, dependencies and titles.
    Index,
    /// The records too.
    Whole,
}

/// What is cached of the directory of one kind, in the order of ids.
#[derive(Debug)]
pub(super) struct Cached(Vec<Shard>);

/// A record as it is cached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) id: &'a Id,
    /// The title of a task, the name of an agent, and nothing of others; on one line.
    pub(super) title: &'a [u8],
    /// JSON without stamps; empty where only the index was asked for.
    pub(super) body: &'a [u8],
}

impl Cached {
    /// The records of `tree`, the directory of `kind` in a state.
    pub(super) fn load(repo: &Repository, kind: Kind, tree: &ObjectId, part: Part) -> Result<Self, Error> {
        Self::load_some(repo, kind, tree, part, |_| true)
    }

    /// The same, of the directories of the first level that are `wanted`.
    pub(super) fn load_some(
        repo: &Repository,
        kind: Kind,
        tree: &ObjectId,
        part: Part,
        wanted: impl Fn(u8) -> bool,
    ) -> Result<Self, Error> {
        let dir = repo.local_dir().join("cache");
        let mut shards = Vec::new();
        for entry in repo.read_tree(tree)? {
            if entry.mode != EntryMode::Tree || entry.name.len() != 1 || !wanted(entry.name[0]) {
                continue;
            }
            let path = dir.join(format!("{}-{}", kind.directory(), entry.name));
            shards.push(Shard::load(repo, &path, entry.name[0], &entry.id, part)?);
        }
        Ok(Self(shards))
    }

    /// Every record.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.0.iter().flat_map(|shard| shard.lines.iter().map(|line| shard.entry(line)))
    }

    /// The records that come after `id`.
    pub(super) fn after(&self, id: &Id) -> impl Iterator<Item = &Id> {
        let finder = memchr::memmem::Finder::new(id.as_str().as_bytes()).into_owned();
        self.0.iter().flat_map(move |shard| {
            let mentions = finder.find_iter(&shard.bytes[shard.index.clone()]);
            let at: Vec<usize> = mentions.map(|at| at + shard.index.start).collect();
            at.into_iter().filter_map(|at| {
                let line =
                    shard.lines[..shard.lines.partition_point(|line| line.after.start <= at)].last()?;
                line.after.contains(&at).then_some(&line.id)
            })
        })
    }
}

/// One file of the cache.
#[derive(Debug)]
struct Shard {
    bytes: Vec<u8>,
    index: Range<usize>,
    leaves: Vec<Leaf>,
    lines: Vec<Line>,
}

/// A directory of the second level: its name, its tree, and which lines are its.
#[derive(Debug)]
struct Leaf {
    name: u8,
    tree: Range<usize>,
    lines: Range<usize>,
}

/// A record: where its parts lie in the file.
#[derive(Debug)]
struct Line {
    id: Id,
    blob: Range<usize>,
    after: Range<usize>,
    title: Range<usize>,
    body: Range<usize>,
}

impl Shard {
    fn load(repo: &Repository, path: &Path, name: u8, tree: &ObjectId, part: Part) -> Result<Self, Error> {
        if let Some(shard) = Self::read(path, Some(tree), part) {
            return Ok(shard);
        }
        let old = Self::read(path, None, Part::Whole);
        let bytes = build(repo, name, tree, old.as_ref())?;
        store(repo, path, &bytes);
        let header = Header::parse(&bytes).expect("what was just built parses");
        Ok(Self::parse(bytes, &header, Part::Whole).expect("what was just built parses"))
    }

    /// `None` on any doubt.
    fn read(path: &Path, tree: Option<&ObjectId>, part: Part) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let len = usize::try_from(file.metadata().ok()?.len()).ok()?;
        let mut bytes = vec![0; len.min(HEADER)];
        file.read_exact(&mut bytes).ok()?;
        let header = Header::parse(&bytes)?;
        let whole = header.len.checked_add(header.index)?.checked_add(header.body)?;
        if whole != len || tree.is_some_and(|tree| tree.as_str() != header.tree) {
            return None;
        }
        let wanted = if part == Part::Whole { len } else { header.len + header.index };
        let have = bytes.len();
        if have < wanted {
            bytes.reserve_exact(wanted - have);
            file.take(u64::try_from(wanted - have).ok()?).read_to_end(&mut bytes).ok()?;
        }
        bytes.truncate(wanted);
        Self::parse(bytes, &header, part)
    }

    fn parse(bytes: Vec<u8>, header: &Header, part: Part) -> Option<Self> {
        let index = header.len..header.len + header.index;
        if crc32fast::hash(bytes.get(index.clone())?) != header.index_crc {
            return None;
        }
        let bodies = bytes.get(index.end..)?;
        if part == Part::Whole && (bodies.len() != header.body || crc32fast::hash(bodies) != header.body_crc)
        {
            return None;
        }
        let (mut leaves, mut lines) = (Vec::<Leaf>::new(), Vec::new());
        let (mut start, mut body) = (index.start, index.end);
        for line in bytes[index.clone()].lines_with_terminator() {
            let from = start;
            start += line.len();
            let line = line.strip_suffix(b"\n")?;
            if let [b'/', name, b' ', ..] = line {
                leaves.push(Leaf { name: *name, tree: from + 3..start - 1, lines: lines.len()..lines.len() });
                continue;
            }
            let id = line.get(..Id::LEN)?.to_str().ok()?.parse().ok()?;
            let mut at = Id::LEN + 1;
            let mut word = || {
                let end = at + line.get(at..)?.find_byte(b' ')?;
                let range = from + at..from + end;
                at = end + 1;
                Some(range)
            };
            let (blob, len, after) = (word()?, word()?, word()?);
            let len: usize = bytes[len].to_str().ok()?.parse().ok()?;
            lines.push(Line {
                id,
                blob,
                after,
                title: from + at..start - 1,
                body: body..body.checked_add(len)?,
            });
            body += len;
            leaves.last_mut()?.lines.end = lines.len();
        }
        (body == index.end + header.body).then_some(Self { bytes, index, leaves, lines })
    }

    fn entry<'a>(&'a self, line: &'a Line) -> Entry<'a> {
        let body = self.bytes.get(line.body.clone()).unwrap_or_default();
        Entry { id: &line.id, title: &self.bytes[line.title.clone()], body }
    }
}

/// The first line of a file: what it was made from, and how long its parts are.
struct Header {
    tree: String,
    len: usize,
    index: usize,
    index_crc: u32,
    body: usize,
    body_crc: u32,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let line = &bytes[..bytes.len().min(HEADER)];
        let line = &line[..line.find_byte(b'\n')?];
        let mut words = line.strip_prefix(MAGIC.as_bytes())?.to_str().ok()?.split(' ').skip(1);
        let tree = words.next()?.to_owned();
        let mut number = || words.next()?.parse::<usize>().ok();
        let (index, index_crc, body, body_crc) = (number()?, number()?, number()?, number()?);
        let (index_crc, body_crc) = (u32::try_from(index_crc).ok()?, u32::try_from(body_crc).ok()?);
        Some(Self { tree, len: line.len() + 1, index, index_crc, body, body_crc })
    }
}

/// The file for `tree`, the directory `name` of the first level. What `old` has of the same trees and blobs is taken
/// over.
fn build(repo: &Repository, name: u8, tree: &ObjectId, old: Option<&Shard>) -> Result<Vec<u8>, Error> {
    let text = |shard: &Shard, range: &Range<usize>| BString::from(&shard.bytes[range.clone()]);
    let mut known: Option<HashMap<BString, &Line>> = None;
    let (mut index, mut bodies) = (Vec::new(), Vec::new());
    for leaf in repo.read_tree(tree)? {
        if leaf.mode != EntryMode::Tree || leaf.name.len() != 1 {
            continue;
        }
        writeln!(index, "/{} {}", leaf.name, leaf.id).expect("writing to memory");
        let same = old.and_then(|old| {
            let is_same = |one: &&Leaf| one.name == leaf.name[0] && text(old, &one.tree) == leaf.id.as_str();
            Some((old, old.leaves.iter().find(is_same)?))
        });
        if let Some((old, same)) = same {
            let lines = &old.lines[same.lines.clone()];
            if let [first, .., last] | [first @ last] = lines {
                // From the start of the first line to the end of the last one.
                let start = first.blob.start - Id::LEN - 1;
                index.extend_from_slice(&old.bytes[start..=last.title.end]);
                bodies.extend_from_slice(&old.bytes[first.body.start..last.body.end]);
            }
            continue;
        }
        for file in repo.read_tree(&leaf.id)? {
            let Some(id) = id_of_file(&file.name) else { continue };
            if file.mode == EntryMode::Tree || id.as_str().as_bytes()[..2] != [name, leaf.name[0]] {
                continue;
            }
            let known = known.get_or_insert_with(|| {
                let lines = old.into_iter().flat_map(|old| old.lines.iter().map(move |line| (old, line)));
                lines.map(|(old, line)| (text(old, &line.blob), line)).collect()
            });
            let start = bodies.len();
            let (after, title) = match (old, known.get(file.id.as_str().as_bytes().as_bstr())) {
                (Some(old), Some(line)) => {
                    bodies.extend_from_slice(&old.bytes[line.body.clone()]);
                    (text(old, &line.after), text(old, &line.title))
                }
                _ => compact(&repo.read_blob(&file.id)?, &mut bodies),
            };
            writeln!(index, "{id} {} {} {after} {title}", file.id, bodies.len() - start)
                .expect("writing to memory");
        }
    }
    let (index_crc, body_crc) = (crc32fast::hash(&index), crc32fast::hash(&bodies));
    let mut bytes =
        format!("{MAGIC} {tree} {} {index_crc} {} {body_crc}\n", index.len(), bodies.len()).into_bytes();
    bytes.append(&mut index);
    bytes.append(&mut bodies);
    Ok(bytes)
}

/// Appends a record on one line and without stamps; returns what it comes after, joined by commas, and its title. What
/// is no JSON object is kept as a JSON string, so that reading it as an entity fails with the entity's path instead of
/// spoiling the whole cache.
fn compact(record: &[u8], out: &mut Vec<u8>) -> (BString, BString) {
    let Ok(mut fields) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(record) else {
        out.extend_from_slice(b"\"unreadable\"");
        return (BString::default(), BString::default());
    };
    for merging in ["_s", "_l", "_v"] {
        fields.remove(merging);
    }
    if fields.contains_key("_d") {
        // What is deleted waits for nothing and is called nothing.
        serde_json::to_writer(out, &fields).expect("writing to memory");
        return (BString::default(), BString::default());
    }
    let after = fields.get("after").and_then(serde_json::Value::as_array).into_iter().flatten();
    let after: Vec<&str> = after.filter_map(|id| id.as_str().filter(|id| id.parse::<Id>().is_ok())).collect();
    let title = ["title", "name"].iter().find_map(|key| fields.get(*key)?.as_str()).unwrap_or_default();
    let words = (after.join(",").into(), title.replace(['\n', '\r'], " ").into());
    serde_json::to_writer(out, &fields).expect("writing to memory");
    words
}

/// A cache that cannot be written is no error: the next reader builds it again.
fn store(repo: &Repository, path: &Path, bytes: &[u8]) {
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
