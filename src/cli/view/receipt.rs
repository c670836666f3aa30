//! Receipts.

use crate::cli::ui::{Label, Painter};
use crate::model::{Account, Brought, By, Loss, Receipt};
use crate::store::ShortIds;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What became of all of it, in one line:
/// `receipt: 12 of 14 changed lines of 3 agents are there, 2 gave way to decision k3v8`.
pub(crate) fn sentence(receipt: &Receipt, target: &str, paint: Painter, ids: &ShortIds) -> String {
    let (there, all) = receipt.present(target);
    let mut who = receipt.accounts.iter().filter(|account| account.agent.is_some() || account.name != target);
    let (count, agents) = (who.clone().count(), who.all(|account| account.agent.is_some()));
    let of = match (count, agents) {
        (1, true) => "1 agent".to_owned(),
        (count, true) => format!("{count} agents"),
        (1, false) => "1 branch".to_owned(),
        (count, false) => format!("{count} branches"),
    };
    let lines = if all == 1 { "changed line" } else { "changed lines" };
    let are = if all == 1 { "is" } else { "are" };
    let mut text =
        format!("{} {there} of {all} {lines} of {of} {are} there", paint.paint(Label::Dim, "receipt:"));
    let gave_way: BTreeSet<&By> = receipt.losses.iter().filter_map(|loss| loss.by.as_ref()).collect();
    let superseded: u64 = receipt.accounts.iter().map(|a| a.added.superseded + a.removed.superseded).sum();
    if superseded > 0 {
        let names: Vec<String> = gave_way.into_iter().map(|by| by_words(by, paint, ids)).collect();
        let _ = write!(text, ", {superseded} gave way to {}", names.join(", "));
    }
    let dropped = receipt.dropped();
    if dropped > 0 {
        let what = if dropped == 1 { "1 was dropped".to_owned() } else { format!("{dropped} were dropped") };
        let _ = write!(text, ", {}", paint.paint(Label::Bad, what));
    }
    text.push('\n');
    text
}

/// A line for each who brought something.
pub(crate) fn accounts(receipt: &Receipt, paint: Painter) -> String {
    let counts = |account: &Account| format!("+{} -{}", account.added.total(), account.removed.total());
    let widest = |of: &dyn Fn(&Account) -> usize| receipt.accounts.iter().map(of).max().unwrap_or(0);
    let (width, figures) = (widest(&|account| account.name.len()), widest(&|account| counts(account).len()));
    let mut text = String::new();
    for account in &receipt.accounts {
        let Account { name, added, removed, .. } = account;
        let name = paint.paint(Label::Agent, format!("{name:width$}"));
        let counts = paint.paint(Label::Plain, format!("{:figures$}", counts(account)));
        let mut fates = Vec::new();
        for (count, word, label) in [
            (added.moved + removed.moved, "moved", Label::Dim),
            (added.superseded + removed.superseded, "gave way", Label::Dim),
            (added.dropped + removed.dropped, "dropped", Label::Bad),
        ] {
            if count > 0 {
                fates.push(paint.paint(label, format!("{count} {word}")));
            }
        }
        let fates = if fates.is_empty() { paint.paint(Label::Good, "all there") } else { fates.join(", ") };
        let _ = writeln!(text, "  {name}  {counts}  {fates}");
    }
    text
}

/// A line for each stretch that is not as it was brought.
pub(crate) fn losses(receipt: &Receipt, paint: Painter, ids: &ShortIds) -> String {
    let mut text = String::new();
    for loss in &receipt.losses {
        let Loss { name, change, by, .. } = loss;
        let name = paint.paint(Label::Agent, name);
        let what = match (change, by) {
            (Brought::Added, None) => format!("of {name}: {}", paint.paint(Label::Bad, "dropped")),
            (Brought::Removed, None) => {
                format!("removed by {name}: {}", paint.paint(Label::Bad, "back again"))
            }
            (Brought::Added, Some(by)) => format!("of {name}: gave way to {}", by_words(by, paint, ids)),
            (Brought::Removed, Some(by)) => {
                format!("removed by {name}: back by {}", by_words(by, paint, ids))
            }
        };
        let inside = loss.inside.as_ref().map(|commit| {
            format!(" in the merge {} of a branch", paint.paint(Label::Commit, commit.short()))
        });
        let inside = inside.unwrap_or_default();
        let _ = writeln!(text, "    {} {what}{inside}", paint.paint(Label::Path, loss.place()));
    }
    if receipt.unlisted > 0 {
        let _ = writeln!(text, "    … and {} more places", receipt.unlisted);
    }
    text
}

fn by_words(by: &By, paint: Painter, ids: &ShortIds) -> String {
    match by {
        By::Agent { name, .. } => paint.paint(Label::Agent, name.as_str()),
        By::Decision { id } => format!("decision {}", paint.paint(Label::Id, ids.shorten(id))),
        By::Rewritten => "lines written anew".to_owned(),
        By::Git => "git's own merge".to_owned(),
    }
}
