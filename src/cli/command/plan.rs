//! `git orchestra plan`: which tasks will get in each other's way.

use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::json;
use crate::cli::ui::{Align, Label, Painter, Table};
use crate::git::few_paths;
use crate::model::{Id, Task, TaskStatus};
use crate::orchestrate::foresee::{Clash, ExpectedFile, Foresight, LIKELY, Score, foresee, score};
use crate::store::ShortIds;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Say which tasks will probably get in each other's way
///
/// A task is expected to change the files that its --touches match and that its words name, and those that the history
/// changed together with them. Tasks of one wave can be started at once; who will probably meet somebody waits for the next
/// one. All of that is a rule of thumb: --score says how often it was right about the tasks that agents have worked on.
/// What conflicts of the work that there is, `overlap` says; in which order it lands, `merge --dry-run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra plan\n  git orchestra plan k3v8 m2x0\n  git orchestra plan --score")]
pub(crate) struct Args {
    /// Ids of tasks; without any, all that are open
    #[arg(value_name = "TASK")]
    tasks: Vec<String>,
    /// Say how often it was right
    #[arg(long, conflicts_with = "tasks")]
    score: bool,
    /// Print JSON (`git orchestra schema plan`)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Serialize)]
struct Shown<'a> {
    tasks: Vec<ShownTask<'a>>,
    clashes: Vec<ShownClash<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<ShownScore>,
}

#[derive(Debug, Serialize)]
struct ShownTask<'a> {
    task: &'a Id,
    wave: usize,
    files: Vec<ShownFile<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownFile<'a> {
    path: &'a str,
    percent: u32,
    why: &'static str,
}

impl<'a> ShownFile<'a> {
    fn of(file: &'a ExpectedFile) -> Self {
        Self { path: &file.path, percent: percent(file.likelihood), why: file.why.word() }
    }
}

#[derive(Debug, Serialize)]
struct ShownClash<'a> {
    a: &'a Id,
    b: &'a Id,
    percent: u32,
    files: &'a [String],
}

#[derive(Debug, Serialize)]
struct ShownScore {
    pairs: usize,
    expected: usize,
    met: usize,
    came_true: usize,
    conflicts: usize,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    if args.score {
        return print_score(ctx, args.json);
    }
    let state = ctx.state()?;
    let tasks: Vec<Task> = if args.tasks.is_empty() {
        let mut tasks: Vec<Task> = state.all()?;
        tasks.retain(|task| task.status == TaskStatus::Open);
        tasks.sort_by_key(Task::rank);
        tasks
    } else {
        args.tasks.iter().map(|text| state.require_named(text)).collect::<Result<_, _>>()?
    };
    let repo = ctx.repo()?;
    let head = repo.head()?.commit;
    let head = head.ok_or_else(|| CliError::new(ErrorKind::Failed, "there is no commit to begin from yet"))?;
    let foresight = {
        let _busy = ctx.ui().busy("reading the history");
        foresee(repo, &head, &tasks)?
    };
    if args.json {
        json::print(ctx, "plan", &shown(&foresight))?;
        return Ok(Exit::Done);
    }
    if tasks.is_empty() {
        ctx.ui().note("no task is open");
        return Ok(Exit::Done);
    }
    let (ids, paint) = (state.short_ids()?, ctx.ui().painter());
    let mut text = table(&foresight, &tasks, ids, paint, ctx.ui().columns());
    text.push_str(&clashes(&foresight.clashes, ids, paint));
    ctx.ui().page(&text)?;
    let unknown = foresight.tasks.iter().filter(|task| task.files.is_empty()).count();
    if unknown > 0 {
        let of = if unknown == 1 { "one task".to_owned() } else { format!("{unknown} tasks") };
        ctx.ui().hint(format!("nothing is known of {of}: `git orchestra task edit ID --touches GLOB` says what it changes"));
    }
    Ok(Exit::Done)
}

fn shown(foresight: &Foresight) -> Shown<'_> {
    
    let tasks = foresight.tasks.iter().map(|task| ShownTask {
        task: &task.task,
        wave: task.wave,
        files: task.files.iter().map(ShownFile::of).collect(),
    });
    let clashes = foresight.clashes.iter().map(|clash| ShownClash {
        a: &clash.a,
        b: &clash.b,
        percent: percent(clash.likelihood),
        files: &clash.files,
    });
    Shown { tasks: tasks.collect(), clashes: clashes.collect(), score: None }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 100")]
fn percent(likelihood: f64) -> u32 {
    (likelihood * 100.0).round().clamp(0.0, 100.0) as u32
}

fn table(
    foresight: &Foresight,
    tasks: &[Task],
    ids: &ShortIds,
    paint: Painter,
    columns: Option<usize>,
) -> String {
    let titles: HashMap<Id, &str> = tasks.iter().map(|task| (task.id, task.title.as_str())).collect();
    let headings =
        [("WAVE", Align::Right), ("ID", Align::Left), ("TASK", Align::Left), ("WILL PROBABLY CHANGE", Align::Left)];
    let mut table = Table::new(paint, &headings, 2);
    let mut rows: Vec<_> = foresight.tasks.iter().collect();
    rows.sort_by_key(|task| task.wave);
    for task in rows {
        let likely = task.files.iter().filter(|file| file.likelihood >= LIKELY);
        let files: Vec<&str> = likely.map(|file| file.path.as_str()).collect();
        let files = if files.is_empty() { spread(&task.files) } else { few_paths(&files) };
        table.row(vec![
            task.wave.to_string(),
            paint.paint(Label::Id, ids.shorten(&task.task)),
            paint.paint(Label::Title, titles.get(&task.task).copied().unwrap_or_default()),
            paint.paint(Label::Path, files),
        ]);
    }
    table.render(columns)
}

/// Of what is so wide that no file is likely.
fn spread(files: &[ExpectedFile]) -> String {
    if files.is_empty() { "?".to_owned() } else { format!("some of {} files", files.len()) }
}

fn clashes(clashes: &[Clash], ids: &ShortIds, paint: Painter) -> String {
    let mut text = String::new();
    for clash in clashes.iter().filter(|clash| clash.likelihood >= LIKELY) {
        let id = |id: &Id| paint.paint(Label::Id, ids.shorten(id));
        let _ = write!(
            text,
            "\n{} and {} will probably meet ({} %): {}",
            id(&clash.a),
            id(&clash.b),
            percent(clash.likelihood),
            paint.paint(Label::Path, few_paths(&clash.files))
        );
    }
    if text.is_empty() {
        return format!("\n{}\n", paint.paint(Label::Good, "no two of them will probably meet"));
    }
    text.push('\n');
    text
}

fn print_score(ctx: &Context, as_json: bool) -> Result<Exit, CliError> {
    let score = {
        let _busy = ctx.ui().busy("comparing branches");
        score(ctx.store()?)?
    };
    if as_json {
        let Score { pairs, expected, met, came_true, conflicts } = score;
        let score = Some(ShownScore { pairs, expected, met, came_true, conflicts });
        json::print(ctx, "plan", &Shown { score, ..Shown::default() })?;
        return Ok(Exit::Done);
    }
    if score.pairs == 0 {
        ctx.ui().note("no two agents have worked on tasks here, as far as their branches are there");
        return Ok(Exit::Done);
    }
    let Score { pairs, expected, met, came_true, conflicts } = score;
    let text = format!(
        "of {pairs} pairs of agents, {expected} were expected to meet\n  {met} of them changed a file together\n  \
         {came_true} of them conflict, of {conflicts} that do\n"
    );
    ctx.ui().print(&text)?;
    Ok(Exit::Done)
}
