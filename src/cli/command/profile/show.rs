//! `git orchestra profile show`.

use super::shown::{Shown, say_skipped};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::ui::Label;
use crate::config::Value;
use crate::model::{Measure, Sandbox};
use std::fmt::Write as _;
use std::time::Duration;

/// Show one profile: how it runs an agent, and who says so
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra profile show reviewer")]
pub(crate) struct Args {
    /// The profile
    #[arg(value_name = "PROFILE")]
    profile: String,
    /// Print JSON (`git orchestra schema profile`)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let profile = Shown::load(ctx.settings()?, &args.profile)?;
    say_skipped(ctx)?;
    if args.json {
        json::print(ctx, "profile", &profile)?;
        return Ok(Exit::Done);
    }
    let paint = ctx.ui().painter();
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        let by = profile.said_by.get(key).map(|origin| paint.paint(Label::Dim, format!("  ({origin})")));
        let by = by.unwrap_or_default();
        let mut lines = value.lines().map(|line| paint.paint(Label::Plain, line));
        let first = lines.next().unwrap_or_default();
        let _ = writeln!(text, "{} {first}{by}", paint.paint(Label::Heading, format!("{key:12}")));
        for line in lines {
            let indent = if line.is_empty() { 0 } else { 13 };
            let _ = writeln!(text, "{:indent$}{line}", "");
        }
    };
    line("profile", &profile.name);
    line("from", &profile.origins.join(", "));
    let mut some = |key: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            line(key, value);
        }
    };
    some("description", profile.description.as_deref());
    some("program", Some(&profile.program));
    some("model", profile.model.as_deref());
    some("permissions", Some(profile.permissions()));
    some("sandbox", Some(profile.sandbox.word()).filter(|_| profile.sandbox != Sandbox::None));
    some("tools", profile.tools.as_ref().map(|tools| tools.join(", ")).as_deref());
    some("denied-tools", Some(&profile.denied_tools.join(", ")));
    let span = |seconds: u64| Value::Duration(Duration::from_secs(seconds)).to_string();
    for measure in [Measure::Cost, Measure::Tokens, Measure::Turns, Measure::Time] {
        let shown = profile.budget.of(measure).map(|limit| match measure {
            Measure::Cost => format!("${}", Value::Money(limit)),
            Measure::Time => span(limit / 1000),
            Measure::Tokens | Measure::Turns => limit.to_string(),
        });
        some(measure.key(), shown.as_deref());
    }
    let price = profile.price_micro_usd.map(|price| {
        let [input, cached, output] = price.map(|micro| Value::Money(micro).to_string());
        format!("${input} a million tokens of input, ${cached} from a cache, ${output} of output")
    });
    some("price", price.as_deref());
    some("idle-timeout", profile.idle_timeout_s.map(span).as_deref());
    some("timeout", profile.timeout_s.map(span).as_deref());
    some("role", profile.role.as_deref());
    some("not used", Some(&profile.ignored.join(", ")));
    ctx.ui().page(&text)?;
    if !profile.approved {
        ctx.ui().warn(format!("`{}` does not count before you approve what the repository says of it", profile.name));
        ctx.ui().hint("`git orchestra config approve` shows it, and asks");
    }
    Ok(Exit::Done)
}
