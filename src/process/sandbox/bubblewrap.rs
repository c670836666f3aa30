//! bubblewrap: the program `bwrap` starts another one in namespaces of its own (users, mounts, processes, IPC), in
//! which only what it was given is there.
//!
//! It is started without `--die-with-parent`: whoever ends a run signals each process of it, and one that is asked to
//! end may do so in peace after `bwrap` itself is gone.

use super::super::command::Command;
use super::Reach;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long it may take to try it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is the same whoever is confined. Its session is one of its own already.
const NAMESPACES: &[&str] = &[
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--cap-drop",
    "ALL",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
];

/// What is made new in each sandbox and is not taken from outside.
const OWN: [&str; 2] = ["/dev", "/proc"];

/// What lies at a path in the sandbox.
enum Mount {
    Read(PathBuf),
    Write(PathBuf),
    Empty,
    Link(PathBuf),
}

/// Tries it.
pub(super) fn attempt(bwrap: &Path) -> Result<(), String> {
    // Everything of outside, so that a program is found whatever the system looks like.
    let within = Command::new(bwrap).args(["--ro-bind", "/", "/"]).args(NAMESPACES);
    let tried = within.arg("--").arg(bwrap).arg("--version");
    let output = tried.output_within(PATIENCE).map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("it said nothing");
    Err(format!("`bwrap` cannot make a sandbox here: {said}"))
}

/// The arguments of `bwrap`, up to the program.
pub(super) fn args(reach: &Reach) -> Vec<OsString> {
    let mut mounts = BTreeMap::new();
    for path in &reach.read {
        add(&mut mounts, path, Mount::Read);
    }
    for path in &reach.write {
        add(&mut mounts, path, Mount::Write);
    }
    for path in reach.keep.iter().filter(|path| path.exists()) {
        mounts.insert(path.clone(), Mount::Read(path.clone()));
    }
    for path in reach.hide.iter().filter(|path| path.is_dir()) {
        mounts.insert(path.clone(), Mount::Empty);
    }
    // With something of outside below it, whoever writes beside that would seem to have written outside.
    let is_free = |tmp: &Path| mounts.keys().all(|at| !at.starts_with("/tmp") || at.starts_with(tmp));
    if let Some(tmp) = reach.tmp.as_ref().filter(|tmp| is_free(tmp)) {
        mounts.insert("/tmp".into(), Mount::Write(tmp.clone()));
    }
    let mut args: Vec<OsString> = Vec::new();
    // What is below comes after what is above: a mount hides what was there before.
    for (at, mount) in &mounts {
        match mount {
            Mount::Read(from) => args.extend(["--ro-bind".into(), from.into(), at.into()]),
            Mount::Write(from) => args.extend(["--bind".into(), from.into(), at.into()]),
            Mount::Empty => args.extend(["--tmpfs".into(), at.into()]),
            Mount::Link(to) => args.extend(["--symlink".into(), to.into(), at.into()]),
        }
    }
    args.extend(NAMESPACES.iter().map(OsString::from));
    // The root is a file system in memory: what nobody gave must not seem to be written there.
    args.extend(["--remount-ro", "/", "--"].map(OsString::from));
    args
}

/// Adds what is at `path`, under that name and, if a link leads there, under its own.
fn add(mounts: &mut BTreeMap<PathBuf, Mount>, path: &Path, mount: fn(PathBuf) -> Mount) {
    let Ok(real) = path.canonicalize() else { return };
    if OWN.iter().any(|own| real.starts_with(own)) {
        return;
    }
    // `/bin` is a link to `usr/bin` on most systems: as a link, what is below it is found once.
    let is_top = path.parent() == Some(Path::new("/"));
    match path.read_link() {
        Ok(to) if is_top => drop(mounts.insert(path.to_owned(), Mount::Link(to))),
        _ if *path != real && !below_link(mounts, path) => {
            mounts.insert(path.to_owned(), mount(real.clone()));
        }
        _ => {}
    }
    mounts.insert(real.clone(), mount(real));
}

fn below_link(mounts: &BTreeMap<PathBuf, Mount>, path: &Path) -> bool {
    let above: BTreeSet<&Path> = path.ancestors().skip(1).collect();
    above.into_iter().any(|above| matches!(mounts.get(above), Some(Mount::Link(_))))
}
