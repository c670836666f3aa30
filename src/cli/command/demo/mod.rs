//! `git orchestra demo`: the daily work in a throwaway repository.
//!
//! Every step is a command that a user would type, run by this very program, with agents that are child processes
//! like any other: the demo has no path of its own through the layers below.

mod stage;

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::session;
use crate::cli::ui::Label;
use crate::git::Repository;
use crate::model::{Agent, Decision, DecisionStatus, Finding, Usage};
use crate::process::Interrupts;
use crate::store::Store;
use stage::Stage;
use std::sync::Arc;

/// Show the whole workflow in a throwaway repository
///
/// Adds four tasks, lets four scripted agents work on them in worktrees of their own, shows how their branches
/// overlap, and merges them, one conflict included. The agents really edit files and run commands; they need no
/// account and no network. Nothing outside a temporary directory is touched.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra demo --keep")]
pub(crate) struct Args {
    /// Keep the repository, to look around in it
    #[arg(long)]
    keep: bool,
}

/// The tasks: title, the paths each is expected to change.
const TASKS: [(&str, &[&str]); 4] = [
    ("Greet politely", &["words.sh"]),
    ("Greet in French", &["words.sh", "README.md"]),
    ("Say goodbye", &["greet.sh", "words.sh"]),
    ("Test the greeting", &["test.sh", "README.md"]),
];

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let runtime = session::runtime()?;
    let mut interrupts = {
        let _inside = runtime.enter();
        Interrupts::listen().map_err(|error| CliError::failed("failed to listen for signals", error))?
    };
    let mut stage = Stage::build(ctx)?;
    let begun = ctx.clock().now();
    let played = Demo { ctx, stage: &stage }.play();
    let seconds = ctx.clock().now().since(begun).as_secs_f64();
    let interrupted = runtime.block_on(async {
        // A child that was interrupted has ended by now, and so has the demo.
        let a_moment = std::time::Duration::from_millis(20);
        tokio::time::timeout(a_moment, interrupts.next()).await.ok().map(crate::process::Interrupt::signal)
    });
    let exit = match (played, interrupted) {
        (_, Some(signal)) => Exit::Signal(u8::try_from(signal).unwrap_or(u8::MAX)),
        (Err(error), None) => {
            ctx.ui().note(format!("the demo's repository is kept: {}", stage.keep().display()));
            return Err(error);
        }
        (Ok(()), None) => {
            ctx.ui().print(&summary(ctx, &stage, seconds)?)?;
            Exit::Done
        }
    };
    if args.keep {
        ctx.ui().print(&format!("Look around: cd {}\n", stage.keep().display()))?;
    }
    Ok(exit)
}

struct Demo<'d> {
    ctx: &'d Context,
    stage: &'d Stage,
}

impl Demo<'_> {
    fn play(&self) -> Result<(), CliError> {
        self.say("Four tasks in a small repository. --touches says which paths each is expected to change.")?;
        for (title, touches) in TASKS {
            let touches = touches.iter().flat_map(|path| ["--touches", path]);
            let words: Vec<&str> = ["task", "add", title].into_iter().chain(touches).collect();
            self.orchestra(&words, &[Exit::Done])?;
        }
        self.orchestra(&["task", "list"], &[Exit::Done])?;
        self.say("An agent for each, in a worktree and on a branch of its own, all at once.")?;
        let tasks = self.task_ids()?;
        let words: Vec<&str> = std::iter::once("spawn").chain(tasks.iter().map(String::as_str)).collect();
        self.orchestra(&words, &[Exit::Done])?;
        self.say("Where they stand, and how their branches overlap.")?;
        self.orchestra(&["status"], &[Exit::Done])?;
        self.orchestra(&["overlap"], &[Exit::Done])?;
        self.say("Merging. Two agents chose another word for the greeting: that needs a person.")?;
        if self.orchestra(&["merge"], &[Exit::Done, Exit::Waiting])? == Exit::Waiting {
            self.say("Off a terminal the question waits as a decision. This time the answer is: French.")?;
            for (decision, answer) in self.answers()? {
                self.orchestra(&["decide", &decision, answer], &[Exit::Done])?;
            }
            self.orchestra(&["merge", "--continue"], &[Exit::Done])?;
        }
        self.say("The branch moved once, with everybody's work. What an agent noticed stays.")?;
        self.git(&["log", "--graph", "--oneline", "--no-decorate"])?;
        self.git(&["log", "-1", "--notes=orchestra/*", "orchestra/say-goodbye"])?;
        self.orchestra(&["finding", "list"], &[Exit::Done])?;
        self.shell(&["sh", "test.sh"])?;
        Ok(())
    }

    /// The answer to each open question: the French word, whichever side it is on.
    fn answers(&self) -> Result<Vec<(String, &'static str)>, CliError> {
        let state = store(self.ctx, self.stage)?.state()?;
        let mut answers = Vec::new();
        for decision in state.all::<Decision>()?.into_iter().filter(|one| one.status == DecisionStatus::Open) {
            let french = match &decision.agent {
                Some(agent) => state.require::<Agent>(agent)?.name.as_str() == "greet-in-french",
                None => false,
            };
            let id = state.short_ids()?.shorten(&decision.id).clone();
            answers.push((id, if french { "theirs" } else { "ours" }));
        }
        Ok(answers)
    }

    /// The tasks' short ids, in the order in which they were added.
    fn task_ids(&self) -> Result<Vec<String>, CliError> {
        let state = store(self.ctx, self.stage)?.state()?;
        let mut tasks = state.all::<crate::model::Task>()?;
        tasks.sort_by_key(|task| (task.created, TASKS.iter().position(|(title, _)| *title == task.title)));
        let ids = state.short_ids()?;
        Ok(tasks.iter().map(|task| ids.shorten(&task.id).clone()).collect())
    }

    fn say(&self, text: &str) -> Result<(), CliError> {
        self.ctx.ui().print(&format!("\n{}\n", self.ctx.ui().painter().paint(Label::Dim, format!("# {text}"))))
    }

    /// Runs one of our own commands, with our terminal but no input.
    fn orchestra(&self, words: &[&str], expected: &[Exit]) -> Result<Exit, CliError> {
        self.prompt(&[&["git", "orchestra"], words].concat())?;
        let code = self.stage.orchestra(words)?;
        match expected.iter().find(|exit| i32::from(exit.code()) == code) {
            Some(exit) => Ok(*exit),
            None => Err(self.failed(words, code)),
        }
    }

    fn git(&self, words: &[&str]) -> Result<(), CliError> {
        self.shell(&[&["git"], words].concat())
    }

    fn shell(&self, words: &[&str]) -> Result<(), CliError> {
        self.prompt(words)?;
        match self.stage.run(words)? {
            0 => Ok(()),
            code => Err(self.failed(words, code)),
        }
    }

    fn prompt(&self, words: &[&str]) -> Result<(), CliError> {
        let line: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        let line = self.ctx.ui().painter().paint(Label::Title, line.join(" "));
        self.ctx.ui().print(&format!("$ {line}\n"))
    }

    #[expect(clippy::unused_self, reason = "reads as the others")]
    fn failed(&self, words: &[&str], code: i32) -> CliError {
        CliError::new(
            crate::cli::error::ErrorKind::Failed,
            format!("the demo ends here: `{}` ended with {code}", words.join(" ")),
        )
    }
}

/// A word as a shell would need it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

fn store(ctx: &Context, stage: &Stage) -> Result<Store, CliError> {
    let repo = Repository::open(&stage.repo().join(".git"), stage.env())?;
    let identity = repo.identity();
    Ok(Store::open(repo, Arc::clone(ctx.clock()), identity))
}

/// What became of it, in three lines.
fn summary(ctx: &Context, stage: &Stage, seconds: f64) -> Result<String, CliError> {
    let after = store(ctx, stage)?.state()?;
    let agents = after.all::<Agent>()?;
    let merged = agents.iter().filter(|agent| agent.merged.is_some()).count();
    let usage = agents.iter().fold(Usage::default(), |mut sum, agent| {
        sum += agent.usage();
        sum
    });
    let findings = after.all::<Finding>()?.len();
    let decisions = after.all::<Decision>()?.len();
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let painter = ctx.ui().painter();
    Ok(format!(
        "\n{} {merged} of {} merged, {}, {}, {} tokens of scripted models, {seconds:.0} s.\n\
         In your own repository: {} and {}.\n",
        painter.paint(Label::Good, "Done:"),
        count(agents.len(), "agent"),
        count(decisions, "decision"),
        count(findings, "finding"),
        usage.total(),
        painter.paint(Label::Title, "git orchestra task add 'WHAT TO DO'"),
        painter.paint(Label::Title, "git orchestra spawn"),
    ))
}
