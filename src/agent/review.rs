//! A review: a diff that is quoted, what a person wrote between its lines, and the message that comes of it.

use std::fmt::Write as _;

/// What stands before each line of the diff.
const QUOTE: &str = "> ";
/// What stands before our own lines.
const OURS: &str = "#;";
/// The most characters of a line that are quoted back.
const MAX_QUOTED: usize = 120;

/// What somebody said of a place in a diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// The file, as the diff names it; absent for what was said before all files.
    pub path: Option<String>,
    /// The line of the new file, or of the old one if the line was removed; from 1.
    pub line: Option<u32>,
    /// The line that stands above the comment, as in the diff.
    pub quoted: Option<String>,
    /// The words.
    pub text: String,
}

/// The diff as it is handed to an editor.
pub fn quote(diff: &str) -> String {
    let mut text = format!(
        "{OURS} Write below the lines that you have something to say about. What you write goes to the agent as one\n\
         {OURS} message. You may delete quoted lines; lines that start with `{OURS}` are left out. Without a comment\n\
         {OURS} nothing is sent.\n\n"
    );
    for line in diff.lines() {
        let _ = writeln!(text, "{}", format!("{QUOTE}{line}").trim_end());
    }
    text
}

/// What was written into a quoted diff, in order. Quoted lines that are not in the diff are no comments either.
pub fn comments(diff: &str, edited: &str) -> Vec<Comment> {
    let places = places(diff);
    let mut comments = Vec::<Comment>::new();
    let (mut next, mut above, mut begins) = (0, None, true);
    for line in edited.lines().filter(|line| !line.starts_with(OURS)) {
        if let Some(quoted) = line.strip_prefix(QUOTE.trim_end()) {
            let quoted = quoted.strip_prefix(' ').unwrap_or(quoted);
            let found = places[next..].iter().position(|place| place.quoted.trim_end() == quoted.trim_end());
            if let Some(at) = found {
                above = Some(next + at);
                next += at + 1;
            }
            begins = true;
            continue;
        }
        if begins {
            let place = above.map(|at: usize| &places[at]);
            comments.push(Comment {
                path: place.and_then(|place| place.path.clone()),
                line: place.and_then(|place| place.line),
                quoted: place.filter(|place| place.line.is_some()).map(|place| place.quoted.to_owned()),
                text: String::new(),
            });
            begins = false;
        }
        let text = &mut comments.last_mut().expect("one was begun").text;
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for comment in &mut comments {
        comment.text = comment.text.trim_matches('\n').to_owned();
    }
    comments.retain(|comment| !comment.text.trim().is_empty());
    comments
}

/// What the agent is told.
pub fn message(comments: &[Comment], reviewer: &str) -> String {
    let mut text = format!(
        "{reviewer} has read your changes and says this. Deal with each point, and say at the end what you did about it.\n"
    );
    for (number, comment) in (1..).zip(comments) {
        let place = match (&comment.path, comment.line) {
            (Some(path), Some(line)) => format!("{path}:{line}"),
            (Some(path), None) => path.clone(),
            _ => "on the whole".to_owned(),
        };
        let _ = write!(text, "\n{number}. {place}");
        if let Some(quoted) = &comment.quoted {
            let short: String = quoted.chars().take(MAX_QUOTED).collect();
            let _ = write!(text, "\n   | {short}");
        }
        for line in comment.text.lines() {
            let _ = write!(text, "\n   {line}");
        }
        text.push('\n');
    }
    text
}

struct PlaceOf<'a> {
    quoted: &'a str,
    path: Option<String>,
    line: Option<u32>,
}

/// Where each line of a unified diff is.
fn places(diff: &str) -> Vec<PlaceOf<'_>> {
    let (mut path, mut old, mut new) = (None, 0, 0);
    // Lines of the hunk at hand that are still to come, of the old file and the new one.
    let mut left = (0_u32, 0_u32);
    let mut places = Vec::new();
    for quoted in diff.lines() {
        let mut line = None;
        if left != (0, 0) {
            match quoted.as_bytes().first() {
                Some(b'-') => {
                    line = Some(old);
                    old += 1;
                    left.0 = left.0.saturating_sub(1);
                }
                Some(b'+') => {
                    line = Some(new);
                    new += 1;
                    left.1 = left.1.saturating_sub(1);
                }
                // Says that the line before it has no end.
                Some(b'\\') => {}
                _ => {
                    line = Some(new);
                    (old, new) = (old + 1, new + 1);
                    left = (left.0.saturating_sub(1), left.1.saturating_sub(1));
                }
            }
        } else if let Some(hunk) = quoted.strip_prefix("@@ -") {
            if let Some([(old_at, old_len), (new_at, new_len)]) = ranges(hunk) {
                (old, new, left) = (old_at, new_at, (old_len, new_len));
            }
        } else if quoted.starts_with("diff --git ") {
            path = None;
        } else if let Some(name) = quoted.strip_prefix("+++ ").or_else(|| quoted.strip_prefix("--- ")) {
            // The new name comes last, and counts unless the file is gone.
            if name != "/dev/null" {
                let name = name.trim_end_matches('\t');
                path = Some(
                    name.strip_prefix("a/").or_else(|| name.strip_prefix("b/")).unwrap_or(name).to_owned(),
                );
            }
        }
        places.push(PlaceOf { quoted, path: path.clone(), line });
    }
    places
}

/// `1,3 +2 @@ fn main()`: where each begins and how long it is.
fn ranges(hunk: &str) -> Option<[(u32, u32); 2]> {
    let (old, rest) = hunk.split_once(" +")?;
    let (new, _) = rest.split_once(" @@")?;
    let range = |text: &str| {
        let (start, len) = text.split_once(',').unwrap_or((text, "1"));
        Some((start.parse().ok()?, len.parse().ok()?))
    };
    Some([range(old)?, range(new)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "\
diff --git a/src/a.rs b/src/a.rs
index 1..2 100644
--- a/src/a.rs
+++ b/src/a.rs
@@ -3,4 +3,5 @@ fn main() {
 one

-two
+2
+-- not a header
 three
diff --git a/old b/old
deleted file mode 100644
--- a/old
+++ /dev/null
@@ -1 +0,0 @@
-gone
\\ No newline at end of file
";

    /// The quoted diff with `text` written below the line that ends with `after`.
    fn with(edited: &str, after: &str, text: &str) -> String {
        let at = edited.lines().position(|line| line.ends_with(after)).unwrap_or_else(|| panic!("{after}"));
        let mut lines: Vec<&str> = edited.lines().collect();
        lines.insert(at + 1, text);
        lines.join("\n")
    }

    fn found(edited: &str) -> Vec<(Option<String>, Option<u32>, String)> {
        comments(DIFF, edited).into_iter().map(|comment| (comment.path, comment.line, comment.text)).collect()
    }

    #[test]
    fn comments_know_where_they_stand() {
        let quoted = quote(DIFF);
        assert_eq!(comments(DIFF, &quoted), []);
        let a = || Some("src/a.rs".to_owned());
        for (after, path, line) in [
            ("+2", a(), Some(5)),
            ("+-- not a header", a(), Some(6)),
            (" three", a(), Some(7)),
            ("-two", a(), Some(5)),
            ("+++ b/src/a.rs", a(), None),
            ("-gone", Some("old".to_owned()), Some(1)),
            ("file mode 100644", None, None),
        ] {
            let edited = with(&quoted, after, "\nWhy?\n  Really.\n");
            assert_eq!(found(&edited), [(path, line, "Why?\n  Really.".to_owned())], "{after}");
        }
    }

    #[test]
    fn quoted_lines_may_go_and_what_is_unknown_is_no_comment() {
        let edited = "#; help\nFirst of all\n> @@ -3,4 +3,5 @@ fn main() {\n> +2\n>\nTwo?\n> +invented\n>  three\nThree\n";
        assert_eq!(
            found(edited),
            [
                (None, None, "First of all".to_owned()),
                (Some("src/a.rs".to_owned()), Some(5), "Two?".to_owned()),
                (Some("src/a.rs".to_owned()), Some(7), "Three".to_owned())
            ]
        );
        assert_eq!(found(""), []);
    }

    #[test]
    fn the_message_has_each_point_with_its_place() {
        let edited = with(&with(&quote(DIFF), "+2", "Why?"), "nothing is sent.", "Good.");
        assert_eq!(
            message(&comments(DIFF, &edited), "Ada"),
            "Ada has read your changes and says this. Deal with each point, and say at the end what you did about \
             it.\n\n1. on the whole\n   Good.\n\n2. src/a.rs:5\n   | +2\n   Why?\n"
        );
    }
}
