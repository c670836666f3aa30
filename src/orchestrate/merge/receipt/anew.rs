//! Lines that stand for others which they are much like: what somebody wrote anew is not dropped.

use super::files::Lines;
use super::lines::{Found, Missing, Token};
use bstr::{ByteSlice, ByteVec};
use std::collections::{HashMap, HashSet};

/// How much a line must be like another, of 1, to be that line written anew.
const ALIKE: f32 = 0.6;
/// Longer lines are compared by their beginnings.
const LONG: usize = 400;
/// How far from where a line would stand it is looked for, in lines to either side: a file that was formatted anew has
/// as many new lines as old ones, and each of these has its own nearby.
const NEAR: usize = 64;
/// How many pairs of lines of one file are compared by their characters; all others by their words.
const PAIRS: usize = 20_000;
/// What a line that was only taken out of use begins with.
const COMMENTS: [&str; 8] = ["//", "#", "--", ";", "%", "/*", "<!--", "\"\"\""];

/// The new lines of a file, each to stand for one line of each who brings.
pub(super) struct Anew<'a> {
    lines: &'a Lines,
    /// By stretch.
    fresh: HashMap<usize, Vec<Token>>,
    used: HashSet<(usize, usize, usize)>,
    /// How many lines of each who brings a stretch lacks, and how many of them were asked about.
    missing: HashMap<(usize, usize), (usize, usize)>,
    shapes: HashMap<Token, Shape>,
    pairs: usize,
}

/// What of a line is compared.
struct Shape {
    text: String,
    words: Vec<String>,
    /// The letters of all words.
    letters: usize,
}

impl<'a> Anew<'a> {
    pub(super) fn new(lines: &'a Lines, found: &Found) -> Self {
        let mut fresh = HashMap::<usize, Vec<Token>>::new();
        for line in &found.fresh {
            fresh.entry(line.stretch).or_default().push(line.token);
        }
        let mut missing = HashMap::<(usize, usize), (usize, usize)>::new();
        for line in &found.missing {
            missing.entry((line.stretch, line.who)).or_default().0 += 1;
        }
        Self { lines, fresh, used: HashSet::new(), missing, shapes: HashMap::new(), pairs: PAIRS }
    }

    /// Whether a new line stands for `line`, which is one of those that are missing, in their order.
    pub(super) fn covers(&mut self, line: &Missing) -> bool {
        let (all, asked) = self.missing.entry((line.stretch, line.who)).or_default();
        let (all, at) = ((*all).max(1), *asked);
        *asked += 1;
        if !self.lines.tells(line.token) {
            return false;
        }
        let Some(fresh) = self.fresh.get(&line.stretch) else { return false };
        let middle = at * fresh.len() / all;
        let near = middle.saturating_sub(NEAR)..fresh.len().min(middle + NEAR + 1);
        for &token in fresh[near.clone()].iter().chain([&line.token]) {
            self.shapes.entry(token).or_insert_with(|| Shape::of(self.lines.text(token)));
        }
        let old = &self.shapes[&line.token];
        let mut best = None::<(f32, usize)>;
        for place in near.filter(|place| !self.used.contains(&(line.stretch, *place, line.who))) {
            let new = &self.shapes[&fresh[place]];
            if new.takes_out_of_use(old) {
                continue;
            }
            let mut share = new.words_of(old);
            if share < ALIKE && self.pairs > 0 && new.may_be_like(old) {
                self.pairs -= 1;
                share = share.max(similar::TextDiff::from_chars(&new.text, &old.text).ratio());
            }
            if share >= ALIKE && best.is_none_or(|(known, _)| share >= known) {
                best = Some((share, place));
            }
        }
        best.is_some_and(|(_, place)| self.used.insert((line.stretch, place, line.who)))
    }
}

impl Shape {
    fn of(line: &[u8]) -> Self {
        let line = line.trim();
        // What is no text is compared with nothing.
        let text = if line.first() == Some(&0) {
            String::new()
        } else {
            line[..line.len().min(LONG)].to_vec().into_string_lossy()
        };
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let words: Vec<String> =
            text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let letters = words.iter().map(|word| word.chars().count()).sum();
        Self { text, words, letters }
    }

    /// How much of the words of `old` is here, from 0 to 1.
    fn words_of(&self, old: &Self) -> f32 {
        if old.letters == 0 {
            return 0.0;
        }
        let there = old.words.iter().filter(|word| self.words.contains(word));
        let said: usize = there.map(|word| word.chars().count()).sum();
        #[expect(clippy::cast_precision_loss, reason = "lines are short")]
        let share = said as f32 / old.letters as f32;
        share
    }

    /// Whether their characters could be alike enough, by how many they are.
    fn may_be_like(&self, old: &Self) -> bool {
        let (one, other) = (self.text.len(), old.text.len());
        #[expect(clippy::cast_precision_loss, reason = "lines are short")]
        let most = 2.0 * one.min(other) as f32 / (one + other).max(1) as f32;
        old.letters > 0 && most >= ALIKE
    }

    /// Whether this is `old` made a comment: nobody wrote that anew, it is there no more.
    fn takes_out_of_use(&self, old: &Self) -> bool {
        let comment = COMMENTS.iter().find_map(|mark| self.text.strip_prefix(mark));
        comment.is_some_and(|rest| {
            let rest =
                rest.trim_end_matches("*/").trim_end_matches("-->").trim_matches(['/', '#', '!', ' ', '\t']);
            !old.text.is_empty()
                && rest == old.text.trim_matches(['/', '#', '!', ' ', '\t'])
                && !COMMENTS.iter().any(|mark| old.text.starts_with(mark))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_made_a_comment_is_no_line_written_anew() {
        let out_of_use =
            |new: &str, old: &str| Shape::of(new.as_bytes()).takes_out_of_use(&Shape::of(old.as_bytes()));
        for new in [
            "// check(one);",
            "  //check(one);",
            "# check(one);",
            "/* check(one); */",
            "<!-- check(one); -->",
        ] {
            assert!(out_of_use(new, "check(one);"), "{new}");
        }
        for (new, old) in [
            ("check(one, two);", "check(one);"),
            ("// check(one), as the two do", "check(one);"),
            ("## Title", "# Title"),
            ("#[test]", "// [test]"),
        ] {
            assert!(!out_of_use(new, old), "{new}");
        }
    }
}
