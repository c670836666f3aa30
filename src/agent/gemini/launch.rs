//! How Gemini CLI is started.

use super::GeminiDecoder;
use crate::agent::conversation::conversation_home;
use crate::agent::{Adapter, Decoder, Launch, LaunchRequest, OwnPlaces, Permissions};
use crate::model::Measure;
use std::collections::BTreeMap;
use std::ffi::OsString;

/// Adapter for Gemini CLI.
///
/// Without a terminal it asks nothing: tools that it would have to ask for are not offered to the model at all. So
/// `plan` is its `plan`; `accept-edits` is `auto_edit`: files in the worktree, and **no commands**; `bypass` is
/// `yolo`: everything. A worktree is a folder that it has never seen, so it is told to trust it (`--skip-trust`);
/// otherwise it refuses to start. It knows no limit on money, and one on turns in its settings file only.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gemini;

impl Adapter for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    /// The prompt goes in by standard input, which is closed then; role, rules and findings stand before it, as no
    /// option adds to its system prompt.
    fn launch(&self, request: &LaunchRequest) -> Launch {
        let mut argv = request.program.clone();
        let mut push = |words: &[&str]| argv.extend(words.iter().map(OsString::from));
        push(&["--output-format", "stream-json", "--skip-trust"]);
        push(&["--approval-mode", approval_mode(request.permissions)]);
        push(&[if request.resume { "--resume" } else { "--session-id" }, &request.session]);
        if let Some(model) = &request.model {
            push(&["--model", model]);
        }
        argv.extend(request.extra_args.iter().cloned());
        let prompt = match &request.system_prompt {
            Some(system) => format!("{system}\n\n{}", request.prompt),
            None => request.prompt.clone(),
        };
        Launch {
            argv,
            input: Some(prompt.into_bytes()),
            notices: request.unkept(&[Measure::Cost], &[Measure::Tokens]),
            ..Launch::default()
        }
    }

    fn decoder(&self, request: &LaunchRequest) -> Box<dyn Decoder> {
        Box::new(GeminiDecoder::new(&request.worktree))
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn own_places(&self, env: &BTreeMap<OsString, OsString>) -> OwnPlaces {
        let names = ["GEMINI.md", "commands", "extensions", "policies", "settings.json", "skills"];
        OwnPlaces::of(conversation_home(env, "", ".gemini"), &names)
    }

    /// Its shell points git's global and system configuration at `/dev/null` (seen with 0.61.0).
    fn hides_git_configuration(&self) -> bool {
        true
    }
}

const fn approval_mode(permissions: Permissions) -> &'static str {
    match permissions {
        Permissions::Plan => "plan",
        Permissions::AcceptEdits => "auto_edit",
        Permissions::Bypass => "yolo",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Budget;

    #[test]
    fn a_first_run_and_a_continued_one() {
        let words = |request: &LaunchRequest| {
            let argv = Gemini.launch(request).argv;
            argv.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
        };
        let mut request = LaunchRequest {
            program: vec!["gemini".into()],
            session: "1-2".into(),
            prompt: "do it".into(),
            system_prompt: Some("Be kind".into()),
            ..LaunchRequest::default()
        };
        assert_eq!(
            words(&request),
            "gemini --output-format stream-json --skip-trust --approval-mode auto_edit --session-id 1-2"
        );
        let launch = Gemini.launch(&request);
        assert_eq!(launch.input.as_deref(), Some(&b"Be kind\n\ndo it"[..]));
        assert!(!launch.keeps_input && launch.notices.is_empty());
        request = LaunchRequest {
            resume: true,
            model: Some("gemini-2.5-pro".into()),
            permissions: Permissions::Bypass,
            budget: Budget { turns: Some(3), cost_micro_usd: Some(9), ..Budget::default() },
            extra_args: vec!["--extensions".into(), "none".into()],
            ..request
        };
        assert_eq!(
            words(&request),
            "gemini --output-format stream-json --skip-trust --approval-mode yolo --resume 1-2 --model \
             gemini-2.5-pro --extensions none"
        );
        let notices = Gemini.launch(&request).notices;
        assert!(notices.len() == 1 && notices[0].contains("`max-cost` is not in force"), "{notices:?}");
        assert!(words(&LaunchRequest { permissions: Permissions::Plan, ..request }).contains("-mode plan"));
    }
}
