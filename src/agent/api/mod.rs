//! `api`: a model behind Anthropic's Messages API, with a loop of our own around it and tools of our own.
//!
//! The program is our own (`git-orchestra __api`, see [`work`]), between the supervisor and the model as [`super::bridge`]
//! says; [`Api`] is the side that starts it. Only this directory speaks with a network.

mod ask;
mod brief;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod http;
mod inbox;
mod permit;
mod record;
mod relay;
mod tally;
mod tools;
mod wire;
mod work;

pub use http::Access;
pub use work::{Fallback, MODEL, Surroundings, work};

use super::bridge::{self, BridgeDecoder, Wish};
use super::conversation::{ConversationFile, Place, Turn};
use super::{Adapter, Claude, Decoder, Launch, LaunchRequest, OwnPlaces, PermissionReply, price};
use crate::model::{Measure, Usage};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The hidden command of our own executable that is the program.
pub const COMMAND: &str = "__api";
/// Beginnings of the names of variables that say how its model is reached, and as whom: no command sees them.
pub const VARIABLES: [&str; 2] = ["ANTHROPIC_", "CLAUDE_"];

/// Adapter for the built-in loop: runs `PROGRAM __api ARGUMENTS…`, where the program is `git-orchestra` itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Api;

impl Adapter for Api {
    fn name(&self) -> &'static str {
        "api"
    }

    fn launch(&self, request: &LaunchRequest) -> Launch {
        let mut argv = request.program.clone();
        argv.push(COMMAND.into());
        argv.extend(request.extra_args.iter().cloned());
        Launch { notices: unpriced(request), ..bridge::launch(request, argv) }
    }

    fn decoder(&self, _: &LaunchRequest) -> Box<dyn Decoder> {
        Box::new(BridgeDecoder::default())
    }

    fn limits_tools(&self) -> bool {
        true
    }

    fn own_places(&self, env: &BTreeMap<OsString, OsString>) -> OwnPlaces {
        OwnPlaces::of(self.conversation_home(env), &[])
    }

    fn conversation_home(&self, env: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
        let get = |key: &str| env.get(OsStr::new(key)).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = get("XDG_DATA_HOME").or_else(|| get("HOME").map(|home| home.join(".local/share")));
        data.map(|data| data.join("git-orchestra/conversations"))
    }

    fn read_conversation(&self, file: &[u8]) -> Vec<Turn> {
        record::turns(file)
    }

    fn write_conversation(&self, turns: &[Turn], place: &Place<'_>) -> Option<ConversationFile> {
        let bytes = record::file_of(turns)?;
        Some(ConversationFile { path: format!("{}.jsonl", place.session).into(), bytes })
    }

    fn message(&self, text: &str) -> Option<Vec<u8>> {
        Some(Wish::Message { text: text.to_owned() }.encode())
    }

    fn interrupt(&self) -> Option<Vec<u8>> {
        Some(Wish::Interrupt.encode())
    }

    fn permission_reply(&self, request: &str, reply: &PermissionReply) -> Option<Vec<u8>> {
        Some(Wish::Reply { request: request.to_owned(), reply: reply.clone() }.encode())
    }
}

/// What is to be said of a budget of money where the table of prices does not know the model.
fn unpriced(request: &LaunchRequest) -> Vec<String> {
    let model = request.model.as_deref().unwrap_or(MODEL);
    let known = price::cost(model, &Usage::default()).is_some();
    if known { Vec::new() } else { request.unkept(&[Measure::Cost], &[]) }
}

/// Adapter for the built-in loop with Claude Code behind it, which does the work where the API is not to be had: runs
/// `PROGRAM __api ARGUMENTS… -- CLAUDE…`, where the first word of the program is `git-orchestra` and the rest is Claude
/// Code.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hybrid;

impl Adapter for Hybrid {
    fn name(&self) -> &'static str {
        "hybrid"
    }

    fn launch(&self, request: &LaunchRequest) -> Launch {
        let (own, claude) = request.program.split_at(request.program.len().min(1));
        let mut argv = own.to_vec();
        argv.push(COMMAND.into());
        argv.extend(request.extra_args.iter().cloned());
        argv.push("--".into());
        argv.extend(claude.iter().cloned());
        // Claude Code knows what it costs.
        let notices =
            unpriced(request).into_iter().map(|notice| format!("{notice}; Claude Code would keep to it"));
        Launch { notices: notices.collect(), ..bridge::launch(request, argv) }
    }

    fn decoder(&self, request: &LaunchRequest) -> Box<dyn Decoder> {
        Api.decoder(request)
    }

    fn limits_tools(&self) -> bool {
        true
    }

    fn own_places(&self, env: &BTreeMap<OsString, OsString>) -> OwnPlaces {
        let (mut places, api) = (Claude.own_places(env), Api.own_places(env));
        places.directories.extend(api.directories);
        places
    }

    fn message(&self, text: &str) -> Option<Vec<u8>> {
        Api.message(text)
    }

    fn interrupt(&self) -> Option<Vec<u8>> {
        Api.interrupt()
    }

    fn permission_reply(&self, request: &str, reply: &PermissionReply) -> Option<Vec<u8>> {
        Api.permission_reply(request, reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Budget;

    #[test]
    fn what_nobody_knows_the_price_of_keeps_to_no_money_and_says_so() {
        let mut request = LaunchRequest {
            program: vec!["own".into(), "claude".into()],
            budget: Budget { cost_micro_usd: Some(1), turns: Some(9), tokens: Some(9), ..Budget::default() },
            ..LaunchRequest::default()
        };
        let notices = |request: &LaunchRequest| {
            assert!(Api.launch(request).keeps_input);
            [Api.launch(request).notices, Hybrid.launch(request).notices]
        };
        assert_eq!(
            notices(&request),
            [Vec::<String>::new(), Vec::new()],
            "that of the model of whoever names none"
        );
        request.model = Some("claude-haiku-4-5-20251001".into());
        assert_eq!(notices(&request), [Vec::<String>::new(), Vec::new()]);
        request.model = Some("mystery-model-9".into());
        let [api, hybrid] = notices(&request);
        assert!(api.len() == 1 && api[0].contains("`max-cost` is not in force"), "{api:?}");
        assert_eq!(hybrid, [format!("{}; Claude Code would keep to it", api[0])]);
        request.price = Some(price::Price { input: 1, cached: 1, output: 1 });
        assert_eq!(notices(&request), [Vec::<String>::new(), Vec::new()], "its profile says it");
    }

    #[test]
    fn the_other_program_stands_behind_the_arguments() {
        let request = LaunchRequest {
            program: ["own", "node", "cli.js"].map(Into::into).into(),
            extra_args: vec!["--idle".into(), "9".into()],
            ..LaunchRequest::default()
        };
        assert_eq!(Hybrid.launch(&request).argv, ["own", "__api", "--idle", "9", "--", "node", "cli.js"]);
        let env = [("HOME", "/home/ada")].map(|(key, value)| (key.into(), value.into())).into();
        let directories = Hybrid.own_places(&env).directories;
        assert_eq!(
            directories,
            ["/home/ada/.claude", "/home/ada/.local/share/git-orchestra/conversations"].map(PathBuf::from)
        );
    }
}
