//! `git orchestra finding add`.

use crate::cli::session::redactor;
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::{json, view};
use crate::git::NoteEdit;
use crate::model::{Agent, Anchor, Finding, Severity};
use crate::store::FINDINGS_NOTES;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::path::{Component, Path, PathBuf};

/// Say what you noticed and print the finding's id
///
/// An agent calls it from its worktree; who it is and what it works on is known from its environment.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  git orchestra finding add 'Leap seconds are ignored' --severity low --path src/date.rs:40"
)]
pub(crate) struct Args {
    /// What was noticed
    message: String,
    /// How much it matters
    #[arg(short, long, default_value = "info", value_parser = severity())]
    severity: Severity,
    /// Where: a path, and a line of it
    #[arg(short, long, value_name = "PATH[:LINE]", value_hint = clap::ValueHint::FilePath)]
    path: Option<String>,
    /// The commit it speaks of [default: HEAD]
    #[arg(short, long, value_name = "COMMIT")]
    commit: Option<String>,
    /// The agent that noticed it
    #[arg(short, long, value_name = "AGENT")]
    agent: Option<String>,
    /// Print JSON (`git orchestra schema finding`)
    #[arg(long)]
    json: bool,
}

/// Reads a severity by its word.
pub(crate) fn severity() -> impl TypedValueParser<Value = Severity> {
    PossibleValuesParser::new(Severity::ALL.map(Severity::word)).map(|word| {
        Severity::ALL.into_iter().find(|severity| severity.word() == word).expect("only these words pass")
    })
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let repo = ctx.repo()?;
    let message = args.message.trim();
    if message.is_empty() {
        return Err(CliError::usage("a finding needs words"));
    }
    let anchor = args.path.as_deref().map(|path| anchor(ctx, path)).transpose()?;
    let commit = match &args.commit {
        Some(revision) => Some(repo.resolve_commit(revision)?),
        None => repo.head()?.commit,
    };
    let agent: Option<Agent> = match &args.agent {
        Some(agent) => Some(ctx.state()?.require_named(agent)?),
        None => ctx.agent()?,
    };
    let id = ctx.store()?.new_id()?;
    // As a whole: a key of several lines is none line by line.
    let message = redactor(ctx).redact(message).0.into_owned();
    let message = message.as_str();
    let author = agent.as_ref().map_or_else(|| repo.identity().to_string(), |agent| agent.name.to_string());
    let finding = ctx.transact(|tx| {
        let finding = Finding {
            anchor: anchor.clone(),
            commit: commit.clone(),
            agent: agent.as_ref().map(|agent| agent.id),
            task: agent.as_ref().and_then(|agent| agent.task),
            ..Finding::open(id, args.severity, message.to_owned(), author.clone(), tx.now())
        };
        if let Some(commit) = &commit {
            for line in finding.note_lines() {
                tx.note(NoteEdit { notes_ref: FINDINGS_NOTES.to_owned(), commit: commit.clone(), line });
            }
        }
        let first = message.lines().next().unwrap_or_default();
        tx.describe(format!("finding {}: add {first:?}", &id.as_str()[..6]));
        tx.put(&finding)?;
        Ok(finding)
    })?;
    let state = ctx.state()?;
    if args.json {
        json::print(ctx, "finding", &view::finding::Shown::new(&finding, state.short_ids()?))?;
    } else {
        ctx.ui().print(&format!("{}\n", view::handed(ctx, &state, &id)?))?;
    }
    Ok(Exit::Done)
}

/// `PATH[:LINE]`, relative to the current directory, as an anchor relative to the repository's root.
fn anchor(ctx: &Context, text: &str) -> Result<Anchor, CliError> {
    let (path, line) = match text.rsplit_once(':') {
        Some((path, line)) if !path.is_empty() => match line.parse::<u32>() {
            Ok(line) if line > 0 => (path, Some(line)),
            _ => (text, None),
        },
        _ => (text, None),
    };
    let path = root_relative(ctx, Path::new(path))?;
    let path = path.to_str().ok_or_else(|| CliError::usage(format!("`{text}` is not UTF-8")))?;
    Ok(Anchor { path: path.to_owned(), line })
}

/// A path relative to the root of the checkout that the current directory lies in; in a bare repository it is taken
/// as relative to the root already. The file need not exist.
pub(super) fn root_relative(ctx: &Context, path: &Path) -> Result<PathBuf, CliError> {
    let outside = || {
        CliError::new(ErrorKind::Usage, format!("`{}` is not a path inside the repository", path.display()))
    };
    let root = ctx.repo()?.work_dir();
    let from = match root {
        // The current directory without symbolic links, as the root is.
        Some(_) => ctx.dir().canonicalize().map_err(|_| outside())?,
        None => PathBuf::from("/"),
    };
    let mut whole = PathBuf::new();
    for part in from.join(path).components() {
        match part {
            Component::ParentDir => {
                whole.pop();
            }
            Component::CurDir => {}
            part => whole.push(part),
        }
    }
    let relative = whole.strip_prefix(root.unwrap_or(Path::new("/"))).map_err(|_| outside())?;
    if relative.as_os_str().is_empty() || relative.starts_with(".git") {
        return Err(outside());
    }
    Ok(relative.to_owned())
}
