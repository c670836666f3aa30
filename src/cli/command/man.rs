//! `git orchestra man`: the manual, made from the command tree.

use super::GROUPS;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::process::Command;
use std::ffi::OsString;
use std::path::Path;

/// Print or install the manual pages
///
/// With --install, `git orchestra --help` and `git help orchestra` open the manual.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra man | man -l -\n  git orchestra man --install")]
pub(crate) struct Args {
    /// Write all pages below DIR, or below man/man1 in your data directory
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "", value_hint = clap::ValueHint::DirPath)]
    install: Option<OsString>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let pages = pages()?;
    let Some(dir) = &args.install else {
        let (_, page) = pages.first().expect("the tree has a root");
        ctx.ui().print_bytes(page)?;
        return Ok(Exit::Done);
    };
    let dir = match dir.as_os_str() {
        dir if !dir.is_empty() => ctx.dir().join(dir),
        _ => ctx
            .env()
            .data_home()
            .ok_or_else(|| CliError::usage("there is no home directory: name a directory after --install"))?
            .join("man/man1"),
    };
    let write = |path: &Path, page: &[u8]| {
        std::fs::create_dir_all(&dir)?;
        std::fs::write(path, page)
    };
    for (name, page) in &pages {
        let path = dir.join(name);
        write(&path, page)
            .map_err(|error| CliError::failed(format!("failed to write `{}`", path.display()), error))?;
    }
    ctx.ui().note(format!("wrote {} pages to {}", pages.len(), dir.display()));
    if let Some(above) = dir.parent().filter(|_| !man_finds(ctx, &dir)) {
        ctx.ui().hint(format!(
            "man does not look there: `export MANPATH={}:` in your shell's profile makes it",
            above.display()
        ));
    }
    Ok(Exit::Done)
}

/// Whether man finds the pages in `dir`; also if there is no man at all.
fn man_finds(ctx: &Context, dir: &Path) -> bool {
    let passed = ["PATH", "HOME", "MANPATH", "XDG_DATA_HOME"];
    let passed = passed.iter().filter_map(|key| Some((key, ctx.env().var(key)?)));
    let asked = Command::new("man").args(["-w", "git-orchestra"]).envs(passed).output();
    asked.map_or(true, |found| {
        let found = String::from_utf8_lossy(&found.stdout);
        Path::new(found.trim()).parent().and_then(|found| found.canonicalize().ok()) == dir.canonicalize().ok()
    })
}

/// Every page with its file name, the program's own first.
pub(crate) fn pages() -> Result<Vec<(String, Vec<u8>)>, CliError> {
    let mut root = crate::cli::tree();
    root.build();
    let mut pages = Vec::new();
    page(&root, "git-orchestra", &mut pages)?;
    Ok(pages)
}

fn page(command: &clap::Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), CliError> {
    let is_root = pages.is_empty();
    // Every command takes the global options: the program's own page tells of them once.
    let shown = command.clone().mut_args(|arg| {
        let hide = !is_root && arg.is_global_set();
        arg.hide(hide)
    });
    let man = clap_mangen::Man::new(shown)
        .title(name.to_ascii_uppercase())
        .source(concat!("git-orchestra ", env!("CARGO_PKG_VERSION")))
        .manual("Git Orchestra");
    let mut bytes = Vec::new();
    man.render_title(&mut bytes)?;
    man.render_name_section(&mut bytes)?;
    man.render_synopsis_section(&mut bytes)?;
    man.render_description_section(&mut bytes)?;
    man.render_options_section(&mut bytes)?;
    if is_root {
        groups(command, &mut bytes);
    } else if command.has_subcommands() {
        man.render_subcommands_section(&mut bytes)?;
    }
    if let Some(examples) = command.get_after_help() {
        let examples = examples.to_string();
        let lines = examples.lines().filter(|line| !matches!(*line, "Example:" | "Examples:"));
        literal("EXAMPLES", lines, &mut bytes);
    }
    if is_root {
        bytes.extend_from_slice(ROOT.as_bytes());
    } else {
        bytes.extend_from_slice(b".SH \"SEE ALSO\"\n\\fBgit\\-orchestra\\fR(1)\n");
    }
    pages.push((format!("{name}.1"), bytes));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        page(sub, &format!("{name}-{}", sub.get_name()), pages)?;
    }
    Ok(())
}

/// The commands in the groups of the help.
fn groups(root: &clap::Command, page: &mut Vec<u8>) {
    page.extend_from_slice(b".SH COMMANDS\n");
    for (heading, names) in GROUPS {
        page.extend_from_slice(format!(".SS {heading}\n").as_bytes());
        for name in *names {
            let Some(command) = root.find_subcommand(name).filter(|command| !command.is_hide_set()) else {
                continue;
            };
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let about = about.replace('-', "\\-");
            page.extend_from_slice(format!(".TP\n\\fBgit\\-orchestra\\-{name}\\fR(1)\n{about}\n").as_bytes());
        }
    }
}

/// Lines that are shown as they are.
fn literal<'a>(heading: &str, lines: impl Iterator<Item = &'a str>, page: &mut Vec<u8>) {
    page.extend_from_slice(format!(".SH {heading}\n.nf\n").as_bytes());
    for line in lines {
        // A leading `.` or `'` would be a request to the formatter.
        let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
        let guard = if line.starts_with('.') { "\\&" } else { "" };
        page.extend_from_slice(format!("{guard}{line}\n").as_bytes());
    }
    page.extend_from_slice(b".fi\n");
}

/// What only the program's own page tells.
const ROOT: &str = r#".SH "EXIT STATUS"
.TP
\fB0\fR
done
.TP
\fB1\fR
it could not be done; standard error says why
.TP
\fB2\fR
the command line was wrong
.TP
\fB3\fR
a decision is waiting: \fBgit orchestra decide\fR
.TP
\fB4\fR
an agent failed
.TP
\fB5\fR
a gate failed
.TP
\fB6\fR
a remote went back, or rewrote or deleted what had been seen of it
.TP
\fB7\fR
what \fBwait\fR waited for did not come in time
.TP
\fB8\fR
\fBwait\fR and \fBstop\fR: there is no such agent
.TP
\fB9\fR
a budget is used up
.TP
\fB128+n\fR
ended by signal n
.SH FILES
.TP
\fIorchestra.toml\fR
settings of the repository, in the root of its main worktree (in a bare repository: of HEAD)
.TP
\fI$XDG_CONFIG_HOME/git\-orchestra/config.toml\fR
your settings
.TP
\fI$XDG_DATA_HOME/git\-orchestra/approved/\fR
what you have approved of repositories' settings
.TP
\fI$GIT_DIR/orchestra/\fR
what never leaves this machine: journals, leases, caches
.SH REFS
.TP
\fIrefs/orchestra/state\fR
tasks, agents, findings, decisions and merges; one commit for each change
.TP
\fIrefs/notes/orchestra/*\fR
findings, and who made a commit: \fBgit log \-\-notes=\(aqorchestra/*\(aq\fR
.TP
\fIrefs/orchestra/log/*\fR
transcripts of runs
.TP
\fIrefs/orchestra/remotes/*\fR
what \fBgit orchestra fetch\fR saw of remotes; never pushed
.TP
\fIrefs/orchestra/rescue/*\fR
what would otherwise have been lost
.SH ENVIRONMENT
.TP
\fBORCHESTRA_JOBS\fR, \fBORCHESTRA_DEFAULT_PROFILE\fR, …
settings; \fBgit orchestra config list \-\-keys\fR lists them
.TP
\fBCLAUDE_CLI_PATH\fR
the Claude Code program
.TP
\fBGIT_ORCHESTRA_AGENT\fR
the agent that runs a command; set for agents
.TP
\fBNO_COLOR\fR, \fBCOLUMNS\fR, \fBGIT_PAGER\fR, \fBPAGER\fR, \fBGIT_EDITOR\fR, \fBVISUAL\fR, \fBEDITOR\fR
as everywhere
.SH "SEE ALSO"
\fBgit\fR(1), \fBgit\-worktree\fR(1), \fBgit\-notes\fR(1)
"#;
