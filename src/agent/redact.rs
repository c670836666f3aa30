//! Secrets out of everything that is stored: values that are known, and tokens that are known by their shape.
//!
//! Works on decoded strings, before they are written anywhere, and looks through two more layers of encoding in them
//! (`decoded`). Each is looked at as it is, and as it is shown: a sequence of colours or a character without a shape within
//! a secret goes with it. A text without secrets is borrowed. Removing too much is a nuisance, too little a leak: in doubt it
//! removes.

mod decoded;
mod families;
mod finder;
mod key;
mod shape;

use super::sanitise::Shown;
use aho_corasick::{AhoCorasick, MatchKind};
use finder::{FINDER, Span};
pub use key::KeyLines;
use std::borrow::Cow;

/// Known values shorter than this are words (`true`, `main`), not secrets.
const MIN_KNOWN: usize = 8;
/// How what stands for a secret begins; its family and `]` follow.
const MARK: &str = "[redacted:";
/// How often a text that had secrets is looked through again.
const ROUNDS: usize = 8;

/// Something in a text that looks like a secret, or is a known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'r> {
    /// Its family, or the name of the known value.
    pub family: &'r str,
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Whether only what stands around it says so: `password=…`.
    pub guess: bool,
}

/// Replaces secrets in texts with `[redacted:family]`. Make it once a process and share it.
#[derive(Debug)]
pub struct Redactor {
    known: Option<AhoCorasick>,
    /// The name of each pattern of `known`.
    names: Vec<String>,
}

impl Redactor {
    /// Knows the families of well-known tokens and `values`: pairs of a name, which appears in the replacement, and
    /// a secret, which is also found escaped by JSON, percent-encoded, in hexadecimal and in base 64 at any offset. Values of fewer
    /// than eight bytes are not taken for secrets.
    pub fn new<N: Into<String>, V: AsRef<str>>(values: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut names = Vec::new();
        let mut patterns = Vec::new();
        for (name, value) in values {
            let value = value.as_ref().trim();
            if value.len() < MIN_KNOWN {
                continue;
            }
            let name = name.into();
            for form in forms(value) {
                names.push(name.clone());
                patterns.push(form);
            }
        }
        let known = (!patterns.is_empty()).then(|| {
            let kind = MatchKind::LeftmostLongest;
            AhoCorasick::builder().match_kind(kind).build(&patterns).expect("a few values fit an automaton")
        });
        Self { known, names }
    }

    /// `text` without its secrets, and how many there were.
    pub fn redact<'t>(&self, text: &'t str) -> (Cow<'t, str>, usize) {
        let (mut text, mut count) = self.redact_once(text);
        // What stood for one secret may complete the shape of another, or end where one began to look like nothing.
        for _ in 0..if count > 0 { ROUNDS } else { 0 } {
            let (again, more) = self.redact_once(&text);
            if more == 0 {
                return (text, count);
            }
            count += more;
            text = Cow::Owned(again.into_owned());
        }
        if count > 0 { (Cow::Owned(self.redact_chain(text.into_owned())), count) } else { (text, count) }
    }

    /// A text in which what stands for a secret completed another one, again and again: nobody writes that by chance. All
    /// from the first to the last goes at once, and after a few times all that is left.
    fn redact_chain(&self, mut text: String) -> String {
        const CHAIN: &str = "[redacted:chain]";
        for _ in 0..ROUNDS {
            let found = self.find(&text);
            let (Some(first), Some(last)) = (found.first(), found.last()) else { return text };
            text.replace_range(first.start..last.end, CHAIN);
        }
        CHAIN.to_owned()
    }

    fn redact_once<'t>(&self, text: &'t str) -> (Cow<'t, str>, usize) {
        let found = self.find(text);
        if found.is_empty() {
            return (Cow::Borrowed(text), 0);
        }
        let (mut out, mut done) = (String::with_capacity(text.len()), 0);
        for one in &found {
            out.push_str(&text[done..one.start]);
            out.push_str(MARK);
            out.push_str(one.family);
            out.push(']');
            done = one.end;
        }
        out.push_str(&text[done..]);
        (Cow::Owned(out), found.len())
    }

    /// Whether nothing in `text` would be replaced.
    pub fn is_clean(&self, text: &str) -> bool {
        self.find(text).is_empty()
    }

    /// The secrets of a text, in order; where several overlap they are one.
    pub fn find<'r>(&'r self, text: &str) -> Vec<Found<'r>> {
        let mut all = self.find_plainly(text);
        if let Some(shown) = Shown::new(text) {
            all.extend(self.find_plainly(&shown.text).into_iter().map(|(rank, found)| {
                let (start, end) = shown.span(text, found.start, found.end);
                (rank, Found { start, end, ..found })
            }));
        }
        all.sort_by_key(|(rank, found)| (found.start, *rank));
        let mut merged: Vec<(u8, Found<'_>)> = Vec::with_capacity(all.len());
        for (rank, found) in all {
            match merged.last_mut().filter(|(_, last)| found.start < last.end) {
                Some((best, last)) => {
                    last.end = last.end.max(found.end);
                    last.guess &= found.guess;
                    if rank < *best {
                        (*best, last.family) = (rank, found.family);
                    }
                }
                None => merged.push((rank, found)),
            }
        }
        merged.into_iter().map(|(_, found)| found).collect()
    }

    /// The secrets of a text as it is, in no order. A known value, which is 0, names what overlaps it.
    fn find_plainly<'r>(&'r self, text: &str) -> Vec<(u8, Found<'r>)> {
        let mut spans = Vec::new();
        FINDER.find(text, &mut spans);
        // Base 64 of a known value at any offset is found below; that of lines, and what is encoded twice, is not.
        let plainly = |plain: &str, found: &mut Vec<Span<'r>>| {
            FINDER.find(plain, found);
            found.extend(self.known(plain).map(|(family, start, end)| Span {
                start,
                end,
                family,
                guess: false,
            }));
        };
        decoded::find(text, &plainly, &mut spans);
        let shaped = |Span { start, end, family, guess }| (1, Found { family, start, end, guess });
        let mut all: Vec<(u8, Found<'_>)> = spans.into_iter().map(shaped).collect();
        let known = self.known(text);
        all.extend(known.map(|(family, start, end)| (0, Found { family, start, end, guess: false })));
        all
    }

    /// The known values in a text: the name of each, and from where to where it goes.
    fn known(&self, text: &str) -> impl Iterator<Item = (&str, usize, usize)> {
        let found = self.known.iter().flat_map(move |known| known.find_iter(text));
        found.map(|known| (self.names[known.pattern().as_usize()].as_str(), known.start(), known.end()))
    }

    /// A made-up secret of each shape that is known, for tests: its family, the secret, and a text that holds it.
    /// `random` returns a number below its argument.
    #[doc(hidden)]
    pub fn examples(random: &mut dyn FnMut(usize) -> usize) -> Vec<(&'static str, String, String)> {
        finder::examples(random)
    }
}

/// `text` with a blank for each mark that stands for a secret; one that was cut at the end goes too.
pub fn without_marks(text: &str) -> Cow<'_, str> {
    let Some((before, mut rest)) = text.split_once(MARK) else { return Cow::Borrowed(text) };
    let mut left = before.to_owned();
    while let Some((_, after)) = rest.split_once(']') {
        left.push(' ');
        let (between, next) = after.split_once(MARK).unwrap_or((after, ""));
        left.push_str(between);
        rest = next;
    }
    Cow::Owned(left)
}

/// The forms in which a value is looked for.
fn forms(value: &str) -> Vec<String> {
    let json = serde_json::Value::from(value).to_string();
    let mut forms = vec![value.to_owned(), json[1..json.len() - 1].to_owned()];
    let hex = value.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    forms.push(hex.to_ascii_uppercase());
    forms.push(hex);
    let percent: String = value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    forms.push(percent);
    for offset in 0..3 {
        for alphabet in [*b"+/", *b"-_"] {
            forms.push(base64_core(value.as_bytes(), offset, alphabet));
        }
    }
    forms.retain(|form| form.len() >= MIN_KNOWN);
    forms.sort();
    forms.dedup();
    forms
}

/// The characters of the base 64 of any text that holds `value` at an offset of `offset` modulo 3, as far as
/// `value` alone decides them.
fn base64_core(value: &[u8], offset: usize, last: [u8; 2]) -> String {
    let bit = |index: usize| value[index / 8] >> (7 - index % 8) & 1;
    // The first whole group of six bits that starts inside the value.
    let skip = (6 - offset * 8 % 6) % 6;
    (skip..)
        .step_by(6)
        .take_while(|start| start + 6 <= value.len() * 8)
        .map(|start| {
            let six = (start..start + 6).fold(0, |six, index| six << 1 | bit(index));
            char::from(match six {
                0..26 => b'A' + six,
                26..52 => b'a' + six - 26,
                52..62 => b'0' + six - 52,
                _ => last[usize::from(six - 62)],
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
