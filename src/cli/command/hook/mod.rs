//! `git orchestra hook`: what git calls before a commit or a push, and how it comes to call it.

noun! {
    /// Let git warn you before a commit or a push
    ///
    /// `install` puts small scripts where git looks for hooks; one of your own is never overwritten. They call the
    /// other two, which you can also call from hooks of your own.
    #[command(
        after_help = "Examples:\n  git orchestra hook install\n  git orchestra hook install --pre-push --strict\n  git orchestra hook pre-commit\n  git orchestra hook uninstall"
    )]
    {
        Install => install,
        Uninstall => uninstall,
        #[command(name = "pre-commit")]
        PreCommit => pre_commit,
        #[command(name = "pre-push")]
        PrePush => pre_push,
    }
}
