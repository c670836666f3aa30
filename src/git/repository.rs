//! An open repository.

use super::{Error, Identity};
use crate::model::ObjectId;
use bstr::ByteSlice;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of objects that are kept once they were read.
const OBJECT_CACHE: usize = 1 << 20;

/// An open repository, bare or not, with its linked worktrees, whatever its ref format and hash.
///
/// Cheap to clone; clone one for each thread (gix keeps per-thread caches in it).
#[derive(Clone)]
pub struct Repository {
    pub(super) gix: Handle,
    pub(super) env: Arc<BTreeMap<OsString, OsString>>,
    pub(super) refs: RefFormat,
    git_dir: PathBuf,
    common_dir: PathBuf,
    work_dir: Option<PathBuf>,
    /// Where git processes put their objects, if not in the repository.
    pub(super) scratch: Option<Arc<Path>>,
}

/// gix's repository, of which copies share what they can. The rest, some 45 KiB and its cache of objects, each makes when
/// it reads for the first time: whoever watches hundreds of runs keeps copies that hardly ever do.
pub(super) struct Handle {
    shared: Arc<gix::ThreadSafeRepository>,
    local: OnceCell<gix::Repository>,
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), local: OnceCell::new() }
    }
}

impl Handle {
    /// Its refs, for which nothing of a copy's own is needed.
    pub(super) fn shared_refs(&self) -> &gix::RefStore {
        &self.shared.refs
    }

    fn hash(&self) -> gix::hash::Kind {
        self.shared.objects.object_hash()
    }
}

impl Deref for Handle {
    type Target = gix::Repository;

    fn deref(&self) -> &gix::Repository {
        self.local.get_or_init(|| {
            let mut gix = self.shared.to_thread_local();
            // `GIT_NAMESPACE`: our git processes are not given it either.
            gix.clear_namespace();
            // The same few trees are read again and again, and each time a loose one would be inflated anew.
            gix.object_cache_size(OBJECT_CACHE);
            gix
        })
    }
}

/// How the repository stores refs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefFormat {
    /// Loose files and `packed-refs`: gix reads them.
    Files,
    /// Anything else (`reftable`): only git reads it.
    Other,
}

/// What `HEAD` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The branch, a full ref name; `None` when detached.
    pub branch: Option<String>,
    /// The commit; `None` when the branch is unborn.
    pub commit: Option<ObjectId>,
}

/// One value of git's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its key without the section's name; the last part in lower case.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The file that says so.
    pub file: String,
    /// Whether that file belongs to the repository, so that whoever writes the repository may write it.
    pub from_repository: bool,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("git_dir", &self.git_dir).finish_non_exhaustive()
    }
}

impl Repository {
    /// Opens the repository that `dir` lies in. `env` is the environment that git processes are given a part of.
    pub fn discover(dir: &Path, env: Arc<BTreeMap<OsString, OsString>>) -> Result<Self, Error> {
        let not_found = || Error::NotARepository { dir: dir.to_owned() };
        // The way up is walked here so that "no repository" is told from "cannot be opened".
        let start = dir.canonicalize().map_err(|_| not_found())?;
        let found = start
            .ancestors()
            .find(|dir| dir.join(".git").is_file() || is_git_dir(&dir.join(".git")) || is_git_dir(dir))
            .ok_or_else(not_found)?;
        let repository = Self::open(found, Arc::clone(&env))?;
        if repository.gix.git_dir_trust() == gix::sec::Trust::Full {
            return Ok(repository);
        }
        repository.require_trust(found)?;
        Self::open_with(found, gix::open::Options::default().with(gix::sec::Trust::Full), env)
    }

    /// Lets git judge a repository that was found and belongs to another user, whose configuration would choose what
    /// runs: we tell git where the repository is, and then it does not ask.
    fn require_trust(&self, found: &Path) -> Result<(), Error> {
        let command =
            self.git(["rev-parse", "--git-dir"]).without_env("GIT_DIR").without_env("GIT_WORK_TREE");
        let output = command.without_env("GIT_COMMON_DIR").current_dir(found).output()?;
        if output.status.success() {
            return Ok(());
        }
        let words = output.stderr.trim().to_str_lossy().into_owned();
        Err(Error::NotTrusted { dir: found.to_owned(), words })
    }

    /// Opens the repository at `dir`: a working copy's root or a git directory.
    pub fn open(dir: &Path, env: Arc<BTreeMap<OsString, OsString>>) -> Result<Self, Error> {
        Self::open_with(dir, gix::open::Options::default(), env)
    }

    fn open_with(
        dir: &Path,
        options: gix::open::Options,
        env: Arc<BTreeMap<OsString, OsString>>,
    ) -> Result<Self, Error> {
        let opened = gix::ThreadSafeRepository::open_opts(dir, options);
        let shared = opened.map_err(|source| Error::Open { dir: dir.to_owned(), source: source.into() })?;
        let gix = Handle { shared: Arc::new(shared), local: OnceCell::new() };
        let absolute = |path: &Path| path.canonicalize().map_err(|e| Error::file("find", path, e));
        let git_dir = absolute(gix.git_dir())?;
        let common_dir = absolute(gix.common_dir())?;
        let work_dir = gix.workdir().map(absolute).transpose()?;
        let format = gix.config_snapshot().string("extensions.refStorage");
        let refs = match format {
            Some(format) if format != "files" => RefFormat::Other,
            _ => RefFormat::Files,
        };
        Ok(Self { gix, env, refs, git_dir, common_dir, work_dir, scratch: None })
    }

    /// The git directory of this checkout: `.git`, or `.git/worktrees/<name>` in a linked worktree.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// The git directory that all worktrees share.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// How a path is told: by where it is in the git directory that all worktrees share, or whole if it is elsewhere.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(self.common_dir()).unwrap_or(path).display().to_string()
    }

    /// The root of this checkout; `None` in a bare repository.
    pub fn work_dir(&self) -> Option<&Path> {
        self.work_dir.as_deref()
    }

    /// The directory for what never leaves this machine: journals, caches, leases. It may not exist yet.
    pub fn local_dir(&self) -> PathBuf {
        self.common_dir.join("orchestra")
    }

    /// The root of the main checkout, or the bare repository itself: where people think the repository is.
    pub fn main_dir(&self) -> &Path {
        match self.common_dir.file_name() {
            Some(name) if name == ".git" => self.common_dir.parent().unwrap_or(&self.common_dir),
            _ => &self.common_dir,
        }
    }

    /// Characters of an object id: 40 or 64.
    pub fn id_len(&self) -> usize {
        self.gix.hash().len_in_hex()
    }

    /// The value of a git configuration key, last one wins.
    pub fn config(&self, key: &str) -> Option<String> {
        self.gix.config_snapshot().string(key).map(|value| value.to_string())
    }

    /// Every key and value of one configuration section, lower-case keys without the section's name, in order.
    pub fn config_section(&self, section: &str) -> Vec<(String, String)> {
        let config = self.gix.config_snapshot();
        let mut entries = Vec::new();
        for found in config.sections_by_name(section).into_iter().flatten() {
            let prefix = found.header().subsection_name().map(|name| format!("{name}.")).unwrap_or_default();
            for key in found.value_names() {
                for value in found.values(key.as_ref()) {
                    entries.push((format!("{prefix}{}", key.clone().to_lowercase()), value.to_string()));
                }
            }
        }
        entries
    }

    /// Every value of one configuration section (`orchestra`), weakest file first, each with where it was found.
    pub fn config_entries(&self, section: &str) -> Vec<ConfigEntry> {
        let config = self.gix.config_snapshot();
        let mut entries = Vec::new();
        for found in config.sections_by_name(section).into_iter().flatten() {
            let prefix = found.header().subsection_name().map(|name| format!("{name}.")).unwrap_or_default();
            let meta = found.meta();
            let file = meta.path.as_deref().map_or_else(|| "the command line".into(), Path::to_string_lossy);
            let from_repository = meta.source.kind() == gix::config::source::Kind::Repository;
            let mut seen = std::collections::BTreeSet::new();
            for name in found.value_names() {
                let name = name.to_lowercase();
                if !seen.insert(name.clone()) {
                    continue;
                }
                entries.extend(found.values(&name).into_iter().map(|value| ConfigEntry {
                    key: format!("{prefix}{name}"),
                    value: value.to_string(),
                    file: file.clone().into_owned(),
                    from_repository,
                }));
            }
        }
        entries
    }

    /// Who the user is to git: `GIT_AUTHOR_*`, then `user.name` and `user.email`, then the account.
    pub fn identity(&self) -> Identity {
        let env = |key: &str| {
            self.env
                .get(std::ffi::OsStr::new(key))
                .and_then(|v| v.to_str())
                .map(str::to_owned)
                .filter(|v| !v.is_empty())
        };
        let account = || env("USER").or_else(|| env("LOGNAME")).unwrap_or_else(|| "unknown".to_owned());
        let name = env("GIT_AUTHOR_NAME").or_else(|| self.config("user.name")).unwrap_or_else(account);
        let email = env("GIT_AUTHOR_EMAIL")
            .or_else(|| self.config("user.email"))
            .unwrap_or_else(|| format!("{}@localhost", account()));
        Identity::new(&name, &email)
    }
}

/// As git judges: a directory without these is none, whatever its name, and the way up goes on. Programs that were ended
/// in a sandbox of theirs leave empty ones.
fn is_git_dir(dir: &Path) -> bool {
    dir.join("HEAD").exists() && dir.join("objects").is_dir() && dir.join("refs").exists()
}
