//! Shapes of secrets: what stands in the table of families, as an expression and as made-up examples.

use std::fmt::Write as _;

/// A part of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part<'s> {
    Literal(&'s str),
    /// So many characters of a class; without an end to it, if the second number is none.
    Run(Class, u32, Option<u32>),
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
    pub(super) fn start(&self) -> (&'s str, Option<(Class, u32, u32)>) {
        match &self.parts[..] {
            [Part::Literal(start), ..] => (start, None),
            [Part::Run(class, min, max), Part::Literal(start), ..] => {
                (start, Some((*class, *min, max.unwrap_or(*min))))
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
                Part::Uuid => steps.push(Step::Run(ANY_HEX, 8)),
                Part::Run(class, min, _) => steps.push(Step::Run(*class, *min as usize)),
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
                    let _ = write!(text, "[{}]{{{min}}}", class.text);
                }
                Part::Run(class, min, max) => {
                    let max = max.map(|max| max.to_string()).unwrap_or_default();
                    let _ = write!(text, "[{}]{{{min},{max}}}", class.text);
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
                        fill(&mut text, LOWER_HEX, length, random);
                    }
                }
                Part::Run(class, min, _) => fill(&mut text, *class, *min, random),
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
    /// So many bytes of a class.
    Run(Class, usize),
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
                    run.iter().all(|&byte| class.holds(byte))
                }
                None => false,
            },
        })
    }
}

/// A class of ASCII characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    /// As it stands between the brackets of an expression.
    text: &'static str,
    /// A bit for each character. Worked out when this is compiled: every process that stores a text needs them all.
    bits: u128,
}

const LOWER_HEX: Class = Class::new("a-f0-9");
const ANY_HEX: Class = Class::new("A-Fa-f0-9");

impl Class {
    /// Single characters, and ranges with `-` in between; `-` itself stands last.
    const fn new(text: &'static str) -> Self {
        let letters = text.as_bytes();
        let (mut bits, mut at) = (0_u128, 0);
        while at < letters.len() {
            let is_range = at + 2 < letters.len() && letters[at + 1] == b'-';
            let last = if is_range { letters[at + 2] } else { letters[at] };
            let mut letter = letters[at];
            while letter <= last {
                bits |= 1 << letter;
                letter += 1;
            }
            at += if is_range { 3 } else { 1 };
        }
        Self { text, bits }
    }

    pub(super) const fn holds(self, byte: u8) -> bool {
        byte < 128 && self.bits >> byte & 1 == 1
    }
}

/// Letters and digits at both ends, so that what stands around it never matters.
fn fill(text: &mut String, class: Class, length: u32, random: &mut dyn FnMut(usize) -> usize) {
    let all: Vec<char> = (b' '..=b'~').filter(|&byte| class.holds(byte)).map(char::from).collect();
    let plain: Vec<char> = all.iter().copied().filter(char::is_ascii_alphanumeric).collect();
    for at in 0..length {
        let from = if (at == 0 || at + 1 == length) && !plain.is_empty() { &plain } else { &all };
        text.push(from[random(from.len())]);
    }
}

fn run(text: &str) -> Part<'_> {
    if text == "uu" {
        return Part::Uuid;
    }
    let (class, length) = text.split_once(':').unwrap_or((text, "1"));
    let class = match class {
        "d" => const { Class::new("0-9") },
        "hx" => LOWER_HEX,
        "Hx" => ANY_HEX,
        "ln" => const { Class::new("a-z0-9") },
        "AN" => const { Class::new("A-Z0-9") },
        "an" => const { Class::new("A-Za-z0-9") },
        "w" => const { Class::new("A-Za-z0-9_-") },
        "wd" => const { Class::new("A-Za-z0-9_=-") },
        "b" => const { Class::new("A-Za-z0-9+/") },
        "t" => const { Class::new("A-Za-z0-9_.~-") },
        "sp" => const { Class::new(" ") },
        _ => return Part::Literal(text),
    };
    let number = |text: &str| text.parse().unwrap_or(1);
    match (length.strip_suffix('+'), length.split_once('-')) {
        (Some(min), _) => Part::Run(class, number(min), None),
        (None, Some((min, max))) => Part::Run(class, number(min), Some(number(max))),
        (None, None) => Part::Run(class, number(length), Some(number(length))),
    }
}
