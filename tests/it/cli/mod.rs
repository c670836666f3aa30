//! What people and scripts see of the commands: standard output, standard error and the exit code.

pub(crate) mod agents;
mod approval;
mod completion;
mod cost;
mod findings;
mod notify;
mod profiles;
mod schema;
mod tasks;

use std::fmt::Write as _;

use regex::Regex;

use crate::harness::{Output, Sandbox};

/// A sandbox whose ids have names: they are random, and snapshots are not.
struct Stage {
    sandbox: Sandbox,
    /// Whole ids, each with what stands for it.
    ids: Vec<(String, &'static str)>,
}

impl Stage {
    fn new() -> Self {
        let mut sandbox = Sandbox::new();
        sandbox.set_env("COLUMNS", "80");
        Self { sandbox, ids: Vec::new() }
    }

    /// Runs a command that prints an id, and gives that id a name.
    fn add(&mut self, name: &'static str, args: &[&str]) -> String {
        let short = self.sandbox.ok(args);
        let shown = self.sandbox.json(&["show", &short]);
        self.ids.push((shown["data"]["id"].as_str().unwrap().to_owned(), name));
        short
    }

    /// Runs a command; ids, times and places are replaced by what stands for them.
    fn run(&self, args: &[&str]) -> String {
        self.shown(args, &self.sandbox.orchestra(args))
    }

    fn shown(&self, args: &[&str], output: &Output) -> String {
        let mut text = format!("$ git orchestra {}\n{}", args.join(" "), output.stdout);
        if !output.stderr.is_empty() {
            text.push_str("--- stderr\n");
            text.push_str(&output.stderr);
        }
        let _ = writeln!(text, "--- exit {}", output.code);
        self.filter(&text)
    }

    fn filter(&self, text: &str) -> String {
        let mut text = text.replace(self.sandbox.root().to_str().unwrap(), "<root>");
        for (id, name) in &self.ids {
            let prefix = Regex::new(&format!(r"\b{}[0-9a-z]{{0,12}}( *)", &id[..4])).unwrap();
            // Columns are as wide as what stands in them; what stands for it may be of another width.
            text = prefix
                .replace_all(&text, |found: &regex::Captures<'_>| {
                    let width = found[0].len();
                    if found[1].len() > 1 { format!("{name:width$}") } else { format!("{name}{}", &found[1]) }
                })
                .into_owned();
        }
        for (pattern, stands) in [
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
            (r"\b1[0-9]{12}\b", "<ms>"),
            (r"\b\d+s ago", "<age> ago"),
            (r"(?m) +\d+s$", " <age>"),
            (r"\b[0-9a-f]{40}\b", "<commit>"),
            (r"\b[0-9a-f]{64}\b", "<hash>"),
        ] {
            text = Regex::new(pattern).unwrap().replace_all(&text, stands).into_owned();
        }
        text
    }
}
