//! Looks at git, the repository and the disk that it is on.
#![expect(clippy::unnecessary_wraps, reason = "every look has one shape")]

use super::super::Error;
use super::super::measure::bytes;
use super::{Check, DoctorOptions, count};
use crate::process::free_space;
use crate::store::Store;

/// git's oldest release that works at all, and the one from which everything does.
const OLDEST: (u32, u32) = (2, 39);
const COMPLETE: (u32, u32) = (2, 41);
/// Room below which runs are likely to fail, and below which everything is.
const LITTLE: u64 = 1 << 30;
const TOO_LITTLE: u64 = 100 << 20;
/// Loose objects from which reading gets slow.
const MANY_LOOSE: u64 = 10_000;
/// For how long a lock of git's may be held before it is worth a word.
const OLD_LOCK: u64 = 60_000;

pub(super) fn git(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let (text, version) = store.repo().git_version()?;
    Ok(match version {
        Some(version) if version < OLDEST => {
            Check::fail("git", format!("{text} is too old")).way_out("install git 2.41 or newer")
        }
        Some(version) if version < COMPLETE => {
            Check::warn("git", format!("{text}: works, but for fetch and sync"))
                .way_out("install git 2.41 or newer")
        }
        _ => Check::ok("git", text),
    })
}

pub(super) fn repository(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let repo = store.repo();
    let kind = repo.kind();
    let mut words = vec![if kind.bare { "bare" } else { "with a checkout" }];
    words.push(if kind.reftable { "reftable" } else { "refs in files" });
    words.push(if kind.sha256 { "SHA-256" } else { "SHA-1" });
    if repo.work_dir().is_some() && repo.git_dir() != repo.common_dir() {
        words.push("a linked worktree");
    }
    let text = words.join(", ");
    Ok(if kind.shallow {
        Check::warn("repository", format!("{text}, shallow: a merge may not see where branches parted"))
            .way_out("git fetch --unshallow")
    } else if kind.partial {
        Check::warn("repository", format!("{text}, partial: objects are fetched when they are needed"))
    } else {
        Check::ok("repository", text)
    })
}

pub(super) fn locks(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let repo = store.repo();
    let now = store.clock().now().as_millis();
    // Those of a git of ours that has ended: known whatever their age.
    let left = repo.left_locks();
    let mut ours: Vec<String> = left.iter().map(|path| repo.shown(path)).collect();
    let mut theirs = Vec::new();
    let old =
        |lock: &crate::git::LockFile| now.saturating_sub(lock.since) > OLD_LOCK && !left.contains(&lock.path);
    for lock in repo.lock_files().into_iter().filter(old) {
        let shown = repo.shown(&lock.path);
        let is_ours = shown.starts_with("refs/orchestra/") || shown.starts_with("refs/notes/orchestra/");
        if is_ours { ours.push(shown) } else { theirs.push(shown) }
    }
    if !theirs.is_empty() {
        let text = format!("{} of git's held for over a minute", count(theirs.len(), "lock", "locks"));
        let way_out = "if no git is running here: delete the file in the git directory";
        let check = if repo.is_busy() { Check::warn("locks", text) } else { Check::fail("locks", text) };
        return Ok(check.details([theirs, ours].concat()).way_out(way_out));
    }
    if !ours.is_empty() {
        let text = format!("{} left by a dead process", count(ours.len(), "lock", "locks"));
        return Ok(Check::fail("locks", text).details(ours).way_out("git orchestra recover"));
    }
    Ok(Check::ok("locks", "none that nobody holds"))
}

/// Keys of a repository's own configuration that make git run a program or look elsewhere for one.
const RUNS: [&str; 12] = [
    "core.fsmonitor",
    "core.sshcommand",
    "core.hookspath",
    "core.pager",
    "core.editor",
    "core.askpass",
    "core.gitproxy",
    "core.alternaterefscommand",
    "diff.external",
    "gpg.program",
    "sequence.editor",
    "uploadpack.packobjectshook",
];

pub(super) fn configuration(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let mut found = Vec::new();
    for section in ["core", "diff", "gpg", "sequence", "uploadpack", "filter", "merge", "credential", "alias"]
    {
        for entry in store.repo().config_entries(section).into_iter().filter(|entry| entry.from_repository) {
            let key = format!("{section}.{}", entry.key);
            let last = key.rsplit('.').next().unwrap_or_default();
            let runs = RUNS.contains(&key.as_str())
                || (section == "filter" && ["clean", "smudge", "process"].contains(&last))
                || (section == "merge" && last == "driver")
                || (section == "diff" && ["command", "textconv"].contains(&last))
                || (section == "credential" && last == "helper")
                || (section == "alias" && entry.value.starts_with('!'));
            // Switching something off runs nothing.
            let off = ["false", "", "no", "off", "0", "true"].contains(&entry.value.as_str());
            if runs && !(off && key == "core.fsmonitor") {
                found.push(format!("{key} = {}", entry.value));
            }
        }
    }
    if found.is_empty() {
        return Ok(Check::ok("git config", "names no programs of this repository's own"));
    }
    let text = format!("names {} that git runs here as you", count(found.len(), "program", "programs"));
    let way_out =
        "git config --local --list --show-origin   shows them; we run none but filters and merge drivers";
    Ok(Check::warn("git config", text).details(found).way_out(way_out))
}

pub(super) fn disk(store: &Store, options: &DoctorOptions) -> Result<Check, Error> {
    let there = options.worktree_root.ancestors().find(|dir| dir.is_dir());
    let mut least: Option<(u64, String)> = None;
    for dir in [Some(store.repo().common_dir()), there].into_iter().flatten() {
        if let Some(free) = free_space(dir)
            && least.as_ref().is_none_or(|(known, _)| free < *known)
        {
            least = Some((free, dir.display().to_string()));
        }
    }
    let Some((free, dir)) = least else { return Ok(Check::ok("disk", "the system does not say")) };
    let text = format!("{} free at {dir}", bytes(free));
    let way_out = "git orchestra prune   says what can go";
    Ok(match free {
        0..TOO_LITTLE => Check::fail("disk", text).way_out(way_out),
        TOO_LITTLE..LITTLE => Check::warn("disk", text).way_out(way_out),
        _ => Check::ok("disk", text),
    })
}

pub(super) fn objects(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let repo = store.repo();
    let counts = repo.count_objects()?;
    let age = repo.last_packed().and_then(|at| at.elapsed().ok()).map(|age| age.as_secs() / 86_400);
    let packed = match age {
        None => "never packed".to_owned(),
        Some(0) => "last packed today".to_owned(),
        Some(1) => "last packed yesterday".to_owned(),
        Some(days) => format!("last packed {days} days ago"),
    };
    let text = format!(
        "{} loose ({}), {} ({}), {packed}",
        counts.loose,
        bytes(counts.loose_bytes),
        count(usize::try_from(counts.packs).unwrap_or(usize::MAX), "pack", "packs"),
        bytes(counts.pack_bytes),
    );
    Ok(if counts.loose >= MANY_LOOSE || counts.packs >= 50 {
        Check::warn("objects", text).way_out("git orchestra gc")
    } else {
        Check::ok("objects", text)
    })
}
