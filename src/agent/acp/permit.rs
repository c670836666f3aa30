//! Whether an agent may do what it asks for, as far as the profile answers that.

use crate::agent::Permissions;
use serde_json::Value;
use std::path::{Component, Path};

/// What a profile says to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Refuse,
    /// A person says.
    Ask,
}

/// What `permissions` say to a call of a tool, as the agent describes it.
pub(super) fn judge(permissions: Permissions, call: &Value, worktree: &Path) -> Verdict {
    let kind = call["kind"].as_str().unwrap_or("other");
    let here = || {
        let mut paths = paths(call).peekable();
        paths.peek().is_some() && paths.all(|path| is_inside(worktree, Path::new(path)))
    };
    match (permissions, kind) {
        (Permissions::Bypass, _) => Verdict::Allow,
        (Permissions::Plan, "edit" | "delete" | "move" | "execute" | "switch_mode") => Verdict::Refuse,
        (Permissions::AcceptEdits, "edit") | (_, "read" | "search") if here() => Verdict::Allow,
        _ => Verdict::Ask,
    }
}

/// The paths that a call names.
pub(super) fn paths(call: &Value) -> impl Iterator<Item = &str> {
    let list = |key: &str| call[key].as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let diffs = list("content").filter(|content| content["type"] == "diff");
    list("locations").chain(diffs).filter_map(|place| place["path"].as_str())
}

/// Whether `path` is in the worktree and not git's, links followed as far as they exist.
fn is_inside(worktree: &Path, path: &Path) -> bool {
    let plain = |part: Component<'_>| !matches!(part, Component::ParentDir) && part.as_os_str() != ".git";
    let path = worktree.join(path);
    let Ok(below) = path.strip_prefix(worktree) else { return false };
    let existing = path.ancestors().find(|path| path.symlink_metadata().is_ok());
    let real = existing.and_then(|path| path.canonicalize().ok()).zip(worktree.canonicalize().ok());
    below.components().all(plain) && real.is_some_and(|(path, worktree)| path.starts_with(worktree))
}

/// The option that says so: once rather than always.
pub(super) fn option(options: &Value, allow: bool) -> Option<&str> {
    let kinds = if allow { ["allow_once", "allow_always"] } else { ["reject_once", "reject_always"] };
    let options = options.as_array()?;
    let of = |kind: &str| options.iter().find(|option| option["kind"] == kind);
    kinds.into_iter().find_map(of)?["optionId"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_profile_answers_what_it_can() {
        let root = tempfile::tempdir().unwrap();
        let worktree = root.path().join("wt");
        std::fs::create_dir(&worktree).unwrap();
        std::fs::write(root.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(root.path(), worktree.join("out")).unwrap();
        let call = |kind: &str, path: &str| {
            let path = if path.starts_with('/') { path.into() } else { worktree.join(path) };
            json!({"kind": kind, "locations": [{"path": path}]})
        };
        let judge = |permissions, call: &Value| judge(permissions, call, &worktree);
        let (plan, edits, all) = (Permissions::Plan, Permissions::AcceptEdits, Permissions::Bypass);
        for (kind, path, expected) in [
            ("edit", "new/file.txt", [Verdict::Refuse, Verdict::Allow, Verdict::Allow]),
            ("edit", "out/secret", [Verdict::Refuse, Verdict::Ask, Verdict::Allow]),
            ("edit", "a/../../secret", [Verdict::Refuse, Verdict::Ask, Verdict::Allow]),
            ("edit", ".git", [Verdict::Refuse, Verdict::Ask, Verdict::Allow]),
            ("edit", "/etc/passwd", [Verdict::Refuse, Verdict::Ask, Verdict::Allow]),
            ("read", "a.txt", [Verdict::Allow, Verdict::Allow, Verdict::Allow]),
            ("read", "/etc/passwd", [Verdict::Ask, Verdict::Ask, Verdict::Allow]),
            ("delete", "a.txt", [Verdict::Refuse, Verdict::Ask, Verdict::Allow]),
            ("execute", "a.txt", [Verdict::Refuse, Verdict::Ask, Verdict::Allow]),
            ("fetch", "a.txt", [Verdict::Ask, Verdict::Ask, Verdict::Allow]),
            ("new kind", "a.txt", [Verdict::Ask, Verdict::Ask, Verdict::Allow]),
        ] {
            let call = call(kind, path);
            assert_eq!([plan, edits, all].map(|p| judge(p, &call)), expected, "{kind} {path}");
        }
        // One that names no path may be anywhere; a difference names one too.
        assert_eq!(judge(edits, &json!({"kind": "edit"})), Verdict::Ask);
        let diff = json!({"kind": "edit", "locations": [{"path": worktree.join("a")}],
            "content": [{"type": "diff", "path": "/etc/passwd"}]});
        assert_eq!(judge(edits, &diff), Verdict::Ask);
        assert_eq!(judge(edits, &json!(7)), Verdict::Ask);
    }

    #[test]
    fn once_comes_before_always() {
        let options = json!([
            {"optionId": "a", "kind": "allow_always"},
            {"optionId": "b", "kind": "allow_once"},
            {"optionId": "c", "kind": "reject_always"},
        ]);
        assert_eq!((option(&options, true), option(&options, false)), (Some("b"), Some("c")));
        assert_eq!(option(&json!([{"optionId": 7, "kind": "allow_once"}]), true), None);
        assert_eq!(option(&json!({}), true), None);
    }
}
