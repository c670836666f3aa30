//! A private key that comes line by line, each a text of its own: no line of it but the first and the last has a shape.

use crate::agent::sanitise::Shown;
use bstr::ByteSlice;
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

/// What of a line is of a key.
enum Part {
    Nothing,
    All,
    /// All from there.
    From(usize),
    /// All before there.
    To(usize),
}

/// The shortest line of a key but for its last.
const SHORT: usize = 16;

impl KeyLines {
    /// `line` without what it has of a key, looked at as it is shown. A document of JSON, which has a key within one line,
    /// passes as it is.
    pub fn pass<'l>(&mut self, line: &'l [u8]) -> Cow<'l, [u8]> {
        if line.starts_with(b"{") {
            return Cow::Borrowed(line);
        }
        let text = line.to_str_lossy();
        let shown = Shown::new(&text);
        let (whole, seen) =
            shown.as_ref().map_or((line, line), |shown| (text.as_bytes(), shown.text.as_bytes()));
        let place = |at: usize| shown.as_ref().map_or(at, |shown| shown.place(at));
        match self.part(seen) {
            Part::Nothing => Cow::Borrowed(line),
            Part::All => Cow::Borrowed(REDACTED.as_bytes()),
            Part::From(at) => Cow::Owned([&whole[..place(at)], REDACTED.as_bytes()].concat()),
            Part::To(end) => Cow::Owned([REDACTED.as_bytes(), &whole[place(end - 1) + 1..]].concat()),
        }
    }

    fn part(&mut self, line: &[u8]) -> Part {
        if let Some((lines, was_short)) = self.inside {
            if let Some(end) = end(line) {
                self.inside = None;
                return Part::To(end);
            }
            let length = of_a_key(line).filter(|&length| lines < MOST && (length == 0 || !was_short));
            self.inside = length.map(|length| (lines + 1, was_short || (1..SHORT).contains(&length)));
            if self.inside.is_some() {
                return Part::All;
            }
        }
        // What stands in this line is found by its shape.
        if let Some(at) = begin(line).filter(|&at| end(&line[at..]).is_none()) {
            self.inside = Some((0, false));
            return Part::From(at);
        }
        Part::Nothing
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
    fn a_key_is_seen_through_colours_and_what_is_hidden() {
        let (begin, end, body) = (edge("BEGIN"), edge("END"), "MIIEowIBAAKCAQEA7".repeat(3));
        let said = [
            &format!("\u{1b}[1mkey:\u{1b}[m \u{1b}[32m{}", begin.replace("RSA", "\u{200b}RSA\u{1b}[m")),
            &format!("\u{1b}[32m+\u{1b}[m\u{1b}[32m{body}\u{1b}[m"),
            &format!("\0{}", body.replace('w', "\u{1b}]0;t\u{7}w")),
            "\u{1b}[m",
            &body,
            &format!("\u{1b}[32m{}\u{1b}[m and", end.replace("RSA", "R\u{2060}SA")),
            "\u{1b}[1mafter",
        ];
        let gone = REDACTED;
        let first = format!("\u{1b}[1mkey:\u{1b}[m \u{1b}[32m{gone}");
        let last = format!("{gone}\u{1b}[m and");
        assert_eq!(pass(&said), [&first, gone, gone, gone, gone, &last, "\u{1b}[1mafter"]);
        // What is no UTF-8 stays what it is, but beside a key.
        let mut keys = KeyLines::default();
        assert_eq!(&*keys.pass(b"\xff\x1b[m"), b"\xff\x1b[m");
        assert_eq!(&*keys.pass(&[b"\xff", begin.as_bytes()].concat()), [b"\xff", gone.as_bytes()].concat());
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
