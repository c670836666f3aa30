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

    /// What its beginning must be, to be looked at before the expression is tried.
    pub(super) fn beginning(&self) -> Beginning {
        let mut steps = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => steps.push(Step::Literal(literal.as_bytes().into())),
                Part::Uuid => steps.push(Step::Run(bits("a-fA-F0-9"), 8)),
                Part::Run(class, min, _) => steps.push(Step::Run(bits(class), *min as usize)),
            }
            // How far a run without a fixed length goes is the expression's to say.
            if !matches!(part, Part::Literal(_))
                && !matches!(part, Part::Run(_, min, Some(max)) if min == max)
            {
                break;
            }
        }
        Beginning(steps)
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

/// What texts of a shape begin with.
#[derive(Debug)]
pub(super) struct Beginning(Vec<Step>);

#[derive(Debug)]
enum Step {
    Literal(Box<[u8]>),
    /// So many bytes of a class of ASCII characters, a bit each.
    Run(u128, usize),
}

impl Beginning {
    /// Whether `text` begins so.
    pub(super) fn is_of(&self, text: &[u8]) -> bool {
        let mut rest = text;
        self.0.iter().all(|step| match step {
            Step::Literal(literal) => rest.strip_prefix(&**literal).map(|after| rest = after).is_some(),
            Step::Run(class, length) => match rest.split_at_checked(*length) {
                Some((run, after)) => {
                    rest = after;
                    run.iter().all(|&byte| byte < 128 && class >> byte & 1 == 1)
                }
                None => false,
            },
        })
    }
}

/// The characters of a class, a bit each.
fn bits(class: &str) -> u128 {
    (0..128_u8).filter(|&byte| holds(class, char::from(byte))).fold(0, |bits, byte| bits | 1 << byte)
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
