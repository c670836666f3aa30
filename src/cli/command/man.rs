//! `git orchestra man`: the manual, made from the command tree.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use std::ffi::OsString;

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
    let write = |path: &std::path::Path, page: &[u8]| {
        std::fs::create_dir_all(&dir)?;
        std::fs::write(path, page)
    };
    for (name, page) in &pages {
        let path = dir.join(name);
        write(&path, page)
            .map_err(|error| CliError::failed(format!("failed to write `{}`", path.display()), error))?;
    }
    ctx.ui().note(format!("wrote {} pages to {}", pages.len(), dir.display()));
    Ok(Exit::Done)
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
    let mut bytes = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name.to_ascii_uppercase()).render(&mut bytes)?;
    pages.push((format!("{name}.1"), bytes));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        page(sub, &format!("{name}-{}", sub.get_name()), pages)?;
    }
    Ok(())
}
