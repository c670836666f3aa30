//! Finding what has the shape of a secret: one automaton over the beginnings of all families, and the family's
//! expression only where one of them stands.

use super::families::{FAMILIES, Family, Form};
use super::shape::{Shape, holds};
use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};
use regex::Regex;
use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

/// Where a secret stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Its family's name.
    pub(super) family: &'static str,
    /// Whether only what stands around it says so.
    pub(super) guess: bool,
}

/// All families, ready to be looked for. Made once a process; expressions are compiled when they are first needed.
pub(super) struct Finder {
    starts: AhoCorasick,
    /// For each pattern of `starts`, the rules to try there, in this order.
    rules_of: Vec<Vec<usize>>,
    rules: Vec<Rule>,
}

struct Rule {
    family: &'static Family,
    /// What must stand before the start that was found.
    behind: Option<(&'static str, u32, u32)>,
    pattern: OnceLock<Regex>,
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
            rules.push(Rule { family, behind, pattern: OnceLock::new() });
        }
        // Where one beginning is that of another, the longer one is found, and both are tried.
        let rules_of = by_start.keys().map(|start| {
            let of = |start: &str| by_start.get(start).into_iter().flatten().copied();
            (1..=start.len()).rev().filter_map(|len| start.get(..len)).flat_map(of).collect()
        });
        let rules_of = rules_of.collect();
        let starts = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .build(by_start.keys())
            .expect("a fixed list fits an automaton");
        Self { starts, rules_of, rules }
    }

    /// Everything that has the shape of a secret, in order.
    pub(super) fn find(&self, text: &str, found: &mut Vec<Span>) {
        // Where to look on, and where the last secret ended.
        let (mut from, mut done) = (0, 0);
        while let Some(start) = self.starts.find(Input::new(text).range(from..)) {
            let rules = &self.rules_of[start.pattern().as_usize()];
            let span = rules.iter().find_map(|&rule| self.rules[rule].find(text, done, start.start()));
            // Beginnings are ASCII.
            from = start.start() + 1;
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

impl Rule {
    /// Looks for a secret whose beginning was found at `at`; nothing before `done` belongs to it.
    fn find(&self, text: &str, done: usize, at: usize) -> Option<Span> {
        let mut at = at;
        if let Some((class, min, max)) = self.behind {
            let before = text[done..at].bytes().rev();
            let length = before.take(max as usize).take_while(|&b| holds(class, char::from(b))).count();
            if length < min as usize {
                return None;
            }
            at -= length;
        }
        let inside_word = text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        if self.whole_word() && inside_word {
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
