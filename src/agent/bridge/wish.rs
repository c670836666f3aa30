//! What the supervisor tells a program of our own: both sides of the format.

use crate::agent::{AgentError, Launch, LaunchRequest, PermissionReply, Permissions};
use crate::model::{Budget, Timestamp};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;

/// One wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "kebab-case")]
pub enum Wish {
    /// Begin, with this: the first wish, and never another one.
    Begin(Box<Begin>),
    /// Take this as said by a person. While a turn is under way it is taken as soon as the program can.
    Message {
        /// The words.
        text: String,
    },
    /// Break the turn off, with a result that says so, and wait for a message.
    Interrupt,
    /// The answer to a permission question.
    Reply {
        /// The question's id, as its event named it.
        request: String,
        /// The answer.
        reply: PermissionReply,
    },
}

/// What such a program is started with; as [`LaunchRequest`] has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Begin {
    /// The conversation's id: chosen by us, or as the program told it in an earlier run.
    pub session: String,
    /// Whether the conversation exists already and is continued.
    pub resume: bool,
    /// By when the conversation that is continued had begun.
    pub begun_by: Option<Timestamp>,
    /// What it is told.
    pub prompt: String,
    /// Role, findings and rules.
    pub system_prompt: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// What it may do without asking.
    pub permissions: Permissions,
    /// The only tools that it has.
    pub tools: Option<Vec<String>>,
    /// Tools that it does not have.
    pub denied_tools: Vec<String>,
    /// What it may still use.
    pub budget: Budget,
}

impl Wish {
    /// Its line, with the newline.
    pub fn encode(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("wishes are plain data with string keys");
        line.push(b'\n');
        line
    }

    /// The wish of a line.
    pub fn decode(line: &[u8]) -> Result<Self, AgentError> {
        serde_json::from_slice(line).map_err(AgentError::Wish)
    }
}

/// Starts `argv`, a hidden command of ours, and tells it to begin.
pub fn launch(request: &LaunchRequest, argv: Vec<OsString>) -> Launch {
    let begin = Begin {
        session: request.session.clone(),
        resume: request.resume,
        begun_by: request.begun_by,
        prompt: request.prompt.clone(),
        system_prompt: request.system_prompt.clone(),
        model: request.model.clone(),
        permissions: request.permissions,
        tools: request.tools.clone(),
        denied_tools: request.denied_tools.clone(),
        budget: request.budget,
    };
    let input = Some(Wish::Begin(Box::new(begin)).encode());
    Launch { argv, input, keeps_input: true, ..Launch::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wish_is_one_line_and_comes_back() {
        let replies = [
            PermissionReply::Allow { input: "{\"a\":\n1}".into() },
            PermissionReply::Answer {
                input: "{}".into(),
                answers: vec![("Which?".into(), "the \"é\"".into())],
            },
            PermissionReply::Deny { message: "no\nnever".into() },
        ];
        let replies = replies.map(|reply| Wish::Reply { request: "r".into(), reply });
        let begin = Begin { prompt: "do it\n".into(), tools: Some(vec!["read".into()]), ..Begin::default() };
        let others =
            [Wish::Begin(Box::new(begin)), Wish::Message { text: "more\r\n".into() }, Wish::Interrupt];
        for wish in others.into_iter().chain(replies) {
            let line = wish.encode();
            assert_eq!(memchr::memchr(b'\n', &line), Some(line.len() - 1));
            assert_eq!(Wish::decode(&line).unwrap(), wish);
        }
        for line in [&b""[..], b"{", b"{\"wish\":\"fly\"}", b"{\"wish\":\"message\"}", b"\xff"] {
            assert_eq!(Wish::decode(line).unwrap_err().to_string(), "understand what it was told");
        }
    }

    #[test]
    fn all_that_it_is_started_with_goes_in_by_its_input() {
        let request = LaunchRequest {
            session: "s".into(),
            resume: true,
            prompt: "a secret".into(),
            system_prompt: Some("Be kind.".into()),
            permissions: Permissions::Plan,
            denied_tools: vec!["shell".into()],
            budget: Budget { turns: Some(3), ..Budget::default() },
            ..LaunchRequest::default()
        };
        let launch = launch(&request, vec!["git-orchestra".into(), "__x".into()]);
        assert!(launch.argv == ["git-orchestra", "__x"] && launch.env.is_empty() && launch.keeps_input);
        let Ok(Wish::Begin(begin)) = Wish::decode(&launch.input.unwrap()) else { panic!("it begins") };
        assert!(begin.resume && begin.session == "s" && begin.prompt == "a secret");
        assert_eq!((begin.permissions, begin.budget.turns), (Permissions::Plan, Some(3)));
        assert_eq!(
            (begin.system_prompt.as_deref(), begin.denied_tools),
            (Some("Be kind."), request.denied_tools)
        );
    }
}
