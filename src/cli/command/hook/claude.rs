//! The hook of Claude Code in a person's own checkout: in `.claude/settings.local.json`, which is nobody else's.

use crate::agent::claude_hook::hook_settings;
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What is run. Lets everything pass where git-orchestra is not installed.
const COMMAND: &str =
    "command -v git-orchestra >/dev/null 2>&1 || exit 0; exec git-orchestra hook pre-tool-use";

/// The settings of the checkout.
fn file(ctx: &Context) -> Result<PathBuf, CliError> {
    let root = ctx.repo()?.work_dir();
    let root = root.ok_or_else(|| CliError::new(ErrorKind::Failed, "a bare repository has no settings of Claude Code"))?;
    Ok(root.join(".claude/settings.local.json"))
}

/// The text of our setting, as the first of a JSON object.
fn ours() -> String {
    let settings = hook_settings(COMMAND);
    format!("\n  \"hooks\": {}", settings["hooks"])
}

/// Puts the hook into the settings, without touching what else they say. Returns the file.
pub(super) fn install(ctx: &Context) -> Result<PathBuf, CliError> {
    let file = file(ctx)?;
    let text = read(&file)?.unwrap_or_else(|| "{}\n".to_owned());
    let ours = ours();
    if text.contains(&ours) {
        return Ok(file);
    }
    let settings: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(&text).ok();
    let unreadable = || {
        let words = format!("{} is no JSON object", file.display());
        CliError::new(ErrorKind::Failed, words).hint("mend it, or move it away")
    };
    let settings = settings.ok_or_else(unreadable)?;
    if settings.contains_key("hooks") {
        let words = format!("{} has hooks of yours", file.display());
        let hint = format!("add this to its `PreToolUse`: {}", hook_settings(COMMAND)["hooks"]["PreToolUse"][0]);
        return Err(CliError::new(ErrorKind::Failed, words).hint(hint));
    }
    let brace = text.find('{').ok_or_else(unreadable)? + 1;
    // Between the brace and what comes next: the rest of the file keeps its form.
    let rest = &text[brace..];
    let comma = if settings.is_empty() { "\n" } else { "," };
    let rest = if settings.is_empty() { rest.trim_start() } else { rest };
    write(&file, &format!("{}{ours}{comma}{rest}", &text[..brace]))?;
    Ok(file)
}

/// Takes it away if it is as we wrote it. Returns the file then.
pub(super) fn uninstall(ctx: &Context) -> Result<Option<PathBuf>, CliError> {
    // Where there is no checkout there is no such file.
    let Ok(file) = file(ctx) else { return Ok(None) };
    let Some(text) = read(&file)? else { return Ok(None) };
    let ours = ours();
    let Some(at) = text.find(&ours) else { return Ok(None) };
    let rest = &text[at + ours.len()..];
    let rest = rest.strip_prefix(',').unwrap_or_else(|| rest.trim_start());
    let left = format!("{}{rest}", &text[..at]);
    if left.split_whitespace().collect::<String>() == "{}" {
        std::fs::remove_file(&file)
            .map_err(|error| CliError::failed(format!("failed to remove {}", file.display()), error))?;
    } else {
        write(&file, &left)?;
    }
    Ok(Some(file))
}

fn read(file: &Path) -> Result<Option<String>, CliError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::failed(format!("failed to read {}", file.display()), error)),
    }
}

/// Writes it whole or not at all.
fn write(file: &Path, text: &str) -> Result<(), CliError> {
    let failed = |error| CliError::failed(format!("failed to write {}", file.display()), error);
    let dir = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(failed)?;
    // A link stays one: what it leads to is written.
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let mut new = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(dir)).map_err(failed)?;
    if let Ok(meta) = file.metadata() {
        new.as_file().set_permissions(meta.permissions()).map_err(failed)?;
    }
    new.write_all(text.as_bytes()).map_err(failed)?;
    new.persist(&file).map_err(|error| failed(error.error))?;
    Ok(())
}
