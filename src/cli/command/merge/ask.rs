//! A conflict, asked about on the terminal.

use crate::cli::context::Context;
use crate::cli::editor;
use crate::cli::error::{CliError, ErrorKind};
use crate::cli::session::{self, SessionOptions};
use crate::cli::ui::{Label, Reply, diff};
use crate::model::{Agent, Decision, DecisionStatus};
use crate::orchestrate::Outfit;
use crate::orchestrate::merge::{self, AgentAnswer, ConflictFile, ConflictStep};

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// An answer is recorded.
    Answered,
    /// The person went away; the decision stays open.
    Left,
}

/// Shows each path that is still open and asks until all are answered, or one answer holds for the whole step.
pub(super) fn ask(ctx: &Context, decision: &Decision, conflict: &ConflictStep) -> Result<Asked, CliError> {
    let paint = ctx.ui().err_painter();
    if conflict.files.is_empty() {
        ctx.ui().note(format!("\n{}\n{}", decision.question, diff::messages(conflict, paint)));
        return ask_for(ctx, decision, conflict, None);
    }
    let open: Vec<&ConflictFile> =
        conflict.undecided().filter(|file| !decision.answers.contains_key(&file.conflict.path)).collect();
    for (number, file) in open.iter().enumerate() {
        let count = if open.len() > 1 { format!("({} of {}) ", number + 1, open.len()) } else { String::new() };
        ctx.ui().note(format!("\n{}{}", paint.paint(Label::Dim, count), diff::conflict(conflict, file, paint).trim_end()));
        let before = merge_decision_is_open(ctx, decision)?;
        if !before {
            break;
        }
        if ask_for(ctx, decision, conflict, Some(file))? == Asked::Left {
            return Ok(Asked::Left);
        }
    }
    Ok(Asked::Answered)
}

fn merge_decision_is_open(ctx: &Context, decision: &Decision) -> Result<bool, CliError> {
    let now: Decision = ctx.state()?.require(&decision.id)?;
    Ok(now.status == DecisionStatus::Open)
}

fn ask_for(
    ctx: &Context,
    decision: &Decision,
    conflict: &ConflictStep,
    file: Option<&ConflictFile>,
) -> Result<Asked, CliError> {
    let store = ctx.store()?;
    let choices = choices(decision, conflict, file);
    let paint = ctx.ui().err_painter();
    let prompt: Vec<String> = choices.iter().map(|(key, _, _)| key.to_string()).collect();
    let prompt = format!("[{}/?]", prompt.join("/"));
    let mut help = true;
    loop {
        if help {
            for (key, _, label) in &choices {
                let key = paint.paint(Label::Title, key.to_string());
                ctx.ui().note(format!("  {key}  {}", paint.paint(Label::Plain, label)));
            }
            help = false;
        }
        let Reply::Chosen(reply) = ctx.ui().input(&prompt)? else { return Ok(Asked::Left) };
        let reply = reply.trim().to_lowercase();
        let chosen = choices.iter().find(|(key, word, _)| reply == *word || reply == key.to_string());
        let Some((_, word, _)) = chosen else {
            help = true;
            continue;
        };
        let whole = matches!(*word, "agent" | "skip" | "abort" | "accept");
        let path = file.filter(|_| !whole).map(|file| file.conflict.path.as_str());
        let text = match (*word, file) {
            ("edit", Some(file)) => match edited(ctx, conflict, file) {
                Ok(text) => Some(text),
                Err(error) => {
                    crate::cli::error::report(ctx.ui(), &error);
                    continue;
                }
            },
            _ => None,
        };
        match merge::answer(store, &decision.id, path, word, text.as_deref()) {
            Ok(_) => return Ok(Asked::Answered),
            Err(error @ merge::Error::Answer { .. }) => {
                crate::cli::error::report(ctx.ui(), &error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Key, word and meaning of what may be answered, for one path or for a step without paths.
fn choices(
    decision: &Decision,
    conflict: &ConflictStep,
    file: Option<&ConflictFile>,
) -> Vec<(char, &'static str, String)> {
    let offered = |key: &str| decision.choices.iter().any(|choice| choice.key == key);
    let theirs = &conflict.theirs.name;
    let mut choices = Vec::new();
    match file {
        Some(file) => {
            if offered("agent") {
                choices.push(('a', "agent", "let an agent resolve this step".to_owned()));
            }
            choices.push(('o', "ours", format!("keep what landed from {}", diff::joined(&file.ours))));
            choices.push(('t', "theirs", format!("take {theirs}")));
            if file.parts.is_some() {
                choices.push(('e', "edit", "edit the file".to_owned()));
            }
        }
        None => choices.push(('y', "accept", "go on with what git made of it".to_owned())),
    }
    choices.push(('s', "skip", format!("leave {theirs} out of this merge")));
    choices.push(('q', "abort", "give up the merge; nothing has moved".to_owned()));
    choices
}

/// Lets the person edit a conflicting file, with markers that carry names.
pub(crate) fn edited(ctx: &Context, conflict: &ConflictStep, file: &ConflictFile) -> Result<String, CliError> {
    let path = &file.conflict.path;
    let markers = file.with_markers(&conflict.theirs).ok_or_else(|| {
        CliError::new(ErrorKind::Failed, format!("{path} has no lines to edit")).hint("take one side of it")
    })?;
    let text = String::from_utf8(markers).map_err(|_| {
        CliError::new(ErrorKind::Failed, format!("{path} is not UTF-8, and editors may damage it"))
            .hint("take one side of it")
    })?;
    editor::edit_text(ctx, &text)
}

/// Lets an agent resolve the conflict in this console. What it could not do opens the question again. Returns the
/// signal that ended it, if one did.
pub(super) fn resolve_by_agent(
    ctx: &Context,
    decision: &Decision,
    conflict: &ConflictStep,
    as_json: bool,
) -> Result<Option<i32>, CliError> {
    let store = ctx.store()?;
    let claimed = outfit(ctx, conflict).and_then(|outfit| {
        let surroundings = session::surroundings(ctx)?;
        Ok((merge::claim_resolver(store, decision, conflict, outfit, Some(&surroundings))?, surroundings))
    });
    let (claim, surroundings) = match claimed {
        Ok(claimed) => claimed,
        Err(error) => {
            merge::reopen(store, &decision.id, "An agent was asked to resolve it, and could not be started.")?;
            crate::cli::error::report(ctx.ui(), &error);
            return Ok(None);
        }
    };
    let name = ctx.ui().err_painter().paint(Label::Agent, claim.agent.name.as_str());
    if !as_json {
        ctx.ui().note(format!("{name} resolves it"));
    }
    let options = SessionOptions { jobs: Some(1), json: as_json, inner: true, hints: true };
    let session = session::run(ctx, vec![claim], options)?;
    for finished in &session.finished {
        match merge::take_answer(store, &decision.id, conflict, finished, Some(&surroundings))? {
            AgentAnswer::Taken { ignored } if !ignored.is_empty() => {
                ctx.ui().warn(format!("{} also changed {}; that is not taken", finished.name, ignored.join(", ")));
            }
            AgentAnswer::Taken { .. } => {}
            AgentAnswer::Refused(why) => {
                ctx.ui().warn(format!("{} gave no answer: {why}", finished.name));
                let log = format!("`git orchestra log {}` shows what it did", finished.name);
                ctx.ui().hint(log);
            }
        }
    }
    Ok(session.signal)
}

/// The profile of the agent whose work is being merged; the default one where that is not configured.
fn outfit(ctx: &Context, conflict: &ConflictStep) -> Result<Outfit, CliError> {
    let agent: Option<Agent> = ctx.state()?.get(&conflict.step.agent)?;
    let profile = agent.map(|agent| agent.profile).filter(|name| {
        ctx.settings().is_ok_and(|settings| settings.profile(name).is_ok())
    });
    session::outfit(ctx, profile.as_deref(), None)
}
