//! Worktrees with a part of the files: sparse checkouts in cone mode.
//!
//! Nothing is written to the repository's configuration for that: which directories a worktree has is in its private git
//! directory, and every git that we start there, and agents' own, are told by their environment that it counts.

use super::{Error, Worktree};
use std::fmt::Write as _;
use std::path::{Component, Path};

/// What git is told where a worktree has such a list.
pub(super) const CONFIG: [(&str, &str); 2] =
    [("core.sparseCheckout", "true"), ("core.sparseCheckoutCone", "true")];

impl Worktree {
    /// Whether it has only a part of the files.
    pub fn is_sparse(&self) -> bool {
        is_sparse(&self.git_dir)
    }

    /// What whoever runs git in it by itself must tell git.
    pub const fn sparse_config() -> [(&'static str, &'static str); 2] {
        CONFIG
    }

    /// Limits it to the files at the root and to `directories`, before it is filled.
    pub(super) fn limit_to(&self, directories: &[String]) -> Result<(), Error> {
        let file = self.git_dir.join("info/sparse-checkout");
        let write = || {
            std::fs::create_dir_all(self.git_dir.join("info"))?;
            std::fs::write(&file, cone(directories))
        };
        write().map_err(|e| Error::file("write", &file, e))
    }
}

pub(super) fn is_sparse(git_dir: &Path) -> bool {
    git_dir.join("info/sparse-checkout").exists()
}

/// The patterns of a cone, as `git sparse-checkout set --cone` writes them: of each directory on the way the files alone.
fn cone(directories: &[String]) -> String {
    let mut wanted: Vec<Vec<&str>> = directories.iter().filter_map(|path| parts(path)).collect();
    wanted.sort();
    wanted.dedup();
    // What is below another one is there with it.
    let all = wanted.clone();
    wanted.retain(|path| !all.iter().any(|other| other.len() < path.len() && path.starts_with(other)));
    let mut ways: Vec<Vec<&str>> =
        wanted.iter().flat_map(|path| (1..path.len()).map(|len| path[..len].to_vec())).collect();
    ways.sort();
    ways.dedup();
    let mut text = "/*\n!/*/\n".to_owned();
    for way in &ways {
        let name = escaped(way);
        let _ = write!(text, "/{name}/\n!/{name}/*/\n");
    }
    for path in &wanted {
        let _ = writeln!(text, "/{}/", escaped(path));
    }
    text
}

/// The parts of a directory's path; `None` if it is none of this repository.
fn parts(path: &str) -> Option<Vec<&str>> {
    let parts: Option<Vec<&str>> = Path::new(path)
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect();
    parts.filter(|parts| !parts.is_empty() && !path.contains('\n'))
}

fn escaped(parts: &[&str]) -> String {
    let mut text = String::new();
    for c in parts.join("/").chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;

    #[test]
    fn cones_are_what_git_writes() {
        for paths in [
            &["src/parser", "docs"] as &[&str],
            &["a/b/c", "a/b", "a/d/e/f"],
            &["with space/x*y", "b[1]"],
            &["one/"],
        ] {
            let sandbox = Sandbox::new(&[]);
            sandbox.git(&[&["sparse-checkout", "set", "--cone", "--skip-checks"], paths].concat());
            let file = sandbox.path().join(".git/info/sparse-checkout");
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            let sorted = |text: &str| {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            assert_eq!(sorted(&cone(&paths)), sorted(&std::fs::read_to_string(file).unwrap()), "{paths:?}");
        }
        assert_eq!(cone(&["../x".to_owned(), "/etc".to_owned()]), "/*\n!/*/\n");
    }
}
