//! `git orchestra doctor`: everything that could be wrong, looked at one thing after the other.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::session::{confiners, outfit, worktree_root};
use crate::model::Sandbox;
use crate::cli::ui::{Label, printable, wrap};
use crate::config::Profile;
use crate::config::approval::Request;
use crate::orchestrate::doctor::{Check, DoctorOptions, Level, doctor};
use crate::orchestrate::{RecoverOptions, Recovered, recover_all};
use crate::process::Command;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// Look at everything that could be wrong, and say what helps
///
/// Git, the repository, every record of the state, notes, transcripts, worktrees, branches, leases, locks, settings,
/// what git is told to run, agents' programs, room on the disk. Changes nothing. With --fix it first puts in order
/// what loses nothing, as `git orchestra recover` does. Exit code 1 if anything fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra doctor\n  git orchestra doctor --fix")]
pub(crate) struct Args {
    /// Put in order first what loses nothing
    #[arg(long)]
    fix: bool,
    /// Only what is not as it should be
    #[arg(short, long)]
    brief: bool,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    level: Level,
    fixed: &'a [Recovered],
    checks: &'a [Check],
}

/// How long a program may take to say its version.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);
/// Columns when nobody says how many there are.
const COLUMNS: usize = 80;

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let store = ctx.store()?;
    let root = worktree_root(ctx)?;
    let mut fixed = Vec::new();
    if args.fix {
        let options = RecoverOptions { worktree_root: root.clone(), recreate: Vec::new() };
        fixed = recover_all(store, &options)?;
        fixed.retain(|one| one.mended);
    }
    let mut failed = None;
    let mut tell = |check: &Check| {
        if !args.json && (!args.brief || check.level != Level::Ok) {
            failed = failed.take().or(ctx.ui().print(&shown(ctx, check)).err());
        }
    };
    let mut checks = doctor(store, &DoctorOptions { worktree_root: root }, &mut tell);
    for check in [settings(ctx), approval(ctx), sandbox(ctx)].into_iter().chain(programs(ctx)) {
        tell(&check);
        checks.push(check);
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let level = checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok);
    if args.json {
        json::print(ctx, "doctor", &Shown { level, fixed: &fixed, checks: &checks })?;
    } else {
        for one in &fixed {
            ctx.ui().note(format!("mended: {}", one.text));
        }
        let number = |level| checks.iter().filter(|check| check.level == level).count();
        ctx.ui().print(&summary(number(Level::Fail), number(Level::Warn)))?;
    }
    Ok(if level == Level::Fail { Exit::Error } else { Exit::Done })
}

fn summary(failed: usize, warned: usize) -> String {
    let warnings = match warned {
        0 => String::new(),
        1 => "1 thing to know".to_owned(),
        many => format!("{many} things to know"),
    };
    match (failed, warnings.is_empty()) {
        (0, true) => "all is well\n".to_owned(),
        (0, false) => format!("all works; {warnings}\n"),
        (1, true) => "1 thing does not work\n".to_owned(),
        (many, true) => format!("{many} things do not work\n"),
        (1, false) => format!("1 thing does not work; {warnings}\n"),
        (many, false) => format!("{many} things do not work; {warnings}\n"),
    }
}

/// `warn  disk          800.0 MB free at /home`, details and the way out below.
fn shown(ctx: &Context, check: &Check) -> String {
    const INDENT: usize = 20;
    let paint = ctx.ui().painter();
    let label = match check.level {
        Level::Ok => Label::Good,
        Level::Warn => Label::Attention,
        Level::Fail => Label::Error,
    };
    let width = ctx.ui().columns().unwrap_or(COLUMNS).saturating_sub(INDENT).max(20);
    let mut lines = wrap(&printable(&check.text), width).into_iter();
    let mut text = format!(
        "{}  {}  {}\n",
        paint.paint(label, format!("{:<4}", check.level.word())),
        paint.paint(Label::Title, format!("{:<12}", check.name)),
        lines.next().unwrap_or_default()
    );
    let indent = " ".repeat(INDENT);
    for line in lines {
        let _ = writeln!(text, "{indent}{line}");
    }
    for detail in &check.details {
        for line in wrap(&format!("  {}", printable(detail)), width) {
            let _ = writeln!(text, "{indent}{line}");
        }
    }
    if let Some(way_out) = &check.way_out {
        for line in wrap(&printable(way_out), width) {
            let _ = writeln!(text, "{indent}{}", paint.paint(Label::Hint, line));
        }
    }
    text
}

fn failed(name: &'static str, error: &CliError) -> Check {
    Check::fail(name, error.sentence())
}

fn settings(ctx: &Context) -> Check {
    const NAME: &str = "settings";
    match ctx.settings() {
        Err(error) => failed(NAME, &error).way_out("git orchestra config list   shows where each is said"),
        Ok(settings) if settings.unknown().is_empty() => {
            Check::ok(NAME, format!("{} said, all known", settings.iter().count()))
        }
        Ok(settings) => {
            let unknown = settings.unknown().iter().map(|one| format!("{} in {}", one.key, one.origin));
            Check::warn(NAME, "some are unknown and count for nothing")
                .details(unknown)
                .way_out("git orchestra config list   shows what counts")
        }
    }
}

fn approval(ctx: &Context) -> Check {
    const NAME: &str = "approval";
    let look = || -> Result<Check, CliError> {
        let (settings, dir) = (ctx.settings()?, ctx.repo()?.common_dir());
        let files = Request::of_files(settings, dir).into_iter().map(|(_, request)| request);
        let mut requests: Vec<Request> = Request::of(settings, dir).into_iter().chain(files).collect();
        if requests.is_empty() {
            return Ok(Check::ok(NAME, "this repository asks for nothing that needs one"));
        }
        let data_home = ctx.env().data_home();
        requests.retain(|request| !data_home.as_deref().is_some_and(|home| request.is_approved(home)));
        Ok(if requests.is_empty() {
            Check::ok(NAME, "what this repository wants to run is approved")
        } else {
            let wants = requests.iter().flat_map(|request| &request.wants);
            let line = |value: String| value.lines().next().unwrap_or_default().to_owned();
            Check::warn(NAME, "this repository wants to run what you did not approve; it does not count")
                .details(wants.map(|(key, value)| format!("{key} = {}", line(value.to_string()))))
                .way_out("git orchestra config approve")
        })
    };
    look().unwrap_or_else(|error| failed(NAME, &error))
}

/// Which levels this machine can give programs, and whether those that profiles ask for are among them.
fn sandbox(ctx: &Context) -> Check {
    const NAME: &str = "sandbox";
    let look = || -> Result<Check, CliError> {
        let (settings, confiners) = (ctx.settings()?, confiners(ctx)?);
        let tried = Sandbox::ALL.map(|level| (level, confiners.require(level)));
        let given: Vec<&str> =
            tried.iter().filter(|(_, tried)| tried.is_ok()).map(|(level, _)| level.word()).collect();
        let missing = tried.iter().filter_map(|(_, tried)| tried.as_ref().err());
        let details: Vec<String> = missing.map(|error| format!("cannot {error}")).collect();
        let text = format!("this machine can give {}", given.join(", "));
        let asks = |name: &&str| !given.contains(&settings.sandbox(name).word());
        let wanting: Vec<&str> = settings.profile_names().into_iter().filter(asks).collect();
        if wanting.is_empty() {
            return Ok(Check::ok(NAME, text).details(details));
        }
        let text = format!("{text}; no agent of these profiles starts: {}", wanting.join(", "));
        Ok(Check::fail(NAME, text).details(details).way_out("git orchestra config list --show-origin   says who asks for it"))
    };
    look().unwrap_or_else(|error| failed(NAME, &error))
}

/// Which programs of agents there are, and what they call themselves. Only those outside of the repository are asked.
fn programs(ctx: &Context) -> Vec<Check> {
    const NAME: &str = "programs";
    let Ok(settings) = ctx.settings() else { return Vec::new() };
    let default = settings.default_profile().ok().map(str::to_owned);
    let (mut there, mut missing, mut default_works) = (Vec::new(), Vec::new(), false);
    let unfilled = |name: &str| settings.said(&format!("profile.{name}.command")).is_empty();
    for name in settings.profile_names() {
        let is_default = default.as_deref() == Some(name);
        match outfit(ctx, Some(name), None) {
            Ok(outfit) => {
                default_works |= is_default;
                // Where our own stands in between, what is behind it is meant.
                let file = usize::from(outfit.profile.program == "acp");
                let program = outfit.program.get(file).map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
                let more = match outfit.profile.program.as_str() {
                    "claude" => version(ctx, &program).map(|version| format!(" ({version})")),
                    "api" | "hybrid" if !has_key(ctx, &outfit.profile) => {
                        Some(" (without a key: neither ANTHROPIC_API_KEY nor ANTHROPIC_AUTH_TOKEN is set)".to_owned())
                    }
                    _ => None,
                };
                there.push(format!("{name}: {program}{}", more.unwrap_or_default()));
            }
            // What every installation has, and nobody has filled in.
            Err(_) if ["acp", "command"].contains(&name) && unfilled(name) => {}
            Err(error) => {
                let sentence = error.sentence();
                let what = sentence.strip_prefix("failed to ").map(|rest| format!("cannot {rest}"));
                missing.push(format!("{name}: {}", what.unwrap_or(sentence)));
            }
        }
    }
    let text = match there.len() {
        1 => "1 profile has its program".to_owned(),
        many => format!("{many} profiles have their programs"),
    };
    vec![match (missing.is_empty(), default_works) {
        (true, _) => Check::ok(NAME, text).details(there),
        (false, works) => {
            let text = format!("{text}, {} not", missing.len());
            let note = if works { "" } else { "; the default profile is one of these" };
            let way_out = "install it, or set profile.NAME.command in your own configuration";
            Check::warn(NAME, format!("{text}{note}")).details([there, missing].concat()).way_out(way_out)
        }
    }]
}

/// Whether the model of the built-in program may serve us.
fn has_key(ctx: &Context, profile: &Profile) -> bool {
    let names = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"];
    names.into_iter().any(|name| ctx.env().var(name).is_some() || profile.env.contains_key(name))
}

/// What a program says of its version, in its first line.
fn version(ctx: &Context, program: &str) -> Option<String> {
    let env = ["PATH", "HOME", "LANG"].into_iter().filter_map(|key| Some((key, ctx.env().var(key)?)));
    let command = Command::new(program).arg("--version").envs(env).current_dir("/");
    let output = command.output_within(VERSION_DEADLINE).ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next().unwrap_or_default().trim();
    Some(line.chars().take(60).collect::<String>()).filter(|line| !line.is_empty())
}
