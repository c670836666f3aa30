//! `git orchestra config`: what settings count here, and where they come from.

noun! {
    /// Show settings, and approve what the repository wants to run
    ///
    /// Later layers win: built-in defaults, the repository's orchestra.toml, your
    /// $XDG_CONFIG_HOME/git-orchestra/config.toml, `git config orchestra.*`, ORCHESTRA_* variables, options.
    ///
    /// Programs, arguments, environments, permissions and places that the repository itself names count only after
    /// you approved them.
    #[command(after_help = "Examples:\n  git orchestra config list --show-origin\n  git orchestra config approve")]
    {
        List => list,
        Get => get,
        Approve => approve,
    }
}
