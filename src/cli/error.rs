//! How commands end: exit codes, and errors with their causes and hints.

use super::ui::{Label, Ui};
use std::error::Error as StdError;
use std::process::ExitCode;

/// How a command ended; the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: it could not be done; stderr says why.
    Error,
    /// 2: the command line was wrong.
    Usage,
    /// 3: a decision is waiting for `git orchestra decide`.
    Waiting,
    /// 4: an agent failed.
    AgentFailed,
    /// 5: a gate failed.
    GateFailed,
    /// 6: a remote went back, or rewrote or deleted what we had seen of it.
    Alarm,
    /// 7: what was waited for did not come in time.
    TimedOut,
    /// 8: there is no such agent (`wait` and `stop`).
    NoAgent,
    /// 9: a budget is used up.
    UsedUp,
    /// 128 + n: ended by signal n.
    Signal(u8),
    /// What a script that `replay` plays asked for, or the program that works in place of a model's API.
    Script(u8),
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::Waiting => 3,
            Self::AgentFailed => 4,
            Self::GateFailed => 5,
            Self::Alarm => 6,
            Self::TimedOut => 7,
            Self::NoAgent => 8,
            Self::UsedUp => 9,
            Self::Signal(number) => 128_u8.saturating_add(number),
            Self::Script(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What kind of failure it is: decides the exit code and the hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// The command line was wrong in a way that the parser cannot know.
    Usage,
    /// Something named does not exist.
    NotFound(Option<crate::model::Kind>),
    /// An agent that is to be waited for does not exist.
    NoAgent,
    /// A prefix names more than one thing.
    Ambiguous,
    /// There is no repository here.
    NoRepository,
    /// A program or hook named by the repository's file was not approved.
    NotApproved,
    /// An agent's program is not there, or where it must not be.
    NoProgram,
    /// A remote does not have any more what we had seen of it.
    Alarm,
    /// A budget is used up.
    UsedUp,
    /// Whoever read our output went away.
    BrokenPipe,
    /// Anything else.
    Failed,
}

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub(crate) struct CliError {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    hints: Vec<String>,
}

impl CliError {
    /// An error in its own words.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, hints: Vec::new() }
    }

    /// A wrong command line (exit code 2).
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// A failure with its cause; `message` is a whole phrase: `failed to …`.
    pub(crate) fn failed(message: impl Into<String>, source: impl StdError + Send + Sync + 'static) -> Self {
        Self { source: Some(Box::new(source)), ..Self::new(ErrorKind::Failed, message) }
    }

    /// A failure in a layer below, whose message completes `failed to …`.
    pub(crate) fn layer(error: impl StdError + Send + Sync + 'static) -> Self {
        Self { source: Some(Box::new(error)), ..Self::new(ErrorKind::Failed, String::new()) }
    }

    /// The same error as another kind.
    #[must_use]
    pub(crate) const fn kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Adds what the user could do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Whether it says that there is no repository.
    pub(crate) const fn is_no_repository(&self) -> bool {
        matches!(self.kind, ErrorKind::NoRepository)
    }

    /// What the user could do about it.
    pub(crate) fn hints(&self) -> impl Iterator<Item = &str> {
        self.hints.iter().map(String::as_str).chain(self.kind_hint())
    }

    /// Whether it says that something named does not exist.
    pub(crate) const fn is_not_found(&self) -> bool {
        matches!(self.kind, ErrorKind::NotFound(_))
    }

    /// Whether it says that there is no such agent.
    pub(crate) const fn is_no_agent(&self) -> bool {
        matches!(self.kind, ErrorKind::NoAgent)
    }

    /// It and its causes in one line.
    pub(crate) fn sentence(&self) -> String {
        let mut parts = Vec::new();
        if !self.message.is_empty() {
            parts.push(self.message.clone());
        }
        let mut next = self.source.as_deref().map(|source| source as &(dyn StdError + 'static));
        while let Some(cause) = next {
            parts.push(if parts.is_empty() { format!("failed to {cause}") } else { cause.to_string() });
            next = cause.source();
        }
        parts.join(": ")
    }

    const fn exit(&self) -> Exit {
        match self.kind {
            ErrorKind::Usage => Exit::Usage,
            ErrorKind::Alarm => Exit::Alarm,
            ErrorKind::NoAgent => Exit::NoAgent,
            ErrorKind::UsedUp => Exit::UsedUp,
            // What a shell reports of git itself when its reader went away.
            ErrorKind::BrokenPipe => Exit::Signal(13),
            ErrorKind::NotFound(_)
            | ErrorKind::Ambiguous
            | ErrorKind::NoRepository
            | ErrorKind::NotApproved
            | ErrorKind::NoProgram
            | ErrorKind::Failed => Exit::Error,
        }
    }

    /// The hint that belongs to the kind: chosen here and nowhere else.
    const fn kind_hint(&self) -> Option<&'static str> {
        use crate::model::Kind;
        match self.kind {
            ErrorKind::NotFound(Some(Kind::Task)) => Some("`git orchestra task list --all` lists the tasks"),
            ErrorKind::NotFound(Some(Kind::Agent)) | ErrorKind::NoAgent => {
                Some("`git orchestra status --all` lists the agents")
            }
            ErrorKind::NotFound(Some(Kind::Finding)) => {
                Some("`git orchestra finding list --all` lists the findings")
            }
            ErrorKind::NotFound(Some(Kind::Decision)) => {
                Some("`git orchestra decide` lists what waits for an answer")
            }
            ErrorKind::Ambiguous => Some("give more characters"),
            ErrorKind::NoRepository => Some("go to a git repository, or name one with `-C DIR`"),
            ErrorKind::NoProgram => Some(
                "install it, or name its file: `git config --global orchestra.profile.NAME.command FILE`; of Claude Code CLAUDE_CLI_PATH does, too",
            ),
            ErrorKind::NotApproved => {
                Some("`git orchestra config approve` shows what the repository wants to run, and asks")
            }
            ErrorKind::NotFound(None) => {
                Some("`git orchestra task list --all` and `git orchestra status --all` list what there is")
            }
            ErrorKind::NotFound(Some(Kind::Merge | Kind::Pipeline))
            | ErrorKind::Usage
            | ErrorKind::Alarm
            | ErrorKind::UsedUp
            | ErrorKind::BrokenPipe
            | ErrorKind::Failed => None,
        }
    }
}

impl From<std::io::Error> for CliError {
    /// A failed write to our own output.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(ErrorKind::BrokenPipe, "");
        }
        Self::failed("failed to write the output", error)
    }
}

impl From<crate::git::Error> for CliError {
    fn from(error: crate::git::Error) -> Self {
        match error {
            crate::git::Error::NotARepository { .. } => Self::layer(error).kind(ErrorKind::NoRepository),
            crate::git::Error::Remote { trouble, .. } => {
                use crate::git::Trouble;
                let hint = match trouble {
                    Trouble::SignIn => {
                        "nothing is asked here: sign in once with git itself (`git ls-remote REMOTE`), with a \
                         credential.helper of your own configuration or an ssh agent, and try again"
                    }
                    Trouble::Reach => "`git remote -v` shows where the remotes are",
                    Trouble::Silent => "try again later; `orchestra.remoteTimeout` says how long it may take",
                    Trouble::Flood | Trouble::Unsound => {
                        "nothing of it was kept; ask whoever runs that repository what happened to it"
                    }
                };
                Self::layer(error).hint(hint)
            }
            _ => {
                let way_out = error.way_out().map(str::to_owned);
                let error = Self::layer(error);
                match way_out {
                    Some(way_out) => error.hint(way_out),
                    None => error,
                }
            }
        }
    }
}

impl From<crate::store::Error> for CliError {
    fn from(error: crate::store::Error) -> Self {
        use crate::store::Error;
        match error {
            Error::Git(error) => error.into(),
            Error::NotFound { kind, .. } => Self::layer(error).kind(ErrorKind::NotFound(kind)),
            Error::Ambiguous { .. } => Self::layer(error).kind(ErrorKind::Ambiguous),
            Error::Refused(why) => Self::new(ErrorKind::Failed, why),
            Error::TooLarge { .. } => {
                Self::layer(error).hint("put long texts into a file of the repository, and name the file")
            }
            Error::Format { .. } => Self::layer(error).hint(
                "a newer git-orchestra wrote there: `git orchestra --version` says which one this is; nothing was changed",
            ),
            Error::StateGone { .. } => Self::layer(error).hint(
                "`git orchestra recover` brings it back; to begin anew, remove the directory `orchestra` of the git directory",
            ),
            error => Self::layer(error),
        }
    }
}

impl From<crate::orchestrate::Error> for CliError {
    fn from(error: crate::orchestrate::Error) -> Self {
        use crate::orchestrate::Error;
        match error {
            Error::Git(error) => error.into(),
            Error::Store(error) => error.into(),
            Error::Alarm { remote, alarms } => {
                let listed: Vec<_> = alarms.iter().map(|alarm| format!("\n  {alarm}")).collect();
                let message = format!(
                    "{remote} does not have any more what was seen of it; nothing here was changed{}",
                    listed.concat()
                );
                let mut error = Self::new(ErrorKind::Alarm, message)
                    .hint("ask whoever runs that repository; what was seen of it is kept here");
                for alarm in alarms {
                    error = error.hint(format!(
                        "to accept what is there now, and merge ours into it: git update-ref -d {} {}",
                        alarm.tracking, alarm.old
                    ));
                }
                error
            }
            error => {
                let hint = error.hint().map(str::to_owned);
                let used_up = matches!(error, Error::UsedUp { .. });
                let kind = if used_up { ErrorKind::UsedUp } else { ErrorKind::Failed };
                let error = Self::layer(error).kind(kind);
                match hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }
        }
    }
}

impl From<crate::config::Error> for CliError {
    fn from(error: crate::config::Error) -> Self {
        match error {
            crate::config::Error::NotApproved { .. } => Self::layer(error).kind(ErrorKind::NotApproved),
            crate::config::Error::NoProgram { .. } => Self::layer(error).kind(ErrorKind::NoProgram),
            _ => Self::layer(error),
        }
    }
}

impl From<crate::process::CommandError> for CliError {
    fn from(error: crate::process::CommandError) -> Self {
        Self::layer(error)
    }
}

/// What the system says, to us and to git, where a process has as many files open as it may.
const TOO_MANY_FILES: &str = "Too many open files";

/// Prints `error`, its causes and its hints on stderr, and tells the exit code that it amounts to.
pub(crate) fn report(ui: &Ui, error: &CliError) -> Exit {
    if error.kind == ErrorKind::BrokenPipe {
        return error.exit();
    }
    let mut causes = Vec::new();
    let mut next = error.source.as_deref().map(|source| source as &(dyn StdError + 'static));
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    let mut causes = causes.into_iter();
    let message = if error.message.is_empty() {
        format!("failed to {}", causes.next().unwrap_or_else(|| "go on".to_owned()))
    } else {
        error.message.clone()
    };
    ui.tell(Label::Error, "error", &message);
    let mut is_short_of_files = message.contains(TOO_MANY_FILES);
    for cause in causes {
        is_short_of_files |= cause.contains(TOO_MANY_FILES);
        ui.tell(Label::Error, "caused by", &cause);
    }
    if is_short_of_files {
        ui.tell(
            Label::Hint,
            "hint",
            "`ulimit -n` says how many files a process may have open, `ulimit -n 1024` allows more",
        );
    }
    for hint in error.hints() {
        ui.tell(Label::Hint, "hint", hint);
    }
    error.exit()
}
