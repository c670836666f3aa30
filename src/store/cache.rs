//! The read cache: one file for each directory of the first level (`tasks/k`), thrown away on any doubt.
//!
//! A file is keyed by the tree it was made from. It starts with an index (the trees below, and for each record its id,
//! blob, length, dependencies and title), so that ids and titles are read without the records, which follow without
//! their stamps. When a tree has moved on, only its file is made anew, and of that only what changed is read from git.

use super::{Error, local};
use crate::git::{EntryMode, Repository};
use crate::model::{Id, ObjectId};
use bstr::{BString, ByteSlice};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::Path;

/// The first words of a cache file; a file of another build starts differently and is not read.
const MAGIC: &str = "git-orchestra cache 3";
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
    pub(super) id: Id,
    /// The title of a task, the name of an agent, and nothing of others; on one line.
    pub(super) title: &'a [u8],
    /// JSON without stamps; empty where only the index was asked for.
    pub(super) body: &'a [u8],
}

impl Cached {
    /// The records of `tree`, which is the directory `dir` of a state.
    pub(super) fn load(repo: &Repository, dir: &str, tree: &ObjectId, part: Part) -> Result<Self, Error> {
        Self::load_some(repo, dir, tree, part, |_| true)
    }

    /// The same, of the directories of the first level that are `wanted`.
    pub(super) fn load_some(
        repo: &Repository,
        dir: &str,
        tree: &ObjectId,
        part: Part,
        wanted: impl Fn(u8) -> bool,
    ) -> Result<Self, Error> {
        let (cache, name) = (repo.local_dir().join("cache"), dir.replace('/', "-"));
        let mut shards = Vec::new();
        for entry in repo.read_tree(tree)? {
            if entry.mode != EntryMode::Tree || entry.name.len() != 1 || !wanted(entry.name[0]) {
                continue;
            }
            let path = cache.join(format!("{name}-{}", entry.name));
            shards.push(Shard::load(repo, &path, entry.name[0], &entry.id, part)?);
        }
        Ok(Self(shards))
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.starts.len()).sum()
    }

    /// Every record.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.0.iter().flat_map(|shard| (0..shard.starts.len()).filter_map(|at| shard.entry(at)))
    }

    /// The record with this id, found without reading the others.
    pub(super) fn find(&self, id: &Id) -> Option<Entry<'_>> {
        let shard = self.0.iter().find(|shard| shard.name == id.as_str().as_bytes()[0])?;
        let at = shard.at(id);
        shard.entry(at).filter(|entry| entry.id == *id)
    }

    /// How many of its first characters `id` has in common with another one here, at the most.
    pub(super) fn shared(&self, id: &Id) -> usize {
        let Some(shard) = self.0.iter().find(|shard| shard.name == id.as_str().as_bytes()[0]) else {
            return 0;
        };
        let at = shard.at(id);
        let next = if shard.id(at) == Some(id.as_str().as_bytes()) { at + 1 } else { at };
        let alike = |at: Option<usize>| at.and_then(|at| shard.id(at)).map_or(0, |other| id.shared(other));
        alike(at.checked_sub(1)).max(alike(Some(next)))
    }

    /// The records that come after `id`.
    pub(super) fn after(&self, id: &Id) -> impl Iterator<Item = Id> {
        let finder = memchr::memmem::Finder::new(id.as_str().as_bytes()).into_owned();
        self.0.iter().flat_map(move |shard| {
            let mentions = finder.find_iter(&shard.bytes[shard.index.clone()]);
            let at: Vec<usize> = mentions.map(|at| at + shard.index.start).collect();
            at.into_iter().filter_map(|at| {
                let line = shard.line(shard.starts.partition_point(|start| *start <= at).checked_sub(1)?)?;
                line.after.contains(&at).then_some(line.id)
            })
        })
    }
}

/// One file of the cache. What its index says of a record is read when it is asked for: most commands want a few.
#[derive(Debug)]
struct Shard {
    name: u8,
    bytes: Vec<u8>,
    index: Range<usize>,
    leaves: Vec<Leaf>,
    /// Where the line of each record starts.
    starts: Vec<usize>,
    /// Where the body of each record starts, and where the last one ends; empty where only the index was asked for.
    bodies: Vec<usize>,
}

/// A directory of the second level: its name, its tree, and which records are its.
#[derive(Debug)]
struct Leaf {
    name: u8,
    tree: Range<usize>,
    records: Range<usize>,
}

/// A record: where its parts lie in the file.
#[derive(Debug)]
struct Line {
    id: Id,
    blob: Range<usize>,
    /// Bytes of the body.
    len: usize,
    after: Range<usize>,
    title: Range<usize>,
}

impl Shard {
    fn load(repo: &Repository, path: &Path, name: u8, tree: &ObjectId, part: Part) -> Result<Self, Error> {
        if let Some(shard) = Self::read(path, name, Some(tree), part) {
            return Ok(shard);
        }
        let old = Self::read(path, name, None, Part::Whole);
        let bytes = build(repo, name, tree, old.as_ref())?;
        store(repo, path, &bytes);
        let header = Header::parse(&bytes).expect("what was just built parses");
        Ok(Self::parse(bytes, name, &header, Part::Whole).expect("what was just built parses"))
    }

    /// `None` on any doubt.
    fn read(path: &Path, name: u8, tree: Option<&ObjectId>, part: Part) -> Option<Self> {
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
        Self::parse(bytes, name, &header, part)
    }

    /// Finds the lines; the checksums say that they are what [`build`] wrote.
    fn parse(bytes: Vec<u8>, name: u8, header: &Header, part: Part) -> Option<Self> {
        let index = header.len..header.len + header.index;
        if crc32fast::hash(bytes.get(index.clone())?) != header.index_crc {
            return None;
        }
        let (mut leaves, mut starts) = (Vec::<Leaf>::new(), Vec::new());
        let mut start = index.start;
        for end in memchr::memchr_iter(b'\n', &bytes[index.clone()]).map(|at| at + index.start) {
            if let [b'/', name, b' ', ..] = bytes[start..end] {
                leaves.push(Leaf { name, tree: start + 3..end, records: starts.len()..starts.len() });
            } else {
                starts.push(start);
                leaves.last_mut()?.records.end = starts.len();
            }
            start = end + 1;
        }
        let mut shard = Self { name, bytes, index, leaves, starts, bodies: Vec::new() };
        if part == Part::Whole {
            let bodies = &shard.bytes[shard.index.end..];
            if bodies.len() != header.body || crc32fast::hash(bodies) != header.body_crc {
                return None;
            }
            let mut ends = vec![shard.index.end];
            for at in 0..shard.starts.len() {
                ends.push(ends[at].checked_add(shard.line(at)?.len)?);
            }
            if ends.last() != Some(&shard.bytes.len()) {
                return None;
            }
            shard.bodies = ends;
        }
        Some(shard)
    }

    /// The first record whose id is not smaller than `id`.
    fn at(&self, id: &Id) -> usize {
        let id = id.as_str().as_bytes();
        self.starts
            .partition_point(|start| self.bytes.get(*start..*start + Id::LEN).is_some_and(|other| other < id))
    }

    fn id(&self, at: usize) -> Option<&[u8]> {
        let start = *self.starts.get(at)?;
        self.bytes.get(start..start + Id::LEN)
    }

    fn line(&self, at: usize) -> Option<Line> {
        let id = self.id(at)?.to_str().ok()?.parse().ok()?;
        let mut start = self.starts[at] + Id::LEN + 1;
        let mut word = || {
            let end = start + self.bytes.get(start..self.index.end)?.find_byte(b' ')?;
            let range = start..end;
            start = end + 1;
            Some(range)
        };
        let (blob, len, after) = (word()?, word()?, word()?);
        let len = self.bytes[len].to_str().ok()?.parse().ok()?;
        let title = start..start + self.bytes[start..self.index.end].find_byte(b'\n')?;
        Some(Line { id, blob, len, after, title })
    }

    fn entry(&self, at: usize) -> Option<Entry<'_>> {
        let line = self.line(at)?;
        Some(Entry { id: line.id, title: &self.bytes[line.title], body: self.body(at) })
    }

    fn body(&self, at: usize) -> &[u8] {
        match (self.bodies.get(at), self.bodies.get(at + 1)) {
            (Some(start), Some(end)) => &self.bytes[*start..*end],
            _ => &[],
        }
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
    let text = |shard: &Shard, range: Range<usize>| BString::from(&shard.bytes[range]);
    let mut known: Option<HashMap<BString, (usize, Line)>> = None;
    let (mut index, mut bodies) = (Vec::new(), Vec::new());
    for leaf in repo.read_tree(tree)? {
        if leaf.mode != EntryMode::Tree || leaf.name.len() != 1 {
            continue;
        }
        writeln!(index, "/{} {}", leaf.name, leaf.id).expect("writing to memory");
        let same = old.and_then(|old| {
            let is_same = |one: &&Leaf| {
                one.name == leaf.name[0] && old.bytes[one.tree.clone()] == *leaf.id.as_str().as_bytes()
            };
            Some((old, old.leaves.iter().find(is_same)?))
        });
        if let Some((old, same)) = same {
            if let Some(last) = same.records.clone().next_back().and_then(|last| old.line(last)) {
                // From the start of the first line to the end of the last one.
                index.extend_from_slice(&old.bytes[old.starts[same.records.start]..=last.title.end]);
                bodies.extend_from_slice(
                    &old.bytes[old.bodies[same.records.start]..old.bodies[same.records.end]],
                );
            }
            continue;
        }
        for file in repo.read_tree(&leaf.id)? {
            let Some(id) = id_of_file(&file.name) else { continue };
            if file.mode == EntryMode::Tree || id.as_str().as_bytes()[..2] != [name, leaf.name[0]] {
                continue;
            }
            let known = known.get_or_insert_with(|| {
                let records = old.into_iter().flat_map(|old| (0..old.starts.len()).map(move |at| (old, at)));
                let lines = records.filter_map(|(old, at)| Some((old, at, old.line(at)?)));
                lines.map(|(old, at, line)| (text(old, line.blob.clone()), (at, line))).collect()
            });
            let start = bodies.len();
            let (after, title) = match (old, known.get(file.id.as_str().as_bytes().as_bstr())) {
                (Some(old), Some((at, line))) => {
                    bodies.extend_from_slice(old.body(*at));
                    (text(old, line.after.clone()), text(old, line.title.clone()))
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
    for merging in ["_s", "_l", "_v", "_a"] {
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
