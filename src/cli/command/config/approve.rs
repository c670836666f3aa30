//! `git orchestra config approve`.

use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::ui::{Label, Reply};
use crate::config::approval::Request;
use crate::orchestrate::trust::{self, Change};
use std::fmt::Write as _;

/// Show what this repository wants to run, and let it
///
/// First, if anybody changed git's configuration or hooks here while agents ran, it shows that: git looks at nothing
/// of theirs until it is accepted or put back.
///
/// Each file of .claude/agents is approved by itself, prompt and tools together.
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
    if let Some(change) = trust::find_change(repo)? {
        return accept(ctx, args, &change);
    }
    let mut requests: Vec<(Option<String>, Request)> =
        Request::of(settings, repo.common_dir()).into_iter().map(|request| (None, request)).collect();
    let files = Request::of_files(settings, repo.common_dir()).into_iter();
    requests.extend(files.map(|(name, request)| (Some(name), request)));
    if requests.is_empty() {
        ctx.ui().note("this repository asks for nothing that needs an approval");
        return Ok(Exit::Done);
    }
    let data_home = ctx
        .env()
        .data_home()
        .ok_or_else(|| CliError::usage("there is no home directory to keep the approval in"))?;
    requests.retain(|(_, request)| !request.is_approved(&data_home));
    if requests.is_empty() {
        ctx.ui().note("approved already");
        return Ok(Exit::Done);
    }
    if let Some(hash) = &args.hash
        && requests.iter().any(|(_, request)| request.hash() == hash)
    {
        requests.retain(|(_, request)| request.hash() == hash);
    }
    for (_, request) in &requests {
        ctx.ui().print(&shown(ctx, request))?;
    }
    for (name, request) in requests {
        let question = match &name {
            None => "Let this repository run this?".to_owned(),
            Some(name) => format!("Let the profile `{name}` be what this repository's file says?"),
        };
        if !agree(ctx, args, request.hash(), &question)? {
            return Ok(Exit::Error);
        }
        let path = request.approve(&data_home, ctx.clock().now())?;
        ctx.ui().note(format!("approved; kept in {}", path.display()));
    }
    Ok(Exit::Done)
}

/// All that is asked for, and its hash.
fn shown(ctx: &Context, request: &Request) -> String {
    let paint = ctx.ui().painter();
    let mut text = String::new();
    for (key, value) in &request.wants {
        let value = value.to_string();
        // A prompt has many lines, and each is to be seen.
        let value: Vec<String> = value.lines().map(|line| paint.paint(Label::Plain, line)).collect();
        let _ = writeln!(text, "{} = {}", paint.paint(Label::Title, key), value.join("\n    "));
    }
    let _ = writeln!(text, "{} {}", paint.paint(Label::Heading, "hash"), request.hash());
    text
}

/// Shows what was changed while agents ran, and takes it for the user's if they say so.
fn accept(ctx: &Context, args: &Args, change: &Change) -> Result<Exit, CliError> {
    let paint = ctx.ui().painter();
    let mut text = format!("changed while agents ran: {}\n", paint.paint(Label::Title, change.files.join(", ")));
    let lines = change.gone.iter().map(|line| ('-', line)).chain(change.new.iter().map(|line| ('+', line)));
    for (sign, (file, line)) in lines {
        let _ = writeln!(text, "{sign} {file}: {}", paint.paint(Label::Plain, line));
    }
    let _ = writeln!(text, "{} {}", paint.paint(Label::Heading, "hash"), change.hash);
    ctx.ui().print(&text)?;
    if !agree(ctx, args, &change.hash, "Is this what you want git to run here?")? {
        return Ok(Exit::Error);
    }
    trust::accept(ctx.repo()?, change)?;
    ctx.ui().note("accepted");
    Ok(Exit::Done)
}

/// Whether the user agrees: by naming the hash, or when asked.
fn agree(ctx: &Context, args: &Args, expected: &str, question: &str) -> Result<bool, CliError> {
    let agreed = match &args.hash {
        Some(hash) if hash == expected => true,
        Some(_) => {
            return Err(CliError::new(ErrorKind::Failed, "what is to be approved has another hash than you named"));
        }
        None => match ctx.ui().confirm(question, false)? {
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
    }
    Ok(agreed)
}
