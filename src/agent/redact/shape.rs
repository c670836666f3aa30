//! Shapes of secrets: what stands in the table of families, as an expression and as made-up examples.

use std::fmt::Write as _;

/// A part of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part<'s> {
    Literal(&'s str),
    /// So many characters of a class; without an end to it, if the second number is none.
    Run(&'static str, u32, Option<u32>),
    Uuid,
}

/// A shape, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Shape<'s> {
    parts: Vec<Part<'s>>,
    /// Whether no letter or digit may follow.
    bounded: bool,
}

const UUID: &str = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";

impl<'s> Shape<'s> {
    /// The table is checked by a test: what it does not know it takes for a literal.
    pub(super) fn new(text: &'s str) -> Self {
        let (text, bounded) = text.strip_suffix('|').map_or((text, false), |text| (text, true));
        let (mut parts, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let open = rest.find('{').unwrap_or(rest.len());
            if open > 0 {
                parts.push(Part::Literal(&rest[..open]));
            }
            let Some(end) = rest[open..].find('}') else { break };
            parts.push(run(&rest[open + 1..open + end]));
            rest = &rest[open + end + 1..];
        }
        Self { parts, bounded }
    }

    /// The literal that is looked for, and how many characters of which class must stand before it.
    pub(super) fn start(&self) -> (&'s str, Option<(&'static str, u32, u32)>) {
        match &self.parts[..] {
            [Part::Literal(start), ..] => (start, None),
            [Part::Run(class, min, max), Part::Literal(start), ..] => {
                (start, Some((class, *min, max.unwrap_or(*min))))
            }
            _ => ("", None),
        }
    }

    /// The expression for it.
    pub(super) fn expression(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(&regex::escape(literal)),
                Part::Uuid => text.push_str(UUID),
                Part::Run(class, min, Some(max)) if min == max => {
                    let _ = write!(text, "[{class}]{{{min}}}");
                }
                Part::Run(class, min, max) => {
                    let max = max.map(|max| max.to_string()).unwrap_or_default();
                    let _ = write!(text, "[{class}]{{{min},{max}}}");
                }
            }
        }
        text
    }

    /// Whether no letter or digit may follow.
    pub(super) const fn is_bounded(&self) -> bool {
        self.bounded
    }

    /// A text of this shape, made up by `random`, which returns a number below its argument.
    pub(super) fn example(&self, random: &mut dyn FnMut(usize) -> usize) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Uuid => {
                    for (n, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
                        if n > 0 {
                            text.push('-');
                        }
                        fill(&mut text, "a-f0-9", length, random);
                    }
                }
                Part::Run(class, min, _) => fill(&mut text, class, *min, random),
            }
        }
        text
    }
}

/// Letters and digits at both ends, so that what stands around it never matters.
fn fill(text: &mut String, class: &str, length: u32, random: &mut dyn FnMut(usize) -> usize) {
    let all: Vec<char> = (' '..='~').filter(|c| holds(class, *c)).collect();
    let plain: Vec<char> = all.iter().copied().filter(char::is_ascii_alphanumeric).collect();
    for at in 0..length {
        let from = if (at == 0 || at + 1 == length) && !plain.is_empty() { &plain } else { &all };
        text.push(from[random(from.len())]);
    }
}

/// Whether a character is of a class: single ones, and ranges with `-` in between; `-` itself stands last.
pub(super) fn holds(class: &str, c: char) -> bool {
    let letters: Vec<char> = class.chars().filter(|&c| c != '\\').collect();
    let mut at = 0;
    while at < letters.len() {
        if at + 2 < letters.len() && letters[at + 1] == '-' {
            if (letters[at]..=letters[at + 2]).contains(&c) {
                return true;
            }
            at += 3;
        } else if letters[at] == c {
            return true;
        } else {
            at += 1;
        }
    }
    false
}

fn run(text: &str) -> Part<'_> {
    if text == "uu" {
        return Part::Uuid;
    }
    let (class, length) = text.split_once(':').unwrap_or((text, "1"));
    let class = match class {
        "d" => "0-9",
        "hx" => "a-f0-9",
        "Hx" => "A-Fa-f0-9",
        "ln" => "a-z0-9",
        "AN" => "A-Z0-9",
        "an" => "A-Za-z0-9",
        "w" => "A-Za-z0-9_-",
        "wd" => "A-Za-z0-9_=-",
        "b" => "A-Za-z0-9+/",
        "t" => "A-Za-z0-9_.~-",
        "sp" => " ",
        _ => return Part::Literal(text),
    };
    let number = |text: &str| text.parse().unwrap_or(1);
    match (length.strip_suffix('+'), length.split_once('-')) {
        (Some(min), _) => Part::Run(class, number(min), None),
        (None, Some((min, max))) => Part::Run(class, number(min), Some(number(max))),
        (None, None) => Part::Run(class, number(length), Some(number(length))),
    }
}
