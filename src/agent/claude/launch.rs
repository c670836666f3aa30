//! How Claude Code is started and talked to.

use super::{ClaudeDecoder, conversation, hook};
use crate::agent::conversation::{ConversationFile, Place, Turn, conversation_home};
use crate::agent::{Adapter, Decoder, Launch, LaunchRequest, OwnPlaces, PermissionReply, Permissions};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What of its directory in the user's home is read in every session: hooks, plugins, what it is told.
const SETTINGS: &[&str] = &[
    "CLAUDE.md",
    "agents",
    "commands",
    "hooks",
    "keybindings.json",
    "output-styles",
    "plugins",
    "rules",
    "settings.json",
    "settings.local.json",
    "skills",
];

/// Adapter for Claude Code.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claude;

impl Adapter for Claude {
    fn name(&self) -> &'static str {
        "claude"
    }

    /// Streams both ways, partial messages, and permission questions on the same pipes (which need no
    /// `initialize` request: seen with 2.1.197). The prompt goes in as the first message, never on the command
    /// line, where other users could read it and its length is limited.
    fn launch(&self, request: &LaunchRequest) -> Launch {
        let mut argv = request.program.clone();
        let mut push = |words: &[&str]| argv.extend(words.iter().map(OsString::from));
        push(&["-p", "--output-format", "stream-json", "--input-format", "stream-json", "--verbose"]);
        push(&["--include-partial-messages", "--permission-prompt-tool", "stdio"]);
        push(&["--permission-mode", permission_mode(request.permissions)]);
        push(&[if request.resume { "--resume" } else { "--session-id" }, &request.session]);
        if let Some(text) = &request.system_prompt {
            push(&["--append-system-prompt", text]);
        }
        if let Some(model) = &request.model {
            push(&["--model", model]);
        }
        if let Some(tools) = &request.tools {
            // One word each: the option takes as many words as follow it.
            let names: BTreeSet<&str> = tools.iter().map(|tool| bare(tool)).collect();
            push(&[&format!("--tools={}", names.into_iter().collect::<Vec<_>>().join(","))]);
            let uses: Vec<&str> =
                tools.iter().map(String::as_str).filter(|tool| bare(tool) != *tool).collect();
            if !uses.is_empty() {
                push(&[&format!("--allowed-tools={}", uses.join(","))]);
            }
        }
        if !request.denied_tools.is_empty() {
            push(&[&format!("--disallowed-tools={}", request.denied_tools.join(","))]);
        }
        if let Some(turns) = request.budget.turns {
            push(&["--max-turns", &turns.to_string()]);
        }
        if let Some(micro_usd) = request.budget.cost_micro_usd {
            push(&["--max-budget-usd", &format!("{}.{:06}", micro_usd / 1_000_000, micro_usd % 1_000_000)]);
        }
        let mut notices = Vec::new();
        if let Some(command) = &request.edit_hook {
            // Of several, only the last counts.
            let is_said = |arg: &OsString| arg.to_string_lossy().starts_with("--settings");
            if request.extra_args.iter().any(is_said) {
                notices.push(
                    "its profile has `--settings` of its own: edits are not compared with others'".to_owned(),
                );
            } else {
                push(&["--settings", &hook::hook_settings(command).to_string()]);
            }
        }
        argv.extend(request.extra_args.iter().cloned());
        // A program that replaces itself while sixteen of its kind start is a program that hangs.
        let env = vec![("DISABLE_AUTOUPDATER".into(), "1".into())];
        Launch { argv, env, input: self.message(&request.prompt), keeps_input: true, notices }
    }

    fn limits_tools(&self) -> bool {
        true
    }

    fn decoder(&self, _: &LaunchRequest) -> Box<dyn Decoder> {
        Box::new(ClaudeDecoder::default())
    }

    fn own_places(&self, env: &BTreeMap<OsString, OsString>) -> OwnPlaces {
        let mut own = OwnPlaces::of(self.conversation_home(env), SETTINGS);
        // With a directory of another name it lies in that.
        own.files.extend(env.get(OsStr::new("HOME")).map(|home| Path::new(home).join(".claude.json")));
        own
    }

    fn conversation_home(&self, env: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
        conversation_home(env, "CLAUDE_CONFIG_DIR", ".claude")
    }

    fn read_conversation(&self, file: &[u8]) -> Vec<Turn> {
        conversation::read(file)
    }

    fn write_conversation(&self, turns: &[Turn], place: &Place<'_>) -> Option<ConversationFile> {
        conversation::write(turns, place)
    }

    fn message(&self, text: &str) -> Option<Vec<u8>> {
        Some(line(&json!({"type": "user", "message": {"role": "user", "content": text}})))
    }

    fn interrupt(&self) -> Option<Vec<u8>> {
        Some(line(&json!({
            "type": "control_request",
            "request_id": "interrupt",
            "request": {"subtype": "interrupt"},
        })))
    }

    fn permission_reply(&self, request: &str, reply: &PermissionReply) -> Option<Vec<u8>> {
        let response = match reply {
            PermissionReply::Allow { input } => match RawValue::from_string(input.clone()) {
                Ok(input) => json!({"behavior": "allow", "updatedInput": input}),
                Err(_) => json!({"behavior": "deny", "message": "the tool's input did not arrive whole"}),
            },
            PermissionReply::Answer { input, answers } => {
                let mut input: Map<String, Value> = serde_json::from_str(input).unwrap_or_default();
                let answers: Map<_, _> =
                    answers.iter().map(|(question, answer)| (question.clone(), json!(answer))).collect();
                input.insert("answers".to_owned(), answers.into());
                json!({"behavior": "allow", "updatedInput": input})
            }
            PermissionReply::Deny { message } => json!({"behavior": "deny", "message": message}),
        };
        Some(line(&json!({
            "type": "control_response",
            "response": {"subtype": "success", "request_id": request, "response": response},
        })))
    }
}

fn line(value: &serde_json::Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The tool's name without the pattern of its uses.
fn bare(tool: &str) -> &str {
    tool.split_once('(').map_or(tool, |(name, _)| name).trim()
}

const fn permission_mode(permissions: Permissions) -> &'static str {
    match permissions {
        Permissions::Plan => "plan",
        Permissions::AcceptEdits => "acceptEdits",
        Permissions::Bypass => "bypassPermissions",
    }
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
        let mut request = LaunchRequest {
            program: vec!["node".into(), "cli.js".into()],
            session: "1-2".into(),
            prompt: "do \"it\"\nnow".into(),
            ..LaunchRequest::default()
        };
        let launch = Claude.launch(&request);
        assert_eq!(
            words(&launch),
            "node cli.js -p --output-format stream-json --input-format stream-json --verbose \
             --include-partial-messages --permission-prompt-tool stdio --permission-mode acceptEdits \
             --session-id 1-2"
        );
        let input: serde_json::Value = serde_json::from_slice(&launch.input.unwrap()).unwrap();
        assert_eq!(input["message"]["content"], "do \"it\"\nnow");
        request = LaunchRequest {
            resume: true,
            system_prompt: Some("Be brief".into()),
            model: Some("opus".into()),
            permissions: Permissions::Plan,
            budget: Budget { turns: Some(3), cost_micro_usd: Some(1_500_000), ..Budget::default() },
            extra_args: vec!["--effort".into(), "low".into()],
            tools: Some(vec!["Read".into(), "Bash(git log *)".into(), "Bash(git diff *)".into()]),
            denied_tools: vec!["Bash(git push *)".into()],
            edit_hook: Some("'/bin/x' hook".into()),
            ..request
        };
        let own = LaunchRequest { extra_args: vec!["--settings=mine.json".into()], ..request.clone() };
        let launch = Claude.launch(&own);
        assert!(words(&launch).ends_with("1.500000 --settings=mine.json"), "{}", words(&launch));
        assert_eq!(launch.notices.len(), 1);
        let launch = words(&Claude.launch(&request));
        let (_, options) = launch.split_once("stdio ").unwrap();
        assert_eq!(
            options,
            "--permission-mode plan --resume 1-2 --append-system-prompt Be brief --model opus \
             --tools=Bash,Read --allowed-tools=Bash(git log *),Bash(git diff *) \
             --disallowed-tools=Bash(git push *) --max-turns 3 --max-budget-usd 1.500000 --settings \
             {\"hooks\":{\"PreToolUse\":[{\"hooks\":[{\"command\":\"'/bin/x' hook\",\"timeout\":10,\
             \"type\":\"command\"}],\"matcher\":\"Edit|MultiEdit|Write|NotebookEdit\"}]}} --effort low"
        );
    }

    #[test]
    fn permissions_are_answered_with_the_input_as_it_was_asked() {
        let reply = |reply| String::from_utf8(Claude.permission_reply("r1", &reply).unwrap()).unwrap();
        let allow = reply(PermissionReply::Allow { input: r#"{"b":1,"a":1.50}"#.into() });
        assert!(allow.contains(r#""behavior":"allow""#), "{allow}");
        assert!(allow.contains(r#""request_id":"r1""#), "{allow}");
        assert!(allow.ends_with('\n') && allow.matches('\n').count() == 1);
        assert!(reply(PermissionReply::Allow { input: "{".into() }).contains(r#""behavior":"deny""#));
        assert!(reply(PermissionReply::Deny { message: "no".into() }).contains(r#""message":"no""#));
    }
}
