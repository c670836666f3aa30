//! Files of Claude Code's that describe an agent (`.claude/agents/*.md`), read as profiles.
//!
//! A file begins with lines of `key: value` between two lines `---`; the rest is the prompt. Claude Code takes more
//! than YAML does there (descriptions with colons in them, unquoted), so this reader is of its own: keys at the
//! beginning of a line, with a value behind the colon, a list below, or a text that is indented below.

use super::key::Key;
use super::profile;
use super::source::{Layer, Origin, Setting};
use crate::model::Name;

/// The directory of such files, in a repository and below Claude Code's own directory.
pub const AGENT_FILES: &str = ".claude/agents";

/// The longest file that is read, in bytes.
pub const MAX_AGENT_FILE: u64 = 128 * 1024;

/// A file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFile {
    /// Its name for messages.
    pub place: String,
    /// What is in it, or why that could not be had.
    pub text: Result<String, String>,
    /// Whether whoever writes the repository can write it.
    pub from_repository: bool,
}

/// A file that is no profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub place: String,
    /// What is wrong with it.
    pub why: String,
}

impl AgentFile {
    /// The settings that it amounts to: those of one profile.
    pub(super) fn settings(&self) -> Result<Vec<Setting>, String> {
        let text = self.text.as_ref().map_err(Clone::clone)?;
        let (fields, prompt) = read(text)?;
        let of = |wanted: &str| fields.iter().find(|(key, _)| key == wanted).map(|(_, value)| value);
        let name = of("name").and_then(Field::text).ok_or("it has no `name`")?;
        let name: Name = name.parse().map_err(|error| format!("`name`: {error}"))?;
        if profile::is_program(name.as_str()) {
            return Err(format!("`{name}` is the profile of a program: give it another `name`"));
        }
        let origin = Origin {
            layer: Layer::AgentFile,
            place: self.place.clone(),
            from_repository: self.from_repository,
        };
        let mut settings = Vec::new();
        let mut add = |key: &str, words: &[String]| {
            let key = format!("profile.{name}.{key}");
            let known = Key::find(&key).expect("these keys are in the table");
            let value = known.parse(words).ok_or_else(|| format!("`{}` is no {key}", words.join(" ")))?;
            settings.push(Setting { key, value, origin: origin.clone() });
            Ok::<_, String>(())
        };
        add("program", &["claude".to_owned()])?;
        for (key, field) in &fields {
            let text = || field.text().map(|text| vec![text.to_owned()]).ok_or(format!("`{key}` is a list"));
            match key.as_str() {
                "description" => add("description", &text()?)?,
                // The program's own choice is what saying nothing means.
                "model" if field.text() == Some("inherit") => {}
                "model" => add("model", &text()?)?,
                "tools" if field.text() == Some("*") => {}
                "tools" => add("tools", &field.words())?,
                "disallowedTools" => add("denied-tools", &field.words())?,
                "maxTurns" => add("max-turns", &text()?)?,
                "permissionMode" => add("permissions", &[permissions(field.text().unwrap_or_default())?])?,
                _ => {}
            }
        }
        if !prompt.is_empty() {
            add("role", &[prompt])?;
        }
        Ok(settings)
    }

    /// What it says that is not handed on.
    pub(super) fn ignored(&self) -> Vec<String> {
        const KNOWN: [&str; 7] =
            ["name", "description", "model", "tools", "disallowedTools", "maxTurns", "permissionMode"];
        let fields = self.text.as_ref().ok().and_then(|text| read(text).ok()).map(|(fields, _)| fields);
        let keys = fields.into_iter().flatten().map(|(key, _)| key);
        keys.filter(|key| !KNOWN.contains(&key.as_str())).collect()
    }
}

fn permissions(word: &str) -> Result<String, String> {
    let ours = match word {
        "plan" => "plan",
        "default" | "acceptEdits" => "accept-edits",
        "bypassPermissions" => "bypass",
        other => return Err(format!("`permissionMode: {other}` means nothing here")),
    };
    Ok(ours.to_owned())
}

/// A value between the lines `---`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Text(String),
    List(Vec<String>),
}

impl Field {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::List(_) => None,
        }
    }

    /// A list, or words with commas between them; a comma inside brackets belongs to its word.
    fn words(&self) -> Vec<String> {
        let text = match self {
            Self::List(words) => return words.clone(),
            Self::Text(text) => text,
        };
        let (mut words, mut word, mut depth) = (Vec::new(), String::new(), 0_u32);
        for c in text.chars() {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if c == ',' && depth == 0 {
                words.push(std::mem::take(&mut word));
            } else {
                word.push(c);
            }
        }
        words.push(word);
        words.iter().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
    }
}

/// The fields in front, and the prompt.
fn read(text: &str) -> Result<(Vec<(String, Field)>, String), String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines();
    if lines.next().map(str::trim_end) != Some("---") {
        return Err("it does not begin with a line `---`".to_owned());
    }
    let mut fields: Vec<(String, Vec<&str>)> = Vec::new();
    let mut closed = false;
    for line in lines.by_ref() {
        if line.trim_end() == "---" {
            closed = true;
            break;
        }
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let key = line.split_once(':').filter(|(key, _)| is_key(key));
        match (key, fields.last_mut()) {
            (Some((key, value)), _) => {
                if fields.iter().any(|(other, _)| other == key) {
                    return Err(format!("it says `{key}` twice"));
                }
                fields.push((key.to_owned(), vec![value.trim()]));
            }
            // What goes on below a key: indented, or the items of a list.
            (None, Some((_, parts))) if line.starts_with([' ', '\t', '-']) => parts.push(line.trim()),
            (None, _) => return Err(format!("it has a line that is no `key: value`: `{}`", line.trim())),
        }
    }
    if !closed {
        return Err("the line `---` that ends what stands in front is missing".to_owned());
    }
    let prompt = lines.collect::<Vec<_>>().join("\n").trim().to_owned();
    let fields: Result<Vec<_>, String> =
        fields.into_iter().map(|(key, parts)| Ok((key.clone(), field(&key, &parts)?))).collect();
    Ok((fields?, prompt))
}

fn is_key(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn field(key: &str, parts: &[&str]) -> Result<Field, String> {
    let (first, more) = parts.split_first().expect("a field has its line");
    if let Some(inner) = first.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or_else(|| format!("`{key}` is a list that does not end"))?;
        let words = Field::Text(inner.to_owned()).words();
        return Ok(Field::List(words.iter().map(|word| unquoted(word)).collect()));
    }
    if first.is_empty() && more.iter().any(|part| part.starts_with("- ")) {
        let items = more.iter().map(|part| part.strip_prefix("- ").map(|item| unquoted(item.trim())));
        let items: Option<Vec<String>> = items.collect();
        return items.map(Field::List).ok_or_else(|| format!("`{key}` is half a list"));
    }
    let block = matches!(*first, "|" | "|-" | "|+");
    let folded = matches!(*first, ">" | ">-" | ">+");
    let mut text = if block || folded { String::new() } else { (*first).to_owned() };
    for part in more {
        if !text.is_empty() {
            text.push(if block { '\n' } else { ' ' });
        }
        text.push_str(part);
    }
    Ok(Field::Text(if block || folded { text } else { unquoted(&text) }))
}

/// Without the quotes around it, if there are any.
fn unquoted(text: &str) -> String {
    if let Some(inner) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return inner.replace("''", "'");
    }
    if text.len() > 1 && text.starts_with('"') && text.ends_with('"') {
        // What YAML escapes in double quotes, JSON does too, but for rarities: those stay as they are.
        return serde_json::from_str(text).unwrap_or_else(|_| text[1..text.len() - 1].to_owned());
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Vec<(String, String)>, String> {
        let file = AgentFile { place: "a.md".into(), text: Ok(text.into()), from_repository: true };
        let settings = file.settings()?;
        assert!(settings.iter().all(Setting::needs_approval), "all of it counts only with approval");
        Ok(settings.into_iter().map(|setting| (setting.key, setting.value.to_string())).collect())
    }

    #[test]
    fn what_stands_in_front_is_read_as_claude_code_does() {
        let text = "---\nname: api-designer\ndescription: Use when: designing. <example>user: \"hi\"</example>\n\
                    tools: Read, Grep, Bash(git log:*, -n)\nmodel: opus\ncolor: red\n---\n\nYou design.\n\n---\nBriefly.\n";
        let pair = |key: &str, value: &str| (format!("profile.api-designer.{key}"), value.to_owned());
        assert_eq!(
            settings(text).unwrap(),
            [
                pair("program", "claude"),
                pair("description", "Use when: designing. <example>user: \"hi\"</example>"),
                pair("tools", r#"["Read", "Grep", "Bash(git log:*, -n)"]"#),
                pair("model", "opus"),
                pair("role", "You design.\n\n---\nBriefly."),
            ]
        );
        let file = AgentFile { place: String::new(), text: Ok(text.into()), from_repository: true };
        assert_eq!(file.ignored(), ["color"]);
    }

    #[test]
    fn lists_blocks_and_quotes() {
        let text = "---\r\nname: \"a-1\"\ndescription: >-\n  Two\n  lines\ntools:\n  - Read\n  - 'Grep'\n\
                    disallowedTools: [WebFetch, \"Bash(rm *)\"]\nmodel: inherit\npermissionMode: plan\nmaxTurns: 5\n---\n";
        let shown = settings(text).unwrap();
        let of = |key: &str| {
            let found = shown.iter().find(|(name, _)| name == &format!("profile.a-1.{key}"));
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(of("description"), Some("Two lines"));
        assert_eq!(of("tools"), Some(r#"["Read", "Grep"]"#));
        assert_eq!(of("denied-tools"), Some(r#"["WebFetch", "Bash(rm *)"]"#));
        assert_eq!((of("permissions"), of("max-turns")), (Some("plan"), Some("5")));
        assert_eq!((of("model"), of("role")), (None, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("You review.", "it does not begin with a line `---`"),
            ("---\nname: x\nYou review.", "it has a line that is no `key: value`: `You review.`"),
            ("---\nname: x\n", "the line `---` that ends what stands in front is missing"),
            ("---\ndescription: x\n---\n", "it has no `name`"),
            ("---\nname: x\nname: y\n---\n", "it says `name` twice"),
            ("---\nname: claude\n---\n", "`claude` is the profile of a program: give it another `name`"),
            ("---\nname: x\npermissionMode: yolo\n---\n", "`permissionMode: yolo` means nothing here"),
            ("---\nname: x\ntools: [Read\n---\n", "`tools` is a list that does not end"),
            ("---\nname: x\nmaxTurns: some\n---\n", "`some` is no profile.x.max-turns"),
        ] {
            assert_eq!(settings(text).unwrap_err(), why);
        }
        assert!(settings("---\nname: ../x\n---\n").unwrap_err().starts_with("`name`: "));
    }
}
