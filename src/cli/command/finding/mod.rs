//! `git orchestra finding`: what was noticed.

noun! {
    /// Add, list and resolve findings
    ///
    /// Findings are also notes on the commits they speak of: `git log --notes='orchestra/*'` shows them.
    #[command(
        after_help = "Examples:\n  git orchestra finding add 'Leap seconds are ignored' --severity low --path src/date.rs:40\n  git orchestra finding list --path src"
    )]
    {
        Add => add,
        List => list,
        Show => show,
        Resolve => resolve,
    }
}

pub(crate) use add::severity;
