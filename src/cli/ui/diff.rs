//! A conflict on screen: both sides and what was before them, with the words that differ.

use super::style::{Label, Painter};
use crate::orchestrate::merge::{ConflictFile, ConflictStep, Part, Party};
use bstr::ByteSlice;
use similar::{ChangeTag, TextDiff};
use std::fmt::Write as _;

/// Lines of context around a clash, and how many lines of one version are shown at most.
const CONTEXT: usize = 3;
const LONGEST: usize = 60;

/// One conflicting path of a step, for a person who has to decide.
pub(crate) fn conflict(step: &ConflictStep, file: &ConflictFile, paint: Painter) -> String {
    let mut text = String::new();
    let path = paint.paint(Label::Path, &file.conflict.path);
    let places = match (file.clashes(), &file.parts) {
        (_, None) => "conflicts as a whole".to_owned(),
        (1, _) => "conflicts in one place".to_owned(),
        (clashes, _) => format!("conflicts in {clashes} places"),
    };
    let _ = writeln!(text, "{path} {places}");
    for party in &file.ours {
        let _ = writeln!(
            text,
            "  {}",
            introduce(party, if party.agent.is_some() { "has landed" } else { "the target" }, paint)
        );
    }
    let _ = writeln!(text, "  {}", introduce(&step.theirs, "is being merged", paint));
    match &file.parts {
        Some(parts) => clashes(&mut text, parts, 0, &joined(&file.ours), &step.theirs.name, paint),
        None => whole(&mut text, step, file, paint),
    }
    text
}

/// One of its places, counted from 1.
pub(crate) fn place(step: &ConflictStep, file: &ConflictFile, place: usize, paint: Painter) -> String {
    let path = paint.paint(Label::Path, &file.conflict.path);
    let mut text = format!("{path} place {place} of {}\n", file.clashes());
    if let (Some(parts), Some(at)) = (&file.parts, file.place_at(place)) {
        let landed = |part: &Part| match part {
            Part::Common(lines) | Part::Clash { ours: lines, .. } => lines.lines().count(),
        };
        // A clash right beside it is another place.
        let is_common = |at: usize| matches!(parts.get(at), Some(Part::Common(_)));
        let start = if at > 0 && is_common(at - 1) { at - 1 } else { at };
        let end = if is_common(at + 1) { at + 1 } else { at };
        let before = parts[..start].iter().map(landed).sum();
        clashes(&mut text, &parts[start..=end], before, &joined(&file.ours), &step.theirs.name, paint);
    }
    text
}

/// What git said, for a step that conflicts without a path that could be shown.
pub(crate) fn messages(step: &ConflictStep, paint: Painter) -> String {
    let lines: Vec<String> =
        step.messages().map(|line| format!("  {}\n", paint.paint(Label::Plain, line))).collect();
    lines.concat()
}

/// Names joined as in a sentence.
pub(crate) fn joined(parties: &[Party]) -> String {
    let names: Vec<&str> = parties.iter().map(|party| party.name.as_str()).collect();
    match &names[..] {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn introduce(party: &Party, what: &str, paint: Painter) -> String {
    let label = if party.agent.is_some() { Label::Agent } else { Label::Branch };
    let task = party.task.as_ref().map(|task| format!(": {}", paint.paint(Label::Title, &task.title)));
    format!(
        "{} {}{}",
        paint.paint(label, &party.name),
        paint.paint(Label::Dim, what),
        task.unwrap_or_default()
    )
}

/// git's words and the three versions of something that has no lines.
fn whole(text: &mut String, step: &ConflictStep, file: &ConflictFile, paint: Painter) {
    for line in step.messages() {
        if line.contains(&file.conflict.path) {
            let _ = writeln!(text, "\n  {}", paint.paint(Label::Plain, line));
        }
    }
    let ours = joined(&file.ours);
    let versions = [
        ("before both", &file.conflict.base),
        (&ours, &file.conflict.ours),
        (&step.theirs.name, &file.conflict.theirs),
    ];
    text.push('\n');
    for (name, version) in versions {
        let what = match version {
            None => "not there".to_owned(),
            Some((0o120_000, id)) => format!("symbolic link {}", id.short()),
            Some((0o160_000, id)) => format!("submodule at {}", id.short()),
            Some((mode, id)) => format!("{mode:o} {}", id.short()),
        };
        let _ = writeln!(text, "  {}  {what}", paint.paint(Label::Dim, format!("{name}:")));
    }
}

/// The clashes of a stretch of a file, with `before` lines above it.
fn clashes(text: &mut String, parts: &[Part], before: usize, ours: &str, theirs: &str, paint: Painter) {
    let mut number = before + 1;
    for (at, part) in parts.iter().enumerate() {
        match part {
            Part::Common(lines) => {
                let lines: Vec<&[u8]> = lines.lines().collect();
                let after = if at == 0 { 0 } else { CONTEXT.min(lines.len()) };
                let before =
                    if at + 1 == parts.len() { lines.len() } else { lines.len().saturating_sub(CONTEXT) };
                for (i, line) in lines.iter().enumerate() {
                    if i < after || i >= before {
                        let _ = writeln!(text, "{}", context(number + i, line, paint));
                    } else if i == after {
                        text.push('\n');
                    }
                }
                number += lines.len();
            }
            Part::Clash { ours: first, base, theirs: other } => {
                if at == 0 {
                    text.push('\n');
                }
                let bar = |sign: &str, what: &str, label| format!("  {sign} {}\n", paint.paint(label, what));
                text.push_str(&bar("┌", "before both", Label::Dim));
                plain(text, base, paint);
                text.push_str(&bar("├", ours, Label::Agent));
                side(text, base, first, paint);
                text.push_str(&bar("├", theirs, Label::Agent));
                side(text, base, other, paint);
                text.push_str("  └\n");
                // Numbers are those of what has landed: that is the file as it is now.
                number += first.lines().count();
            }
        }
    }
}

fn context(number: usize, line: &[u8], paint: Painter) -> String {
    let number = paint.paint(Label::Dim, format!("{number:>5}"));
    format!("{number}  {}", paint.paint(Label::Plain, line.to_str_lossy())).trim_end().to_owned()
}

fn plain(text: &mut String, lines: &[u8], paint: Painter) {
    let all = lines.lines().count();
    if all == 0 {
        let _ = writeln!(text, "  │ {}", paint.paint(Label::Dim, "(nothing)"));
    }
    for line in lines.lines().take(LONGEST) {
        let _ = writeln!(text, "  │   {}", paint.paint(Label::Dim, line.to_str_lossy()));
    }
    cut(text, all, paint);
}

/// A side's lines: those that are as before, those that are new, and in those the words that changed.
fn side(text: &mut String, base: &[u8], lines: &[u8], paint: Painter) {
    if lines.is_empty() {
        let _ = writeln!(text, "  │ {}", paint.paint(Label::Dim, "(these lines are deleted)"));
        return;
    }
    let (base, lines) = (base.to_str_lossy(), lines.to_str_lossy());
    let diff = TextDiff::from_lines(base.as_ref(), lines.as_ref());
    let (mut shown, mut all) = (0, 0);
    for op in diff.ops() {
        for change in diff.iter_inline_changes(op) {
            let (sign, label) = match change.tag() {
                ChangeTag::Delete => continue,
                ChangeTag::Equal => (' ', Label::Plain),
                ChangeTag::Insert => ('+', Label::Added),
            };
            all += 1;
            if shown == LONGEST {
                continue;
            }
            shown += 1;
            let mut line = format!("  │ {} ", paint.paint(label, sign.to_string()));
            for (emphasised, words) in change.iter_strings_lossy() {
                let words = words.trim_end_matches(['\n', '\r']);
                line.push_str(&paint.paint(if emphasised { Label::AddedWord } else { label }, words));
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    cut(text, all, paint);
}

fn cut(text: &mut String, all: usize, paint: Painter) {
    if all > LONGEST {
        let more = format!("… {} more lines", all - LONGEST);
        let _ = writeln!(text, "  │ {}", paint.paint(Label::Dim, more));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clash_shows_all_three_versions_with_context() {
        let common = |text: &str| Part::Common(text.as_bytes().to_vec());
        let parts = [
            common("1\n2\n3\n4\n5\n"),
            Part::Clash {
                ours: b"let a = two();\n".to_vec(),
                base: b"let a = one();\n".to_vec(),
                theirs: b"let a = one();\nlet \x1b[31mb = 1;\n".to_vec(),
            },
            common("7\n8\n9\n10\n11\n"),
            Part::Clash { ours: Vec::new(), base: b"x\n".to_vec(), theirs: b"y\n".to_vec() },
        ];
        let mut text = String::new();
        clashes(&mut text, &parts, 0, "blue-heron", "grey-fox", Painter::new(false));
        insta::assert_snapshot!(text, @r"
          3  3
          4  4
          5  5
        ┌ before both
        │   let a = one();
        ├ blue-heron
        │ + let a = two();
        ├ grey-fox
        │   let a = one();
        │ + let <U+001B>[31mb = 1;
        └
          7  7
          8  8
          9  9
         10  10
         11  11
        ┌ before both
        │   x
        ├ blue-heron
        │ (these lines are deleted)
        ├ grey-fox
        │ + y
        └
        ");
        let mut text = String::new();
        clashes(&mut text, &parts[1..2], 0, "blue-heron", "grey-fox", Painter::new(true));
        assert!(text.contains("let a = \u{1b}"), "the word that changed stands out: {text}");
        assert!(!text.contains("\u{1b}[31mb"), "a file's escape sequences are not the terminal's");
    }
}
