//! Output for scripts: records of fields that will not change their meaning.

use super::context::Context;
use super::error::CliError;

/// How a list is printed.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct ListFormat {
    /// Print JSON
    #[arg(long, conflicts_with_all = ["porcelain", "null"])]
    pub(crate) json: bool,
    /// Print a line for each, its fields separated by tabs, in a format that will not change
    #[arg(long)]
    porcelain: bool,
    /// End records with NUL instead of a newline and leave control characters as they are (implies --porcelain)
    #[arg(short = 'z', id = "null")]
    null: bool,
}

impl ListFormat {
    /// Whether scripts read it.
    pub(crate) const fn is_porcelain(self) -> bool {
        self.porcelain || self.null
    }

    /// Prints records. Only their last field may be free text; `-` stands for an absent one.
    pub(crate) fn print<const N: usize>(
        self,
        ctx: &Context,
        records: impl IntoIterator<Item = [String; N]>,
    ) -> Result<(), CliError> {
        let mut text = String::new();
        for record in records {
            for (at, field) in record.iter().enumerate() {
                if at > 0 {
                    text.push('\t');
                }
                match field.as_str() {
                    "" => text.push('-'),
                    field if self.null => text.push_str(field),
                    field => text.push_str(&super::ui::printable(field)),
                }
            }
            text.push(if self.null { '\0' } else { '\n' });
        }
        ctx.ui().print(&text)
    }
}
