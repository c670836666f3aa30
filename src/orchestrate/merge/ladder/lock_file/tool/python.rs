//! uv and Poetry.

use super::{Sees, Tool, ends, line, start};

/// `uv lock` builds nothing: where a package says nothing of itself without being built, it fails.
pub(super) const UV: Tool = Tool {
    name: "uv",
    program: "uv",
    file: "uv.lock",
    manifest: "pyproject.toml",
    sees: |name| match name {
        // Not `.python-version`: it may name any program.
        "pyproject.toml" | "uv.toml" => Some(Sees::Whole),
        name if ends(name, &[".whl"]) => Some(Sees::Whole),
        _ => None,
    },
    start: |versions| Some(start::packages(&versions.base, &versions.ours, &versions.theirs)),
    lines: |_| Ok(vec![line(&["lock", "--no-build", "--no-progress"])]),
    env: &[("UV_PYTHON_DOWNLOADS", "never")],
};

/// Poetry builds what says nothing of itself without that, which runs its code; plugins are left out.
pub(super) const POETRY: Tool = Tool {
    name: "poetry",
    program: "poetry",
    file: "poetry.lock",
    manifest: "pyproject.toml",
    sees: |name| match name {
        "pyproject.toml" => Some(Sees::Whole),
        name if ends(name, &[".whl"]) => Some(Sees::Whole),
        _ => None,
    },
    start: |versions| Some(start::packages(&versions.base, &versions.ours, &versions.theirs)),
    lines: |case| {
        let mut words = line(&["--no-plugins", "--no-interaction", "lock"]);
        // From 2 on it keeps what is locked by itself, and does not know the option.
        if case.major() < 2 {
            words.push("--no-update".to_owned());
        }
        Ok(vec![words])
    },
    env: &[
        ("POETRY_VIRTUALENVS_CREATE", "false"),
        ("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring"),
    ],
};
