//! What can go wrong between us and a repository.

use crate::model::ObjectId;
use crate::process::CommandError;
use std::path::PathBuf;

/// Why git, or gix, did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no repository here.
    #[error("find a git repository in {} or above it", .dir.display())]
    NotARepository {
        /// Where the search began.
        dir: PathBuf,
    },
    /// There is one, and it cannot be opened.
    #[error("open the repository at {}", .dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is one, and it is somebody else's.
    #[error("trust the repository at {}: {words}", .dir.display())]
    NotTrusted {
        /// The directory.
        dir: PathBuf,
        /// git's words.
        words: String,
    },
    /// A git process failed.
    #[error("run git")]
    Command(#[from] CommandError),
    /// git printed what we do not understand.
    #[error("understand what `git {command}` printed: {detail}")]
    Output {
        /// The git command.
        command: &'static str,
        /// What was wrong with it.
        detail: String,
    },
    /// An object is missing, of another kind, or broken.
    #[error("read {what} {id}")]
    Read {
        /// The kind that was wanted.
        what: &'static str,
        /// The object.
        id: ObjectId,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An object could not be written.
    #[error("write a {what}")]
    Write {
        /// Its kind.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A commit's note would be larger than other machines take in.
    #[error("write the note of {commit}: it would be {size} bytes, and a note has at most {limit}")]
    NoteTooLarge {
        /// The commit.
        commit: ObjectId,
        /// How large its note would be, in bytes.
        size: u64,
        /// How large it may be, in bytes.
        limit: u64,
    },
    /// Something went wrong with a remote.
    #[error("{trouble} {remote}: {words}")]
    Remote {
        /// Its name.
        remote: String,
        /// What.
        trouble: super::Trouble,
        /// What git, or the remote, said.
        words: String,
    },
    /// A ref that was to be fetched is not on the remote.
    #[error("fetch from {remote}: a ref that was asked for is not there")]
    RemoteLacks {
        /// Its name.
        remote: String,
    },
    /// A push to a remote goes to several repositories, of which each would have a state of its own.
    #[error(
        "use the remote {remote}: a push to it goes to several repositories, and what machines share must be in one"
    )]
    SeveralPlaces {
        /// Its name.
        remote: String,
    },
    /// A ref was not what it was expected to be: somebody else moved it.
    #[error("move {name}: somebody else moved it meanwhile")]
    RefMoved {
        /// The ref.
        name: String,
    },
    /// A ref is locked: somebody else is moving it, or died while doing so.
    #[error("lock {name}: its lock file exists")]
    RefLocked {
        /// The ref.
        name: String,
    },
    /// This git cannot do what is needed: merge without a checkout, or tell what it fetched.
    #[error("{what} with `{found}`: git {needed} or newer is needed")]
    TooOld {
        /// What was to be done.
        what: &'static str,
        /// What `git version` prints.
        found: String,
        /// The oldest release that will do.
        needed: String,
    },
    /// A revision does not name a commit.
    #[error("find the commit `{revision}`")]
    NoSuchRevision {
        /// What was asked for.
        revision: String,
    },
    /// A name that was to be used is in use.
    #[error("make the {what} `{name}`: it exists")]
    Taken {
        /// What it is: `branch`, `directory`, `worktree`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A directory is not the worktree that the repository registered there.
    #[error("touch {}: it does not name the worktree that is registered there", .path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody ran `git worktree lock`.
    #[error("remove the worktree `{name}`: it is locked (`git worktree unlock` allows it)")]
    WorktreeLocked {
        /// Its name.
        name: String,
    },
    /// A ref of ours has a file that names no object: it is no ref that is not there.
    #[error("read {name}: {} names no object", .path.display())]
    BrokenRef {
        /// The ref.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What would help.
        way_out: String,
    },
    /// A file of the repository could not be read or written.
    #[error("{action} {}", .path.display())]
    File {
        /// What was tried: `read`, `sync`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// What would help, where that depends on what is there.
    pub fn way_out(&self) -> Option<&str> {
        match self {
            Self::BrokenRef { way_out, .. } => Some(way_out),
            Self::SeveralPlaces { .. } => Some(
                "`git remote add NAME URL` names one of them, and `git config orchestra.remote NAME` uses that",
            ),
            Self::Taken { what: "directory", .. } => Some("move that away, and try again"),
            _ => None,
        }
    }

    pub(crate) fn read(
        what: &'static str,
        id: &ObjectId,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Read { what, id: id.clone(), source: source.into() }
    }

    pub(crate) fn write(
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Write { what, source: source.into() }
    }

    /// The error for output of `git <command>` that we do not understand, cut to a readable length.
    pub(crate) fn unexpected(command: &'static str, output: &[u8]) -> Self {
        let shown = &output[..output.len().min(120)];
        Self::Output { command, detail: format!("`{}`", shown.escape_ascii()) }
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }
}
