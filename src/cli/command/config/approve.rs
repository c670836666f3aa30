//! `git orchestra config approve`.

use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::ui::{Label, Reply};
use crate::config::approval::Request;
use std::fmt::Write as _;

/// Show what this repository wants to run, and let it
///
/// The approval holds for exactly this content in exactly this repository; a changed word asks again. It is kept
/// in your data directory ($XDG_DATA_HOME/git-orchestra/approved), outside of everything that agents may edit.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra config approve")]
pub(crate) struct Args {
    /// Approve without asking, if the content has this hash
    #[arg(long, value_name = "HASH")]
    hash: Option<String>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    crate::cli::command::merge::refuse_agents(ctx)?;
    let (settings, repo) = (ctx.settings()?, ctx.repo()?);
    let Some(request) = Request::of(settings, repo.common_dir()) else {
        ctx.ui().note("this repository asks for nothing that needs an approval");
        return Ok(Exit::Done);
    };
    let data_home = ctx
        .env()
        .data_home()
        .ok_or_else(|| CliError::usage("there is no home directory to keep the approval in"))?;
    if request.is_approved(&data_home) {
        ctx.ui().note("approved already");
        return Ok(Exit::Done);
    }
    let paint = ctx.ui().painter();
    let mut text = String::new();
    for (key, value) in &request.wants {
        let value = paint.paint(Label::Plain, value.to_string());
        let _ = writeln!(text, "{} = {value}", paint.paint(Label::Title, key));
    }
    let _ = writeln!(text, "{} {}", paint.paint(Label::Heading, "hash"), request.hash());
    ctx.ui().print(&text)?;
    let agreed = match &args.hash {
        Some(hash) if hash == request.hash() => true,
        Some(_) => {
            return Err(CliError::new(ErrorKind::Failed, "what the repository wants has another hash than you named"));
        }
        None => match ctx.ui().confirm("Let this repository run this?", false)? {
            Reply::Chosen(agreed) => agreed,
            Reply::Cancelled => false,
            Reply::NoTerminal => {
                return Err(CliError::new(ErrorKind::Failed, "nobody can be asked: there is no terminal")
                    .hint("approve it on a terminal, or name what you approve: `--hash HASH`"));
            }
        },
    };
    if !agreed {
        ctx.ui().note("not approved");
        return Ok(Exit::Error);
    }
    let path = request.approve(&data_home, ctx.clock().now())?;
    ctx.ui().note(format!("approved; kept in {}", path.display()));
    Ok(Exit::Done)
}
