//! How an agent behind the protocol is started.

use crate::agent::bridge::{self, BridgeDecoder, Wish};
use crate::agent::{Adapter, Decoder, Launch, LaunchRequest, PermissionReply};
use crate::model::Measure;

/// The hidden command of ours that is the agent's client.
const COMMAND: &str = "__acp";

/// Adapter for programs that speak the Agent Client Protocol: `OWN __acp -- PROGRAM ARGUMENTS…`, where the first word of
/// the request's program is our own executable.
///
/// What it may do is what it asks for: `bypass` allows all of that, `accept-edits` edits in the worktree, `plan` nothing
/// that changes something. What it does without asking nobody sees before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Acp;

impl Adapter for Acp {
    fn name(&self) -> &'static str {
        "acp"
    }

    fn launch(&self, request: &LaunchRequest) -> Launch {
        let (own, program) = request.program.split_at(request.program.len().min(1));
        let mut argv = own.to_vec();
        argv.extend([COMMAND.into(), "--".into()]);
        argv.extend(program.iter().chain(&request.extra_args).cloned());
        let notices = request.unkept(&[Measure::Cost, Measure::Turns], &[Measure::Tokens]);
        Launch { notices, ..bridge::launch(request, argv) }
    }

    fn decoder(&self, _: &LaunchRequest) -> Box<dyn Decoder> {
        Box::new(BridgeDecoder::default())
    }

    /// Some do, and to be told what git knows harms nobody.
    fn hides_git_configuration(&self) -> bool {
        true
    }

    fn message(&self, text: &str) -> Option<Vec<u8>> {
        Some(Wish::Message { text: text.to_owned() }.encode())
    }

    fn interrupt(&self) -> Option<Vec<u8>> {
        Some(Wish::Interrupt.encode())
    }

    fn hears_reasons(&self) -> bool {
        // An answer is one of the options that it offered.
        false
    }

    fn permission_reply(&self, request: &str, reply: &PermissionReply) -> Option<Vec<u8>> {
        Some(Wish::Reply { request: request.to_owned(), reply: reply.clone() }.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Budget;

    #[test]
    fn our_own_program_stands_in_between() {
        let request = LaunchRequest {
            program: vec!["/bin/git-orchestra".into(), "/bin/gemini".into(), "--acp".into()],
            extra_args: vec!["--debug".into()],
            prompt: "a secret".into(),
            budget: Budget { turns: Some(3), tokens: Some(5), ..Budget::default() },
            ..LaunchRequest::default()
        };
        let launch = Acp.launch(&request);
        assert_eq!(launch.argv, ["/bin/git-orchestra", "__acp", "--", "/bin/gemini", "--acp", "--debug"]);
        assert!(launch.keeps_input && launch.notices.len() == 2, "{:?}", launch.notices);
        assert!(Acp.message("x").is_some() && Acp.interrupt().is_some());
    }
}
