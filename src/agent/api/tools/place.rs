//! Where a path of the model's leads.

use std::path::{Component, Path, PathBuf};

/// `path` as it is meant from the worktree.
pub(super) fn from(worktree: &Path, path: &str) -> PathBuf {
    worktree.join(path)
}

/// Where `path` really leads, if that is inside the worktree and not git's own: links are followed, of what exists and
/// of what does not yet.
pub(super) fn inside(worktree: &Path, path: &str) -> Result<PathBuf, String> {
    let outside = || format!("`{path}` is not inside the worktree: nothing else may be changed");
    let worktree = worktree.canonicalize().map_err(|error| format!("the worktree is gone: {error}"))?;
    let wanted = worktree.join(path);
    // What exists of the path is judged by where it really is; the rest must be plain names.
    let existing = wanted.ancestors().find(|path| path.symlink_metadata().is_ok()).ok_or_else(outside)?;
    let rest = wanted.strip_prefix(existing).map_err(|_| outside())?;
    let real = existing.canonicalize().map_err(|_| outside())?;
    let whole = if rest.as_os_str().is_empty() { real } else { real.join(rest) };
    let plain = rest.components().all(|part| matches!(part, Component::Normal(_)));
    let relative = whole.strip_prefix(&worktree).map_err(|_| outside())?;
    if !plain || relative.as_os_str().is_empty() {
        return Err(outside());
    }
    if relative.components().any(|part| part.as_os_str().eq_ignore_ascii_case(".git")) {
        return Err(format!("`{path}` is git's own: use git to change it"));
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_what_is_inside_may_be_changed() {
        let root = tempfile::tempdir().unwrap();
        let (tree, other) = (root.path().join("tree"), root.path().join("other"));
        for dir in [&tree, &other, &tree.join("src"), &tree.join(".git")] {
            std::fs::create_dir(dir).unwrap();
        }
        std::fs::write(other.join("secret"), "x").unwrap();
        symlink(&other, tree.join("out")).unwrap();
        symlink(tree.join("src"), tree.join("in")).unwrap();
        symlink(other.join("new"), tree.join("dangling")).unwrap();
        let is = |path: &str| inside(&tree, path).is_ok();
        let absolute = |path: &Path| inside(&tree, path.to_str().unwrap()).is_ok();
        for path in ["a", "src/new/deep.rs", "in/a", "./a", "src/../a"] {
            assert!(is(path), "{path}");
        }
        for path in [
            "",
            ".",
            "/",
            "../other/secret",
            "out/secret",
            "out/new",
            "dangling",
            ".git/config",
            "new/../../x",
            ".GIT/hooks/x",
            "src/.git/config",
        ] {
            assert!(!is(path), "{path}");
        }
        assert!(
            absolute(&tree.join("a")) && !absolute(&other.join("a")) && !absolute(&root.path().join("tree2"))
        );
    }
}
