//! `git orchestra hook pre-tool-use`.

use crate::agent::sanitise_line;
use crate::agent::claude_hook::{EditCall, deny, inform};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::config::Edits;
use crate::git::Repository;
use crate::model::Agent;
use crate::orchestrate::collision::{Collision, Edit, MAX_FILE, collisions};
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The most bytes that are read of what a hook is told.
const MAX_INPUT: u64 = 64 << 20;

/// The most characters of a task's title that a model is told.
const MAX_TITLE: usize = 100;

/// Tell an agent that is about to edit what another one has changed
///
/// Claude Code calls it before each edit, with what it is about to do as JSON on standard input; `spawn` has it do so,
/// and `hook install --claude` where you work yourself. If merging the edit with what an agent at work has in its worktree
/// would conflict, the model is told, or, with `radar.edits = "deny"`, the edit is refused. An agent that would edit
/// outside its own worktree, in another checkout of the repository, is always refused. Where nothing is to be said, it
/// prints nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra hook pre-tool-use < call.json")]
pub(crate) struct Args {}

pub(crate) fn run(ctx: &Context, _args: &Args) -> Result<Exit, CliError> {
    let mut input = Vec::new();
    let read = std::io::stdin().lock().take(MAX_INPUT).read_to_end(&mut input);
    read.map_err(|error| CliError::failed("failed to read what the hook was told", error))?;
    let Some(call) = EditCall::parse(&input).map_err(|error| CliError::failed("failed to answer", error))? else { return Ok(Exit::Done) };
    let edits = ctx.settings()?.edits();
    // Nothing that is not a repository with a checkout is anybody's business.
    let Ok(repo) = ctx.repo() else { return Ok(Exit::Done) };
    let Some(root) = repo.work_dir().filter(|_| edits != Edits::Unwatched) else { return Ok(Exit::Done) };
    let own = ctx.agent()?;
    let file = real(&ctx.dir().join(&call.path));
    let Ok(path) = file.strip_prefix(root) else {
        if let Some(own) = &own
            && let Some(elsewhere) = checkout_of(repo, &file)?
        {
            ctx.ui().print(&deny(&stray(own, root, &elsewhere)))?;
        }
        return Ok(Exit::Done);
    };
    let (Some(path), Some(head)) = (path.to_str(), repo.head()?.commit) else { return Ok(Exit::Done) };
    let Some(before) = content(&file) else { return Ok(Exit::Done) };
    let Some(after) = call.applied_to(&before) else { return Ok(Exit::Done) };
    let edit = Edit { path, before: &before, after: &after };
    let found = collisions(ctx.store()?, &head, edit, own.as_ref().map(|own| &own.id))?;
    if !found.is_empty() {
        let refused = edits == Edits::Denied;
        let words = words(path, &found, refused);
        ctx.ui().print(&if refused { deny(&words) } else { inform(&words) })?;
    }
    Ok(Exit::Done)
}

/// A path without links, of which the last parts need not be there.
fn real(path: &Path) -> PathBuf {
    let known = path.ancestors().find_map(|known| Some((known, known.canonicalize().ok()?)));
    let Some((known, found)) = known else { return path.to_owned() };
    // Part by part: joining nothing would add a slash.
    path.components().skip(known.components().count()).fold(found, |found, part| found.join(part))
}

/// What is in a file; nothing if there is none; `None` if it is no file, or too large to be compared.
fn content(file: &Path) -> Option<Vec<u8>> {
    match file.metadata() {
        Ok(meta) if meta.is_file() && meta.len() <= MAX_FILE => std::fs::read(file).ok(),
        Ok(_) => None,
        Err(_) => Some(Vec::new()),
    }
}

/// The other checkout of the repository that a file lies in.
fn checkout_of(repo: &Repository, file: &Path) -> Result<Option<PathBuf>, CliError> {
    let checkouts = repo.checkouts()?.into_iter().map(|checkout| checkout.path);
    Ok(checkouts.filter(|path| file.starts_with(path)).max_by_key(|path| path.as_os_str().len()))
}

fn stray(own: &Agent, root: &Path, elsewhere: &Path) -> String {
    format!(
        "You are {}, and your files are in {}. {} is another checkout of this repository, where somebody else works: \
         edit the file in your own.",
        own.name,
        root.display(),
        elsewhere.display()
    )
}

/// What the model is told.
fn words(path: &str, found: &[Collision], refused: bool) -> String {
    let mut text = String::new();
    for Collision { agent, task, deleted } in found {
        // Whoever may write the state wrote it.
        let short = |task: &String| sanitise_line(task).chars().take(MAX_TITLE).collect::<String>();
        let task = task.as_ref().map(|task| format!(" (its task: {})", short(task))).unwrap_or_default();
        let what = if *deleted { "has deleted it" } else { "has changed the same lines" };
        let _ = write!(
            text,
            "{agent}, another agent at work in this repository{task}, {what} in its worktree: merging both versions of \
             {path} would conflict. "
        );
    }
    text.push_str(if refused {
        "The edit was not made. Leave these lines to the other agent: make your change in another place, or say in your \
         result what is left to be done here."
    } else {
        "If your task does not need this very change, leave these lines as they are; if it does, keep the change as small \
         as you can."
    });
    text
}
