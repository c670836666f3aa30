//! `git orchestra profile list`.

use super::shown::{Shown, say_skipped};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::ui::{Align, Label, Table};

/// List the profiles that there are here
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra profile list")]
pub(crate) struct Args {
    /// Print JSON (`git orchestra schema profile-list`)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let settings = ctx.settings()?;
    let profiles: Vec<Shown> =
        settings.profile_names().into_iter().map(|name| Shown::load(settings, name)).collect::<Result<_, _>>()?;
    say_skipped(ctx)?;
    if args.json {
        json::print(ctx, "profile-list", &profiles)?;
        return Ok(Exit::Done);
    }
    let paint = ctx.ui().painter();
    let mut table = Table::new(
        paint,
        &[
            ("PROFILE", Align::Left),
            ("PROGRAM", Align::Left),
            ("MODEL", Align::Left),
            ("MAY", Align::Left),
            ("FROM", Align::Left),
            ("WHAT IT IS FOR", Align::Left),
        ],
        5,
    );
    for profile in &profiles {
        let from = if profile.approved {
            paint.paint(Label::Dim, profile.layer)
        } else {
            paint.paint(Label::Attention, format!("{} (waits for approval)", profile.layer))
        };
        let about = profile.description.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        table.row(vec![
            paint.paint(Label::Title, &profile.name),
            paint.paint(Label::Plain, &profile.program),
            paint.paint(Label::Plain, profile.model.as_deref().unwrap_or_default()),
            paint.paint(Label::Plain, profile.permissions()),
            from,
            paint.paint(Label::Plain, about),
        ]);
    }
    ctx.ui().page(&table.render(ctx.ui().columns()))?;
    if profiles.iter().any(|profile| !profile.approved) {
        ctx.ui().hint("`git orchestra config approve` shows what the repository wants, and asks");
    }
    Ok(Exit::Done)
}
