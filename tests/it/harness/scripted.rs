//! Scripted models behind other APIs than Anthropic's: what a step is, and which one answers a request. How a
//! request is read and an answer written is its API's ([`Dialect`]): `openai`, `gemini`.
//!
//! As in `anthropic`: a conversation chooses its script by a marker `[script:NAME]` in what the user says, the last
//! one counts, and each request takes the step whose number is how often the model has answered since.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::http::{Request, Responder, Server};

/// One answer of the model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    /// What it thinks, says and does, in this order.
    pub(super) parts: Vec<Part>,
    /// HTTP statuses that come first, one a request.
    failures: Vec<u16>,
    /// Figures that the answer reports: all input, of it cached, output, thoughts.
    pub(super) tokens: [u64; 4],
}

#[derive(Debug, Clone)]
pub(super) enum Part {
    Thinks(String),
    Says(String),
    /// Writes a new file.
    Writes {
        path: String,
        content: String,
    },
    /// Replaces a line of a file.
    Replaces {
        path: String,
        old: String,
        new: String,
    },
    Runs(String),
    /// Nothing more comes, and the answer does not end.
    Hangs,
}

impl Answer {
    fn of(part: Part) -> Self {
        Self { parts: vec![part], failures: Vec::new(), tokens: [100, 0, 20, 0] }
    }

    /// The model says `text`, and its turn is over.
    pub(crate) fn say(text: &str) -> Self {
        Self::of(Part::Says(text.to_owned()))
    }

    /// The model writes a new file in its working directory.
    pub(crate) fn write(path: &str, content: &str) -> Self {
        Self::of(Part::Writes { path: path.to_owned(), content: content.to_owned() })
    }

    /// …replaces the line `old` by `new`.
    pub(crate) fn replace(path: &str, old: &str, new: &str) -> Self {
        Self::of(Part::Replaces { path: path.to_owned(), old: old.to_owned(), new: new.to_owned() })
    }

    /// …runs a command.
    pub(crate) fn run(command: &str) -> Self {
        Self::of(Part::Runs(command.to_owned()))
    }

    /// Begins to answer and never goes on.
    pub(crate) fn hang(text: &str) -> Self {
        let mut answer = Self::say(text);
        answer.parts.push(Part::Hangs);
        answer
    }

    /// Says this before it does what it does.
    pub(crate) fn saying(mut self, text: &str) -> Self {
        self.parts.insert(0, Part::Says(text.to_owned()));
        self
    }

    /// Thinks this before.
    pub(crate) fn thinking(mut self, text: &str) -> Self {
        self.parts.insert(0, Part::Thinks(text.to_owned()));
        self
    }

    /// What the answer consumed: all input, of it cached, output, thoughts.
    pub(crate) fn tokens(mut self, tokens: [u64; 4]) -> Self {
        self.tokens = tokens;
        self
    }

    /// Before it answers, so many requests fail with this HTTP status.
    pub(crate) fn failing(mut self, times: usize, status: u16) -> Self {
        self.failures.extend(std::iter::repeat_n(status, times));
        self
    }
}

/// How one API asks and is answered.
pub(super) trait Dialect: Send + Sync + 'static {
    /// Whether the path asks for an answer of the model.
    fn asks(path: &str) -> bool;

    /// The conversation so far: what the user said, and `None` for each answer of the model.
    fn conversation(body: &Value) -> Vec<Option<String>>;

    /// A refusal.
    fn refuse(status: u16, to: Responder) -> io::Result<()>;

    /// Streams the `number`th answer of this endpoint.
    fn answer(answer: &Answer, number: u64, to: Responder) -> io::Result<()>;
}

/// A request that came, without its keys.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The body; null if it was no JSON.
    pub(crate) body: Value,
    /// The script and step that answered it.
    pub(crate) step: Option<(String, usize)>,
}

/// An endpoint: it serves until dropped.
#[derive(Debug)]
pub(crate) struct Model {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    scripts: BTreeMap<String, Vec<Answer>>,
    answers: AtomicU64,
    asked: Mutex<Vec<Asked>>,
    /// How often each step of each script has failed already.
    failed: Mutex<BTreeMap<(String, usize), usize>>,
}

impl Model {
    pub(super) fn start<D: Dialect, const N: usize>(scripts: [(&str, Vec<Answer>); N]) -> Self {
        let scripts = scripts.map(|(name, answers)| (name.to_owned(), answers)).into();
        let shared = Arc::new(Shared { scripts, ..Shared::default() });
        let serving = Arc::clone(&shared);
        Self { server: Server::start(move |request, to| serving.serve::<D>(request, to)), shared }
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// The requests that a script answered, in order.
    pub(crate) fn asked_by(&self, script: &str) -> Vec<Asked> {
        let mut asked = self.shared.asked.lock().unwrap().clone();
        asked.retain(|asked| asked.step.as_ref().is_some_and(|(name, _)| name == script));
        asked
    }
}

impl Shared {
    fn serve<D: Dialect>(&self, request: &Request, to: Responder) -> io::Result<()> {
        if request.method != "POST" || !D::asks(&request.path) {
            return D::refuse(404, to);
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let step = self.choose(&D::conversation(&body));
        self.asked.lock().unwrap().push(Asked { body, step: step.clone() });
        let Some((script, number)) = step else { return D::refuse(404, to) };
        let answer = self.scripts[&script].get(number).cloned();
        let answer = answer.unwrap_or_else(|| Answer::say("There is nothing left to do."));
        let failure = {
            let mut failed = self.failed.lock().unwrap();
            let times = failed.entry((script, number)).or_default();
            *times += 1;
            answer.failures.get(*times - 1).copied()
        };
        match failure {
            Some(status) => D::refuse(status, to),
            None => D::answer(&answer, self.answers.fetch_add(1, Ordering::Relaxed), to),
        }
    }

    fn choose(&self, conversation: &[Option<String>]) -> Option<(String, usize)> {
        let mut script = None;
        let mut answers = 0;
        for said in conversation {
            let Some(said) = said else {
                answers += 1;
                continue;
            };
            let place = |name: &&String| said.rfind(&format!("[script:{name}]"));
            let named = self.scripts.keys().filter_map(|name| Some((place(&name)?, name))).max();
            if let Some((_, name)) = named {
                script = Some(name.clone());
                answers = 0;
            }
        }
        Some((script?, answers))
    }
}
