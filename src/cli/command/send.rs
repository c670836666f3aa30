//! `git orchestra send`: a word to a running agent.

use crate::agent::find_adapter;
use crate::cli::context::Context;
use crate::cli::editor::read_file;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::steer::{self, Told};
use crate::cli::ui::Label;
use crate::model::Agent;
use crate::orchestrate::control::{Ask, Refusal};
use std::path::{Path, PathBuf};

/// Tell a running agent something
///
/// The message reaches its program while it works: Claude Code reads it between two steps. Codex and Gemini CLI hear
/// nothing while they work: they are told when their turn is over, in the same conversation, or at once after
/// `interrupt`. An agent whose run has ended is told by `resume -m`. Agents may not call this.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra send blue-heron 'Leave the parser alone'\n  git orchestra send blue-heron -F notes.md"
)]
pub(crate) struct Args {
    /// The agent
    #[arg(value_name = "AGENT")]
    agent: String,
    /// The message; `-` reads it from standard input
    #[arg(value_name = "TEXT", required_unless_present = "file", conflicts_with = "file")]
    text: Option<String>,
    /// Read the message from FILE (`-` for standard input)
    #[arg(short = 'F', long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    steer::refuse_agents(ctx)?;
    ctx.recover()?;
    let text = match (&args.text, &args.file) {
        (Some(text), _) if text != "-" => text.clone(),
        (_, Some(file)) => read_file(ctx, file)?,
        _ => read_file(ctx, Path::new("-"))?,
    };
    if text.trim().is_empty() {
        return Err(CliError::usage("the message is empty"));
    }
    let agent: Agent = ctx.state()?.require_named(&args.agent)?;
    let told = steer::tell(ctx, &agent, &Ask::Message { agent: agent.id, text })?;
    if args.json {
        steer::print(ctx, &[(agent.clone(), told.clone())])?;
    }
    match told {
        Told::Done => {
            if !args.json {
                let name = ctx.ui().painter().paint(Label::Agent, agent.name.as_str());
                if find_adapter(&agent.program).is_some_and(|adapter| adapter.hears_later()) {
                    ctx.ui().print(&format!("{name}  is told when its turn is over\n"))?;
                    ctx.ui().hint(format!("`git orchestra interrupt {}` ends that turn now", agent.name));
                } else {
                    ctx.ui().print(&format!("{name}  told\n"))?;
                }
            }
            Ok(Exit::Done)
        }
        _ if args.json => Ok(Exit::Error),
        told => Err(refused(&agent, &told)),
    }
}

fn refused(agent: &Agent, told: &Told) -> CliError {
    let name = &agent.name;
    let resume = format!("git orchestra resume {name} -m TEXT");
    match told {
        Told::Idle(activity) => {
            let words = format!("{name} does not run ({}), so nothing reads the message", activity.word());
            CliError::new(ErrorKind::Failed, words).hint(format!("`{resume}` tells it in another run"))
        }
        Told::Refused(why @ Refusal::TakesNoMessages) => CliError::new(ErrorKind::Failed, format!("{name}: {why}"))
            .hint(format!("`git orchestra stop {name} --wait`, then `{resume}` tells it in another run")),
        Told::Refused(why @ Refusal::Queued) => CliError::new(ErrorKind::Failed, format!("{name}: {why}"))
            .hint(format!("`git orchestra wait {name} --for running` returns when it can be told")),
        Told::Refused(why @ Refusal::Ending) => CliError::new(ErrorKind::Failed, format!("{name}: {why}"))
            .hint(format!("`git orchestra wait {name}`, then `{resume}` tells it in another run")),
        Told::Refused(why) => CliError::new(ErrorKind::Failed, format!("{name}: {why}")),
        Told::Done => unreachable!("that is no refusal"),
    }
}
