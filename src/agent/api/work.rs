//! The loop: the model is asked, what it calls is done, and it is told what came of that, until it calls nothing more.

use super::ask::TRIES;
use super::brief::brief;
use super::http::{Access, Client, Failure, Piece};
use super::inbox::{Inbox, Stop};
use super::permit::{Permit, Verdict};
use super::record::Record;
use super::relay::Relay;
use super::tally::Tally;
use super::tools::{Files, Input, Shell, Tool, todo};
use super::wire::{Answer, Heard, Message, Question, cache_mark, text, tool_result};
use crate::agent::bridge::{Begin, Speech, Wish, event_line, hear};
use crate::agent::price;
use crate::agent::redact::Redactor;
use crate::agent::sink::MAX_OUTPUT;
use crate::agent::tool::{describe, few_lines};
use crate::agent::{AgentError, PermissionReply, Permissions};
use crate::model::{ContextUse, Event, EventKind, Measure};
use crate::process::Clock;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;

/// The model of whoever names none.
pub const MODEL: &str = "claude-sonnet-5";
/// How long an answer may be, in tokens, beside what is thought.
const MAX_TOKENS: u64 = 16_000;
/// How often in a row an answer that was cut off at its greatest length is gone on with.
const MAX_CUT: u32 = 3;
/// From how full its window is the answers of old calls are taken out, in hundredths; and from where it is given up.
const FULL: u64 = 85;
const OVERFULL: u64 = 97;
/// The window of a model that nobody knows.
const WINDOW: u64 = 200_000;

/// Where the loop works, and as whom.
#[derive(Debug)]
pub struct Surroundings {
    /// How its model is reached.
    pub access: Access,
    /// Where it works.
    pub worktree: PathBuf,
    /// What its commands see: nothing of `access`.
    pub env: Vec<(OsString, OsString)>,
    /// Where its conversations lie.
    pub home: PathBuf,
    /// How much its model may think, in tokens; `None` for not at all.
    pub thinking: Option<u64>,
    /// Takes secrets out of what is kept.
    pub redactor: Redactor,
    /// What does the work where the API is not to be had; nothing for a run that fails then.
    pub fallback: Option<Fallback>,
}

/// Claude Code, to be started in our place.
#[derive(Debug)]
pub struct Fallback {
    /// Its file, and arguments that belong to it.
    pub program: Vec<OsString>,
    /// Its environment.
    pub env: Vec<(OsString, OsString)>,
}

/// Works until `input` ends: it holds wishes, the first of them to begin; events go to `out`.
///
/// What goes wrong with the model is a result that says so. Where nothing was done yet, and the API is not to be had,
/// the fallback does the work. Returns the exit code; fails only if nobody can be told.
pub fn work(
    surroundings: Surroundings,
    clock: &dyn Clock,
    input: impl Read + Send + 'static,
    out: &mut dyn Write,
) -> Result<u8, AgentError> {
    let runtime = crate::process::runtime().map_err(AgentError::Work)?;
    let done = runtime.block_on(async {
        let mut wishes = hear(input);
        let Some(Wish::Begin(begin)) = wishes.recv().await else { return Ok(0) };
        let mut worker = Worker::new(surroundings, *begin, clock, Inbox::new(wishes), out);
        let absent = Box::pin(worker.work()).await;
        match absent {
            Some(why) => Box::pin(worker.fall_back(&why)).await,
            None => worker.told.map(|()| 0).map_err(AgentError::Print),
        }
    });
    // A thread may still read an answer that nobody wants.
    runtime.shutdown_background();
    done
}

/// One conversation: the agent's own, or a sub-agent's.
struct Talk {
    record: Record,
    files: Files,
    tools: Vec<Value>,
    system: String,
    /// The call that a sub-agent answers.
    parent: Option<String>,
}

struct Worker<'a> {
    surroundings: Surroundings,
    begin: Begin,
    model: String,
    permit: Permit,
    shell: Shell,
    clock: &'a dyn Clock,
    inbox: Inbox,
    out: &'a mut dyn Write,
    /// Whether everything could be told so far.
    told: Result<(), std::io::Error>,
    tally: Tally,
    questions: u64,
    /// Whether another program may still do the work: nothing was done yet.
    may_fall_back: bool,
}

impl<'a> Worker<'a> {
    fn new(
        surroundings: Surroundings,
        begin: Begin,
        clock: &'a dyn Clock,
        inbox: Inbox,
        out: &'a mut dyn Write,
    ) -> Self {
        let permit = Permit::new(begin.permissions, begin.tools.as_deref(), &begin.denied_tools);
        let shell = Shell::new(surroundings.worktree.clone(), surroundings.env.clone());
        let model = begin.model.clone().unwrap_or_else(|| MODEL.to_owned());
        let (told, tally) = (Ok(()), Tally::default());
        let may_fall_back = surroundings.fallback.is_some();
        Self {
            surroundings,
            begin,
            model,
            permit,
            shell,
            clock,
            inbox,
            out,
            told,
            tally,
            questions: 0,
            may_fall_back,
        }
    }

    /// Works to the end; or says why the API is not to be had, if another program can do all of it.
    async fn work(&mut self) -> Option<String> {
        if self.may_fall_back && self.begin.resume && !self.place().exists() {
            return Some("its conversation is one of Claude Code".to_owned());
        }
        let access = &self.surroundings.access;
        if self.may_fall_back && access.key.is_none() && access.token.is_none() && !self.place().exists() {
            return Some("there is no key for the API".to_owned());
        }
        let (client, mut talk) = match self.open() {
            Ok(opened) => opened,
            Err(words) => {
                self.result("error", true, words);
                return None;
            }
        };
        self.may_fall_back &= talk.record.messages().iter().all(Message::is_user);
        self.say(
            None,
            EventKind::Ready {
                model: Some(self.model.clone()),
                session: Some(self.begin.session.clone()),
                version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                permissions: Some(word(self.begin.permissions).to_owned()),
            },
        );
        let mut next = Some(self.begin.prompt.clone());
        while let Some(words) = next {
            if !repeats(&talk.record, &words)
                && let Err(error) = talk.record.tell(vec![text(&words)], &self.surroundings.redactor)
            {
                self.result("error", true, unkept(&error));
                return None;
            }
            match self.converse(&client, &mut talk).await {
                Ok(said) => self.result("success", false, said),
                Err(Stop::Interrupted) => self.result("interrupted", true, "interrupted".to_owned()),
                Err(Stop::Limit(measure)) => self.result(measure.key(), true, String::new()),
                Err(Stop::Failed(words)) => self.result("error", true, words),
                Err(Stop::Absent(words)) => {
                    // What it was told before it was ever answered belongs to it.
                    let blocks = talk.record.messages().iter().flat_map(|message| &message.content);
                    let told: Vec<&str> = blocks.filter_map(|block| block["text"].as_str()).collect();
                    self.begin.prompt = told.join("\n\n");
                    self.begin.resume = false;
                    let gone = std::fs::remove_file(self.place());
                    if let Err(error) = gone {
                        self.result("error", true, unkept(&error));
                        return None;
                    }
                    return Some(words);
                }
                Err(Stop::Gone) => return None,
            }
            next = self.inbox.message().await;
        }
        None
    }

    /// The file of the conversation.
    fn place(&self) -> PathBuf {
        self.surroundings.home.join(format!("{}.jsonl", self.begin.session))
    }

    /// Lets the other program do the work.
    async fn fall_back(mut self, why: &str) -> Result<u8, AgentError> {
        self.told.map_err(AgentError::Print)?;
        let Some(fallback) = &self.surroundings.fallback else { return Ok(1) };
        let mut relay = Relay {
            program: &fallback.program,
            worktree: &self.surroundings.worktree,
            env: &fallback.env,
            clock: self.clock,
            out: self.out,
        };
        relay.notice(format!("Claude Code does the work: {why}"))?;
        let said = self.inbox.said();
        relay.run(self.begin, said, self.inbox.rest()).await
    }

    fn open(&self) -> Result<(Client, Talk), String> {
        let client = Client::new(&self.surroundings.access)?;
        let session = &self.begin.session;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if session.is_empty() || !session.chars().all(plain) {
            return Err("the conversation's id cannot be a file's name".to_owned());
        }
        let path = self.place();
        let record = Record::open(&path, self.begin.resume)
            .map_err(|error| format!("its conversation cannot be opened ({}): {error}", path.display()))?;
        // Nobody who wrote the repository's files knows it, and it is the same in each run: the cache finds its start.
        let digest = Sha256::digest(format!("fence {session}"));
        let (first, _) = digest.split_first_chunk::<8>().expect("a SHA-256 has 32 bytes");
        let fence = format!("{:016x}", u64::from_be_bytes(*first));
        let worktree = self.surroundings.worktree.clone();
        let system = brief(&worktree, self.begin.system_prompt.as_deref(), &fence);
        let (tools, files) = (self.offered(true), Files::new(worktree));
        Ok((client, Talk { record, files, tools, system, parent: None }))
    }

    fn offered(&self, main: bool) -> Vec<Value> {
        let offered =
            Tool::ALL.into_iter().filter(|tool| self.permit.offers(*tool) && (main || *tool != Tool::Task));
        offered.map(Tool::definition).collect()
    }

    /// Goes on until the model calls nothing more; its last words.
    async fn converse(&mut self, client: &Client, talk: &mut Talk) -> Result<String, Stop> {
        let mut cut = 0;
        let mut used = 0;
        loop {
            self.make_room(talk, used)?;
            let answer = self.ask(client, talk).await?;
            used = answer.usage.total();
            let words = answer.words();
            let message = Message { role: "assistant".to_owned(), content: answer.blocks };
            let calls: Vec<Value> =
                message.content.iter().filter(|block| block["type"] == "tool_use").cloned().collect();
            if !message.content.is_empty() {
                self.keep(talk, message)?;
            }
            let mut told = Vec::new();
            if !calls.is_empty() {
                let (answers, stopped) = self.run(client, talk, &calls, &answer.cut).await;
                told = answers;
                if let Some(stop) = stopped {
                    self.keep(talk, Message::user(told))?;
                    return Err(stop);
                }
                cut = 0;
            } else if answer.stop == "max_tokens" && cut < MAX_CUT {
                cut += 1;
                told.push(text("Your answer was cut off at its greatest length. Go on."));
            } else if answer.stop == "refusal" {
                return Err(Stop::Failed(format!("its model refuses to go on: {words}")));
            }
            if talk.parent.is_none() {
                told.extend(self.inbox.said().iter().map(|words| text(words)));
            }
            if told.is_empty() {
                return Ok(words);
            }
            self.keep(talk, Message::user(told))?;
            if let Some(measure) = self.tally.over(&self.begin.budget) {
                return Err(Stop::Limit(measure));
            }
        }
    }

    fn keep(&self, talk: &mut Talk, message: Message) -> Result<(), Stop> {
        talk.record.add(message, &self.surroundings.redactor).map_err(|error| Stop::Failed(unkept(&error)))
    }

    /// Takes old answers of tools out if the window is nearly full. Four bytes count as a token.
    fn make_room(&mut self, talk: &mut Talk, used: u64) -> Result<(), Stop> {
        let window = price::window(&self.model).unwrap_or(WINDOW);
        let newest = talk.record.messages().last().filter(|message| message.is_user());
        let new: usize =
            newest.map_or(0, |message| message.content.iter().map(|block| block.to_string().len()).sum());
        let needed = used + new as u64 / 4;
        if needed * 100 < window * FULL {
            return Ok(());
        }
        let freed = talk.record.clear().map_err(|error| Stop::Failed(unkept(&error)))? as u64 / 4;
        if freed > 0 {
            let text = format!(
                "its window is nearly full: old answers of tools, about {freed} tokens, were taken out"
            );
            self.say(talk.parent.as_deref(), EventKind::Notice { text });
        }
        if needed.saturating_sub(freed) * 100 >= window * OVERFULL {
            return Err(Stop::Failed(format!("its window is full: about {needed} of {window} tokens")));
        }
        Ok(())
    }

    /// Asks until there is an answer.
    async fn ask(&mut self, client: &Client, talk: &Talk) -> Result<Answer, Stop> {
        let thinking = self.surroundings.thinking;
        let question = Question {
            model: &self.model,
            max_tokens: MAX_TOKENS + thinking.unwrap_or(0),
            thinking: thinking.map(|tokens| json!({"type": "enabled", "budget_tokens": tokens})),
            stream: true,
            tools: &talk.tools,
            system: json!([{"type": "text", "text": talk.system, "cache_control": cache_mark()}]),
            messages: talk.record.messages(),
        };
        let body = serde_json::to_vec(&question).map_err(|error| Stop::Failed(error.to_string()))?;
        let parent = talk.parent.as_deref();
        let mut attempt = 0;
        let mut begun = false;
        loop {
            let failure = match self.listen(client, body.clone(), parent, &mut begun).await? {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            attempt += 1;
            if self.may_fall_back && failure.is_lasting(attempt) {
                return Err(Stop::Absent(failure.words()));
            }
            if !failure.passes() || attempt > TRIES {
                return Err(Stop::Failed(failure.words()));
            }
            let mut chance = [128];
            // Without it those that failed together try together.
            let _ = getrandom::fill(&mut chance);
            let pause = failure.pause(attempt, chance[0]);
            self.say(
                parent,
                EventKind::Retry {
                    attempt,
                    max: TRIES,
                    delay_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                    status: failure.status(),
                    error: failure.name().to_owned(),
                },
            );
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                stop = self.inbox.stop() => return Err(stop),
            }
        }
    }

    /// Asks once, and tells what comes as it comes. What was begun and did not end counts as used; a turn has `begun` with
    /// the first answer to its question that does, however often that is asked.
    async fn listen(
        &mut self,
        client: &Client,
        body: Vec<u8>,
        parent: Option<&str>,
        begun: &mut bool,
    ) -> Result<Result<Answer, Failure>, Stop> {
        let mut pieces = client.ask(body);
        let (mut answer, mut speech) = (Answer::default(), Speech::default());
        let end = loop {
            let piece = tokio::select! {
                piece = pieces.recv() => piece,
                stop = self.inbox.stop() => break Err(stop),
            };
            let data = match piece {
                Some(Piece::Event(data)) => data,
                Some(Piece::Over(failure)) => break Ok(Err(failure)),
                None => break Ok(Err(Failure::Broken("nobody reads its answer".to_owned()))),
            };
            let mut said = Vec::new();
            self.may_fall_back = false;
            match answer.take(&data) {
                Ok(Heard::Figures) if !std::mem::replace(begun, true) && parent.is_none() => {
                    let number = self.tally.turn();
                    self.say(None, EventKind::Turn { number });
                }
                Ok(Heard::Piece(voice, words)) => speech.push(voice, &words, self.clock.now(), &mut said),
                Ok(Heard::Block) => speech.end(&mut said),
                Ok(Heard::Refused(kind, message)) => break Ok(Err(Failure::in_the_middle(kind, message))),
                Ok(Heard::End) => break Ok(Ok(())),
                Ok(Heard::Figures | Heard::Nothing) => {}
                Err(words) => break Ok(Err(Failure::Broken(words))),
            }
            for kind in said {
                self.say(parent, kind);
            }
        };
        if answer.usage.total() > 0 {
            let model = if answer.model.is_empty() { &self.model } else { &answer.model };
            let unpriced = self.tally.add(model, &answer.usage);
            // Of the model that was asked for whoever started this has said it.
            if unpriced && *model != self.model && self.begin.budget.of(Measure::Cost).is_some() {
                let text = format!(
                    "`{model}` answers, of which nobody knows the price: `max-cost` is in force only with `price-input` \
                     and `price-output` of its profile"
                );
                self.say(parent, EventKind::Notice { text });
            }
            let window = price::window(&self.model);
            let context = parent.is_none().then(|| ContextUse { used: answer.usage.total(), window });
            self.say(parent, EventKind::Usage { usage: self.tally.usage(), context });
        }
        Ok(end?.map(|()| answer))
    }

    /// Does what the model calls, one after the other. Answers for all calls, and why it does not go on.
    async fn run(
        &mut self,
        client: &Client,
        talk: &mut Talk,
        calls: &[Value],
        cut: &[String],
    ) -> (Vec<Value>, Option<Stop>) {
        let (mut answers, mut stopped) = (Vec::new(), None);
        for call in calls {
            let [id, name] = ["id", "name"].map(|key| call[key].as_str().unwrap_or_default());
            if stopped.is_some() {
                answers.push(tool_result(id, false, "This was not begun: a person broke off here."));
                continue;
            }
            let worktree = self.surroundings.worktree.to_string_lossy();
            let (summary, target) = describe(name, &call["input"].to_string(), &worktree);
            let tool = name.to_owned();
            let parent = talk.parent.clone();
            self.say(parent.as_deref(), EventKind::ToolCall { call: id.to_owned(), tool, summary, target });
            let outcome = if cut.iter().any(|cut| cut == id) {
                Ok(Err("its input did not come whole: say less at once".to_owned()))
            } else {
                self.call(client, talk, id, name, &call["input"]).await
            };
            let (ok, output) = match outcome {
                Ok(Ok(output)) => (true, output),
                Ok(Err(words)) => (false, words),
                Err(stop) => {
                    stopped = Some(stop);
                    (false, "A person broke this off; what it had done by then is done.".to_owned())
                }
            };
            let shown = few_lines(&output, MAX_OUTPUT.0, MAX_OUTPUT.1);
            self.say(parent.as_deref(), EventKind::ToolResult { call: id.to_owned(), ok, output: shown });
            answers.push(tool_result(id, ok, if output.is_empty() { "(nothing)" } else { &output }));
        }
        (answers, stopped)
    }

    /// Does one call, if it may; the outer error is that of the turn.
    async fn call(
        &mut self,
        client: &Client,
        talk: &mut Talk,
        id: &str,
        name: &str,
        input: &Value,
    ) -> Result<Result<String, String>, Stop> {
        let Some(tool) = Tool::find(name) else { return Ok(Err(format!("there is no tool `{name}`"))) };
        let parent = talk.parent.clone();
        if tool == Tool::Task && parent.is_some() {
            return Ok(Err("a sub-agent has no sub-agents".to_owned()));
        }
        let refuse = |summary| EventKind::PermissionDenied { tool: name.to_owned(), summary };
        match self.permit.judge(tool, input, &self.surroundings.worktree) {
            Verdict::Go => {}
            Verdict::Refuse(why) => {
                self.say(parent.as_deref(), refuse(why.clone()));
                return Ok(Err(why));
            }
            Verdict::Ask => {
                if let Err(why) = self.permitted(parent.as_deref(), name, input).await? {
                    let (summary, _) = describe(name, &input.to_string(), "");
                    self.say(parent.as_deref(), refuse(summary));
                    return Ok(Err(why));
                }
            }
        }
        let input_of = Input::new(input);
        Ok(match tool {
            Tool::Read => talk.files.read(input_of),
            Tool::Write => talk.files.write(input_of),
            Tool::Edit => talk.files.edit(input_of),
            Tool::Todo => todo(input_of),
            Tool::Bash => self.shell.run(input_of, self.inbox.stop()).await?,
            Tool::Task => {
                let prompt = match input_of.need("prompt") {
                    Ok(prompt) => prompt,
                    Err(words) => return Ok(Err(words)),
                };
                let mut sub = Talk {
                    record: Record::default(),
                    files: Files::new(self.surroundings.worktree.clone()),
                    tools: self.offered(false),
                    system: format!(
                        "{}\nYou are a sub-agent: your last message is all that is heard of you.\n",
                        talk.system
                    ),
                    parent: Some(id.to_owned()),
                };
                self.keep(&mut sub, Message::user(vec![text(prompt)]))?;
                Ok(Box::pin(self.converse(client, &mut sub)).await?)
            }
        })
    }

    /// Asks a person; the inner error is what the model is told.
    async fn permitted(
        &mut self,
        parent: Option<&str>,
        name: &str,
        input: &Value,
    ) -> Result<Result<(), String>, Stop> {
        self.questions += 1;
        let request = format!("permission-{}", self.questions);
        let worktree = self.surroundings.worktree.to_string_lossy();
        let (summary, _) = describe(name, &input.to_string(), &worktree);
        self.say(
            parent,
            EventKind::PermissionAsked {
                request: request.clone(),
                tool: name.to_owned(),
                summary,
                input: input.to_string(),
                questions: Vec::new(),
            },
        );
        let reply = match self.inbox.reply(&request).await {
            Ok(reply) => reply,
            Err(stop) => {
                self.say(parent, EventKind::PermissionWithdrawn { request });
                return Err(stop);
            }
        };
        Ok(match reply {
            PermissionReply::Allow { .. } | PermissionReply::Answer { .. } => Ok(()),
            PermissionReply::Deny { message } => Err(message),
        })
    }

    fn result(&mut self, subtype: &str, error: bool, text: String) {
        let usage = self.tally.usage();
        self.say(None, EventKind::Result { subtype: subtype.to_owned(), error, text, usage });
    }

    fn say(&mut self, parent: Option<&str>, kind: EventKind) {
        if self.told.is_err() {
            return;
        }
        let event = Event { at: self.clock.now(), parent: parent.map(str::to_owned), kind };
        self.told = self.out.write_all(&event_line(&event)).and_then(|()| self.out.flush());
    }
}

/// Whether the user said just that last, and was not answered: a run that waited for its model begins again so.
fn repeats(record: &Record, words: &str) -> bool {
    let last = record.messages().last().filter(|message| message.is_user());
    last.and_then(|message| message.content.last()).is_some_and(|block| *block == text(words))
}

fn unkept(error: &std::io::Error) -> String {
    format!("its conversation cannot be written: {error}")
}

const fn word(permissions: Permissions) -> &'static str {
    match permissions {
        Permissions::Plan => "plan",
        Permissions::AcceptEdits => "accept-edits",
        Permissions::Bypass => "bypass",
    }
}
