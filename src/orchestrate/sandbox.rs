//! What a confined agent may touch, and its temporary directory.
//!
//! It may read what programs need (the system, its program, toolchains and git's settings in the user's home), and the
//! repository's git directory; it may change its worktree and of the git directory what `git add` and `git commit`
//! change there, its temporary directory, the shared builds, and what is its program's own in the user's home. The
//! rest of the user's home, other worktrees and the main checkout are neither read nor changed.
//!
//! Nothing here keeps it from the network: its program must reach its model.

use super::environment::add_git_config;
use super::session::Surroundings;
use super::{Error, prepare::builds};
use crate::agent::Adapter;
use crate::config::Profile;
use crate::git::{Repository, Worktree};
use crate::model::{Agent, Sandbox};
use crate::process::{Confiners, Reach};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What every program may read of the system. Of `/run` only what says how names of hosts are found.
const SYSTEM: &[&str] = &[
    "/bin",
    "/etc",
    "/gnu/store",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/opt",
    "/proc",
    "/run/NetworkManager",
    "/run/current-system",
    "/run/resolvconf",
    "/run/systemd/resolve",
    "/sbin",
    "/snap",
    "/sys",
    "/usr",
    "/var/lib/ca-certificates",
];

/// Devices that programs write to.
const DEVICES: &[&str] = &[
    "/dev/full",
    "/dev/null",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/random",
    "/dev/shm",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
];

/// Where toolchains and git's settings are in a home; nothing there that keeps logins, as far as tools keep apart.
const IN_HOME: &[&str] = &[
    ".asdf",
    ".bun",
    ".cargo/bin",
    ".cargo/config",
    ".cargo/config.toml",
    ".cargo/env",
    ".cargo/git",
    ".cargo/registry",
    ".config/git/attributes",
    ".config/git/config",
    ".config/git/ignore",
    ".deno",
    ".dotnet",
    ".ghcup",
    ".gitconfig",
    ".local/bin",
    ".local/lib",
    ".local/share/claude",
    ".local/share/fnm",
    ".local/share/mise",
    ".local/share/pipx",
    ".local/share/pnpm",
    ".local/share/uv",
    ".m2/repository",
    ".nodenv",
    ".npm-global",
    ".nvm",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".rvm",
    ".sdkman",
    ".volta",
    "go",
];

/// Of another `CARGO_HOME`, what programs read of `.cargo` in a home.
const OF_CARGO: &[&str] = &["bin", "config", "config.toml", "env", "git", "registry"];

/// Variables that name places which programs read.
const PLACES: &[&str] = &[
    "GIT_CONFIG_GLOBAL",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOPATH",
    "JAVA_HOME",
    "NODE_EXTRA_CA_CERTS",
    "NVM_DIR",
    "RUSTUP_HOME",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// Clouds that host a model: the variable that says so, and where their tools keep logins.
const CLOUDS: &[(&str, &str)] =
    &[("CLAUDE_CODE_USE_BEDROCK", ".aws"), ("CLAUDE_CODE_USE_VERTEX", ".config/gcloud")];

/// Sockets of the user's session: who may speak to them may do more than its own rights say.
const SOCKETS: &[&str] = &["SSH_AUTH_SOCK", "XDG_RUNTIME_DIR"];

/// What confines programs on this machine, and what the settings add to what they may touch.
#[derive(Debug, Clone, Default)]
pub struct Sandboxing {
    /// What confines them.
    pub confiners: Confiners,
    /// What they may read beside what all may.
    pub read: Vec<PathBuf>,
    /// What they may change beside that.
    pub write: Vec<PathBuf>,
}

impl Sandboxing {
    /// Refuses a level that this machine cannot give.
    ///
    /// # Errors
    /// [`Error::Refused`] then, with what is missing and the way out.
    pub fn require(&self, level: Sandbox) -> Result<(), Error> {
        let Err(error) = self.confiners.require(level) else { return Ok(()) };
        let rest = Sandbox::ALL.into_iter().rev().filter(|other| ![level, Sandbox::None].contains(other));
        let other = rest.into_iter().find(|other| self.confiners.require(*other).is_ok());
        let other = other.map_or_else(String::new, |other| format!(" `--sandbox {other}` works here;"));
        let get = match level {
            Sandbox::Bubblewrap => "install bubblewrap;",
            _ => "",
        };
        let hint = format!("{get}{other} `--sandbox none` starts it unconfined").trim_start().to_owned();
        Err(Error::refused(format!("start an agent: failed to {error}"), hint))
    }
}

/// How one run is confined.
#[derive(Debug)]
pub(super) struct Confinement {
    pub(super) level: Sandbox,
    pub(super) reach: Reach,
    /// Its temporary directory, gone with the run.
    _tmp: TempDir,
}

/// Whose program is confined.
pub(super) struct Confined<'a> {
    pub(super) repo: &'a Repository,
    pub(super) surroundings: &'a Surroundings,
    pub(super) agent: &'a Agent,
    pub(super) worktree: &'a Worktree,
    pub(super) profile: &'a Profile,
    pub(super) adapter: &'a dyn Adapter,
    /// The program's file and the arguments that belong to it.
    pub(super) program: &'a [OsString],
}

/// Works out what a run may touch, makes what must be there for that, and puts into its environment where it may write.
/// `None` where nothing is confined.
pub(super) fn confine(
    one: &Confined<'_>,
    env: &mut BTreeMap<OsString, OsString>,
) -> Result<Option<Confinement>, Error> {
    let level = one.profile.sandbox;
    if level == Sandbox::None {
        return Ok(None);
    }
    one.surroundings.sandboxing.require(level)?;
    let tmp = temporary(env)?;
    let mut reach = Reach { tmp: Some(tmp.path().to_owned()), ..Reach::default() };
    reach.write.insert(tmp.path().to_owned());
    reach.read.extend(SYSTEM.iter().map(PathBuf::from));
    reach.write.extend(DEVICES.iter().map(PathBuf::from));
    withhold_sockets(one.profile, env, &mut reach);
    add_repository(one, &mut reach)?;
    add_home(one, env, &mut reach)?;
    add_program(one, env, &mut reach);
    for shared in builds::in_use(env, &one.surroundings.worktree_root) {
        make_dir(&shared, 0o777)?;
        reach.write.insert(shared);
    }
    reach.read.extend(one.surroundings.sandboxing.read.iter().cloned());
    reach.write.extend(one.surroundings.sandboxing.write.iter().cloned());
    reach.read.retain(|path| path.exists());
    reach.write.retain(|path| path.exists());
    // What git would tidy on its own is not a confined agent's to change.
    add_git_config(env, &[("gc.auto", "0"), ("maintenance.auto", "false")]);
    for (name, below) in [
        ("TMPDIR", ""),
        ("TEMP", ""),
        ("TMP", ""),
        ("CLAUDE_CODE_TMPDIR", ""),
        ("XDG_CACHE_HOME", "cache"),
        ("npm_config_cache", "npm"),
    ] {
        env.insert(
            name.into(),
            if below.is_empty() { tmp.path().into() } else { tmp.path().join(below).into() },
        );
    }
    Ok(Some(Confinement { level, reach, _tmp: tmp }))
}

fn temporary(env: &BTreeMap<OsString, OsString>) -> Result<TempDir, Error> {
    let dir = env.get(OsStr::new("TMPDIR")).map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    let made =
        dir.canonicalize().and_then(|dir| tempfile::Builder::new().prefix("git-orchestra-").tempdir_in(dir));
    made.map_err(|e| Error::file("make a temporary directory in", dir, e))
}

fn make_dir(dir: &Path, permissions: u32) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(permissions).create(dir);
    made.map_err(|e| Error::file("create", dir, e))
}

/// Takes the user's sockets out of the environment, but for those that the profile passes on.
fn withhold_sockets(profile: &Profile, env: &mut BTreeMap<OsString, OsString>, reach: &mut Reach) {
    for name in SOCKETS {
        if profile.pass_env.iter().any(|passed| passed == name) {
            reach.write.extend(env.get(OsStr::new(name)).map(PathBuf::from));
        } else {
            env.remove(OsStr::new(name));
        }
    }
}

/// The worktree, and of the git directory what a commit on the agent's branch changes.
///
/// The lock of a ref is a file beside it, so that what commits on its branch can also move the branches of other agents,
/// which lie in the same directory: no level keeps from that. It cannot move the user's branches, nor what is below
/// `refs/orchestra/`, nor change configuration, hooks, attributes, packed refs or other worktrees.
fn add_repository(one: &Confined<'_>, reach: &mut Reach) -> Result<(), Error> {
    let (common, worktree) = (one.repo.common_dir(), one.worktree);
    reach.read.insert(common.to_owned());
    reach.hide.insert(one.repo.local_dir());
    reach.write.insert(worktree.path.clone());
    reach.write.insert(worktree.git_dir.clone());
    reach.write.insert(common.join("objects"));
    reach.write.insert(common.join("lfs"));
    // What says which repository it is of.
    reach.keep.insert(worktree.path.join(".git"));
    for name in ["commondir", "config.worktree", "gitdir", "orchestra"] {
        reach.keep.insert(worktree.git_dir.join(name));
    }
    reach.keep.insert(common.join("objects/info/alternates"));
    for line in std::fs::read_to_string(common.join("objects/info/alternates")).unwrap_or_default().lines() {
        reach.read.insert(common.join("objects").join(line));
    }
    // In a repository with reftables all refs are in the same few files: it cannot commit there.
    if !common.join("reftable").exists()
        && let Some((branches, _)) = one.agent.branch.rsplit_once('/')
    {
        // `git pack-refs` removes directories that it has emptied.
        let mut dirs = vec![common.join(branches)];
        dirs.extend(common.join("logs").is_dir().then(|| common.join("logs").join(branches)));
        for dir in dirs {
            make_dir(&dir, 0o777)?;
            reach.write.insert(dir);
        }
    }
    reach.read.extend(one.repo.configuration_files()?);
    for key in ["core.excludesFile", "core.attributesFile"] {
        reach.read.extend(one.repo.config(key).map(PathBuf::from).filter(|path| path.is_absolute()));
    }
    Ok(())
}

/// What is the program's own in the user's home, and what tools are there.
fn add_home(one: &Confined<'_>, env: &BTreeMap<OsString, OsString>, reach: &mut Reach) -> Result<(), Error> {
    let own = one.adapter.own_places(env);
    for dir in own.directories {
        // A program that never ran has none yet, and may not make it.
        make_dir(&dir, 0o700)?;
        reach.write.insert(dir);
    }
    reach.write.extend(own.files);
    reach.keep.extend(own.settings);
    let places = PLACES.iter().filter_map(|name| env.get(OsStr::new(name)));
    let places = places.flat_map(std::env::split_paths).filter(|path| path.is_absolute());
    let cargo = env.get(OsStr::new("CARGO_HOME")).map(PathBuf::from).filter(|path| path.is_absolute());
    let cargo = cargo.iter().flat_map(|dir| OF_CARGO.iter().map(|name| dir.join(name)));
    let home = home(env);
    let below =
        |names: &'static [&str]| home.iter().flat_map(|home| names.iter().map(|name| home.join(name)));
    let clouds = CLOUDS.iter().filter(|(switch, _)| env.contains_key(OsStr::new(switch)));
    let clouds = clouds.filter_map(|(_, dir)| home.as_ref().map(|home| home.join(dir)));
    let all: Vec<PathBuf> = places.chain(cargo).chain(below(IN_HOME)).chain(clouds).collect();
    reach.read.extend(all.into_iter().filter(|path| !is_wide(path, one.repo, env)));
    Ok(())
}

fn home(env: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
    env.get(OsStr::new("HOME")).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The program with what lies beside it, and what is in `PATH`.
fn add_program(one: &Confined<'_>, env: &BTreeMap<OsString, OsString>, reach: &mut Reach) {
    let mut found = Vec::new();
    let named = one.program.iter().map(Path::new).filter(|path| path.is_absolute() && path.exists());
    for file in named {
        let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        found.extend([file.to_owned(), real.clone()]);
        found.extend(file.parent().map(Path::to_owned));
        found.extend(real.parent().map(Path::to_owned));
        // A script of node's reads the packages that were installed with it.
        let modules = real.ancestors().filter(|dir| dir.file_name() == Some(OsStr::new("node_modules")));
        found.extend(modules.last().map(Path::to_owned));
    }
    let path = env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    for dir in std::env::split_paths(&path).filter(|dir| dir.is_absolute()) {
        if dir.file_name() == Some(OsStr::new("bin"))
            && let Some(prefix) = dir.parent()
        {
            found.extend(["lib", "libexec"].map(|name| prefix.join(name)));
        }
        found.push(dir);
    }
    let keeps = |path: &PathBuf| !path.is_dir() || !is_wide(path, one.repo, env);
    reach.read.extend(found.into_iter().filter(keeps));
}

/// Whether the user's home, the main checkout or everybody's temporary files lie in a directory.
fn is_wide(dir: &Path, repo: &Repository, env: &BTreeMap<OsString, OsString>) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let dir = real(dir);
    let kept = home(env).into_iter().chain([repo.main_dir().to_owned(), "/tmp".into()]);
    kept.into_iter().any(|kept| real(&kept).starts_with(&dir))
}
