//! Gates of a merge: which ones, what they say, and what a person answers when one fails.

use super::Args;
use super::ask::Asked;
use super::report;
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::session;
use crate::cli::ui::{Busy, Label, Reply, printable};
use crate::cli::view;
use crate::config;
use crate::model::{Decision, GateOutcome, GateRun, Id, Merge};
use crate::orchestrate::merge::{
    self, Error, Gate, GateFailure, Gating, LockTools, On, Progress, Remark, Rules, Trial,
};
use crate::orchestrate::{Hook, Surroundings};
use crate::process::Watch;
use std::ffi::OsString;
use std::path::Path;

/// What runs a line of the shell.
const SHELL: &str = "/bin/sh";
/// How many of a gate's last lines are shown.
const SHOWN: usize = 20;

/// The gates of a merge, by the settings and the command line.
#[derive(Default)]
pub(super) struct Gates {
    run: Vec<Gate>,
    left_out: Vec<String>,
    mends: u32,
    puts_aside: bool,
    tools: LockTools,
    /// Only where there is something to run.
    around: Option<(Surroundings, Watch)>,
}

impl Gates {
    /// Those that this command runs.
    ///
    /// # Errors
    /// If one waits for an approval: it is never left out without a word.
    pub(super) fn of(ctx: &Context, args: &Args) -> Result<Self, CliError> {
        let settings = ctx.settings()?;
        let tools = if args.ask { LockTools::default() } else { lock_tools(ctx)? };
        if args.no_gates {
            let left_out: Vec<String> = settings.gate_names().into_iter().collect();
            if !left_out.is_empty() {
                ctx.ui().note(format!("without gates, as you say: {} not run", left_out.join(", ")));
            }
            return Self { left_out, tools, ..Self::default() }.with_surroundings(ctx);
        }
        let said = settings.gates(&args.gate).map_err(|error| {
            let waits = matches!(error, config::Error::NotApproved { .. });
            let error = CliError::from(error);
            if waits { error.hint("`--no-gates` merges without any gate") } else { error }
        })?;
        let gate = |gate: config::Gate| -> Result<Gate, CliError> {
            let words: Vec<OsString> = match &gate.run[..] {
                [line] => [SHELL, "-c", line].map(OsString::from).into(),
                [program, args @ ..] => {
                    let of_commit = Path::new(program).is_relative() && program.contains('/');
                    let program =
                        if of_commit { program.into() } else { session::search(ctx)?.find(program)?.into_os_string() };
                    std::iter::once(program).chain(args.iter().map(OsString::from)).collect()
                }
                [] => Vec::new(),
            };
            let (deadline, grace, pass_env) = (gate.timeout, settings.grace(), gate.pass_env);
            Ok(Gate { name: gate.name, hook: Hook { words, deadline, grace, pass_env }, retries: gate.retries })
        };
        let run = said.into_iter().map(gate).collect::<Result<_, _>>()?;
        // Said here, one at least.
        let mends = args.mends.unwrap_or_else(|| settings.gate_mends()).max(u32::from(args.mend));
        Self { run, mends, puts_aside: settings.puts_aside(), tools, ..Self::default() }.with_surroundings(ctx)
    }

    /// Whether an agent is asked to mend what a gate fails with before anybody else is asked.
    pub(super) fn mends(&self, merge: &Merge, decision: &Decision, failure: &GateFailure) -> bool {
        let asked = decision.agent.map_or(0, |agent| merge.mends_of(&agent, &failure.run.gate));
        asked < self.mends as usize && decision.choices.iter().any(|choice| choice.key == "agent")
    }

    /// What a gate runs, for people and agents to read.
    pub(super) fn command(&self, gate: &str) -> Option<String> {
        let words = &self.run.iter().find(|one| one.name == gate)?.hook.words;
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        match &words[..] {
            [shell, flag, line] if shell == SHELL && flag == "-c" => Some(line.to_string()),
            words => Some(words.join(" ")),
        }
    }

    /// With what those find around them that are run, if any are.
    fn with_surroundings(mut self, ctx: &Context) -> Result<Self, CliError> {
        if self.run.is_empty() && self.tools.allowed.is_empty() {
            return Ok(self);
        }
        let watch = Watch::begin().map_err(|error| CliError::failed("failed to listen for signals", error))?;
        let surroundings = session::surroundings(ctx)?;
        self.tools.around = Some((surroundings.clone(), watch.clone()));
        self.around = Some((surroundings, watch));
        Ok(self)
    }

    /// The programs that may write lock files again.
    pub(super) const fn lock_tools(&self) -> &LockTools {
        &self.tools
    }

    /// Goes on with a merge, and says what happens. `None` if a signal ended that.
    pub(super) fn advance(
        &self,
        ctx: &Context,
        id: &Id,
        rules: &Rules,
        as_json: bool,
    ) -> Result<Option<Progress>, CliError> {
        let mut busy: Option<Busy> = None;
        let mut say = |remark: Remark| {
            // Nothing is printed while it turns.
            busy = None;
            match &remark {
                Remark::Busy(what) => busy = Some(ctx.ui().busy(*what)),
                Remark::Locking(path) => busy = Some(ctx.ui().busy(format!("locking {path} again"))),
                Remark::Gating { gate, branches, run } => {
                    let again = if *run > 1 { " again" } else { "" };
                    busy = Some(ctx.ui().busy(format!("gate {gate} on {}{again}", extent(*branches))));
                }
                remark if !as_json => report::remark(ctx, remark),
                _ => {}
            }
        };
        let store = ctx.store()?;
        let Some((surroundings, watch)) = &self.around else {
            let gating = Gating::LeftOut(&self.left_out);
            return Ok(Some(merge::advance(store, id, rules, &gating, &mut say)?));
        };
        let wanted = || watch.signal().is_none();
        let Self { mends, puts_aside, .. } = *self;
        let trial = Trial { gates: &self.run, mends, puts_aside, surroundings, wanted: &wanted };
        let gating = if self.run.is_empty() { Gating::LeftOut(&self.left_out) } else { Gating::Trial(trial) };
        let heed = watch.heed();
        let progress = merge::advance(store, id, rules, &gating, &mut say);
        drop(busy);
        drop(heed);
        match progress {
            Ok(progress @ (Progress::Landed(_) | Progress::Aborted(_))) => Ok(Some(progress)),
            Err(Error::Interrupted(_)) => Ok(None),
            // What a signal ended beside us.
            _ if watch.signal().is_some() => Ok(None),
            Ok(progress) => Ok(Some(progress)),
            Err(error) => Err(error.into()),
        }
    }

    /// The exit code of the signal that came.
    pub(super) fn signalled(&self) -> Exit {
        let signal = self.around.as_ref().and_then(|(_, watch)| watch.signal());
        Exit::Signal(u8::try_from(signal.unwrap_or(0)).unwrap_or(0))
    }
}

/// The programs that may write lock files again, by the settings.
///
/// # Errors
/// If one is named that is none.
fn lock_tools(ctx: &Context) -> Result<LockTools, CliError> {
    let settings = ctx.settings()?;
    let mut tools = LockTools {
        deadline: settings.lock_timeout(),
        grace: settings.grace(),
        waiting: settings.wanted_lock_tools().iter().cloned().collect(),
        ..LockTools::default()
    };
    // What waits for an approval is not run, and a merge goes on without.
    let (Ok(names), Ok(pass_env)) = (settings.lock_tools(), settings.lock_env()) else { return Ok(tools) };
    tools.pass_env = pass_env.to_vec();
    for name in names {
        let Some(program) = LockTools::program(name) else {
            let known: Vec<&str> = LockTools::names().collect();
            return Err(CliError::new(ErrorKind::Failed, format!("`merge.lock-tools` names `{name}`, which locks nothing"))
                .hint(format!("it takes {}", known.join(", "))));
        };
        let found = session::search(ctx)?.find(program).map_err(|error| error.to_string());
        tools.allowed.insert(name.clone(), found);
    }
    Ok(tools)
}

/// Says which gates a merge would have to pass.
pub(super) fn announce(ctx: &Context, args: &Args) {
    let Ok(settings) = ctx.settings() else { return };
    if args.no_gates {
        return;
    }
    match settings.gates(&args.gate) {
        Ok(gates) if gates.is_empty() => {}
        Ok(gates) => {
            let names: Vec<&str> = gates.iter().map(|gate| gate.name.as_str()).collect();
            ctx.ui().note(format!("before that lands: {}", names.join(", ")));
        }
        Err(error) => ctx.ui().warn(format!("it could not begin: failed to {error}")),
    }
}

/// What a gate said, in a line.
pub(super) fn said(ctx: &Context, run: &GateRun, branches: usize) -> String {
    let paint = ctx.ui().err_painter();
    let (took, on) = (view::span(std::time::Duration::from_millis(run.ms)), extent(branches));
    let gate = paint.paint(Label::Title, &run.gate);
    match (run.outcome, &run.why) {
        (GateOutcome::Passed, _) if run.flaky => {
            let flaky = paint.paint(Label::Attention, "flaky");
            format!("gate {gate} is {flaky}: on {on} it failed and then passed, in {took}")
        }
        (GateOutcome::Passed, _) => {
            format!("gate {gate} {} on {on} in {took}", paint.paint(Label::Good, "passed"))
        }
        (_, why) => {
            let why = why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("gate {gate} {} on {on} in {took}{why}", paint.paint(Label::Bad, "failed"))
        }
    }
}

fn extent(branches: usize) -> String {
    match branches {
        0 => "the target alone".to_owned(),
        1 => "1 branch".to_owned(),
        count => format!("{count} branches"),
    }
}

/// Shows the end of what a gate that failed printed, and where the rest is.
pub(super) fn show(ctx: &Context, failure: &GateFailure) {
    let paint = ctx.ui().err_painter();
    let lines: Vec<&str> = failure.tail.lines().collect();
    for line in &lines[lines.len().saturating_sub(SHOWN)..] {
        ctx.ui().note(format!("    {}", printable(line)));
    }
    if let (Some(output), Ok(repo)) = (&failure.run.output, ctx.repo()) {
        let path = repo.local_dir().join(output);
        ctx.ui().note(format!("all of it: {}", paint.paint(Label::Path, path.display().to_string())));
    }
}

/// Shows everything that a decision is about.
pub(super) fn show_detail(ctx: &Context, decision: &Decision) {
    for line in decision.detail.lines() {
        ctx.ui().note(printable(line));
    }
}

/// Asks what becomes of a gate that fails, or of anything else with a few answers for all of it.
pub(super) fn ask(ctx: &Context, decision: &Decision) -> Result<Asked, CliError> {
    let paint = ctx.ui().err_painter();
    ctx.ui().note(format!("\n{}", paint.paint(Label::Title, &decision.question)));
    let keyed: Vec<(char, &str, &str)> = decision
        .choices
        .iter()
        .filter_map(|choice| Some((letter(&choice.key)?, choice.key.as_str(), choice.label.as_str())))
        .collect();
    let letters: Vec<String> = keyed.iter().map(|(letter, ..)| letter.to_string()).collect();
    let prompt = format!("[{}/?]", letters.join("/"));
    let mut help = true;
    loop {
        if help {
            for (letter, _, label) in &keyed {
                let letter = paint.paint(Label::Title, letter.to_string());
                ctx.ui().note(format!("  {letter}  {}", paint.paint(Label::Plain, label)));
            }
        }
        let Reply::Chosen(reply) = ctx.ui().input(&prompt)? else { return Ok(Asked::Left) };
        let reply = reply.trim().to_lowercase();
        let chosen = keyed.iter().find(|(letter, key, _)| reply == *key || reply == letter.to_string());
        let Some((_, key, _)) = chosen else {
            help = true;
            continue;
        };
        merge::answer(ctx.store()?, &decision.id, On::Everything, key, None)?;
        return Ok(Asked::Answered);
    }
}

/// The key on the keyboard.
fn letter(key: &str) -> Option<char> {
    match key {
        "put-aside" => Some('p'),
        "agent" => Some('a'),
        "retry" => Some('r'),
        "land-anyway" => Some('l'),
        "abort" => Some('q'),
        "approve" => Some('y'),
        "go-on" => Some('g'),
        "cancel" => Some('c'),
        _ => None,
    }
}
