//! `git orchestra task`: what is wanted.

mod fields;

noun! {
    /// Add, list and change tasks
    #[command(
        after_help = "Examples:\n  git orchestra task add 'Parse dates' -m 'RFC 3339 only' --touches 'src/date/**'\n  git orchestra task list --ready"
    )]
    {
        Add => add,
        List => list,
        Show => show,
        Edit => edit,
        Start => start,
        Claim => claim,
        Release => release,
        Close => close,
        Reopen => reopen,
        Ready => ready,
    }
}
