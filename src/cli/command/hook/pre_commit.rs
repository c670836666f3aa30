//! `git orchestra hook pre-commit`.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::ui::Label;
use crate::git::path_text;
use crate::orchestrate::meeting::meetings;
use bstr::ByteSlice;

/// Say what agents at work are changing too
///
/// Compares what is about to be committed with what agents that run now have changed, committed or not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra hook pre-commit --strict")]
pub(crate) struct Args {
    /// End with 1 if there is any
    #[arg(long)]
    strict: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let repo = ctx.repo()?;
    let git = repo.git(["diff-index", "--cached", "--name-only", "-z", "--no-renames", "HEAD"]);
    // What git is about to commit is not always in the usual index: `git commit -a`, `git commit PATH`.
    let git = match ctx.env().var("GIT_INDEX_FILE") {
        Some(index) => git.env("GIT_INDEX_FILE", ctx.dir().join(index)),
        None => git,
    };
    // Before the first commit nobody can have started from anything.
    let Ok(out) = git.read() else { return Ok(Exit::Done) };
    let paths = out.split_str(b"\0").filter(|path| !path.is_empty()).map(|path| path_text(path.as_bstr()));
    let own = ctx.agent()?.map(|agent| agent.id);
    let found = meetings(ctx.store()?, &paths.collect(), own.as_ref())?;
    let paint = ctx.ui().err_painter();
    for meeting in &found {
        let (agent, path) = (paint.paint(Label::Agent, meeting.agent.as_str()), paint.paint(Label::Path, &meeting.path));
        let how = if meeting.committed { "has changed it too" } else { "is changing it now, uncommitted" };
        ctx.ui().warn(format!("{path}: {agent} {how}"));
    }
    if found.is_empty() {
        return Ok(Exit::Done);
    }
    ctx.ui().hint("`git orchestra overlap` says what git would make of both");
    Ok(if args.strict { Exit::Error } else { Exit::Done })
}
