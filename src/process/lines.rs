//! Bytes into lines, bounded: a line without end costs no more than the limit, and the stream stays in step.

use memchr::memchr;

/// One line of a child's output, without its newline: raw bytes, which may be no UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    /// What it said, at most the limit.
    pub bytes: Vec<u8>,
    /// How many bytes beyond the limit were dropped.
    pub cut: u64,
    /// Whether a newline ended it; false for a last line that the child never finished.
    pub ended: bool,
}

/// Splits a stream into [`Line`]s.
#[derive(Debug)]
pub struct LineSplitter {
    limit: usize,
    current: Vec<u8>,
    cut: u64,
}

impl LineSplitter {
    /// A splitter that keeps at most `limit` bytes of a line.
    pub const fn new(limit: usize) -> Self {
        Self { limit, current: Vec::new(), cut: 0 }
    }

    /// Takes the next bytes of the stream and appends the lines that they complete to `lines`.
    pub fn push(&mut self, mut bytes: &[u8], lines: &mut Vec<Line>) {
        while let Some(end) = memchr(b'\n', bytes) {
            self.keep(&bytes[..end]);
            lines.push(self.take(true));
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// The unfinished line at the end of the stream, if there is one.
    pub fn finish(&mut self) -> Option<Line> {
        (!self.current.is_empty() || self.cut > 0).then(|| self.take(false))
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.limit - self.current.len();
        let kept = bytes.len().min(room);
        self.current.extend_from_slice(&bytes[..kept]);
        self.cut += (bytes.len() - kept) as u64;
    }

    fn take(&mut self, ended: bool) -> Line {
        Line { bytes: std::mem::take(&mut self.current), cut: std::mem::take(&mut self.cut), ended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(limit: usize, chunks: &[&[u8]]) -> Vec<Line> {
        let mut splitter = LineSplitter::new(limit);
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, &mut lines);
        }
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn chunks_do_not_matter() {
        let text = "one\n\nzwölf\0x\nend".as_bytes();
        let whole = split(100, &[text]);
        for at in 0..=text.len() {
            assert_eq!(split(100, &[&text[..at], &text[at..]]), whole, "cut at {at}");
        }
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[2].bytes, "zwölf\0x".as_bytes());
        assert_eq!(whole[3], Line { bytes: b"end".to_vec(), cut: 0, ended: false });
    }

    #[test]
    fn a_line_beyond_the_limit_is_cut_and_the_next_one_is_whole() {
        let lines = split(4, &[b"12", b"3456", b"78\nab\n", b"abcde"]);
        assert_eq!(lines[0], Line { bytes: b"1234".to_vec(), cut: 4, ended: true });
        assert_eq!(lines[1], Line { bytes: b"ab".to_vec(), cut: 0, ended: true });
        assert_eq!(lines[2], Line { bytes: b"abcd".to_vec(), cut: 1, ended: false });
    }
}
