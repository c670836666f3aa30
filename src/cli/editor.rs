//! Texts that people write: `-m`, `-F` and the editor.

use super::context::Context;
use super::error::{CliError, ErrorKind};
use crate::process::Command;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where a body comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TextArgs {
    /// The description; said several times, its paragraphs
    #[arg(short, long, value_name = "BODY", conflicts_with = "file")]
    message: Vec<String>,
    /// Take the description from FILE (`-` is standard input)
    #[arg(short = 'F', long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// Write it in your editor: first line the title, the rest the description
    #[arg(short, long)]
    edit: bool,
}

impl TextArgs {
    /// Whether the editor was asked for.
    pub(crate) const fn wants_editor(&self) -> bool {
        self.edit
    }

    /// The body that was given, if one was.
    pub(crate) fn body(&self, ctx: &Context) -> Result<Option<String>, CliError> {
        if !self.message.is_empty() {
            return Ok(Some(tidy(&self.message.join("\n\n"))));
        }
        let Some(file) = &self.file else { return Ok(None) };
        Ok(Some(tidy(&read_file(ctx, file)?)))
    }
}

/// The text of a file, or of standard input (`-`).
pub(crate) fn read_file(ctx: &Context, file: &Path) -> Result<String, CliError> {
    let failed = |error| CliError::failed(format!("failed to read `{}`", file.display()), error);
    if file.as_os_str() != "-" {
        return std::fs::read_to_string(ctx.dir().join(file)).map_err(failed);
    }
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Lines without blanks at their ends, no empty lines at the beginning and the end.
fn tidy(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// Lets the user write a title and a body, starting from these. Lines that start with `#` are ours.
pub(crate) fn edit(ctx: &Context, title: &str, body: &str) -> Result<(String, String), CliError> {
    let help = "# First line: the title. Then an empty line and the description.\n\
                # Lines that start with `#;` are left out. An empty title gives up.\n";
    let help = help.replace("\n#", "\n#;").replacen('#', "#;", 1);
    let text = edit_text(ctx, &format!("{title}\n\n{body}\n{help}"))?;
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("#;")).collect();
    let text = tidy(&kept.join("\n"));
    let (title, body) = text.split_once('\n').unwrap_or((&text, ""));
    if title.trim().is_empty() {
        return Err(CliError::new(ErrorKind::Failed, "the title is empty: nothing was changed"));
    }
    Ok((title.trim().to_owned(), tidy(body)))
}

/// Lets the user edit `text` in the editor that git would use.
pub(crate) fn edit_text(ctx: &Context, text: &str) -> Result<String, CliError> {
    let failed = |error| CliError::failed("failed to keep the text for the editor", error);
    let file = tempfile::Builder::new()
        .prefix("orchestra-")
        .suffix(".md")
        .tempfile()
        .and_then(|file| std::fs::write(file.path(), text).map(|()| file))
        .map_err(failed)?;
    let command = Command::new("/bin/sh")
        .args(["-c", &format!("{} \"$@\"", editor(ctx)?), "editor"])
        .arg(file.path())
        .envs(ctx.env().iter())
        .current_dir(ctx.dir())
        .with_terminal();
    let output = command.output()?;
    if !output.status.success() {
        return Err(CliError::new(ErrorKind::Failed, format!("the editor ended with {}", output.status)));
    }
    std::fs::read_to_string(file.path()).map_err(failed)
}

/// git's order: `GIT_EDITOR`, `core.editor` of the user (not of the repository: agents can write that one),
/// `VISUAL`, `EDITOR`, `vi`.
fn editor(ctx: &Context) -> Result<String, CliError> {
    let env = ctx.env();
    if let Some(editor) = env.text("GIT_EDITOR") {
        return Ok(editor.to_owned());
    }
    let configured = ctx.repo()?.config_entries("core").into_iter().rev();
    let mut configured = configured.filter(|entry| !entry.from_repository && !entry.value.is_empty());
    if let Some(entry) = configured.find(|entry| entry.key == "editor") {
        return Ok(entry.value);
    }
    Ok(env.text("VISUAL").or_else(|| env.text("EDITOR")).unwrap_or("vi").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_tidied_as_git_does() {
        assert_eq!(tidy("\n\n  a  \n\nb\t\n\n"), "  a\n\nb");
    }
}
