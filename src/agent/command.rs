//! Any program as an agent: its lines become text, its exit status tells how it went.

use super::{Adapter, Decoder, Launch, LaunchRequest, tool};
use crate::model::{Event, EventKind, Measure, Timestamp, Usage};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What stands for the prompt in a profile's words.
const PLACEHOLDER: &[u8] = b"{prompt}";
/// The variable that holds the prompt as well.
pub(super) const PROMPT_VARIABLE: &str = "GIT_ORCHESTRA_PROMPT";
/// Linux takes no variable or argument longer than 128 KiB.
const MAX_PROMPT: usize = 120 * 1024;
/// How much of a line becomes an event.
const MAX_LINE: usize = 64 * 1024;

/// Adapter for any program.
///
/// Where a word of the profile's command or arguments contains `{prompt}`, the prompt is put in its place, inside
/// that one word; no shell is involved. Nothing is appended otherwise. In any case the prompt is in the variable
/// `GIT_ORCHESTRA_PROMPT`. Role, rules and findings stand before it, as such a program has no system prompt of its
/// own. A prompt over 120 KiB is cut, and NUL bytes are left out: no argument can hold either.
#[derive(Debug, Clone, Copy, Default)]
pub struct Command;

impl Adapter for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn launch(&self, request: &LaunchRequest) -> Launch {
        let prompt = whole_prompt(request);
        let words = request.program.iter().chain(&request.extra_args);
        let argv = words.map(|word| fill(word, prompt.as_bytes())).collect();
        let notices = request.unkept(&[Measure::Cost, Measure::Tokens, Measure::Turns], &[]);
        Launch { argv, env: vec![(PROMPT_VARIABLE.into(), prompt.into())], notices, ..Launch::default() }
    }

    fn decoder(&self, _: &LaunchRequest) -> Box<dyn Decoder> {
        Box::new(CommandDecoder)
    }
}

/// System prompt and prompt together, as an argument or a variable can hold them.
pub(super) fn whole_prompt(request: &LaunchRequest) -> String {
    let mut prompt = match &request.system_prompt {
        Some(system) => format!("{system}\n\n{}", request.prompt),
        None => request.prompt.clone(),
    };
    prompt.retain(|c| c != '\0');
    prompt.truncate(tool::start(&prompt, MAX_PROMPT).len());
    prompt
}

fn fill(word: &OsStr, prompt: &[u8]) -> OsString {
    let bytes = word.as_bytes();
    let mut filled = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for at in memchr::memmem::find_iter(bytes, PLACEHOLDER) {
        filled.extend_from_slice(&bytes[from..at]);
        filled.extend_from_slice(prompt);
        from = at + PLACEHOLDER.len();
    }
    filled.extend_from_slice(&bytes[from..]);
    OsString::from_vec(filled)
}

#[derive(Debug)]
struct CommandDecoder;

impl Decoder for CommandDecoder {
    fn line(&mut self, line: &[u8], at: Timestamp, events: &mut Vec<Event>) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = String::from_utf8_lossy(line);
        let cut = tool::start(&line, MAX_LINE);
        let text = if cut.len() < line.len() { format!("{cut} …") } else { cut.to_owned() };
        events.push(Event { at, parent: None, kind: EventKind::Text { text, partial: false } });
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn is_idle(&self) -> bool {
        false
    }

    fn reported_failure(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_takes_its_place_inside_one_word() {
        let request = LaunchRequest {
            program: vec!["aider".into()],
            prompt: "fix it; rm -rf /\0".into(),
            system_prompt: Some("Be kind.".into()),
            extra_args: vec!["--message={prompt}".into(), "-y".into()],
            ..LaunchRequest::default()
        };
        let launch = Command.launch(&request);
        assert_eq!(launch.argv, ["aider", "--message=Be kind.\n\nfix it; rm -rf /", "-y"]);
        assert_eq!(launch.env, [(PROMPT_VARIABLE.into(), "Be kind.\n\nfix it; rm -rf /".into())]);
        assert!(launch.input.is_none());
        let request = LaunchRequest { prompt: "é".repeat(MAX_PROMPT), ..LaunchRequest::default() };
        let launch = Command.launch(&request);
        assert!(launch.argv.is_empty());
        assert_eq!(launch.env[0].1.len(), MAX_PROMPT);
    }

    #[test]
    fn each_line_is_a_text() {
        let mut decoder = Command.decoder(&LaunchRequest::default());
        let mut events = Vec::new();
        for line in [&b"building"[..], b"caf\xe9\r", &vec![b'x'; MAX_LINE + 1]] {
            decoder.line(line, Timestamp(1), &mut events);
        }
        let texts: Vec<_> = events
            .into_iter()
            .map(|event| match event.kind {
                EventKind::Text { text, partial: false } => text,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(texts[..2], ["building", "caf\u{fffd}"]);
        assert!(texts[2].ends_with("x …"));
    }
}
