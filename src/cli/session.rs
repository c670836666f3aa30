//! Running claimed agents in the foreground: signals, the live console, and permission questions.

use super::attach::{actor, next_wish, refusal};
use super::command::claiming;
use super::console::{Console, Role, Wish};
use super::context::Context;
use super::env::Env;
use super::error::{CliError, Exit};
use super::json;
use super::notify::Notifier;
use super::ui::{Label, Ui, commits};
use super::view::{self, agent::branch_name, agent::outcome_label};
use crate::agent::{Redactor, find_adapter, sanitise_line};
use crate::config::program::Search;
use crate::config::{self, Edits, Settings};
use crate::model::{Agent, Budget, Id, Outcome, Sandbox};
use crate::orchestrate::control::Refusal;
use crate::orchestrate::outgoing::Guard;
use crate::orchestrate::supervise::{Finished, Progress, Request, SuperviseOptions, Supervisor};
use crate::orchestrate::worker::{Worker, work};
use crate::orchestrate::{
    Claim, Hook, Outfit, Provision, Pulse, Sandboxing, Surroundings, default_worktree_root, run_claims,
};
use crate::process::{Confiners, Interrupt, Interrupts};
use crate::store::{Cleaner, Store};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long an agent waits for `decide` whose end nobody waits for, unless the settings say otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// How much of what was told is taken in before anything else is looked at.
const AT_ONCE: usize = 32;

/// How a session is run and shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionOptions {
    /// How many run at once; `None` for what the settings say.
    pub(crate) jobs: Option<u32>,
    /// Whether events are printed as JSON, one document a line.
    pub(crate) json: bool,
    /// Whether another command gives the answer: nothing goes to stdout then.
    pub(crate) inner: bool,
    /// Whether it is said what could be done next.
    pub(crate) hints: bool,
}

/// How a session went.
#[derive(Debug)]
pub(crate) struct Session {
    /// How each run ended.
    pub(crate) finished: Vec<Finished>,
    /// The signal that ended it, if one did.
    pub(crate) signal: Option<i32>,
}

impl Session {
    /// The exit code that it amounts to.
    pub(crate) fn exit(&self) -> Exit {
        let failed = |finished: &Finished| {
            finished.error.is_some() || !matches!(finished.outcome, Some(Outcome::Succeeded))
        };
        let used_up = |finished: &Finished| {
            finished.error.is_none()
                && finished.outcome.as_ref().is_some_and(|outcome| outcome.over().is_some())
        };
        if let Some(signal) = self.signal {
            Exit::Signal(u8::try_from(signal).unwrap_or(0))
        } else if self.finished.iter().any(|one| failed(one) && !used_up(one)) {
            Exit::AgentFailed
        } else if self.finished.iter().any(used_up) {
            Exit::UsedUp
        } else if self.finished.iter().any(|finished| !finished.decisions.is_empty()) {
            Exit::Waiting
        } else {
            Exit::Done
        }
    }
}

/// A profile by its name (or the default one), with its program found, and confined as was `said` of it alone.
pub(crate) fn outfit(ctx: &Context, name: Option<&str>, said: Option<Sandbox>) -> Result<Outfit, CliError> {
    let settings = ctx.settings()?;
    let name = match name {
        Some(name) => name,
        None => settings.default_profile()?,
    };
    let mut profile = settings.profile(name).map_err(|error| misnamed(settings, name, error))?;
    profile.sandbox = said.unwrap_or(profile.sandbox);
    // Before anything is claimed.
    sandboxing(ctx)?.require(profile.sandbox)?;
    let adapter = find_adapter(&profile.program).ok_or_else(|| {
        CliError::usage(format!("profile `{name}` has the unknown program `{}`", profile.program))
    })?;
    if (profile.tools.is_some() || !profile.denied_tools.is_empty()) && !adapter.limits_tools() {
        let words =
            format!("profile `{name}` limits the tools of `{}`, which takes no such limit", profile.program);
        let hint = "leave out `tools` and `denied-tools`; what `permissions` allow holds for every program";
        return Err(CliError::usage(words).hint(hint));
    }
    let search = search(ctx)?;
    let find = |name: &str| search.find(name).map(PathBuf::into_os_string);
    let mut program: Vec<OsString> = match (profile.command.split_first(), profile.program.as_str()) {
        (Some((file, rest)), _) => {
            let file = find(super::text(file)?)?;
            std::iter::once(file).chain(rest.iter().cloned()).collect()
        }
        (None, "api" | "replay") => vec![own_program()?.into()],
        (None, "command" | "acp") => {
            let hint = format!("set `profile.{name}.command` to the program's words");
            return Err(CliError::usage(format!("profile `{name}` names no command")).hint(hint));
        }
        (None, program) => {
            let named = ctx.env().text("CLAUDE_CLI_PATH").filter(|_| ["claude", "hybrid"].contains(&program));
            let usual = if program == "hybrid" { "claude" } else { program };
            vec![find(named.unwrap_or(usual))?]
        }
    };
    if ["acp", "hybrid"].contains(&profile.program.as_str()) {
        // A program of ours stands in between.
        program.insert(0, own_program()?.into());
    }
    let (sandbox_is_said, any_answer) = (said.is_some(), ctx.settings()?.believes_any_answer());
    Ok(Outfit { profile, program, adapter, budget: Budget::default(), sandbox_is_said, any_answer })
}

/// What confines agents' programs, by the settings.
pub(crate) fn sandboxing(ctx: &Context) -> Result<Sandboxing, CliError> {
    let settings = ctx.settings()?;
    let paths = |key: &str, words: &[String]| -> Result<Vec<PathBuf>, CliError> {
        let path = |word: &String| match (word.strip_prefix("~/"), ctx.env().home()) {
            (Some(below), Some(home)) => Ok(home.join(below)),
            _ if Path::new(word).is_absolute() => Ok(word.into()),
            _ => Err(CliError::usage(format!("`{key}` names `{word}`, which is no absolute path"))
                .hint("begin it with / or ~/")),
        };
        words.iter().map(path).collect()
    };
    Ok(Sandboxing {
        confiners: confiners(ctx)?,
        read: paths("sandbox-read", settings.sandbox_read()?)?,
        write: paths("sandbox-write", settings.sandbox_write()?)?,
    })
}

/// The programs that confine others.
pub(crate) fn confiners(ctx: &Context) -> Result<Confiners, CliError> {
    Ok(Confiners { own: own_program().ok(), bwrap: search(ctx)?.find("bwrap").ok() })
}

/// A profile that is not there, with the file that would have been it.
pub(crate) fn misnamed(settings: &Settings, name: &str, error: config::Error) -> CliError {
    let file = match &error {
        config::Error::NoProfile { .. } => settings
            .skipped()
            .iter()
            .find(|file| Path::new(&file.place).file_stem().is_some_and(|stem| stem.to_str() == Some(name))),
        _ => None,
    };
    let error = CliError::from(error);
    match file {
        Some(file) => error.hint(format!("`{}` was left out: {}", file.place, file.why)),
        None => error,
    }
}

/// Where programs are looked for.
pub(crate) fn search(ctx: &Context) -> Result<Search, CliError> {
    Ok(Search { path: ctx.env().path().collect(), forbidden: forbidden(ctx)? })
}

/// Places from which no program is taken: whatever agents can write.
fn forbidden(ctx: &Context) -> Result<Vec<PathBuf>, CliError> {
    let repo = ctx.repo()?;
    let mut dirs = vec![repo.common_dir().to_owned(), worktree_root(ctx)?];
    dirs.extend(repo.work_dir().map(ToOwned::to_owned));
    // A bare repository's directory is its git directory.
    dirs.push(repo.main_dir().to_owned());
    Ok(dirs)
}

/// Our own executable.
pub(crate) fn own_program() -> Result<PathBuf, CliError> {
    std::env::current_exe().map_err(|error| CliError::failed("failed to find the program's own file", error))
}

/// Where agents' worktrees are made.
pub(crate) fn worktree_root(ctx: &Context) -> Result<PathBuf, CliError> {
    let repo = ctx.repo()?;
    let configured = ctx.settings()?.worktree_root(repo.main_dir())?;
    Ok(configured.unwrap_or_else(|| default_worktree_root(repo)))
}

/// What takes secrets out of what agents say: well-known shapes, and the values of our own environment that are
/// named like secrets.
pub(crate) fn redactor(ctx: &Context) -> Redactor {
    Redactor::new(secrets(ctx.env()))
}

/// What cleans the words that are stored. It is made when the first one is.
pub(crate) fn cleaner(env: &Env) -> Cleaner {
    let (secrets, made) = (secrets(env), OnceLock::new());
    Cleaner::new(move |text| {
        let redactor: &Redactor = made.get_or_init(|| Redactor::new(secrets.clone()));
        match redactor.redact(text) {
            (Cow::Owned(clean), _) => Some(clean),
            (Cow::Borrowed(_), _) => None,
        }
    })
}

/// The values of our own environment that are named like secrets.
fn secrets(env: &Env) -> Vec<(String, String)> {
    const WORDS: [&str; 6] = ["KEY", "TOKEN", "SECRET", "PASSW", "CREDENTIAL", "AUTH"];
    let secrets = env.iter().filter_map(|(name, value)| {
        let (name, value) = (name.to_str()?, value.to_str()?);
        let upper = name.to_ascii_uppercase();
        // Paths and sockets (`SSH_AUTH_SOCK`) are no secrets, and their pieces are everywhere.
        let is_one = WORDS.iter().any(|word| upper.contains(word)) && !value.starts_with('/');
        is_one.then(|| (name.to_owned(), value.to_owned()))
    });
    secrets.collect()
}

/// What looks through branches before they are pushed.
pub(crate) fn guard(ctx: &Context) -> Result<Guard, CliError> {
    let allowed = ctx.settings()?.push_allow()?.to_vec();
    Ok(Guard::new(Arc::new(redactor(ctx)), allowed))
}

/// What a session runs.
enum Work {
    /// These agents.
    Claims(Vec<Claim>),
    /// Whatever a worker claims.
    Worker(Box<Worker>),
}

/// Runs claimed agents to their end, showing what they do. Ctrl-C ends them cleanly, a second one at once.
pub(crate) fn run(ctx: &Context, claims: Vec<Claim>, options: SessionOptions) -> Result<Session, CliError> {
    run_work(ctx, Work::Claims(claims), options)
}

/// Runs what a worker claims, in the same way.
pub(crate) fn run_worker(
    ctx: &Context,
    worker: Worker,
    options: SessionOptions,
) -> Result<Session, CliError> {
    run_work(ctx, Work::Worker(Box::new(worker)), options)
}

fn run_work(ctx: &Context, work: Work, options: SessionOptions) -> Result<Session, CliError> {
    let runtime = runtime()?;
    let session = runtime.block_on(drive(ctx, work, options));
    // A question that nobody answered must not keep us.
    runtime.shutdown_background();
    session
}

/// A runtime for one session.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    let built = crate::process::runtime();
    built.map_err(|error| CliError::failed("failed to start the runtime", error))
}

/// What a session runs claims with.
pub(crate) struct Staged {
    /// Who watches them.
    pub(crate) supervisor: Supervisor,
    /// What they find around them.
    pub(crate) surroundings: Surroundings,
    /// Where they are recorded.
    pub(crate) store: Store,
}

/// Puts together what a session needs, by the settings.
pub(crate) fn stage(
    ctx: &Context,
    store: Store,
    jobs: Option<u32>,
    interactive: bool,
    patience: Duration,
) -> Result<Staged, CliError> {
    let settings = ctx.settings()?;
    let supervise = SuperviseOptions {
        jobs: usize::try_from(jobs.unwrap_or_else(|| settings.jobs())).unwrap_or(usize::MAX),
        memory_floor: settings.memory_floor(),
        grace: settings.grace(),
        interactive,
        answer_timeout: settings.answer_timeout().unwrap_or(patience),
        any_answer: settings.believes_any_answer(),
        radar: ctx.settings()?.has_radar(),
        sweep: true,
    };
    let surroundings = surroundings(ctx)?;
    let supervisor = Supervisor::new(store.clone(), Arc::clone(&surroundings.redactor), supervise);
    Ok(Staged { supervisor, surroundings, store })
}

/// What keeps the claims of these agents' tasks alive, where there are some on a remote.
pub(crate) fn pulse(
    ctx: &Context,
    claims: &[Claim],
    asks: mpsc::Sender<Request>,
) -> Result<Option<Pulse>, CliError> {
    let queue = claiming::queue(ctx, false)?;
    Ok(queue.map(|queue| Pulse::of(queue, claims, asks)).transpose()?.flatten())
}

/// What agents find around them.
pub(crate) fn surroundings(ctx: &Context) -> Result<Surroundings, CliError> {
    let repo = ctx.repo()?;
    Ok(Surroundings {
        env: ctx.env().share(),
        program_dir: own_program().ok().and_then(|program| Some(program.parent()?.to_owned())),
        worktree_root: worktree_root(ctx)?,
        budgets: super::command::budgets(ctx)?,
        park: ctx.settings()?.park(),
        limits: ctx.env().data_home().map_or_else(|| repo.local_dir(), |dir| dir.join("git-orchestra")),
        slot: None,
        provision: provision(ctx)?,
        sandboxing: sandboxing(ctx)?,
        edit_hook: edit_hook(ctx)?,
        redactor: Arc::new(redactor(ctx)),
    })
}

/// What agents' programs ask before each edit, unless the settings say that nothing is to be asked.
fn edit_hook(ctx: &Context) -> Result<Option<String>, CliError> {
    if ctx.settings()?.edits() == Edits::Unwatched {
        return Ok(None);
    }
    let program = own_program().ok().and_then(|program| program.to_str().map(str::to_owned));
    Ok(program.map(|program| format!("'{}' hook pre-tool-use", program.replace('\'', r"'\''"))))
}

/// What worktrees get, by the settings.
fn provision(ctx: &Context) -> Result<Provision, CliError> {
    let settings = ctx.settings()?;
    let hook = |words: &[String]| -> Result<Option<Hook>, CliError> {
        let Some((program, args)) = words.split_first() else { return Ok(None) };
        let file = search(ctx)?.find(program)?.into_os_string();
        Ok(Some(Hook {
            words: std::iter::once(file).chain(args.iter().map(OsString::from)).collect(),
            deadline: settings.hook_timeout(),
            grace: settings.grace(),
            pass_env: settings.hook_env()?.to_vec(),
        }))
    };
    Ok(Provision {
        setup: hook(settings.setup()?)?,
        teardown: hook(settings.teardown()?)?,
        space_floor: settings.space_floor(),
        frees_builds: settings.frees_builds(),
        ports: settings.ports(),
        port_dir: ctx.env().data_home().map(|dir| dir.join("git-orchestra/ports")),
        shares_builds: settings.shares_builds(),
        zones: settings.zones(),
    })
}

async fn drive(ctx: &Context, what: Work, options: SessionOptions) -> Result<Session, CliError> {
    let mut interrupts =
        Interrupts::listen().map_err(|error| CliError::failed("failed to listen for signals", error))?;
    let claims: &[Claim] = if let Work::Claims(claims) = &what { claims } else { &[] };
    let mut agents: HashMap<Id, Agent> =
        claims.iter().map(|claim| (claim.agent.id, claim.agent.clone())).collect();
    let mut console = if options.json {
        None
    } else {
        let actors = claims.iter().map(|claim| actor(&claim.agent)).collect();
        Some(Console::new(ctx, actors, Role::Watcher)?)
    };
    let interactive = console.as_ref().is_some_and(Console::hears);
    // Who started it here waits for its end, and is told then.
    let patience = if matches!(what, Work::Worker(_)) { PATIENCE } else { Duration::ZERO };
    let Staged { supervisor, surroundings, store } =
        stage(ctx, ctx.store()?.clone(), options.jobs, interactive, patience)?;
    let mut notifier = Notifier::new(ctx, agents.values().map(|agent| (agent.id, &agent.name)))?;
    let asks = supervisor.asks();
    let mut asked: JoinSet<(Option<Id>, Result<(), Refusal>)> = JoinSet::new();
    let (requests, receiver) = mpsc::channel(64);
    let (progress, mut told) = mpsc::channel(1024);
    let running = match what {
        Work::Claims(claims) => {
            let pulse = pulse(ctx, &claims, requests.clone())?;
            let all =
                Box::pin(run_claims(claims, surroundings, store, supervisor, receiver, progress, pulse));
            tokio::spawn(async move { (all.await, Ok(())) })
        }
        Work::Worker(worker) => {
            let parts = requests.clone();
            tokio::spawn(work(*worker, surroundings, supervisor, receiver, parts, progress))
        }
    };
    let mut signal = None;
    loop {
        tokio::select! {
            next = told.recv() => {
                let Some(mut next) = next else { break };
                // A few at once: what else is waited for costs more than most of what is told.
                for left in (0..AT_ONCE).rev() {
                    show(ctx, console.as_mut(), options, &next)?;
                    notifier.take(&next, ctx.ui())?;
                    // What is taken out is shown: none is taken after the last.
                    match if left > 0 { told.try_recv().ok() } else { None } {
                        Some(more) => next = more,
                        None => break,
                    }
                }
            },
            wish = next_wish(&mut console) => if let Wish::Ask(request) = wish {
                let (agent, asks) = (request.agent().copied(), asks.clone());
                asked.spawn(async move { (agent, asks.ask(request).await) });
            },
            Some(Ok((agent, Err(why)))) = asked.join_next() => if let Some(console) = &mut console {
                console.say(agent.as_ref(), Label::Attention, refusal(why));
            },
            interrupt = interrupts.next() => {
                signal.get_or_insert(interrupt.signal());
                let by = "interrupt".to_owned();
                let (request, text) = match interrupt {
                    Interrupt::Stop(_) => {
                        (Request::Stop { agent: None, by }, "stopping; once more ends them at once")
                    }
                    Interrupt::Kill(_) => (Request::Kill { agent: None, by }, "ending them at once"),
                };
                let _ = requests.try_send(request);
                match &mut console {
                    Some(console) => console.say(None, Label::Attention, text),
                    None => ctx.ui().note(text),
                }
            }
            why = notifier.failed() => match &mut console {
                Some(console) => console.say(None, Label::Attention, &sanitise_line(&why)),
                None => ctx.ui().warn(why),
            },
        }
    }
    if let Some(console) = &mut console {
        console.end();
    }
    if let Some(why) = notifier.end().await {
        ctx.ui().warn(why);
    }
    let (finished, ended) =
        running.await.map_err(|error| CliError::failed("failed to watch the agents", error))?;
    let session = Session { finished, signal };
    if agents.is_empty() {
        let wanted = session.finished.iter().map(|one| one.agent).collect();
        let found = ctx.state()?.several::<Agent>(&wanted)?;
        agents.extend(found.into_iter().map(|agent| (agent.id, agent)));
    }
    if !options.json && !options.inner {
        summary(ctx, &agents, &session)?;
        if options.hints {
            hint(ctx.ui(), &session);
        }
    }
    ended?;
    Ok(session)
}

/// Shows what happened, where it is shown.
fn show(
    ctx: &Context,
    console: Option<&mut Console>,
    options: SessionOptions,
    told: &Progress,
) -> Result<(), CliError> {
    match console {
        Some(console) => console.take(told),
        None if options.inner => {}
        None => ctx.ui().print(&json::line("agent-event", told)?)?,
    }
    Ok(())
}

/// One line an agent.
fn summary(ctx: &Context, agents: &HashMap<Id, Agent>, session: &Session) -> Result<(), CliError> {
    let ui = ctx.ui();
    let paint = ui.painter();
    let width = agents.values().map(|agent| agent.name.as_str().len()).max().unwrap_or(0);
    let branch_width = agents.values().map(|agent| branch_name(&agent.branch).len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut finished: Vec<&Finished> = session.finished.iter().collect();
    finished.sort_by_key(|finished| agents.get(&finished.agent).map(|agent| agent.created));
    for one in finished {
        let (label, word) = match &one.outcome {
            Some(outcome) => (outcome_label(outcome), outcome.word()),
            None => (Label::Attention, "unstarted"),
        };
        let mut parts = vec![commits(one.commits)];
        let tokens = view::tokens(&one.usage);
        if !tokens.is_empty() {
            parts.push(format!("{tokens} tokens"));
        }
        parts.extend(Some(view::cost(one.usage.cost)).filter(|cost| !cost.is_empty()));
        if !one.decisions.is_empty() {
            let ids: Vec<&str> = one.decisions.iter().map(|id| &id.as_str()[..6]).collect();
            parts.push(format!("asks: {}", ids.join(", ")));
        }
        let branch = agents.get(&one.agent).map_or("", |agent| branch_name(&agent.branch));
        let branch = format!("{branch:<branch_width$}");
        let _ = writeln!(
            text,
            "{}  {}  {}  {}",
            paint.paint(Label::Agent, format!("{:<width$}", one.name.as_str())),
            paint.paint(label, format!("{word:<9}")),
            paint.paint(Label::Branch, branch),
            paint.paint(Label::Dim, parts.join(", "))
        );
    }
    ui.print(&text)
}

/// What could be done next.
fn hint(ui: &Ui, session: &Session) {
    let names = |wanted: &dyn Fn(&Finished) -> bool| -> Vec<String> {
        session.finished.iter().filter(|one| wanted(one)).map(|one| one.name.to_string()).collect()
    };
    let again = names(&|one| !matches!(one.outcome, Some(Outcome::Succeeded)) && one.error.is_none());
    if session.finished.iter().any(|one| !one.decisions.is_empty()) {
        ui.hint(
            "`git orchestra decide` lists what waits for an answer; `git orchestra resume` goes on with it",
        );
    } else if let Some(first) = again.first() {
        ui.hint(format!(
            "`git orchestra log {first}` shows what happened, `git orchestra resume {first}` goes on"
        ));
    } else if session.finished.iter().any(|one| one.commits > 0) {
        ui.hint("`git orchestra overlap` shows how the branches touch, `git orchestra merge` brings them together");
    }
}
