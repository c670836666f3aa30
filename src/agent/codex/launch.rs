//! How Codex is started.

use super::{CodexDecoder, conversation};
use crate::agent::conversation::{ConversationFile, Place, Turn, conversation_home};
use crate::agent::{Adapter, Decoder, Launch, LaunchRequest, OwnPlaces, Permissions};
use crate::model::{Measure, Sandbox};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Longer instructions go in with the prompt: Linux takes no argument longer than 128 KiB.
const MAX_INSTRUCTIONS: usize = 100 * 1024;

/// Adapter for Codex.
///
/// What it may do is what its own sandbox lets through, not what it would ask: `exec` asks nothing. `plan` is its
/// sandbox `read-only`; `accept-edits` is `workspace-write`: edits and commands in the worktree and in `/tmp`, no
/// network, and git's directory read-only, so that it cannot commit and what it leaves is committed for it; `bypass`
/// is neither sandbox nor limit. Confined by us, its own sandbox cannot be made: `accept-edits` does without, and
/// in `plan` its commands fail. It knows no limit on turns or money.
#[derive(Debug, Clone, Copy, Default)]
pub struct Codex;

impl Adapter for Codex {
    fn name(&self) -> &'static str {
        "codex"
    }

    /// The prompt goes in by standard input, which is closed then. The conversation's id is Codex's own: it is told
    /// in the first line, and `resume` takes it.
    fn launch(&self, request: &LaunchRequest) -> Launch {
        let mut argv = request.program.clone();
        let mut push = |words: &[&str]| argv.extend(words.iter().map(OsString::from));
        push(&["exec", "--json"]);
        // Its own sandbox mounts file systems, which nobody may who is confined (seen with 0.169.0).
        let replaced = request.sandbox != Sandbox::None && request.permissions == Permissions::AcceptEdits;
        match request.permissions {
            Permissions::AcceptEdits if replaced => push(&["--sandbox", "danger-full-access"]),
            Permissions::Plan => push(&["--sandbox", "read-only"]),
            Permissions::AcceptEdits => push(&["--sandbox", "workspace-write"]),
            Permissions::Bypass => push(&["--dangerously-bypass-approvals-and-sandbox"]),
        }
        if let Some(model) = &request.model {
            push(&["--model", model]);
        }
        let system = request.system_prompt.as_deref().unwrap_or_default();
        // It keeps the instructions of a conversation's beginning, whatever a later run says.
        let beside = !request.resume && !system.is_empty() && system.len() <= MAX_INSTRUCTIONS;
        if beside {
            push(&["--config", &format!("developer_instructions={}", toml_string(system))]);
        }
        argv.extend(request.extra_args.iter().cloned());
        if request.resume {
            argv.extend(["resume".into(), request.session.clone().into()]);
        }
        argv.push("-".into());
        let prompt = if beside || system.is_empty() {
            request.prompt.clone()
        } else {
            format!("{system}\n\n{}", request.prompt)
        };
        let mut notices = request.unkept(&[Measure::Cost, Measure::Turns], &[Measure::Tokens]);
        if replaced {
            let level = request.sandbox;
            notices.push(format!(
                "`{level}` takes the place of its own sandbox, which cannot be made in it: its commands have the network"
            ));
        }
        Launch { argv, input: Some(prompt.into_bytes()), notices, ..Launch::default() }
    }

    fn decoder(&self, request: &LaunchRequest) -> Box<dyn Decoder> {
        Box::new(CodexDecoder::new(&request.worktree, request.before))
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn own_places(&self, env: &BTreeMap<OsString, OsString>) -> OwnPlaces {
        OwnPlaces::of(
            self.conversation_home(env),
            &["config.toml", "AGENTS.md", "prompts", "rules", "skills"],
        )
    }

    fn conversation_home(&self, env: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
        conversation_home(env, "CODEX_HOME", ".codex")
    }

    fn read_conversation(&self, file: &[u8]) -> Vec<Turn> {
        conversation::read(file)
    }

    fn write_conversation(&self, turns: &[Turn], place: &Place<'_>) -> Option<ConversationFile> {
        conversation::write(turns, place)
    }
}

/// `text` as a basic string of TOML: JSON's, but that TOML wants the delete character escaped as well.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F").replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Budget;

    fn words(launch: &Launch) -> String {
        launch.argv.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_first_run_and_a_continued_one() {
        let first = LaunchRequest {
            program: vec!["node".into(), "codex.js".into()],
            session: "ours".into(),
            prompt: "do it\nnow".into(),
            system_prompt: Some("Be \"kind\"\n\u{7f}".into()),
            model: Some("gpt-6".into()),
            extra_args: vec!["--search".into()],
            ..LaunchRequest::default()
        };
        let launch = Codex.launch(&first);
        assert_eq!(
            words(&launch),
            "node codex.js exec --json --sandbox workspace-write --model gpt-6 --config \
             developer_instructions=\"Be \\\"kind\\\"\\n\\u007F\" --search -"
        );
        assert_eq!(launch.input.as_deref(), Some(&b"do it\nnow"[..]));
        assert!(!launch.keeps_input && launch.notices.is_empty());
        let again = LaunchRequest {
            resume: true,
            session: "01a1".into(),
            permissions: Permissions::Plan,
            system_prompt: Some("Be kind".into()),
            budget: Budget { turns: Some(3), tokens: Some(9), time_ms: Some(1), ..Budget::default() },
            ..first.clone()
        };
        let launch = Codex.launch(&again);
        assert_eq!(
            words(&launch),
            "node codex.js exec --json --sandbox read-only --model gpt-6 --search resume 01a1 -"
        );
        assert_eq!(launch.input.as_deref(), Some(&b"Be kind\n\ndo it\nnow"[..]));
        assert_eq!(launch.notices.len(), 2, "{:?}", launch.notices);
        let bypass = Codex.launch(&LaunchRequest { permissions: Permissions::Bypass, ..first.clone() });
        assert!(words(&bypass).contains(" --dangerously-bypass-approvals-and-sandbox "));
        let long = LaunchRequest { system_prompt: Some("x".repeat(MAX_INSTRUCTIONS + 1)), ..first };
        assert!(words(&Codex.launch(&long)).len() < 200);
    }

    #[test]
    fn instructions_are_toml_whatever_they_hold() {
        let text: String = (1..0x300).filter_map(char::from_u32).chain("\"\\'''\u{2028}😀".chars()).collect();
        let table: toml::Table = format!("x = {}", toml_string(&text)).parse().unwrap();
        assert_eq!(table["x"].as_str(), Some(text.as_str()));
    }
}
