//! `git orchestra review`: what an agent changed, read and commented on.

use super::{diff, resume};
use crate::agent::review::{comments, message, quote};
use crate::agent::sanitise_text;
use crate::cli::context::Context;
use crate::cli::editor::{edit_text, read_file};
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::steer::{self, Told};
use crate::cli::ui::Label;
use crate::model::Agent;
use crate::orchestrate::control::Ask;
use crate::orchestrate::lease;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Read what an agent changed and send it your comments
///
/// Shows the diff, then opens it in your editor: what you write below a line is a comment on it. All comments go to the
/// agent as one message: at once if it runs, otherwise in another run that begins with it. Without a comment nothing is
/// sent. What you wrote is kept until it has arrived. Agents may not call this.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra review blue-heron\n  git orchestra review blue-heron --print >review\n  git orchestra review blue-heron -F review --detach"
)]
pub(crate) struct Args {
    /// The agent
    #[arg(value_name = "AGENT")]
    agent: String,
    /// Leave out what is not committed
    #[arg(long)]
    committed: bool,
    /// Print the quoted diff for an editor of your own, and send nothing
    #[arg(long, conflicts_with_all = ["file", "detach"])]
    print: bool,
    /// Take the quoted diff with your comments from FILE (`-` for standard input)
    #[arg(short = 'F', long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// If it does not run, run it in the background
    #[arg(short, long)]
    detach: bool,
    /// Only these paths, relative to the repository's root
    #[arg(last = true, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<OsString>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    if !args.print {
        steer::refuse_agents(ctx)?;
    }
    let agent: Agent = ctx.state()?.require_named(&args.agent)?;
    let (base, new) = diff::sides(ctx, &agent, args.committed)?;
    let diff = diff::between(ctx, [&base, &new], &args.paths)?;
    let diff = String::from_utf8_lossy(&diff);
    if diff.is_empty() {
        ctx.ui().note(format!("{} has changed nothing there", agent.name));
        return Ok(Exit::Done);
    }
    if args.print {
        let text = quote(&diff);
        ctx.ui().print(&if ctx.ui().is_terminal() { sanitise_text(&text).into_owned() } else { text })?;
        return Ok(Exit::Done);
    }
    let edited = match &args.file {
        Some(file) => read_file(ctx, file)?,
        None if !ctx.ui().is_interactive() => {
            let words = "there is no terminal to read and write on";
            return Err(CliError::usage(words).hint("`--print` prints the diff to comment on, `-F FILE` takes it back"));
        }
        None => {
            ctx.ui().page(&diff::painted(&diff, ctx.ui().painter()))?;
            edit_text(ctx, &quote(&diff))?
        }
    };
    let comments = comments(&diff, &edited);
    if comments.is_empty() {
        ctx.ui().note("no comment: nothing was sent");
        return Ok(Exit::Done);
    }
    let kept = keep(ctx, &agent, &edited)?;
    let text = message(&comments, &ctx.repo()?.identity().name);
    let exit = send(ctx, args, &agent, &text)
        .map_err(|error| error.hint(format!("your comments are in {}; `git orchestra review {} -F` takes them again", kept.display(), agent.name)))?;
    // It has arrived.
    let _ = std::fs::remove_file(kept);
    let name = ctx.ui().painter().paint(Label::Agent, agent.name.as_str());
    let comments = match comments.len() {
        1 => "1 comment".to_owned(),
        count => format!("{count} comments"),
    };
    ctx.ui().print(&format!("{name}  told {comments}\n"))?;
    Ok(exit)
}

fn send(ctx: &Context, args: &Args, agent: &Agent, text: &str) -> Result<Exit, CliError> {
    if lease::find_live(ctx.repo()?, &agent.id).is_none() {
        return resume::tell(ctx, agent, text, args.detach);
    }
    match steer::tell(ctx, agent, &Ask::Message { agent: agent.id, text: text.to_owned() })? {
        Told::Done => Ok(Exit::Done),
        // It has ended in this very moment.
        Told::Idle(_) => resume::tell(ctx, agent, text, args.detach),
        Told::Refused(why) => Err(CliError::new(ErrorKind::Failed, format!("{}: {why}", agent.name))
            .hint(format!("`git orchestra wait {}` returns when it is done", agent.name))),
    }
}

/// Puts what was written where it outlives us.
fn keep(ctx: &Context, agent: &Agent, edited: &str) -> Result<PathBuf, CliError> {
    let dir = ctx.repo()?.local_dir().join("reviews");
    let file = dir.join(format!("{}.diff", agent.name));
    let failed = |error| CliError::failed(format!("failed to keep your comments in {}", file.display()), error);
    std::fs::create_dir_all(&dir).map_err(failed)?;
    let new = tempfile::NamedTempFile::new_in(Path::new(&dir)).map_err(failed)?;
    std::fs::write(new.path(), edited).map_err(failed)?;
    new.persist(&file).map_err(|error| failed(error.error))?;
    Ok(file)
}
