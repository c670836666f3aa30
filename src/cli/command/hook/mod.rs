//! `git orchestra hook`: what git and Claude Code call before they do something, and how they come to call it.

mod claude;

noun! {
    /// Let git and Claude Code warn you before they do something
    ///
    /// `install` puts small scripts where git looks for hooks, or a hook into Claude Code's settings; one of your own is
    /// never overwritten. They call the others, which you can also call from hooks of your own.
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
        #[command(name = "pre-tool-use")]
        PreToolUse => pre_tool_use,
    }
}
