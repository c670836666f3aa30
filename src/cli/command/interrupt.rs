//! `git orchestra interrupt`: an agent drops what it is doing, and listens.

use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::steer::{self, Told};
use crate::cli::ui::Label;
use crate::model::Agent;
use crate::orchestrate::control::{Ask, Refusal};

/// Stop an agent's current turn, and nothing else
///
/// The program itself is asked to drop what it is doing. It stays, and waits for a message: `send` says what to do
/// instead, `stop` ends it. Codex and Gemini CLI know no such request: their process is ended, and the message goes
/// to another one, which goes on with the conversation. Agents may not call this.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  git orchestra interrupt blue-heron && git orchestra send blue-heron 'Try it without the cache'"
)]
pub(crate) struct Args {
    /// The agent
    #[arg(value_name = "AGENT")]
    agent: String,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    steer::refuse_agents(ctx)?;
    ctx.recover()?;
    let agent: Agent = ctx.state()?.require_named(&args.agent)?;
    let told = steer::tell(ctx, &agent, &Ask::Interrupt { agent: agent.id })?;
    let name = &agent.name;
    if args.json {
        steer::print(ctx, &[(agent.clone(), told.clone())])?;
        return Ok(if told == Told::Done { Exit::Done } else { Exit::Error });
    }
    match told {
        Told::Done => {
            let painted = ctx.ui().painter().paint(Label::Agent, name.as_str());
            ctx.ui().print(&format!("{painted}  interrupted\n"))?;
            ctx.ui().hint(format!(
                "`git orchestra send {name} TEXT` says what to do instead, `git orchestra stop {name}` ends it"
            ));
            Ok(Exit::Done)
        }
        Told::Idle(activity) => {
            Err(CliError::new(ErrorKind::Failed, format!("{name} does not run ({})", activity.word())))
        }
        Told::Refused(why) => {
            let error = CliError::new(ErrorKind::Failed, format!("{name}: {why}"));
            Err(match why {
                Refusal::KnowsNoInterrupt => error.hint(format!("`git orchestra stop {name}` ends it")),
                _ => error,
            })
        }
    }
}
