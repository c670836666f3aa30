//! A conflict, asked about on the terminal.

use super::gates::Gates;
use crate::cli::context::Context;
use crate::cli::editor;
use crate::cli::error::{CliError, ErrorKind};
use crate::cli::session::{self, SessionOptions};
use crate::cli::ui::{Label, Reply, diff};
use crate::cli::view;
use crate::model::{Agent, Decision, DecisionStatus, Id, Merge};
use crate::orchestrate::Outfit;
use crate::orchestrate::merge::{self, AgentAnswer, ConflictFile, ConflictStep, MendAnswer, On};
use crate::orchestrate::supervise::Finished;

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// An answer is recorded.
    Answered,
    /// The person went away; the decision stays open.
    Left,
}

/// What is asked about at once.
#[derive(Clone, Copy)]
enum Part<'a> {
    /// A step without a path that could be shown.
    Step,
    /// A file.
    File(&'a ConflictFile),
    /// One of its places, counted from 1.
    Place(&'a ConflictFile, usize),
}

/// What a person said.
enum Said {
    /// An answer that is recorded.
    Answer,
    /// To be asked about each place of the file.
    PlaceByPlace,
    /// To be asked about the file as a whole again.
    WholeFile,
    /// Nothing.
    Left,
}

/// Shows each path that is still open and asks until all are answered, or one answer holds for the whole step.
pub(super) fn ask(ctx: &Context, decision: &Decision, conflict: &ConflictStep) -> Result<Asked, CliError> {
    let paint = ctx.ui().err_painter();
    if conflict.files.is_empty() {
        ctx.ui().note(format!("\n{}\n{}", decision.question, diff::messages(conflict, paint)));
        return Ok(match ask_for(ctx, decision, conflict, Part::Step)? {
            Said::Left => Asked::Left,
            _ => Asked::Answered,
        });
    }
    let is_asked = |path: &String| decision.paths.contains(path) && decision.is_open(path);
    let open: Vec<&ConflictFile> = conflict.undecided().filter(|file| is_asked(&file.conflict.path)).collect();
    for (number, file) in open.iter().enumerate() {
        if !is_open(ctx, decision)? {
            break;
        }
        let count = if open.len() > 1 { format!("({} of {}) ", number + 1, open.len()) } else { String::new() };
        ctx.ui().note(format!("\n{}{}", paint.paint(Label::Dim, count), diff::conflict(conflict, file, paint).trim_end()));
        if ask_about(ctx, decision, conflict, file)? == Asked::Left {
            return Ok(Asked::Left);
        }
    }
    Ok(Asked::Answered)
}

fn is_open(ctx: &Context, decision: &Decision) -> Result<bool, CliError> {
    let now: Decision = ctx.state()?.require(&decision.id)?;
    Ok(now.status == DecisionStatus::Open)
}

/// Asks about a file, as a whole or place by place.
fn ask_about(
    ctx: &Context,
    decision: &Decision,
    conflict: &ConflictStep,
    file: &ConflictFile,
) -> Result<Asked, CliError> {
    let paint = ctx.ui().err_painter();
    let path = &file.conflict.path;
    // Where some of its places have their answers already, only the others are asked about.
    let has_answer = |place: &usize| decision.places.contains_key(&Decision::place_key(path, *place));
    let places = 1..=decision.places_of(path);
    let answered = places.clone().filter(has_answer).count();
    let mut is_begun = answered > 0;
    if is_begun {
        ctx.ui().note(match answered {
            1 => "1 place keeps its answer".to_owned(),
            _ => format!("{answered} places keep their answers"),
        });
    }
    'file: loop {
        if !is_begun {
            match ask_for(ctx, decision, conflict, Part::File(file))? {
                Said::Answer => return Ok(Asked::Answered),
                Said::Left => return Ok(Asked::Left),
                Said::PlaceByPlace | Said::WholeFile => {}
            }
        }
        let missing = places.clone().filter(|place| !(is_begun && has_answer(place)));
        for place in missing {
            if !is_open(ctx, decision)? {
                break;
            }
            ctx.ui().note(format!("\n{}", diff::place(conflict, file, place, paint).trim_end()));
            match ask_for(ctx, decision, conflict, Part::Place(file, place))? {
                Said::Answer | Said::PlaceByPlace => {}
                Said::WholeFile => {
                    is_begun = false;
                    continue 'file;
                }
                Said::Left => return Ok(Asked::Left),
            }
        }
        return Ok(Asked::Answered);
    }
}

fn ask_for(
    ctx: &Context,
    decision: &Decision,
    conflict: &ConflictStep,
    part: Part<'_>,
) -> Result<Said, CliError> {
    let store = ctx.store()?;
    let choices = choices(decision, conflict, part);
    let paint = ctx.ui().err_painter();
    let prompt: Vec<String> = choices.iter().map(|(key, _, _)| key.to_string()).collect();
    let prompt = format!("[{}/?]", prompt.join("/"));
    let mut help = true;
    loop {
        if help {
            for (key, word, label) in &choices {
                let losses = view::decision::losses(decision, word, part.on(), paint);
                let key = paint.paint(Label::Title, key.to_string());
                ctx.ui().note(format!("  {key}  {}{losses}", paint.paint(Label::Plain, label)));
            }
            help = false;
        }
        let Reply::Chosen(reply) = ctx.ui().input(&prompt)? else { return Ok(Said::Left) };
        let reply = reply.trim().to_lowercase();
        let chosen = choices.iter().find(|(key, word, _)| reply == *word || reply == key.to_string());
        let Some((_, word, _)) = chosen else {
            help = true;
            continue;
        };
        match *word {
            "places" => return Ok(Said::PlaceByPlace),
            "whole" => return Ok(Said::WholeFile),
            _ => {}
        }
        let text = match (*word, part) {
            ("edit", Part::File(file) | Part::Place(file, _)) => {
                Some(edited(ctx, conflict, file, part.on().place()))
            }
            _ => None,
        };
        let text = match text.transpose() {
            Ok(text) => text,
            Err(error) => {
                crate::cli::error::report(ctx.ui(), &error);
                continue;
            }
        };
        let whole = matches!(*word, "agent" | "skip" | "abort" | "accept");
        let on = if whole { On::Everything } else { part.on() };
        match merge::answer(store, &decision.id, on, word, text.as_deref()) {
            Ok(_) => return Ok(Said::Answer),
            Err(error @ merge::Error::Answer { .. }) => {
                crate::cli::error::report(ctx.ui(), &error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl<'a> Part<'a> {
    /// What an answer is for that is not for the whole step.
    fn on(self) -> On<'a> {
        match self {
            Part::Step => On::Everything,
            Part::File(file) => On::Path(&file.conflict.path),
            Part::Place(file, place) => On::Place(&file.conflict.path, place),
        }
    }
}

/// Key, word and meaning of what may be answered.
fn choices(
    decision: &Decision,
    conflict: &ConflictStep,
    part: Part<'_>,
) -> Vec<(char, &'static str, String)> {
    let offered = |key: &str| decision.choices.iter().any(|choice| choice.key == key);
    let theirs = &conflict.theirs.name;
    let mut choices = Vec::new();
    match part {
        Part::File(file) | Part::Place(file, _) => {
            let ours = diff::joined(&file.ours);
            let is_file = matches!(part, Part::File(_));
            if is_file && offered("agent") {
                choices.push(('a', "agent", "let an agent resolve this step".to_owned()));
            }
            choices.push(('o', "ours", format!("keep what landed from {ours}")));
            choices.push(('t', "theirs", format!("take {theirs}")));
            if file.parts.is_some() {
                choices.push(('u', "union", format!("keep the lines of both, those of {ours} first")));
                let what = if is_file { "edit the file" } else { "edit these lines" };
                choices.push(('e', "edit", what.to_owned()));
            }
            let places = decision.places_of(&file.conflict.path);
            if is_file && places > 1 {
                choices.push(('p', "places", format!("decide each of its {places} places by itself")));
            }
            if !is_file {
                choices.push(('w', "whole", "decide about the whole file after all".to_owned()));
            }
        }
        Part::Step => choices.push(('y', "accept", "go on with what git made of it".to_owned())),
    }
    choices.push(('s', "skip", format!("leave {theirs} out of this merge")));
    let abort = decision.choices.iter().find(|choice| choice.key == "abort");
    choices.extend(abort.map(|choice| ('q', "abort", choice.label.clone())));
    choices
}

/// Lets the person edit a conflicting file, or one of its places, with markers that carry names.
pub(crate) fn edited(
    ctx: &Context,
    conflict: &ConflictStep,
    file: &ConflictFile,
    place: Option<usize>,
) -> Result<String, CliError> {
    let path = &file.conflict.path;
    let markers = match place {
        None => file.with_markers(&conflict.theirs),
        Some(place) => file.place_with_markers(place, &conflict.theirs),
    };
    let markers = markers.ok_or_else(|| {
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
    let claimed = outfit(ctx, &conflict.step.agent).and_then(|outfit| {
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
            AgentAnswer::Refused(why) => refused(ctx, finished, &why),
        }
    }
    Ok(session.signal)
}

/// Lets an agent mend what a gate fails with in this console. What it could not do opens the question again. Returns the
/// signal that ended it, if one did.
pub(super) fn mend_by_agent(
    ctx: &Context,
    merge: &Merge,
    decision: &Decision,
    gates: &Gates,
    as_json: bool,
) -> Result<Option<i32>, CliError> {
    let store = ctx.store()?;
    let mended = merge.steps.iter().find(|step| Some(step.agent) == decision.agent);
    let gate = decision.subject.split('/').nth(1).unwrap_or_default();
    let claimed = outfit(ctx, &mended.map_or(merge.id, |step| step.agent)).and_then(|outfit| {
        let surroundings = session::surroundings(ctx)?;
        let command = gates.command(gate);
        let claim = merge::claim_mender(store, decision, command.as_deref(), outfit, Some(&surroundings))?;
        Ok((claim, surroundings))
    });
    let (claim, surroundings) = match claimed {
        Ok(claimed) => claimed,
        Err(error) => {
            merge::reopen(store, &decision.id, "An agent was asked to mend it, and could not be started.")?;
            return Err(error);
        }
    };
    let paint = ctx.ui().err_painter();
    let name = paint.paint(Label::Agent, claim.agent.name.as_str());
    if !as_json {
        let whose = paint.paint(Label::Agent, mended.map_or("", |step| step.name.as_str()));
        ctx.ui().note(format!("{name} mends what {whose} made"));
    }
    let options = SessionOptions { jobs: Some(1), json: as_json, inner: true, hints: true };
    let session = session::run(ctx, vec![claim], options)?;
    // What a signal ended was not asked in vain: going on asks again.
    if session.signal.is_none() {
        for finished in &session.finished {
            if let MendAnswer::Refused(why) =
                merge::take_mend(store, &decision.id, finished, Some(&surroundings))?
            {
                refused(ctx, finished, &why);
            }
        }
    }
    Ok(session.signal)
}

fn refused(ctx: &Context, finished: &Finished, why: &str) {
    ctx.ui().warn(format!("{} gave no answer: {why}", finished.name));
    ctx.ui().hint(format!("`git orchestra log {}` shows what it did", finished.name));
}

/// The profile of the agent whose work is being merged; the default one where that is not configured.
fn outfit(ctx: &Context, agent: &Id) -> Result<Outfit, CliError> {
    let agent: Option<Agent> = ctx.state()?.get(agent)?;
    let profile = agent.map(|agent| agent.profile).filter(|name| {
        ctx.settings().is_ok_and(|settings| settings.profile(name).is_ok())
    });
    session::outfit(ctx, profile.as_deref(), None)
}
