//! Which calls go ahead, which a person is asked about, and which are refused.
//!
//! The limits of a profile are written as for Claude Code: `Bash`, `Bash(git diff *)`, `Write(docs/**)`.

use super::tools::{Input, Tool};
use crate::agent::Permissions;
use globset::GlobBuilder;
use serde_json::Value;
use std::path::Path;

/// What comes of a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    Ask,
    Refuse(String),
}

/// What a run may do.
#[derive(Debug, Clone)]
pub(super) struct Permit {
    permissions: Permissions,
    /// The only tools that there are; `None` for all.
    only: Option<Vec<Rule>>,
    denied: Vec<Rule>,
}

/// A tool, or some of its uses.
#[derive(Debug, Clone)]
struct Rule {
    tool: String,
    uses: Option<String>,
}

impl Rule {
    fn parse(words: &str) -> Self {
        let uses = words.split_once('(').and_then(|(tool, rest)| Some((tool, rest.strip_suffix(')')?)));
        match uses {
            Some((tool, uses)) => Self { tool: tool.trim().to_owned(), uses: Some(uses.trim().to_owned()) },
            None => Self { tool: words.trim().to_owned(), uses: None },
        }
    }
}

impl Permit {
    pub(super) fn new(permissions: Permissions, only: Option<&[String]>, denied: &[String]) -> Self {
        let rules = |words: &[String]| words.iter().map(|words| Rule::parse(words)).collect::<Vec<_>>();
        Self { permissions, only: only.map(rules), denied: rules(denied) }
    }

    /// Whether the model is told of a tool at all.
    pub(super) fn offers(&self, tool: Tool) -> bool {
        let named = |rules: &[Rule]| rules.iter().any(|rule| rule.tool == tool.name());
        let withheld = self.denied.iter().any(|rule| rule.tool == tool.name() && rule.uses.is_none());
        let fits = self.permissions != Permissions::Plan || !tool.changes();
        fits && !withheld && self.only.as_deref().is_none_or(named)
    }

    /// What comes of a call.
    pub(super) fn judge(&self, tool: Tool, input: &Value, worktree: &Path) -> Verdict {
        if !self.offers(tool) {
            return Verdict::Refuse(format!("{} is not allowed here", tool.name()));
        }
        let what = Use::of(tool, input, worktree);
        let fits = |rule: &&Rule, any: bool| {
            rule.tool == tool.name() && rule.uses.as_deref().is_some_and(|uses| what.fits(uses, any))
        };
        if let Some(rule) = self.denied.iter().find(|rule| fits(rule, true)) {
            let uses = rule.uses.as_deref().unwrap_or_default();
            return Verdict::Refuse(format!("{}({uses}) is not allowed here", tool.name()));
        }
        let allowed = self.only.iter().flatten().any(|rule| fits(&rule, false));
        match (self.permissions, tool) {
            _ if allowed => Verdict::Go,
            (Permissions::AcceptEdits, Tool::Bash) => Verdict::Ask,
            _ => Verdict::Go,
        }
    }
}

/// What a call would be used on.
enum Use<'a> {
    Command(&'a str),
    Path(String),
    Other,
}

impl<'a> Use<'a> {
    fn of(tool: Tool, input: &'a Value, worktree: &Path) -> Self {
        let input = Input::new(input);
        match tool {
            Tool::Bash => Self::Command(input.text("command").unwrap_or_default()),
            Tool::Todo | Tool::Task => Self::Other,
            Tool::Read | Tool::Write | Tool::Edit => {
                let path = worktree.join(input.text("file_path").unwrap_or_default());
                let real = path.ancestors().find_map(|above| {
                    let rest = path.strip_prefix(above).ok()?;
                    Some(above.canonicalize().ok()?.join(rest))
                });
                let path = real.unwrap_or(path);
                let root = worktree.canonicalize().unwrap_or_else(|_| worktree.to_owned());
                Self::Path(path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned())
            }
        }
    }

    /// Whether this is one of the `uses`. Of a line of several commands `any` of them must be, which is how what is
    /// denied is looked for; or it must be one plain command, which is how what is allowed is.
    fn fits(&self, uses: &str, any: bool) -> bool {
        match self {
            Self::Command(command) if any => {
                let parts = command.split(['\n', ';', '&', '|', '(', ')', '{', '}', '`']);
                std::iter::once(*command).chain(parts).any(|part| is_like(part.trim(), uses))
            }
            Self::Command(command) => !command.contains(SHELL) && is_like(command.trim(), uses),
            Self::Path(path) => {
                let uses = uses.strip_prefix("./").unwrap_or(uses);
                let glob = GlobBuilder::new(uses).literal_separator(true).build();
                // What cannot be read denies everything, and allows nothing.
                glob.map_or(any, |glob| glob.compile_matcher().is_match(path))
            }
            Self::Other => false,
        }
    }
}

/// By which a line can be more than one command, or a command more than it seems.
const SHELL: [char; 12] = ['\n', ';', '&', '|', '(', ')', '{', '}', '`', '<', '>', '$'];

/// Whether `command` is like `pattern`, in which `*` stands for anything; `git diff *` and `git diff:*` are also `git
/// diff`.
fn is_like(command: &str, pattern: &str) -> bool {
    let pattern = pattern.strip_suffix(":*").map_or_else(|| pattern.to_owned(), |start| format!("{start} *"));
    if pattern.strip_suffix(" *") == Some(command) {
        return true;
    }
    let mut parts = pattern.split('*');
    let Some(mut rest) = command.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn permit(permissions: Permissions, only: Option<&[&str]>, denied: &[&str]) -> Permit {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        Permit::new(permissions, only.map(own).as_deref(), &own(denied))
    }

    fn bash(permit: &Permit, command: &str) -> Verdict {
        permit.judge(Tool::Bash, &json!({"command": command}), Path::new("/w"))
    }

    #[test]
    fn permissions_say_what_is_asked() {
        let edit = json!({"file_path": "a"});
        for (permissions, expected) in [
            (Permissions::Bypass, [Some(true), Some(true), Some(true)]),
            (Permissions::AcceptEdits, [Some(true), Some(true), None]),
            (Permissions::Plan, [Some(true), Some(false), Some(false)]),
        ] {
            let permit = permit(permissions, None, &[]);
            let found = [Tool::Read, Tool::Edit, Tool::Bash].map(|tool| {
                match permit.judge(tool, &edit, Path::new("/w")) {
                    Verdict::Go => Some(true),
                    Verdict::Ask => None,
                    Verdict::Refuse(_) => Some(false),
                }
            });
            assert_eq!(found, expected, "{permissions:?}");
            assert_eq!(permit.offers(Tool::Write), permissions != Permissions::Plan);
        }
    }

    #[test]
    fn uses_that_are_allowed_are_not_asked_and_nothing_hides_behind_one() {
        let permit = permit(Permissions::AcceptEdits, Some(&["Read", "Bash(git diff *)", "Bash(make)"]), &[]);
        for command in ["git diff", "git diff a b", " make "] {
            assert_eq!(bash(&permit, command), Verdict::Go, "{command}");
        }
        for command in [
            "git diffs",
            "make all",
            "git diff; rm x",
            "git diff $(rm x)",
            "git diff > x",
            "git diff & rm x",
            "git diff\nrm x",
            "git diff `rm x`",
            "git diff || rm x",
        ] {
            assert_eq!(bash(&permit, command), Verdict::Ask, "{command}");
        }
        assert!(matches!(permit.judge(Tool::Edit, &json!({}), Path::new("/w")), Verdict::Refuse(_)));
        assert!(!permit.offers(Tool::Write) && permit.offers(Tool::Bash));
    }

    #[test]
    fn what_is_denied_is_refused_wherever_it_stands() {
        let permit =
            permit(Permissions::Bypass, None, &["Bash(git push *)", "Write", "Edit(docs/**)", "Read([)"]);
        for command in
            ["git push", "make && git push origin x", "true; git push", "(git push)", "x=$(git push -f)"]
        {
            assert!(matches!(bash(&permit, command), Verdict::Refuse(_)), "{command}");
        }
        assert_eq!(bash(&permit, "git pushed"), Verdict::Go);
        assert!(!permit.offers(Tool::Write));
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("src")).unwrap();
        let edit = |path: &str| permit.judge(Tool::Edit, &json!({"file_path": path}), dir.path());
        for path in ["docs/a/b.md", "./docs/a", "src/../docs/a"] {
            assert!(matches!(edit(path), Verdict::Refuse(_)), "{path}");
        }
        assert_eq!(edit("src/a"), Verdict::Go);
        let read = permit.judge(Tool::Read, &json!({"file_path": "a"}), dir.path());
        assert!(matches!(read, Verdict::Refuse(_)), "a pattern that cannot be read denies");
    }
}
