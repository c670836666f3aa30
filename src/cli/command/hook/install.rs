//! `git orchestra hook install`.

use super::claude;
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::orchestrate::lease;
use std::fs::{DirBuilder, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Install hooks that warn before a commit, a push or an edit
///
/// Without --pre-commit, --pre-push or --claude, the first two. They are written where git looks for hooks (core.hooksPath), and let
/// everything pass where git-orchestra is not installed. A hook that is there already stays as it is: this is refused
/// then, with the line that you could add to it. The hook of Claude Code goes into .claude/settings.local.json of this
/// checkout; agents that `spawn` starts have it without that.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra hook install\n  git orchestra hook install --pre-push --strict\n  git orchestra hook install --claude")]
#[expect(clippy::struct_excessive_bools, reason = "independent options")]
pub(crate) struct Args {
    /// The hook that says before a commit what agents at work are changing too
    #[arg(long)]
    pre_commit: bool,
    /// The hook that says before a push what is open, and stops it for what is critical or lost
    #[arg(long)]
    pre_push: bool,
    /// The hook that tells Claude Code before an edit which agents at work have changed the same lines
    #[arg(long)]
    claude: bool,
    /// Let the hooks of git stop what they would warn of
    #[arg(long)]
    strict: bool,
}

/// The hooks there are.
pub(super) const HOOKS: [&str; 2] = ["pre-commit", "pre-push"];

/// By this line a hook is known as ours.
const MARK: &str = "# git-orchestra: `git orchestra hook uninstall` takes this away.";

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    if args.claude {
        ctx.ui().print(&format!("{}\n", claude::install(ctx)?.display()))?;
    }
    let wanted = [args.pre_commit, args.pre_push];
    let all = wanted == [false, false];
    if all && args.claude {
        return Ok(Exit::Done);
    }
    require_nobody_at_work(ctx)?;
    let dir = directory(ctx)?;
    let mut files = Vec::new();
    for (name, _) in HOOKS.iter().zip(wanted).filter(|(_, wanted)| all || *wanted) {
        let (file, script) = (dir.join(name), script(name, args.strict));
        match std::fs::read(&file) {
            Ok(there) if is_ours(&there) => {}
            Ok(_) => {
                let line = format!("git orchestra hook {name} || exit");
                return Err(CliError::new(ErrorKind::Failed, format!("{} is a hook of yours", file.display()))
                    .hint(format!("add this line to it: `{line}`")));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(CliError::failed(format!("failed to read {}", file.display()), error)),
        }
        files.push((file, script));
    }
    let failed = |error| CliError::failed(format!("failed to write hooks to {}", dir.display()), error);
    DirBuilder::new().recursive(true).mode(0o755).create(&dir).map_err(failed)?;
    for (file, script) in files {
        write(&dir, &file, &script).map_err(failed)?;
        ctx.ui().print(&format!("{}\n", file.display()))?;
    }
    Ok(Exit::Done)
}

/// Writes one whole, in place of none or of one of ours.
fn write(dir: &Path, file: &Path, script: &str) -> std::io::Result<()> {
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    new.write_all(script.as_bytes())?;
    new.as_file().set_permissions(Permissions::from_mode(0o755))?;
    match std::fs::read(file) {
        Ok(there) if is_ours(&there) => std::fs::remove_file(file)?,
        _ => {}
    }
    new.persist_noclobber(file).map(|_| ()).map_err(|error| error.error)
}

fn script(name: &str, strict: bool) -> String {
    let strict = if strict { " --strict" } else { "" };
    format!(
        "#!/bin/sh\n{MARK}\ncommand -v git-orchestra >/dev/null 2>&1 || exit 0\nexec git-orchestra hook {name}{strict} \"$@\"\n"
    )
}

/// Whether a hook is as we wrote it, word for word.
pub(super) fn is_ours(content: &[u8]) -> bool {
    HOOKS.iter().any(|name| [false, true].iter().any(|strict| script(name, *strict).as_bytes() == content))
}

/// Refuses while agents run: a hook that appears or goes then is what we warn of.
pub(super) fn require_nobody_at_work(ctx: &Context) -> Result<(), CliError> {
    if lease::live(ctx.repo()?).is_empty() {
        return Ok(());
    }
    Err(CliError::new(ErrorKind::Failed, "agents run now, and hooks must not change while they do")
        .hint("`git orchestra wait` returns when they are done"))
}

/// Where git looks for hooks.
pub(super) fn directory(ctx: &Context) -> Result<PathBuf, CliError> {
    let repo = ctx.repo()?;
    let Some(configured) = repo.config("core.hooksPath") else { return Ok(repo.common_dir().join("hooks")) };
    if let (Some(rest), Some(home)) = (configured.strip_prefix("~/"), ctx.env().home()) {
        return Ok(home.join(rest));
    }
    Ok(repo.work_dir().unwrap_or_else(|| repo.common_dir()).join(configured))
}
