//! The command line: the only module that prints, prompts or reads the environment.
//!
//! A command is one file under `command/` with a `struct Args` and a `fn run(&Context, &Args)`; how to add one is
//! said in `command/mod.rs`. Nothing here starts a process or names a git object by itself: it asks the layers
//! below and shows what they answer.

mod apart;
mod attach;
mod command;
mod complete;
mod console;
mod context;
mod editor;
mod env;
mod error;
mod json;
mod logging;
mod notify;
mod operation;
mod porcelain;
mod session;
mod steer;
mod ui;
mod view;

pub use env::Env;
pub use error::Exit;

use crate::agent::is_hidden;
use clap::{Args as _, CommandFactory, FromArgMatches, Parser};
use context::Context;
use error::CliError;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::process::ExitCode;

/// Turn a git repository into its own orchestrator of coding agents
///
/// Tasks, agents, findings, decisions and merges are git objects in this repository: no server, no daemon, no
/// database. Add tasks, spawn agents that work on them in worktrees of their own, watch what they do, see how
/// their branches overlap, and merge them with your approval.
#[derive(Debug, Parser)]
#[command(
    name = "git-orchestra",
    bin_name = "git orchestra",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    infer_subcommands = false,
    max_term_width = 100,
    after_help = "Examples:\n  git orchestra task add 'Parse dates' --touches 'src/date/**'\n  git orchestra spawn --jobs 4\n  git orchestra status\n  git orchestra merge"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: command::Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Run as if started in DIR
    #[arg(short = 'C', value_name = "DIR", global = true, value_hint = clap::ValueHint::DirPath)]
    directory: Option<PathBuf>,
    /// When to use colours
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = false
    )]
    color: ui::ColorWhen,
    /// Say only what was asked for and what went wrong
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Do not pipe long output into a pager
    #[arg(long, global = true)]
    no_pager: bool,
}

/// Runs the program: parses `args` (the program's name first), does the work and reports how it went.
///
/// Everything the program knows of its surroundings is in `env`, the arguments and the current directory.
pub fn main(args: impl IntoIterator<Item = OsString>, env: Env) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let color = ui::ColorWhen::prescan(&args);
    let (cli, words) = match parse(&args, color, &env) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version are answers, and a reader of them may have gone away: both are silent about it.
            let _ = say(&error, &args);
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    logging::start(&env);
    let context = match Context::new(env, &cli.global, words) {
        Ok(context) => context,
        Err(error) => return error::report(&ui::Ui::plain(), &error).into(),
    };
    let done = cli.command.run(&context);
    context.say_left_out();
    // One that was started for that starts no other.
    if !matches!(cli.command, command::Command::Gc(_)) {
        command::gc::start_if_due(&context);
    }
    match done {
        Ok(exit) => exit.into(),
        Err(error) => error::report(context.ui(), &error).into(),
    }
}

/// Prints it; what was typed is in it, perhaps pasted from somewhere, or completed to a name that others chose.
fn say(error: &clap::Error, args: &[OsString]) -> std::io::Result<()> {
    let is_harmless = |arg: &OsString| !arg.to_string_lossy().contains(is_hidden);
    if !error.use_stderr() || args.iter().all(is_harmless) {
        return error.print();
    }
    let text = error.render().to_string();
    let mut stderr = std::io::stderr().lock();
    text.lines().try_for_each(|line| writeln!(stderr, "{}", ui::printable(line)))
}

/// The command line, and what the log of operations calls it.
fn parse(args: &[OsString], color: ui::ColorWhen, env: &Env) -> Result<(Cli, String), clap::Error> {
    if let Some(tree) = narrow_tree(args)
        && let Ok(parsed) = parse_with(tree, args)
    {
        return Ok(parsed);
    }
    let choice = match color {
        ui::ColorWhen::Always => clap::ColorChoice::Always,
        ui::ColorWhen::Never => clap::ColorChoice::Never,
        ui::ColorWhen::Auto if env.no_color() => clap::ColorChoice::Never,
        ui::ColorWhen::Auto => clap::ColorChoice::Auto,
    };
    let mut tree = tree().color(choice);
    if let Some(columns) = env.columns() {
        tree = tree.term_width(columns.into());
    }
    parse_with(tree, args)
}

fn parse_with(tree: clap::Command, args: &[OsString]) -> Result<(Cli, String), clap::Error> {
    // Never dropped: to take it apart costs a tenth of a short command, and the program ends soon.
    let mut tree = ManuallyDrop::new(tree);
    let mut matches = tree.try_get_matches_from_mut(args)?;
    let words = operation::words(&tree, &matches);
    let cli = Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut tree))?;
    Ok((cli, words))
}

/// The part of the tree that reads this command line, if its first word names a command: to make all of it takes
/// longer than most commands work. Not for help and errors, which know of all others.
fn narrow_tree(args: &[OsString]) -> Option<clap::Command> {
    let command = command::alone(args.get(1)?.to_str()?)?;
    Some(
        Global::augment_args(clap::Command::new("git-orchestra"))
            .subcommand(command)
            .disable_help_subcommand(true),
    )
}

/// The whole command tree, from which parsing, completion and the manual are made.
pub(crate) fn tree() -> clap::Command {
    let tree = Cli::command().styles(ui::HELP_STYLES);
    let template = template(&tree);
    tree.help_template(template)
}

/// The program's own help: as clap's, with the commands in groups.
fn template(tree: &clap::Command) -> String {
    use std::fmt::Write as _;
    let (header, literal) = (ui::HELP_STYLES.get_header(), ui::HELP_STYLES.get_literal());
    let width = visible(tree).map(|command| command.get_name().len()).max().unwrap_or(0);
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n\n".to_owned();
    for (heading, names) in command::GROUPS {
        let _ = writeln!(text, "{header}{heading}:{header:#}");
        for name in *names {
            let Some(command) = visible(tree).find(|command| command.get_name() == *name) else { continue };
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {literal}{name}{literal:#}{:1$}  {about}", "", width - name.len());
        }
        text.push('\n');
    }
    let _ = write!(text, "{header}Options:{header:#}\n{{options}}{{after-help}}");
    text
}

fn visible(tree: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    tree.get_subcommands().filter(|command| !command.is_hide_set())
}

/// Reads an argument that must be text.
pub(crate) fn text(value: &OsStr) -> Result<&str, CliError> {
    value.to_str().ok_or_else(|| CliError::usage(format!("`{}` is not UTF-8", value.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_help_shows_every_command_once_in_eighty_columns() {
        let mut tree = super::tree().term_width(80);
        let help = tree.render_help().to_string();
        for command in super::visible(&tree) {
            let entry = format!("\n  {} ", command.get_name());
            assert_eq!(help.matches(&entry).count(), 1, "{}", command.get_name());
        }
        let wide: Vec<&str> = help.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{wide:#?}");
    }

    #[test]
    fn a_command_alone_is_what_it_is_in_the_whole_tree() {
        fn arguments(command: &clap::Command) -> Vec<String> {
            let own = command.get_arguments().map(|argument| format!("{argument:?}"));
            let below = command.get_subcommands().flat_map(|command| {
                let inner = arguments(command);
                inner
                    .into_iter()
                    .map(|argument| format!("{} {argument}", command.get_name()))
                    .collect::<Vec<_>>()
            });
            own.chain(below).collect()
        }
        for (_, names) in super::command::GROUPS {
            for name in *names {
                let whole = super::tree();
                let args = ["git-orchestra", name].map(std::ffi::OsString::from);
                let (Some(whole), Some(alone)) = (whole.find_subcommand(name), super::narrow_tree(&args))
                else {
                    let hidden = ["acp", "supervise", "confine", "api", "complete"];
                    assert!(hidden.contains(name), "{name}");
                    continue;
                };
                let alone = alone.find_subcommand(name).unwrap();
                assert_eq!(arguments(whole), arguments(alone), "{name}");
            }
        }
    }
}
