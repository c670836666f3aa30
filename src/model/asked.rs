//! Questions that an agent's program puts to a person, with the answers it offers.

use serde::{Deserialize, Serialize};

/// One question. It may always be answered in one's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The question.
    pub text: String,
    /// The answers that it offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<AskedOption>,
    /// Whether more than one of them may be chosen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub several: bool,
}

/// An answer that is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedOption {
    /// The answer.
    pub label: String,
    /// What it means.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

impl Asked {
    /// The answer that somebody typed: the number of an option stands for it, and so do several with commas in
    /// between where several may be chosen. Anything else is the answer itself.
    pub fn answer(&self, typed: &str) -> String {
        let option = |word: &str| {
            let number = word.trim().parse::<usize>().ok()?;
            Some(self.options.get(number.checked_sub(1)?)?.label.as_str())
        };
        let chosen: Option<Vec<&str>> = if self.several {
            typed.split(',').map(option).collect()
        } else {
            option(typed).map(|one| vec![one])
        };
        chosen.map_or_else(|| typed.trim().to_owned(), |chosen| chosen.join(", "))
    }

    /// The answers to several questions that were typed in one line, with semicolons in between. Questions without
    /// one get an empty one.
    pub fn answers(questions: &[Self], typed: &str) -> Vec<String> {
        let mut parts = typed.splitn(questions.len().max(1), ';');
        questions.iter().map(|question| question.answer(parts.next().unwrap_or_default())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_for_options_and_all_else_for_itself() {
        let option = |label: &str| AskedOption { label: label.into(), description: String::new() };
        let one = Asked {
            text: "Which?".into(),
            options: vec![option("red"), option("blue; dark")],
            several: false,
        };
        let many = Asked { several: true, ..one.clone() };
        for (typed, first, second) in [
            ("1", "red", "red"),
            (" 2 ", "blue; dark", "blue; dark"),
            ("1,2", "1,2", "red, blue; dark"),
            ("3", "3", "3"),
            ("0", "0", "0"),
            ("1, maybe", "1, maybe", "1, maybe"),
            ("green", "green", "green"),
        ] {
            assert_eq!((one.answer(typed).as_str(), many.answer(typed).as_str()), (first, second), "{typed}");
        }
        let free = Asked { text: "Why?".into(), options: Vec::new(), several: false };
        assert_eq!(free.answer("1"), "1");
        let both = [one, free];
        assert_eq!(Asked::answers(&both, "2; because; really"), ["blue; dark", "because; really"]);
        assert_eq!(Asked::answers(&both, "1"), ["red", ""]);
        assert_eq!(Asked::answers(&both[1..], "a; b"), ["a; b"]);
    }
}
