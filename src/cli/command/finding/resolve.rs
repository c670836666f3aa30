//! `git orchestra finding resolve`.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::git::NoteEdit;
use crate::model::{Finding, FindingStatus, Kind};
use crate::store::FINDINGS_NOTES;

/// Say that findings are dealt with
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra finding resolve k3v8 -m 'fixed in 1a2b3c4d'")]
pub(crate) struct Args {
    /// The findings
    #[arg(value_name = "FINDING", required = true)]
    findings: Vec<String>,
    /// What became of it
    #[arg(short, long, value_name = "RESOLUTION")]
    message: Option<String>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let resolution = args.message.as_deref().map(str::trim).filter(|message| !message.is_empty());
    ctx.transact(|tx| {
        let mut shown = Vec::new();
        for text in &args.findings {
            let id = tx.base().resolve(text, Some(Kind::Finding))?.id;
            let mut finding: Finding = tx.require(&id)?;
            let short = id.as_str()[..6].to_owned();
            let was_open = finding.status == FindingStatus::Open;
            finding.status = FindingStatus::Resolved;
            if let Some(resolution) = resolution {
                finding.resolution = Some(resolution.to_owned());
            }
            if let (Some(commit), true) = (&finding.commit, was_open) {
                for line in finding.note_lines() {
                    tx.note(NoteEdit { notes_ref: FINDINGS_NOTES.to_owned(), commit: commit.clone(), line });
                }
            }
            tx.put(&finding)?;
            shown.push(short);
        }
        tx.describe(format!("finding {}: resolve", shown.join(", ")));
        Ok(())
    })?;
    Ok(Exit::Done)
}
