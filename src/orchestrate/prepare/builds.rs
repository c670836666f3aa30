//! Build directories that agents share, where the user wants that: one for each build tool, beside the worktrees.
//!
//! It is not the default. Cargo lets one build at a time into a directory, so agents wait for each other; and what it
//! links there (`debug/<program>`) is whatever was built last, in whichever worktree.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Where shared builds are, below the directory of worktrees. No agent's name begins with a dot.
const DIRECTORY: &str = ".shared";

/// Build tools that can be told by a variable where to build: a file that says that a tool is used, the directory's
/// name, and the variable. What others keep is shared by all worktrees of a user by itself (Go, Gradle, npm, ccache).
const TOOLS: &[(&str, &str, &str)] = &[
    ("Cargo.toml", "cargo", "CARGO_TARGET_DIR"),
    ("turbo.json", "turbo", "TURBO_CACHE_DIR"),
    ("nx.json", "nx", "NX_CACHE_DIRECTORY"),
    ("build.zig", "zig", "ZIG_LOCAL_CACHE_DIR"),
];

/// Adds where to build to an environment, for each tool that a worktree uses. What is set there already stays.
pub(in crate::orchestrate) fn add(env: &mut BTreeMap<OsString, OsString>, worktree: &Path, root: &Path) {
    for (file, name, variable) in TOOLS {
        if !env.contains_key(OsStr::new(variable)) && worktree.join(file).is_file() {
            env.insert(variable.into(), root.join(DIRECTORY).join(name).into());
        }
    }
}

/// Those of an environment that lie below a directory of worktrees.
pub(in crate::orchestrate) fn in_use(env: &BTreeMap<OsString, OsString>, root: &Path) -> Vec<PathBuf> {
    let named = TOOLS.iter().filter_map(|(.., variable)| env.get(OsStr::new(variable)).map(PathBuf::from));
    named.filter(|dir| dir.starts_with(root.join(DIRECTORY))).collect()
}

/// The shared build directories below a directory of worktrees.
pub(in crate::orchestrate) fn shared(root: &Path) -> Vec<PathBuf> {
    let known = TOOLS.iter().map(|(_, name, _)| root.join(DIRECTORY).join(name));
    known.filter(|dir| dir.symlink_metadata().is_ok_and(|meta| meta.is_dir())).collect()
}
