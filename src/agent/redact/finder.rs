//! Finding what has the shape of a secret: one look at each place for the beginnings of all families, a second one at what
//! stands behind a beginning, and the family's expression only where that may be one.

use super::families::{FAMILIES, Family, Form, Hint};
use super::shape::{Beginning, Class, Shape};
use regex::Regex;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

/// Where a secret stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span<'r> {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Its family's name, or the name of a known value.
    pub(super) family: &'r str,
    /// Whether only what stands around it says so.
    pub(super) guess: bool,
}

/// All families, ready to be looked for. Made once a process, by every one that stores a text: what a rule looks at, and its
/// expression, are made when they are first needed.
pub(super) struct Finder {
    starts: Starts,
    /// For each of `starts`, the rules to try there, in this order.
    rules_of: Vec<Vec<usize>>,
    rules: Vec<Rule>,
}

struct Rule {
    family: &'static Family,
    /// What must stand before the start that was found.
    behind: Option<(Class, u32, u32)>,
    look: OnceLock<Look>,
    pattern: OnceLock<Regex>,
}

/// What is looked at before an expression is tried: most places where a beginning stands are words.
enum Look {
    Beginning(Beginning),
    /// Behind a service's name of so many bytes: the rest of a name, and a sign.
    Near(usize),
    /// Behind so many bytes: a blank.
    Blank(usize),
    Sign,
    Userinfo,
}

pub(super) static FINDER: LazyLock<Finder> = LazyLock::new(Finder::new);

impl Finder {
    fn new() -> Self {
        let mut rules = Vec::new();
        let mut by_start: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for family in FAMILIES {
            let (starts, behind): (Vec<&str>, _) = match &family.form {
                Form::Token(shape) => {
                    let (start, behind) = Shape::new(shape).start();
                    (vec![start], behind)
                }
                Form::Near { service, .. } => (vec![service], None),
                Form::Expression { starts, .. } => (starts.to_vec(), None),
            };
            for start in starts {
                by_start.entry(start.to_ascii_lowercase()).or_default().push(rules.len());
            }
            rules.push(Rule { family, behind, look: OnceLock::new(), pattern: OnceLock::new() });
        }
        // Where one beginning is that of another, the longer one is found, and both are tried. In order the shorter ones
        // come first.
        let mut rules_of = Vec::new();
        let mut shorter: Vec<(&str, &[usize])> = Vec::new();
        for (start, rules) in &by_start {
            while shorter.last().is_some_and(|(last, _)| !start.starts_with(last)) {
                shorter.pop();
            }
            shorter.push((start, rules));
            rules_of.push(shorter.iter().rev().flat_map(|(_, rules)| *rules).copied().collect::<Vec<_>>());
        }
        let starts = Starts::new(by_start.into_keys());
        Self { starts, rules_of, rules }
    }

    /// Everything that has the shape of a secret, in order.
    pub(super) fn find(&self, text: &str, found: &mut Vec<Span<'_>>) {
        // Where to look on, and where the last secret ended.
        let (mut from, mut done) = (0, 0);
        while let Some((at, start)) = self.starts.next(text.as_bytes(), from) {
            let span = self.rules_of[start].iter().find_map(|&rule| self.rules[rule].find(text, done, at));
            // Beginnings are ASCII.
            from = at + 1;
            if let Some(span) = span {
                from = span.end.max(from);
                done = from;
                if !text[span.start..].starts_with("[redacted:") {
                    found.push(span);
                }
            }
        }
    }
}

/// What secrets begin with, in any case.
///
/// Nearly all places are passed over by their first three bytes: a bit for each group of bytes with the same lowest five
/// bits, in which the two cases of a letter are the same.
struct Starts {
    /// In lower case, in the order in which they were given.
    texts: Vec<String>,
    heads: Box<[u64; HEADS >> 6]>,
    /// For each head that a start has, which of `groups` is of it.
    group_of: Vec<u16>,
    /// The starts with the same head, the longest first.
    groups: Vec<Vec<usize>>,
}

/// How many heads there are: three times five bits.
const HEADS: usize = 1 << 15;

impl Starts {
    const fn head(one: u8, two: u8, three: u8) -> usize {
        (one as usize & 31) << 10 | (two as usize & 31) << 5 | three as usize & 31
    }

    fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let texts: Vec<String> = texts.into_iter().collect();
        let mut by_head: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, text) in texts.iter().enumerate() {
            let heads = match text.as_bytes() {
                [one, two, three, ..] => vec![Self::head(*one, *two, *three)],
                [one, two] => (0..32).map(|three| Self::head(*one, *two, three)).collect(),
                _ => unreachable!("a beginning has two bytes at least"),
            };
            for head in heads {
                by_head.entry(head).or_default().push(number);
            }
        }
        let (mut heads, mut group_of, mut groups) = (Box::new([0; HEADS >> 6]), vec![0; HEADS], Vec::new());
        for (head, mut starts) in by_head {
            heads[head >> 6] |= 1_u64 << (head & 63);
            group_of[head] = u16::try_from(groups.len()).expect("there are a few hundred");
            starts.sort_by_key(|&start| Reverse(texts[start].len()));
            groups.push(starts);
        }
        Self { texts, heads, group_of, groups }
    }

    /// The first place at `from` or later where one stands, and the longest that does.
    fn next(&self, text: &[u8], from: usize) -> Option<(usize, usize)> {
        let rest = text.get(from..).unwrap_or_default();
        let stands = |at: usize, head: usize| {
            let may_stand = self.heads[head >> 6] >> (head & 63) & 1 == 1;
            if may_stand { self.at(text, at, head).map(|start| (at, start)) } else { None }
        };
        let mut heads = rest.windows(3).map(|bytes| Self::head(bytes[0], bytes[1], bytes[2]));
        (from..).zip(&mut heads).find_map(|(at, head)| stands(at, head)).or_else(|| {
            // Of the last two bytes there is one of two at most.
            let [.., one, two] = rest else { return None };
            stands(text.len() - 2, Self::head(*one, *two, 0))
        })
    }

    fn at(&self, text: &[u8], at: usize, head: usize) -> Option<usize> {
        let stands = |start: &&usize| {
            let start = self.texts[**start].as_bytes();
            text[at..].get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start))
        };
        self.groups[usize::from(self.group_of[head])].iter().find(stands).copied()
    }
}

impl Rule {
    /// Looks for a secret whose beginning was found at `at`; nothing before `done` belongs to it.
    fn find(&self, text: &str, done: usize, at: usize) -> Option<Span<'static>> {
        let mut at = at;
        if let Some((class, min, max)) = self.behind {
            let before = text[done..at].bytes().rev();
            let length = before.take(max as usize).take_while(|&byte| class.holds(byte)).count();
            if length < min as usize {
                return None;
            }
            at -= length;
        }
        let inside_word = at > 0 && text.as_bytes()[at - 1].is_ascii_alphanumeric();
        if self.whole_word() && inside_word || !self.look().is_worth_it(&text.as_bytes()[at..]) {
            return None;
        }
        let found = self.pattern().captures(&text[at..])?;
        let secret = found.name("secret").or_else(|| found.name("bare"))?;
        Some(Span {
            start: at + secret.start(),
            end: at + secret.end(),
            family: self.family.name,
            guess: matches!(self.family.form, Form::Expression { guess: true, .. }),
        })
    }

    const fn whole_word(&self) -> bool {
        match self.family.form {
            Form::Token(_) => true,
            Form::Near { .. } => false,
            Form::Expression { whole_word, .. } => whole_word,
        }
    }

    fn look(&self) -> &Look {
        self.look.get_or_init(|| match &self.family.form {
            Form::Token(shape) | Form::Expression { hint: Hint::Shape(shape), .. } => {
                Look::Beginning(Shape::new(shape).beginning())
            }
            Form::Near { service, .. } => Look::Near(service.len()),
            Form::Expression { hint: Hint::Blank, starts, .. } => {
                Look::Blank(starts.iter().map(|start| start.len()).min().unwrap_or(0))
            }
            Form::Expression { hint: Hint::Sign, .. } => Look::Sign,
            Form::Expression { hint: Hint::Userinfo, .. } => Look::Userinfo,
        })
    }

    fn pattern(&self) -> &Regex {
        self.pattern.get_or_init(|| {
            let text = match &self.family.form {
                Form::Token(shape) => {
                    let shape = Shape::new(shape);
                    let end = if shape.is_bounded() { r"(?:[^A-Za-z0-9]|\z)" } else { "" };
                    format!("^(?P<secret>{}){end}", shape.expression())
                }
                Form::Near { service, shape } => {
                    // `ADOBE_SECRET=…`, `"adobeSecret": "…"`, `adobe.secret => '…'`.
                    let sign = r#"(?:\\?["'`])?\s{0,4}(?:=>|:=|=|:|,)\s{0,4}(?:\\?["'`])?"#;
                    format!(
                        r"^(?i:{service})[A-Za-z0-9_.-]{{0,30}}?{sign}(?P<secret>{})(?:[^A-Za-z0-9]|\z)",
                        Shape::new(shape).expression()
                    )
                }
                Form::Expression { pattern, .. } => (*pattern).to_owned(),
            };
            Regex::new(&text).expect("a fixed pattern that a test compiles")
        })
    }
}

impl Look {
    /// Whether the expression may match at the beginning of `text`. Beyond ASCII it is the one to say.
    fn is_worth_it(&self, text: &[u8]) -> bool {
        match self {
            Self::Beginning(beginning) => beginning.is_of(text),
            Self::Near(length) => {
                let rest = text.get(*length..).unwrap_or_default();
                let name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
                let name = rest.iter().take_while(|byte| name(byte)).count();
                name <= 30 && sign(&rest[name..], b":=,")
            }
            Self::Blank(length) => text.get(*length).is_some_and(|&byte| is_blank(byte)),
            Self::Sign => {
                let word = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-');
                let word = text.iter().take_while(|byte| word(byte)).count();
                sign(&text[word..], b":=")
            }
            Self::Userinfo => {
                let rest = text.get(3..).unwrap_or_default();
                let end = |byte: &u8| {
                    is_blank(*byte) || matches!(byte, b'/' | b'@' | b':' | b'"' | b'\'' | b'<' | b'>' | b'\\')
                };
                rest.iter().find(|byte| end(byte)).is_some_and(|&byte| byte == b':' || byte >= 128)
            }
        }
    }
}

/// Whether one of `signs` stands here, or behind the end of a quote and blanks.
fn sign(text: &[u8], signs: &[u8]) -> bool {
    let rest = text.strip_prefix(b"\\").unwrap_or(text);
    let rest = if let [b'"' | b'\'' | b'`', behind @ ..] = rest { behind } else { rest };
    let next = rest.iter().find(|&&byte| !is_blank(byte) || byte >= 128);
    next.is_some_and(|byte| signs.contains(byte) || *byte >= 128)
}

/// Whether it is a blank, or part of a character beyond ASCII, which may be one.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 128..)
}

/// A made-up secret of each row of the table: the family's name, what must be gone, and a text that it stands in.
pub(super) fn examples(random: &mut dyn FnMut(usize) -> usize) -> Vec<(&'static str, String, String)> {
    let one = |family: &'static Family| match &family.form {
        Form::Token(shape) => {
            let secret = Shape::new(shape).example(random);
            (family.name, secret.clone(), secret)
        }
        Form::Near { service, shape } => {
            let secret = Shape::new(shape).example(random);
            let name = service.to_ascii_uppercase();
            (family.name, secret.clone(), format!("{name}_KEY={secret}"))
        }
        Form::Expression { sample, pattern, .. } => {
            let text = Shape::new(sample).example(random);
            let pattern = Regex::new(pattern).expect("a fixed pattern");
            // The sample may begin before the start.
            let found = (0..text.len()).find_map(|at| pattern.captures(text.get(at..)?));
            let secret =
                found.and_then(|found| found.name("secret").map(|secret| secret.as_str().to_owned()));
            (family.name, secret.unwrap_or_default(), text)
        }
    };
    FAMILIES.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aho_corasick::{AhoCorasick, MatchKind};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn beginnings_are_found_as_by_an_automaton(
            parts in prop::collection::vec(("[ -~é\\n]{0,9}", any::<prop::sample::Index>(), 0_u8..3), 0..12),
        ) {
            let starts = &FINDER.starts;
            let automaton = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .ascii_case_insensitive(true)
                .build(&starts.texts)
                .unwrap();
            let text: String = parts.iter().fold(String::new(), |text, (between, index, way)| {
                let start = &starts.texts[index.index(starts.texts.len())];
                let start = match way {
                    0 => start.clone(),
                    1 => start.to_ascii_uppercase(),
                    _ => start[..start.len() - 1].to_owned(),
                };
                text + between + &start
            });
            let mut from = 0;
            loop {
                let expected = automaton.find(aho_corasick::Input::new(&text).range(from..));
                let found = starts.next(text.as_bytes(), from);
                prop_assert_eq!(found, expected.map(|found| (found.start(), found.pattern().as_usize())), "{}", text);
                let Some((at, _)) = found else { break };
                from = at + 1;
            }
        }
    }

    const BITS: [&str; 20] = [
        "=", ":", " ", "\"", "'", "\\\"", "`", "=>", ":=", ",", "\n", "_", "s", "_key", "-", ".", "\u{a0}",
        "é", "\u{212a}", "0",
    ];

    /// What an expression matches is never passed over for what stands there at a look.
    #[test]
    fn a_look_lets_through_what_an_expression_finds() {
        let mut seed = 11_usize;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let (mut found, mut passed) = (0, 0);
        for _ in 0..40 {
            let examples = examples(&mut random);
            for (rule, (_, secret, example)) in FINDER.rules.iter().zip(examples) {
                let mut text = example.clone();
                // Bent where what stands around the secret begins and ends, and anywhere.
                for _ in 0..random(4) {
                    let places = [example.find(&secret).unwrap_or(0), random(12), random(text.len() + 1)];
                    let at = (places[random(3)]..=text.len()).find(|&at| text.is_char_boundary(at));
                    text.insert_str(at.unwrap_or(0), BITS[random(BITS.len())]);
                }
                for at in (0..text.len()).filter(|&at| text.is_char_boundary(at)) {
                    let worth_it = rule.look().is_worth_it(&text.as_bytes()[at..]);
                    // Where an expression is tried a beginning of its stands; `Near` says it by itself.
                    if rule.pattern().is_match(&text[at..]) && starts_there(rule, &text[at..]) {
                        assert!(worth_it, "{} at {at}: {text}", rule.family.name);
                        found += 1;
                    } else if !worth_it {
                        passed += 1;
                    }
                }
            }
        }
        assert!(found > 5_000 && passed > 100_000, "{found} {passed}");
    }

    fn starts_there(rule: &Rule, text: &str) -> bool {
        let begins =
            |start: &str| text.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start));
        match &rule.family.form {
            Form::Token(_) => true,
            Form::Near { service, .. } => begins(service),
            Form::Expression { starts, .. } => starts.iter().any(|start| begins(start)),
        }
    }
}
