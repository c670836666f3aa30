//! `git orchestra profile`: the ways to run an agent that there are here.

mod shown;

noun! {
    /// Show profiles: roles, programs, and Claude Code's agent files
    ///
    /// A profile is a configured way to run an agent: program, model, role, permissions, tools, limits. The roles
    /// planner, builder, reviewer, analyst, tester and documenter come built in and run as the default profile does;
    /// any key of them can be set. A file .claude/agents/NAME.md of the repository, or of your home directory, is a profile too: its text is
    /// the role. One of the repository counts only after you approved it.
    #[command(after_help = "Examples:\n  git orchestra profile list\n  git orchestra profile show reviewer\n  git orchestra config list --keys")]
    {
        List => list,
        Show => show,
    }
}
