//! Agent programs: how each is started, and how its lines become events. No git, no store, no terminal.
//!
//! [`Adapter`] is the whole interface to a program; [`Decoder`] is its stream side. What a decoder does not know
//! becomes `unrecognised` with its raw bytes: never an error, never a panic.

pub mod acp;
mod api;
pub mod bridge;
mod claude;
mod codex;
mod command;
pub mod conversation;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gemini;
pub mod handoff;
mod lenient;
mod partial;
pub mod price;
pub mod priced;
pub mod prompt;
mod redact;
mod refusal;
mod replay;
mod resets;
pub mod review;
mod sanitise;
mod sink;
#[cfg(test)]
mod testing;
pub mod tokens;
mod tool;
pub mod transcript;

pub use acp::Acp;
pub use api::{
    Access, Api, COMMAND as API, Fallback as ApiFallback, Hybrid, MODEL as API_MODEL,
    Surroundings as ApiSurroundings, VARIABLES as API_VARIABLES, work as work_by_api,
};
pub use claude::{Claude, ClaudeDecoder, hook as claude_hook};
pub use codex::{Codex, CodexDecoder};
pub use command::Command;
pub use error::AgentError;
pub use gemini::{Gemini, GeminiDecoder};
pub use redact::{Found, KeyLines, Redactor, without_marks};
pub use refusal::limit_words;
pub use replay::{Replay, ReplayDecoder, Stage, play};
pub use sanitise::{is_hidden, sanitise_line, sanitise_text};

use crate::model::{Budget, Event, EventKind, Measure, Sandbox, Timestamp, Usage};
use conversation::{ConversationFile, Place, Turn};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// The adapter that profiles call `name`.
pub fn find_adapter(name: &str) -> Option<std::sync::Arc<dyn Adapter>> {
    match name {
        "api" => Some(std::sync::Arc::new(Api)),
        "hybrid" => Some(std::sync::Arc::new(Hybrid)),
        "claude" => Some(std::sync::Arc::new(Claude)),
        "codex" => Some(std::sync::Arc::new(Codex)),
        "gemini" => Some(std::sync::Arc::new(Gemini)),
        "replay" => Some(std::sync::Arc::new(Replay)),
        "acp" => Some(std::sync::Arc::new(Acp)),
        "command" => Some(std::sync::Arc::new(Command)),
        _ => None,
    }
}

/// How a program is started, talked to and understood.
pub trait Adapter: Send + Sync + std::fmt::Debug {
    /// The word that profiles use: `acp`, `api`, `hybrid`, `claude`, `codex`, `gemini`, `replay`, `command`.
    fn name(&self) -> &'static str;

    /// The command line, environment additions and first input for a run.
    fn launch(&self, request: &LaunchRequest) -> Launch;

    /// A fresh decoder for the stream of the run that `request` starts.
    fn decoder(&self, request: &LaunchRequest) -> Box<dyn Decoder>;

    /// Whether its commands do not see the user's git configuration, so that git must be told who commits.
    fn hides_git_configuration(&self) -> bool {
        false
    }

    /// What is the program's own in the user's home, by its environment: a program that is confined gets it, and
    /// little else of there.
    fn own_places(&self, env: &BTreeMap<OsString, OsString>) -> OwnPlaces {
        let _ = env;
        OwnPlaces::default()
    }

    /// Whether it can be told which tools it has.
    fn limits_tools(&self) -> bool {
        false
    }

    /// Where the program keeps its conversations, by its environment: each in a file somewhere below whose name ends
    /// with its id and `.jsonl`. `None` for a program whose conversations cannot be taken to another machine.
    fn conversation_home(&self, env: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
        let _ = env;
        None
    }

    /// What was said in a conversation, from the program's own file of it.
    fn read_conversation(&self, file: &[u8]) -> Vec<Turn> {
        let _ = file;
        Vec::new()
    }

    /// A file that the program takes for its own and goes on with; `None` if there is no such file.
    fn write_conversation(&self, turns: &[Turn], place: &Place<'_>) -> Option<ConversationFile> {
        let _ = (turns, place);
        None
    }

    /// The bytes that send `text` to a running program; `None` if it cannot be talked to.
    fn message(&self, text: &str) -> Option<Vec<u8>> {
        let _ = text;
        None
    }

    /// The bytes that stop the current turn; `None` if the program knows no such request.
    fn interrupt(&self) -> Option<Vec<u8>> {
        None
    }

    /// Whether another process of it goes on with a conversation whose process was ended at any time.
    fn goes_on(&self) -> bool {
        false
    }

    /// Whether what it is told while it runs reaches it by another process of it, after the one that runs.
    fn hears_later(&self) -> bool {
        self.goes_on() && self.message("").is_none()
    }

    /// Whether a model that is refused something hears why.
    fn hears_reasons(&self) -> bool {
        true
    }

    /// The bytes that answer a permission question; `None` if the program asks none.
    fn permission_reply(&self, request: &str, reply: &PermissionReply) -> Option<Vec<u8>> {
        let _ = (request, reply);
        None
    }
}

/// What is a program's own in the user's home. Whether any of it is there nobody says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnPlaces {
    /// Directories that it writes to: conversations, logs, a login that it renews.
    pub directories: Vec<PathBuf>,
    /// Files that it writes to, in directories that are not its own.
    pub files: Vec<PathBuf>,
    /// What there, below those directories, says what it runs or is told in other sessions too.
    pub settings: Vec<PathBuf>,
}

impl OwnPlaces {
    /// One directory, and the names of its settings.
    fn of(directory: Option<PathBuf>, settings: &[&str]) -> Self {
        let below = |dir: &PathBuf| settings.iter().map(|name| dir.join(name)).collect();
        let settings = directory.as_ref().map(below).unwrap_or_default();
        Self { directories: directory.into_iter().collect(), files: Vec::new(), settings }
    }
}

/// The stream side of a program: lines in, events out.
pub trait Decoder: Send {
    /// Decodes one line of standard output (without its newline), appending to `events`. Never fails: what it
    /// does not know is appended as unrecognised.
    fn line(&mut self, line: &[u8], at: Timestamp, events: &mut Vec<Event>);

    /// Decodes one line of standard error. Most programs say nothing there that is more than a notice.
    fn error_line(&mut self, line: &[u8], at: Timestamp, events: &mut Vec<Event>) {
        if !line.trim_ascii().is_empty() {
            let text = String::from_utf8_lossy(line).into_owned();
            events.push(Event { at, parent: None, kind: EventKind::Notice { text } });
        }
    }

    /// The stream is over: appends what was still held back.
    fn end(&mut self, _at: Timestamp, _events: &mut Vec<Event>) {}

    /// Whether the last line was a piece of something that a later line repeats whole. Such lines must not be
    /// stored, raw or decoded: a secret that is spread over several is not recognised in any of them.
    fn was_piece(&self) -> bool {
        false
    }

    /// What the run consumed so far: reported figures, each message counted once, and the estimate beside them.
    fn usage(&self) -> Usage;

    /// Whether the program said that its current turn is over, so that its input may be closed.
    fn is_idle(&self) -> bool;

    /// Whether the program's last result says that it failed, in its words.
    fn reported_failure(&self) -> Option<String>;

    /// The limit that the program ended itself for, if its last result says so.
    fn limit(&self) -> Option<Measure> {
        None
    }
}

/// Everything that starting a program needs to know.
#[derive(Debug, Clone, Default)]
pub struct LaunchRequest {
    /// The program's file, resolved, and arguments that belong to it (`node cli.js`).
    pub program: Vec<OsString>,
    /// The agent's worktree, where the program runs.
    pub worktree: PathBuf,
    /// The conversation's id, chosen by us.
    pub session: String,
    /// Whether the conversation exists already and is continued.
    pub resume: bool,
    /// What it is told.
    pub prompt: String,
    /// Role, findings and rules, appended to the program's own system prompt.
    pub system_prompt: Option<String>,
    /// The model, in the program's own words.
    pub model: Option<String>,
    /// What it may do without asking.
    pub permissions: Permissions,
    /// What it is confined by, beside what it confines itself by.
    pub sandbox: Sandbox,
    /// The only tools that it has, some with a pattern of uses that are not asked (`Bash(make *)`); `None` for all.
    /// Only for programs that [can be limited](Adapter::limits_tools).
    pub tools: Option<Vec<String>>,
    /// Tools, or uses of tools, that it does not have; as `tools`.
    pub denied_tools: Vec<String>,
    /// What it may still use. A program is told what it can keep itself.
    pub budget: Budget,
    /// A line for the shell that is asked before each edit, by programs that know such hooks.
    pub edit_hook: Option<String>,
    /// Arguments that the profile adds, last.
    pub extra_args: Vec<OsString>,
    /// What its tokens cost, for programs that do not tell.
    pub price: Option<price::Price>,
    /// What earlier runs of the same conversation took, for programs that count them in.
    pub before: Usage,
    /// By when the conversation that is continued had begun, for programs that mind.
    pub begun_by: Option<Timestamp>,
}

impl LaunchRequest {
    /// What it is told beside its prompt.
    pub fn add_words(&mut self, words: &str) {
        if !self.prompt.is_empty() {
            self.prompt.push_str("\n\n");
        }
        self.prompt.push_str(words);
    }

    /// What is to be said of a budget by a program that never tells how much it used of `untold`, and tells how much
    /// of `late` only when it is done.
    fn unkept(&self, untold: &[Measure], late: &[Measure]) -> Vec<String> {
        // Where tokens have a price, money is known with them.
        let priced = |measure: &&Measure| **measure == Measure::Cost && self.price.is_some();
        let (money, untold): (Vec<&Measure>, Vec<&Measure>) = untold.iter().partition(priced);
        let late: Vec<&Measure> =
            late.iter().chain(money.into_iter().filter(|_| late.contains(&Measure::Tokens))).collect();
        let limited = |measures: &[&Measure]| {
            let limited = measures.iter().filter(|measure| self.budget.of(***measure).is_some());
            limited.map(|measure| measure.key()).collect::<Vec<_>>()
        };
        let tokens = !untold.contains(&&Measure::Tokens);
        let never = limited(&untold).into_iter().map(|key| {
            let (what, or) = if key == Measure::Cost.key() && tokens {
                ("what its tokens cost", ", with `price-input` and `price-output` of its profile too")
            } else {
                ("how much it uses", "")
            };
            format!("its program does not tell {what}: `{key}` is not in force, `max-time` would be{or}")
        });
        let late = limited(&late).into_iter().map(|key| {
            format!("its program tells only when it is done how much it used: `{key}` counts between runs, not within one")
        });
        never.chain(late).collect()
    }
}

/// What an agent may do without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permissions {
    /// Read and plan only.
    Plan,
    /// Edit files in its worktree; everything else is asked.
    #[default]
    AcceptEdits,
    /// Everything: for sandboxes only.
    Bypass,
}

/// A child that is about to be started for an agent.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// Variables that this program needs beside the allow-list.
    pub env: Vec<(OsString, OsString)>,
    /// What is written to standard input at once; `None` gives it no input at all (`/dev/null`).
    pub input: Option<Vec<u8>>,
    /// Whether its input stays open for messages and answers, until it says that it is done.
    pub keeps_input: bool,
    /// What whoever looks should know: wishes that the program cannot fulfil.
    pub notices: Vec<String>,
}

/// The answer to a permission question.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum PermissionReply {
    /// Go on, with this input (JSON, as it was asked).
    Allow {
        /// The tool's input.
        input: String,
    },
    /// Go on with the answers to what it asked, one for each of its questions.
    Answer {
        /// The tool's input.
        input: String,
        /// Questions and answers.
        answers: Vec<(String, String)>,
    },
    /// Do not.
    Deny {
        /// What the model is told.
        message: String,
    },
}
