//! What holds of any bytes that an agent behind the protocol may say.

use super::client::{Client, Out};
use crate::agent::bridge::Begin;
use crate::model::Timestamp;
use std::path::Path;

/// So many strange lines may come before it is said of an agent that it does not speak the protocol.
const FEW: usize = 15;

/// A client makes the same of the lines around a broken one as of those lines alone, up to its first turn and in it.
pub fn client(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    let greeted = data.len().is_multiple_of(2);
    let before = usize::from(data.last().copied().unwrap_or_default()) % (lines.len() + 1);
    let whole = hear(&lines, greeted);
    if lines.len() <= FEW {
        let broken: &[u8] = b"{\"jsonrpc\":\"2.0\",\x01{";
        let mut with_broken = lines.clone();
        with_broken.insert(before, broken);
        let mut around = hear(&with_broken, greeted);
        let marked = |event: &String| event.contains("jsonrpc") && event.contains("\\u{1}{");
        let (all, without) = (around.0.len(), around.0.iter().filter(|event| !marked(event)).count());
        if without + 1 >= all {
            around.0.retain(|event| !marked(event));
            assert_eq!(whole, around, "the client is out of step");
        }
    }
}

/// What came of it, and what was answered.
fn hear(lines: &[&[u8]], greeted: bool) -> (Vec<String>, Vec<String>) {
    let mut out = Out::default();
    let begin = Begin { session: "ours".into(), prompt: "do it".into(), ..Begin::default() };
    let mut client = Client::new(begin, Path::new("/w"), &mut out);
    let opening: [&[u8]; 2] = [
        br#"{"id":1,"result":{"protocolVersion":1,"agentInfo":{"name":"fake","version":"1"},"agentCapabilities":{"loadSession":true},"authMethods":[{"name":"A key"}]}}"#,
        br#"{"id":2,"result":{"sessionId":"s"}}"#,
    ];
    for line in opening.into_iter().filter(|_| greeted).chain(lines.iter().copied()) {
        client.heard(line, Timestamp(1), &mut out);
    }
    client.gone("it ended", &mut out);
    let events = out.events.iter().map(|event| format!("{event:?}")).collect();
    (events, out.lines.iter().map(ToString::to_string).collect())
}
