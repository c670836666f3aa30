//! A private key that comes line by line, each a text of its own: no line of it but the first and the last has a shape.

use memchr::memmem;
use std::borrow::Cow;

/// What stands for each line of a key.
const REDACTED: &str = "[redacted:private-key]";
/// No key has more lines: one of 16,384 bits has some 200.
const MOST: usize = 400;

/// Takes private keys out of a stream of lines. Make one for each stream.
#[derive(Debug, Default)]
pub struct KeyLines {
    /// How many lines of a key came, within one, and whether the last was so short that only its end can follow.
    inside: Option<(usize, bool)>,
}

/// The shortest line of a key but for its last.
const SHORT: usize = 16;

impl KeyLines {
    /// `line` without what it has of a key. A document of JSON, which has a key within one line, passes as it is.
    pub fn pass<'l>(&mut self, line: &'l [u8]) -> Cow<'l, [u8]> {
        if line.starts_with(b"{") {
            return Cow::Borrowed(line);
        }
        if let Some((lines, was_short)) = self.inside {
            if let Some(end) = end(line) {
                self.inside = None;
                return Cow::Owned([REDACTED.as_bytes(), &line[end..]].concat());
            }
            let length = of_a_key(line).filter(|&length| lines < MOST && (length == 0 || !was_short));
            self.inside = length.map(|length| (lines + 1, was_short || (1..SHORT).contains(&length)));
            if self.inside.is_some() {
                return Cow::Borrowed(REDACTED.as_bytes());
            }
        }
        // What stands in this line is found by its shape.
        if let Some(at) = begin(line).filter(|&at| end(&line[at..]).is_none()) {
            self.inside = Some((0, false));
            return Cow::Owned([&line[..at], REDACTED.as_bytes()].concat());
        }
        Cow::Borrowed(line)
    }
}

/// Where the last beginning of a key begins.
fn begin(line: &[u8]) -> Option<usize> {
    let at = memmem::rfind(line, b"-----BEGIN ")?;
    memmem::find(&line[at..], b"PRIVATE KEY").map(|_| at)
}

/// Behind the end of a key.
fn end(line: &[u8]) -> Option<usize> {
    let at = memmem::find(line, b"-----END ")?;
    let key = at + memmem::find(&line[at..], b"PRIVATE KEY")?;
    let dashes = key + memmem::find(&line[key..], b"-----")?;
    Some(dashes + 5)
}

/// How much of a key a line within one has, if it may be of it: base 64, a header (`Proc-Type: 4,ENCRYPTED`, which counts as
/// nothing), or nothing; whatever a program put before it (`> `, `  12 | `).
fn of_a_key(line: &[u8]) -> Option<usize> {
    const HEADERS: [&[u8]; 5] = [b"Proc-Type:", b"DEK-Info:", b"Version:", b"Comment:", b"Hash:"];
    let line = line.trim_ascii();
    if HEADERS.iter().any(|header| line.starts_with(header)) {
        return Some(0);
    }
    let word = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    let is_base64 = word.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    (is_base64 && line.len() - word.len() <= SHORT).then_some(word.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(lines: &[&str]) -> Vec<String> {
        let mut keys = KeyLines::default();
        lines.iter().map(|line| String::from_utf8(keys.pass(line.as_bytes()).into_owned()).unwrap()).collect()
    }

    /// Assembled here, so that no scanner of this repository takes it for a key.
    fn edge(which: &str) -> String {
        format!("-----{which} RSA {} KEY-----", "PRIVATE")
    }

    #[test]
    fn a_key_goes_from_its_first_line_to_its_last() {
        let (begin, end, body) = (edge("BEGIN"), edge("END"), "MIIEowIBAAKCAQEA7".repeat(3));
        let gone = REDACTED;
        let said = [
            "before",
            &format!("key: {begin}"),
            "Proc-Type: 4,ENCRYPTED",
            "",
            &body,
            &format!("  12 | {body}=="),
            &format!("{end} and"),
            "after",
            &body,
        ];
        let left = [
            "before",
            &format!("key: {gone}"),
            gone,
            gone,
            gone,
            gone,
            &format!("{gone} and"),
            "after",
            &body,
        ];
        assert_eq!(pass(&said), left);
    }

    #[test]
    fn what_is_no_key_ends_one_that_was_broken_off() {
        let (begin, body) = (edge("BEGIN"), "MIIEowIBAAKCAQEA7".repeat(3));
        assert_eq!(
            pass(&[&begin, &body, "error: the file ends here", &body, "{\"a\":1}"]),
            [REDACTED, REDACTED, "error: the file ends here", &body, "{\"a\":1}"]
        );
        let whole = format!("{begin} {body} {}", edge("END"));
        assert_eq!(pass(&[&whole, "next"]), [whole.as_str(), "next"], "found by its shape");
        assert_eq!(pass(&[&begin, "abc", "abc"]), [REDACTED, REDACTED, "abc"], "only a last line is short");
        let many: Vec<&str> =
            std::iter::once(begin.as_str()).chain(std::iter::repeat_n(&*body, 500)).collect();
        assert_eq!(pass(&many).iter().filter(|line| **line == body).count(), 500 - MOST);
    }
}
