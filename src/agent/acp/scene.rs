//! What an agent says and does in a turn, as events.

use super::permit::paths;
use crate::agent::bridge::{Speech, Voice};
use crate::agent::sink::MAX_OUTPUT;
use crate::agent::tool::{describe_command, few_lines, one_line, relative};
use crate::model::{ContextUse, EventKind, Timestamp, ToolTarget};
use serde_json::Value;
use std::collections::BTreeMap;

/// How many calls may be under way at once.
const MAX_CALLS: usize = 1000;

/// What is known of a turn while it goes on.
#[derive(Debug, Default)]
pub(super) struct Scene {
    worktree: String,
    speech: Speech,
    /// Calls that are not over, by their id.
    calls: BTreeMap<String, Call>,
    plan: String,
    /// What it said last, whole.
    pub(super) said: String,
    /// How full its model's window is.
    pub(super) context: Option<ContextUse>,
}

#[derive(Debug, Default)]
struct Call {
    /// All that was said of it, the newest of each.
    known: Value,
    told: bool,
}

impl Scene {
    pub(super) fn new(worktree: String) -> Self {
        Self { worktree, ..Self::default() }
    }

    /// Takes an update. Whether anybody knows what it is.
    pub(super) fn take(&mut self, update: &Value, at: Timestamp, events: &mut Vec<EventKind>) -> bool {
        match update["sessionUpdate"].as_str().unwrap_or_default() {
            "agent_message_chunk" => self.says(Voice::Says, &update["content"], at, events),
            "agent_thought_chunk" => self.says(Voice::Thinks, &update["content"], at, events),
            "tool_call" | "tool_call_update" => self.call(update, events),
            "plan" => self.plans(&update["entries"], events),
            "usage_update" => {
                let context = update["used"].as_u64().zip(update["size"].as_u64());
                self.context = context.map(|(used, window)| ContextUse { used, window: Some(window) });
            }
            "current_mode_update" => {
                let mode = update["currentModeId"].as_str().unwrap_or_default();
                events.push(EventKind::Notice { text: format!("its mode is `{}` now", one_line(mode)) });
            }
            "user_message_chunk"
            | "available_commands_update"
            | "config_option_update"
            | "session_info_update" => {}
            _ => return false,
        }
        true
    }

    fn says(&mut self, voice: Voice, content: &Value, at: Timestamp, events: &mut Vec<EventKind>) {
        let before = events.len();
        let kind = || format!("[{}]", one_line(content["type"].as_str().unwrap_or("content")));
        let words = content["text"].as_str().map_or_else(kind, str::to_owned);
        self.speech.push(voice, &words, at, events);
        self.remember(&events[before..]);
    }

    /// What it was saying is whole.
    pub(super) fn pause(&mut self, events: &mut Vec<EventKind>) {
        let before = events.len();
        self.speech.end(events);
        self.remember(&events[before..]);
    }

    fn remember(&mut self, events: &[EventKind]) {
        for event in events {
            if let EventKind::Text { text, partial: false } = event {
                self.said.clone_from(text);
            }
        }
    }

    /// The turn is over.
    pub(super) fn end(&mut self, events: &mut Vec<EventKind>) {
        self.pause(events);
        self.calls.clear();
    }

    fn call(&mut self, update: &Value, events: &mut Vec<EventKind>) {
        self.pause(events);
        let id = update["toolCallId"].as_str().unwrap_or_default().to_owned();
        self.learn(&id, update);
        let status = update["status"].as_str().unwrap_or_default();
        let over = matches!(status, "completed" | "failed");
        // One that waits is often described by what comes next.
        if over || status == "in_progress" {
            self.tell(&id, events);
        }
        if over {
            self.calls.remove(&id);
            let output = output(&update["content"]);
            let output = few_lines(&output, MAX_OUTPUT.0, MAX_OUTPUT.1);
            events.push(EventKind::ToolResult { call: id, ok: status == "completed", output });
        }
    }

    /// A call that it asked for begins.
    pub(super) fn begins(&mut self, call: &Value, events: &mut Vec<EventKind>) {
        let id = call["toolCallId"].as_str().unwrap_or_default();
        self.learn(id, call);
        self.tell(id, events);
    }

    fn learn(&mut self, id: &str, update: &Value) {
        if self.calls.len() >= MAX_CALLS && !self.calls.contains_key(id) {
            self.calls.clear();
        }
        let call = self.calls.entry(id.to_owned()).or_default();
        for key in ["kind", "title", "locations", "rawInput"] {
            // An update that has nothing to say of it may hold an empty one.
            let empty = update[key].as_array().is_some_and(Vec::is_empty);
            if !update[key].is_null() && !empty {
                call.known[key] = update[key].clone();
            }
        }
    }

    fn tell(&mut self, id: &str, events: &mut Vec<EventKind>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        if std::mem::replace(&mut call.told, true) {
            return;
        }
        let (tool, summary, target) = described(&call.known, &self.worktree);
        events.push(EventKind::ToolCall { call: id.to_owned(), tool, summary, target });
    }

    fn plans(&mut self, entries: &Value, events: &mut Vec<EventKind>) {
        let entries = entries.as_array().map(Vec::as_slice).unwrap_or_default();
        let with = |status: &'static str| entries.iter().filter(move |entry| entry["status"] == status);
        let now = with("in_progress").find_map(|entry| entry["content"].as_str());
        let now = now.map(|now| format!(": {}", one_line(now))).unwrap_or_default();
        let text = format!("plan, {} of {} done{now}", with("completed").count(), entries.len());
        if self.plan != text {
            self.plan.clone_from(&text);
            events.push(EventKind::Notice { text });
        }
    }
}

/// A call's tool, what it is called on, and what it may touch. The protocol names kinds of tools, not tools.
pub(super) fn described(call: &Value, worktree: &str) -> (String, String, Option<ToolTarget>) {
    let kind = call["kind"].as_str().unwrap_or("other");
    let title = call["title"].as_str().unwrap_or_default();
    let path = paths(call).next().map(|path| relative(path, worktree).to_owned());
    let (summary, target) = match (kind, path) {
        ("edit" | "delete" | "move", Some(path)) => (one_line(&path), Some(ToolTarget::Writes(path))),
        ("read", Some(path)) => (one_line(&path), Some(ToolTarget::Reads(path))),
        ("execute", _) => {
            let (summary, target) = describe_command(call["rawInput"]["command"].as_str().unwrap_or(title));
            (summary, Some(target))
        }
        _ => (one_line(title), None),
    };
    (one_line(kind), summary, target)
}

/// What a tool answered, in words.
fn output(content: &Value) -> String {
    let parts = content.as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let words = parts.filter_map(|part| part["content"]["text"].as_str());
    words.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{assert_lines, told};
    use crate::model::Event;
    use serde_json::json;

    fn play(updates: &[Value]) -> (Scene, Vec<EventKind>) {
        let (mut scene, mut events) = (Scene::new("/w".to_owned()), Vec::new());
        for update in updates {
            scene.take(update, Timestamp(1), &mut events);
        }
        scene.end(&mut events);
        (scene, events)
    }

    fn shown(events: Vec<EventKind>) -> String {
        told(events.into_iter().map(|kind| Event { at: Timestamp(1), parent: None, kind }).collect())
    }

    #[test]
    fn words_and_calls_become_events_in_their_order() {
        let says = |kind: &str, text: &str| json!({"sessionUpdate": kind, "content": {"type": "text", "text": text}});
        let (scene, events) = play(&[
            says("agent_thought_chunk", "hm"),
            says("agent_message_chunk", "I will "),
            says("agent_message_chunk", "write."),
            json!({"sessionUpdate": "tool_call", "toolCallId": "a", "status": "pending", "title": "Write", "kind": "edit"}),
            json!({"sessionUpdate": "tool_call_update", "toolCallId": "a", "status": "in_progress",
                "locations": [{"path": "/w/src/a.rs"}]}),
            json!({"sessionUpdate": "tool_call_update", "toolCallId": "a", "status": "completed", "locations": [],
                "content": [{"type": "diff", "path": "/w/src/a.rs", "newText": "x"}]}),
            json!({"sessionUpdate": "tool_call_update", "toolCallId": "b", "status": "failed", "title": "make",
                "kind": "execute", "content": [{"type": "content", "content": {"type": "text", "text": "no rule"}}]}),
            json!({"sessionUpdate": "plan", "entries": [{"status": "completed", "content": "x"},
                {"status": "in_progress", "content": "test it"}]}),
            says("agent_message_chunk", "Done."),
            json!({"sessionUpdate": "usage_update", "used": 10, "size": 100}),
        ]);
        assert_lines(
            &shown(events),
            r#"thinking "hm"
               text "I will write."
               call a edit "src/a.rs" Some(Writes("src/a.rs"))
               result a true ""
               call b execute "make" Some(Runs("make"))
               result b false "no rule"
               notice "plan, 1 of 2 done: test it"
               text "Done.""#,
        );
        assert_eq!(scene.said, "Done.");
        assert_eq!(scene.context.unwrap().percent(), Some(10));
    }

    #[test]
    fn odd_updates_are_told_apart_and_cost_nothing() {
        let (mut scene, mut events) = (Scene::new("/w".to_owned()), Vec::new());
        for (update, known) in [
            (json!({"sessionUpdate": "brand_new"}), false),
            (json!({}), false),
            (json!([1]), false),
            (json!("x"), false),
            (json!({"sessionUpdate": "tool_call"}), true),
            (json!({"sessionUpdate": "tool_call_update", "toolCallId": 7, "status": ["completed"]}), true),
            (json!({"sessionUpdate": "plan", "entries": 7}), true),
            (json!({"sessionUpdate": "usage_update", "used": -1}), true),
            (json!({"sessionUpdate": "agent_message_chunk"}), true),
        ] {
            assert_eq!(scene.take(&update, Timestamp(1), &mut events), known, "{update}");
        }
        for number in 0..10 * MAX_CALLS {
            let call =
                json!({"sessionUpdate": "tool_call", "toolCallId": number.to_string(), "status": "pending"});
            scene.take(&call, Timestamp(1), &mut events);
        }
        assert!(scene.calls.len() <= MAX_CALLS);
    }
}
