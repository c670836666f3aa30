//! Secrets out of everything that is stored: values that are known, and tokens that are known by their shape.
//!
//! Works on decoded strings, before they are written anywhere. A text without secrets is scanned twice and
//! borrowed. Removing too much is a nuisance, too little a leak: in doubt it removes.

mod families;

use aho_corasick::{AhoCorasick, MatchKind};
use families::{FAMILIES, Family};
use regex::Regex;
use std::borrow::Cow;

/// Known values shorter than this are words (`true`, `main`), not secrets.
const MIN_KNOWN: usize = 8;

/// Replaces secrets in texts with `[redacted:family]`. Building one compiles its patterns: make it once a process
/// and share it.
#[derive(Debug)]
pub struct Redactor {
    known: Option<AhoCorasick>,
    /// The name of each pattern of `known`.
    names: Vec<String>,
    starts: AhoCorasick,
    /// The family of each pattern of `starts`, and its expression.
    families: Vec<(&'static Family, Regex)>,
    of_start: Vec<usize>,
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
        let (starts, of_start): (Vec<_>, Vec<_>) = FAMILIES
            .iter()
            .enumerate()
            .flat_map(|(index, family)| family.starts.iter().map(move |start| (*start, index)))
            .unzip();
        let starts = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(true)
            .kind(Some(aho_corasick::AhoCorasickKind::DFA))
            .build(starts)
            .expect("a fixed list fits an automaton");
        let families = FAMILIES
            .iter()
            .map(|family| (family, Regex::new(family.pattern).expect("a fixed pattern that a test compiles")))
            .collect();
        Self { known, names, starts, families, of_start }
    }

    /// `text` without its secrets, and how many there were.
    pub fn redact<'t>(&self, text: &'t str) -> (Cow<'t, str>, usize) {
        let (first, known) = self.redact_known(text);
        match first {
            Cow::Borrowed(text) => {
                let (text, shaped) = self.redact_shaped(text);
                (text, known + shaped)
            }
            Cow::Owned(text) => {
                let (text, shaped) = self.redact_shaped(&text);
                (Cow::Owned(text.into_owned()), known + shaped)
            }
        }
    }

    /// Whether nothing in `text` would be replaced.
    pub fn is_clean(&self, text: &str) -> bool {
        self.known.as_ref().is_none_or(|known| !known.is_match(text)) && self.redact_shaped(text).1 == 0
    }

    fn redact_known<'t>(&self, text: &'t str) -> (Cow<'t, str>, usize) {
        let Some(known) = &self.known else { return (Cow::Borrowed(text), 0) };
        let mut out = Replaced::new(text);
        for found in known.find_iter(text) {
            out.replace(found.start(), found.end(), &self.names[found.pattern().as_usize()]);
        }
        out.finish()
    }

    fn redact_shaped<'t>(&self, text: &'t str) -> (Cow<'t, str>, usize) {
        let mut out = Replaced::new(text);
        let mut from = 0;
        while let Some(start) = self.starts.find(aho_corasick::Input::new(text).range(from..)) {
            let (family, pattern) = &self.families[self.of_start[start.pattern().as_usize()]];
            from = start.end();
            let inside_word = text[..start.start()].ends_with(|c: char| c.is_ascii_alphanumeric());
            if family.whole_word && inside_word {
                continue;
            }
            // Every pattern is anchored at the start and names what is secret.
            if let Some(secret) = pattern
                .captures(&text[start.start()..])
                .and_then(|found| found.name("secret").or_else(|| found.name("bare")))
            {
                let at = start.start() + secret.start();
                let end = start.start() + secret.end();
                if !text[at..].starts_with("[redacted:") {
                    out.replace(at, end, family.name);
                }
                from = end.max(from);
            }
        }
        out.finish()
    }
}

/// A text with some of its parts replaced; borrowed as long as none is.
struct Replaced<'t> {
    text: &'t str,
    out: String,
    done: usize,
    count: usize,
}

impl<'t> Replaced<'t> {
    const fn new(text: &'t str) -> Self {
        Self { text, out: String::new(), done: 0, count: 0 }
    }

    fn replace(&mut self, start: usize, end: usize, name: &str) {
        self.out.push_str(&self.text[self.done..start]);
        self.out.push_str("[redacted:");
        self.out.push_str(name);
        self.out.push(']');
        self.done = end;
        self.count += 1;
    }

    fn finish(mut self) -> (Cow<'t, str>, usize) {
        if self.count == 0 {
            return (Cow::Borrowed(self.text), 0);
        }
        self.out.push_str(&self.text[self.done..]);
        (Cow::Owned(self.out), self.count)
    }
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
