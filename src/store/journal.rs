//! Journals: what a run says, while it runs and afterwards.
//!
//! One file a run under `orchestra/journal/<agent>/<run>.jsonl` in the git directory, append only. Each line is
//! `{"n":<number>,"c":"<crc32>","e":<entry>}` with the checksum over the entry's bytes, so a torn tail is told from a
//! whole line and ignored; nothing is ever appended behind one. Entries are redacted before they get here.

use super::{Error, State, local};
use crate::git::Repository;
use crate::model::{Event, Id, ObjectId};
use bstr::ByteSlice;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The most bytes of one immutable segment, unless a single line is longer.
const SEGMENT: usize = 1 << 20;
/// How much is gathered before it is written without being asked for.
const BUFFER: usize = 1 << 16;

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    /// What the program printed, as it was but for redaction.
    Raw {
        /// The line.
        raw: String,
        /// Whether it came from standard error.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        stderr: bool,
    },
    /// What we made of it.
    Event(Event),
}

/// One line of a journal that is written, as an [`Entry`] that belongs to somebody else.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub enum EntryRef<'e> {
    /// As [`Entry::Raw`].
    Raw {
        /// The line.
        raw: &'e str,
        /// Whether it came from standard error.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        stderr: bool,
    },
    /// As [`Entry::Event`].
    Event(&'e Event),
}

impl<'e> From<&'e Entry> for EntryRef<'e> {
    fn from(entry: &'e Entry) -> Self {
        match entry {
            Entry::Raw { raw, stderr } => Self::Raw { raw, stderr: *stderr },
            Entry::Event(event) => Self::Event(event),
        }
    }
}

/// The file of a run's journal.
pub fn path(repo: &Repository, agent: &Id, run: u32) -> PathBuf {
    repo.local_dir().join("journal").join(agent.as_str()).join(format!("{run:03}.jsonl"))
}

/// Appends to the journal of one run.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
    next: u64,
    written: u64,
}

impl Writer {
    /// Starts the journal of a run.
    ///
    /// # Errors
    /// If there is one already: a run has one life.
    pub fn create(repo: &Repository, agent: &Id, run: u32) -> Result<Self, Error> {
        let path = path(repo, agent, run);
        local::create_private(path.parent().expect("a journal lies in a directory"))?;
        let file = File::options().append(true).create_new(true).open(&path);
        let file = file.map_err(|e| Error::local("create", &path, e))?;
        Ok(Self { file, path, buffer: Vec::new(), next: 1, written: 0 })
    }

    /// Adds an entry, and returns its number. It is in the file after [`Writer::flush`] at the latest.
    pub fn append<'e>(&mut self, entry: impl Into<EntryRef<'e>>) -> Result<u64, Error> {
        let number = self.next;
        write!(self.buffer, "{{\"n\":{number},\"c\":\"00000000\",\"e\":").expect("writing to memory");
        let start = self.buffer.len();
        serde_json::to_writer(&mut self.buffer, &entry.into()).expect("entries are plain data");
        let crc = crc32fast::hash(&self.buffer[start..]);
        // Its place was held: it stands before what it is of.
        let place = start - "00000000\",\"e\":".len();
        write!(&mut self.buffer[place..place + 8], "{crc:08x}").expect("eight digits fit their place");
        self.buffer.extend_from_slice(b"}\n");
        self.next += 1;
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(number)
    }

    /// How many bytes it has.
    pub const fn size(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Hands everything to the system, so that followers see it.
    pub fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_all(&self.buffer).map_err(|e| Error::local("append to", &self.path, e))?;
        self.written += self.buffer.len() as u64;
        // Given back: there may be hundreds of journals, and most of them wait.
        self.buffer = Vec::new();
        Ok(())
    }

    /// Ends the journal: everything is on disk for good.
    pub fn finish(mut self) -> Result<(), Error> {
        self.flush()?;
        self.file.sync_all().map_err(|e| Error::local("sync", &self.path, e))
    }
}

/// Reads a journal that may still be growing.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    pending: Vec<u8>,
}

impl Tail {
    /// A tail of the journal at `path`, from its beginning. The file may not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None, pending: Vec::new() }
    }

    /// A tail of which only the last `bytes` are read, from the first whole line in them.
    pub fn near_end(path: impl Into<PathBuf>, bytes: u64) -> Result<Self, Error> {
        let mut tail = Self::new(path);
        if tail.open()? {
            let file = tail.file.as_mut().expect("opened above");
            let mut skip = || -> std::io::Result<()> {
                let len = file.metadata()?.len();
                if len > bytes {
                    // To the end of the line that is cut.
                    file.seek(SeekFrom::Start(len - bytes))?;
                    pass_line(file)?;
                }
                Ok(())
            };
            skip().map_err(|e| Error::local("read", &tail.path, e))?;
        }
        Ok(tail)
    }

    /// Passes over everything but about the last `bytes`. Returns how many events with a number above `known` that
    /// were.
    pub fn skip(&mut self, bytes: u64, known: u64) -> Result<u64, Error> {
        if !self.open()? {
            return Ok(0);
        }
        let file = self.file.as_mut().expect("opened above");
        let pending = &mut self.pending;
        let mut skip = || -> std::io::Result<u64> {
            let (len, at) = (file.metadata()?.len(), file.stream_position()?);
            let mut rest = len.saturating_sub(at).saturating_sub(bytes);
            let mut events = 0;
            let mut buffer = vec![0; 1 << 16];
            while rest > 0 {
                let room = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
                let read = file.read(&mut buffer[..room])?;
                if read == 0 {
                    break;
                }
                rest -= read as u64;
                pending.extend_from_slice(&buffer[..read]);
                let whole = pending.rfind_byte(b'\n').map_or(0, |at| at + 1);
                events += pending[..whole].lines().filter(|line| is_new(line, known)).count() as u64;
                pending.drain(..whole);
            }
            Ok(events)
        };
        skip().map_err(|e| Error::local("read", &self.path, e))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a file by now.
    fn open(&mut self) -> Result<bool, Error> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
                Err(e) => return Err(Error::local("open", &self.path, e)),
            }
        }
        Ok(true)
    }

    /// All whole entries that came since the last call.
    pub fn read(&mut self) -> Result<Vec<Entry>, Error> {
        Ok(self.read_numbered()?.into_iter().map(|(_, entry)| entry).collect())
    }

    /// The same, each with its number.
    pub fn read_numbered(&mut self) -> Result<Vec<(u64, Entry)>, Error> {
        if !self.open()? {
            return Ok(Vec::new());
        }
        let file = self.file.as_mut().expect("opened above");
        let failed = |e| Error::local("read", &self.path, e);
        file.read_to_end(&mut self.pending).map_err(failed)?;
        let whole = self.pending.rfind_byte(b'\n').map_or(0, |at| at + 1);
        let entries = self.pending[..whole].lines().map_while(parse_numbered).collect();
        self.pending.drain(..whole);
        Ok(entries)
    }
}

/// The entries of a journal's bytes, up to the first line that is not whole.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Entry> {
    bytes.lines().map_while(parse_line)
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    parse_numbered(line).map(|(_, entry)| entry)
}

fn parse_numbered(line: &[u8]) -> Option<(u64, Entry)> {
    let rest = line.strip_prefix(b"{\"n\":")?;
    let (number, rest) = rest.split_once_str(",\"c\":\"")?;
    let (crc, rest) = rest.split_once_str("\",\"e\":")?;
    let entry = rest.strip_suffix(b"}")?;
    let crc = u32::from_str_radix(crc.to_str().ok()?, 16).ok()?;
    let entry = (crc32fast::hash(entry) == crc).then(|| serde_json::from_slice(entry).ok()).flatten()?;
    Some((number.to_str().ok()?.parse().ok()?, entry))
}

/// Whether a line of a journal is an event with a number above `known`.
fn is_new(line: &[u8], known: u64) -> bool {
    let numbered = line.strip_prefix(b"{\"n\":").and_then(|rest| rest.split_once_str(","));
    numbered.is_some_and(|(number, rest)| {
        let number = number.to_str().ok().and_then(|number| number.parse::<u64>().ok());
        let raw = rest.find(b"\"e\":").is_some_and(|at| rest[at..].starts_with(b"\"e\":{\"raw\":"));
        number.is_some_and(|number| number > known) && !raw
    })
}

/// Moves to the beginning of the next line.
fn pass_line(file: &mut File) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let read = file.read(&mut buffer)?;
        if let Some(at) = buffer[..read].find_byte(b'\n') {
            let back = i64::try_from(read - at - 1).expect("a buffer is small");
            file.seek(SeekFrom::Current(-back))?;
            return Ok(());
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// The bytes of a journal up to its torn tail, if it has one.
pub fn whole(bytes: &[u8]) -> &[u8] {
    let mut end = 0;
    for line in bytes.lines_with_terminator() {
        if !line.ends_with(b"\n") || parse_line(line.trim_end_with(|c| c == '\n')).is_none() {
            break;
        }
        end += line.len();
    }
    &bytes[..end]
}

/// The journal of a run that is over, up to its torn tail: as a file, of which little is in memory at a time.
#[derive(Debug, Clone)]
pub struct Closed {
    path: PathBuf,
    len: u64,
}

impl Closed {
    /// The journal at `path`; empty if there is none.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let failed = |e| Error::local("read", &path, e);
        let file = match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self { path, len: 0 }),
            file => file.map_err(failed)?,
        };
        let (mut reader, mut line, mut len) = (BufReader::with_capacity(BUFFER, file), Vec::new(), 0);
        loop {
            line.clear();
            let read = std::io::BufRead::read_until(&mut reader, b'\n', &mut line).map_err(failed)?;
            if read == 0 || whole(&line).is_empty() {
                return Ok(Self { path, len });
            }
            len += read as u64;
        }
    }

    /// Whether nothing whole is in it.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its bytes, from the beginning.
    pub fn open(&self) -> Result<impl Read + use<>, Error> {
        let file = File::open(&self.path).map_err(|e| Error::local("open", &self.path, e))?;
        Ok(file.take(self.len))
    }
}

/// Cuts a journal at line ends into segments of at most 1 MiB, of which one is in memory at a time.
pub(super) fn segments(mut journal: impl Read) -> impl Iterator<Item = std::io::Result<Vec<u8>>> {
    let mut rest = Vec::new();
    let mut next = move || {
        let mut wanted = SEGMENT;
        let end = loop {
            let more = (wanted + 1).saturating_sub(rest.len()) as u64;
            let read = journal.by_ref().take(more).read_to_end(&mut rest)? as u64;
            if rest.len() <= SEGMENT {
                break rest.len();
            }
            match rest[..SEGMENT].rfind_byte(b'\n').or_else(|| rest.find_byte(b'\n')) {
                Some(at) => break at + 1,
                None if read < more => break rest.len(),
                // A line that is longer.
                None => wanted += SEGMENT,
            }
        };
        let after = rest.split_off(end);
        Ok(std::mem::replace(&mut rest, after))
    };
    std::iter::from_fn(move || Some(next()).filter(|segment| !segment.as_ref().is_ok_and(Vec::is_empty)))
}

impl State {
    /// The bytes of a kept transcript, as [`crate::model::Run::transcript`] names it.
    pub fn transcript(&self, repo: &Repository, tree: &ObjectId) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        for entry in repo.read_tree(tree)? {
            bytes.extend(repo.read_blob(&entry.id)?);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;

    fn raw(text: &str) -> Entry {
        Entry::Raw { raw: text.to_owned(), stderr: false }
    }

    #[test]
    fn a_torn_tail_is_ignored_wherever_it_tears() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        let agent = Id::from_random(7);
        let mut writer = Writer::create(&repo, &agent, 1).unwrap();
        let entries = [raw("one"), raw("zwei “\u{1F980}”\n"), raw("")];
        for entry in &entries {
            writer.append(entry).unwrap();
        }
        writer.finish().unwrap();
        assert!(Writer::create(&repo, &agent, 1).is_err(), "a run has one life");
        let bytes = std::fs::read(path(&repo, &agent, 1)).unwrap();
        assert_eq!(parse(&bytes).collect::<Vec<_>>(), entries);
        for cut in 0..bytes.len() {
            let lines = bytes[..cut].find_iter("\n").count();
            assert_eq!(parse(whole(&bytes[..cut])).collect::<Vec<_>>(), entries[..lines], "cut at {cut}");
        }
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        assert!(parse(&flipped).count() < entries.len(), "a flipped bit is noticed");
    }

    #[test]
    fn a_tail_sees_what_is_appended() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        let agent = Id::from_random(9);
        let mut tail = Tail::new(path(&repo, &agent, 2));
        assert_eq!(tail.read().unwrap(), []);
        let mut writer = Writer::create(&repo, &agent, 2).unwrap();
        writer.append(&raw("a")).unwrap();
        writer.flush().unwrap();
        assert_eq!(tail.read().unwrap(), [raw("a")]);
        assert_eq!(tail.read().unwrap(), []);
        writer.append(&raw("b")).unwrap();
        writer.finish().unwrap();
        assert_eq!(tail.read().unwrap(), [raw("b")]);
    }

    #[test]
    fn the_end_of_a_journal_is_read_without_what_stands_before() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        let agent = Id::from_random(11);
        let file = path(&repo, &agent, 1);
        assert_eq!(Tail::near_end(&file, 100).unwrap().read().unwrap(), []);
        let mut writer = Writer::create(&repo, &agent, 1).unwrap();
        for number in 0..100 {
            writer.append(&raw(&format!("line {number}"))).unwrap();
        }
        writer.flush().unwrap();
        let mut tail = Tail::near_end(&file, 100).unwrap();
        let last = tail.read_numbered().unwrap();
        assert!((1..4).contains(&last.len()) && last.last() == Some(&(100, raw("line 99"))), "{last:?}");
        writer.append(&raw("more")).unwrap();
        writer.finish().unwrap();
        assert_eq!(tail.read().unwrap(), [raw("more")]);
        assert_eq!(Tail::near_end(&file, 1 << 20).unwrap().read().unwrap().len(), 101);
        assert_eq!(Tail::near_end(&file, 1).unwrap().read().unwrap(), [], "no whole line is in it");
    }

    #[test]
    fn events_that_are_passed_over_are_counted() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        let agent = Id::from_random(12);
        let file = path(&repo, &agent, 1);
        let mut tail = Tail::new(&file);
        assert_eq!(tail.skip(0, 0).unwrap(), 0, "there is no file");
        let mut writer = Writer::create(&repo, &agent, 1).unwrap();
        let text = || crate::model::EventKind::Text { text: "\"e\":{\"raw\":".to_owned(), partial: false };
        let event = || Entry::Event(Event { at: crate::model::Timestamp(1), parent: None, kind: text() });
        let mut say = |count: usize| {
            for _ in 0..count {
                writer.append(&raw("said")).unwrap();
                writer.append(&event()).unwrap();
            }
            writer.flush().unwrap();
        };
        say(1_000);
        let passed = tail.skip(1_000, 0).unwrap();
        let left = tail.read().unwrap().into_iter().filter(|entry| *entry == event()).count() as u64;
        assert!((1..20).contains(&left) && passed + left == 1_000, "{passed} {left}");
        say(10);
        assert_eq!((tail.skip(0, 2_006).unwrap(), tail.read().unwrap()), (7, Vec::new()));
    }

    #[test]
    fn segments_are_bounded_and_whole() {
        let line = format!("{}\n", "x".repeat(1000));
        let journal = line.repeat(3000).into_bytes();
        let segments = |bytes: &[u8]| super::segments(bytes).collect::<Result<Vec<_>, _>>().unwrap();
        let parts = segments(&journal);
        assert!(parts.len() > 2 && parts.iter().all(|part| part.len() <= SEGMENT && part.ends_with(b"\n")));
        assert_eq!(parts.concat(), journal);
        let long = vec![b'y'; SEGMENT * 2];
        assert_eq!(segments(&long).len(), 1, "one line is never cut");
        let several = [&long[..], b"\nshort\n", &journal].concat();
        let parts = segments(&several);
        assert_eq!((parts[0].len(), &parts[1][..8]), (long.len() + 1, &b"short\nxx"[..]));
        assert_eq!(parts.concat(), several);
        assert!(segments(b"").is_empty());
    }
}
