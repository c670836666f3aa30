//! Every key that settings may have, with the type of its value.

use super::value::{Value, count, duration, money, size};

/// What a key's values look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Name,
    Integer {
        min: u64,
        max: u64,
    },
    Count,
    List,
    /// A line for the shell, or a program and its arguments.
    Command,
    Duration,
    Money,
    Size,
    Choice(&'static [&'static str]),
}

/// A key that settings may have; `*` in its pattern stands for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The pattern: `profile.*.model`.
    pub pattern: &'static str,
    /// What it is for, in one line.
    pub help: &'static str,
    kind: Type,
    restricted: bool,
    expected: &'static str,
}

const fn key(pattern: &'static str, kind: Type, expected: &'static str, help: &'static str) -> Key {
    Key { pattern, help, kind, restricted: false, expected }
}

const fn restricted(pattern: &'static str, kind: Type, expected: &'static str, help: &'static str) -> Key {
    Key { pattern, help, kind, restricted: true, expected }
}

/// The programs that there are adapters for.
const PROGRAMS: &[&str] = &["claude", "codex", "gemini", "acp", "api", "hybrid", "replay", "command"];
/// What an agent may do without asking.
const PERMISSIONS: &[&str] = &["plan", "accept-edits", "bypass"];
/// What may keep its program from what is not its own: the words of [`crate::model::Sandbox`].
const SANDBOXES: &[&str] = &["none", "landlock", "bubblewrap"];
const A_LIST: &str = "a list of words";
const A_COMMAND: &str = "a line for the shell such as `cargo test`, or a list of words";
const A_COUNT: &str = "a number from 1 such as `50`, `200k` or `2M`";
const DOLLARS: &str = "US dollars such as `2.50`";
const A_SPAN: &str = "a time span such as `90s`, `10m` or `2h`";

const A_SIZE: &str = "a size such as `512M` or `2G`";

/// Every key, in the order of the manual.
const KEYS: &[Key] = &[
    key("jobs", Type::Integer { min: 1, max: 256 }, "a number from 1 to 256", "how many agents run at once"),
    restricted("default-profile", Type::Name, "a profile's name", "the profile of agents that name none"),
    restricted("worktree-root", Type::Text, "a path", "where agents' worktrees are made"),
    restricted(
        "worktree.setup",
        Type::List,
        A_LIST,
        "what is run in a new worktree before its agent begins: a program and its arguments",
    ),
    restricted(
        "worktree.teardown",
        Type::List,
        A_LIST,
        "what is run in a worktree before it is removed: a program and its arguments",
    ),
    key("worktree.timeout", Type::Duration, A_SPAN, "how long setup and teardown may each take"),
    restricted(
        "worktree.pass-env",
        Type::List,
        A_LIST,
        "variables of your environment that setup and teardown get",
    ),
    key(
        "worktree.ports",
        Type::Integer { min: 0, max: 1000 },
        "a number from 0 to 1000",
        "how many ports of its own each running agent has",
    ),
    key(
        "worktree.builds",
        Type::Choice(&["own", "shared"]),
        "`own` or `shared`",
        "whether each agent builds in its worktree, or all in directories that they share",
    ),
    restricted(
        "gates",
        Type::List,
        A_LIST,
        "the gates that a merge must pass, in order; without it all that there are, by name",
    ),
    key(
        "gate-failure",
        Type::Choice(&["ask", "put-aside"]),
        "`ask` or `put-aside`",
        "what becomes of a branch with which a gate fails: a person is asked, or it is left out",
    ),
    key(
        "gate-mends",
        Type::Integer { min: 0, max: 9 },
        "a number from 0 to 9",
        "how many agents are asked first, one after the other, to mend a branch with which a gate fails",
    ),
    restricted("gate.*.run", Type::Command, A_COMMAND, "what must succeed before a merge lands"),
    key("gate.*.timeout", Type::Duration, A_SPAN, "how long it may take"),
    key(
        "gate.*.retries",
        Type::Integer { min: 0, max: 9 },
        "a number from 0 to 9",
        "how often it is run again on the same commit when it fails",
    ),
    restricted("gate.*.pass-env", Type::List, A_LIST, "variables of your environment that it gets"),
    key("pipeline.*.description", Type::Text, "words", "what the pipeline is for, in a line"),
    key("pipeline.*.labels", Type::List, A_LIST, "its tasks have one of these labels"),
    restricted("pipeline.*.profile", Type::Name, "a profile's name", "the profile of its agents"),
    restricted("pipeline.*.team", Type::Name, "a team's name", "the team that works on each of its tasks"),
    key(
        "pipeline.*.jobs",
        Type::Integer { min: 1, max: 256 },
        "a number from 1 to 256",
        "how many of its agents run at once",
    ),
    restricted("pipeline.*.into", Type::Text, "a branch", "the branch that its work lands on"),
    restricted(
        "pipeline.*.gates",
        Type::List,
        A_LIST,
        "the gates that it must pass, in order, instead of all",
    ),
    key(
        "pipeline.*.mends",
        Type::Integer { min: 0, max: 9 },
        "a number from 0 to 9",
        "how many agents are asked first to mend a branch with which one of them fails, instead of gate-mends",
    ),
    key(
        "pipeline.*.landing",
        Type::Choice(&["whole", "prefixes"]),
        "`whole` or `prefixes`",
        "the same as merge.landing, for this pipeline",
    ),
    restricted("pipeline.*.push", Type::Text, "a remote's name", "the remote that is sent what landed"),
    restricted(
        "pipeline.*.approve",
        Type::Choice(&["merge", "problems"]),
        "`merge` or `problems`",
        "what a person on the terminal is asked about: each merge, or problems alone",
    ),
    key("zone.*.paths", Type::List, A_LIST, "the directories that worktrees of a zone are limited to"),
    key("space-floor", Type::Size, A_SIZE, "with less room on disk than this no agent starts"),
    key(
        "prune-builds",
        Type::Choice(&["below-floor", "never"]),
        "`below-floor` or `never`",
        "whether what builds left in worktrees of agents at rest goes where less room is left than space-floor",
    ),
    key("memory-floor", Type::Size, A_SIZE, "with less memory left than this no agent starts beside others"),
    key("grace", Type::Duration, A_SPAN, "how long an agent may take to end before it is killed"),
    key(
        "park",
        Type::Duration,
        A_SPAN,
        "how long agents wait first whose model is over a limit and names no time",
    ),
    key(
        "answer-timeout",
        Type::Duration,
        A_SPAN,
        "how long an agent waits for `decide` to answer it; `0s`: it goes on without",
    ),
    restricted(
        "answers",
        Type::Choice(&["verified", "any"]),
        "`verified` or `any`",
        "which answers from other clones agents' questions take: of keys that you trust, or all",
    ),
    key(
        "sandbox",
        Type::Choice(SANDBOXES),
        "`none`, `landlock` or `bubblewrap`",
        "what keeps agents' programs from what is not theirs; a repository can only make it stricter",
    ),
    restricted(
        "sandbox-read",
        Type::List,
        A_LIST,
        "paths that confined programs may also read: absolute, or `~/…`",
    ),
    restricted("sandbox-write", Type::List, A_LIST, "paths that confined programs may also change"),
    key("remote", Type::Text, "a remote's name", "the remote that state is synced with"),
    key(
        "remote-prefix",
        Type::Text,
        "the beginning of refs such as `refs/heads/orchestra-state/`",
        "where state is on remotes that take only branches",
    ),
    restricted(
        "push.allow",
        Type::List,
        A_LIST,
        "fingerprints of what looks like a secret in agents' commits, and may be pushed",
    ),
    key("remote-timeout", Type::Duration, A_SPAN, "how long a remote may take for one step"),
    key(
        "base-fetch",
        Type::Choice(&["auto", "never"]),
        "`auto` or `never`",
        "whether spawn fetches the upstream of the branch that agents start from",
    ),
    key("base-timeout", Type::Duration, A_SPAN, "how long that may take"),
    key(
        "transcripts",
        Type::Choice(&["local", "remote"]),
        "`local` or `remote`",
        "whether workers send what their agents said to the remote",
    ),
    key(
        "claim",
        Type::Choice(&["auto", "always", "never"]),
        "`auto`, `always` or `never`",
        "whether spawn claims tasks on the remote first; auto: those that the remote knows",
    ),
    key(
        "claim-ttl",
        Type::Duration,
        A_SPAN,
        "after which silence of this machine others may take over its agents",
    ),
    key(
        "archive-after",
        Type::Duration,
        A_SPAN,
        "for how long nobody touched a closed task that `gc` archives",
    ),
    key(
        "prune-epochs-after",
        Type::Duration,
        A_SPAN,
        "how long ago the history was cut of which `prune` offers what was before",
    ),
    key(
        "hold",
        Type::Choice(&["touches", "off"]),
        "`touches` or `off`",
        "whether worker and run begin tasks later that will probably change the same files as one at work",
    ),
    key(
        "merge.remembered",
        Type::Choice(&["apply", "ask"]),
        "`apply` or `ask`",
        "whether a conflict that was answered before is answered the same way, or asked about again",
    ),
    key(
        "merge.lock-files",
        Type::Choice(&["merge", "ask"]),
        "`merge` or `ask`",
        "whether Cargo.lock and go.sum are merged by what they list where their lines conflict",
    ),
    restricted(
        "merge.lock-tools",
        Type::List,
        A_LIST,
        "programs that may write lock files again which conflict: npm, pnpm, yarn, uv, poetry, cargo, bundler, composer",
    ),
    key("merge.lock-timeout", Type::Duration, A_SPAN, "how long such a program may take"),
    restricted("merge.lock-pass-env", Type::List, A_LIST, "variables of your environment that it gets"),
    restricted(
        "merge.executables",
        Type::Choice(&["ask", "land"]),
        "`ask` or `land`",
        "whether a branch that changes CI, hooks, attributes, or settings of agents and editors is asked about",
    ),
    key(
        "merge.landing",
        Type::Choice(&["whole", "prefixes"]),
        "`whole` or `prefixes`",
        "whether a merge lands at its end, or what comes before a branch that is asked about lands at once",
    ),
    key(
        "merge.union",
        Type::List,
        A_LIST,
        "globs of files of which every conflict keeps the lines of both sides",
    ),
    key(
        "radar.watch",
        Type::Choice(&["on", "off"]),
        "`on` or `off`",
        "whether it is told while agents work that what they have would conflict",
    ),
    key(
        "radar.edits",
        Type::Choice(&["off", "warn", "deny"]),
        "`off`, `warn` or `deny`",
        "what an agent is told that is about to edit lines which another one has changed",
    ),
    key("task.max-cost", Type::Money, DOLLARS, "what all agents of one task may cost together"),
    key("task.max-tokens", Type::Count, A_COUNT, "how many tokens all agents of one task may use"),
    key("task.max-turns", Type::Count, A_COUNT, "how many turns all agents of one task may take"),
    key("task.max-time", Type::Duration, A_SPAN, "how long all runs for one task may take together"),
    key("fleet.max-cost", Type::Money, DOLLARS, "what all agents may cost together"),
    key("fleet.max-tokens", Type::Count, A_COUNT, "how many tokens all agents may use together"),
    key("fleet.max-turns", Type::Count, A_COUNT, "how many turns all agents may take together"),
    key("fleet.max-time", Type::Duration, A_SPAN, "how long all runs may take together"),
    key("fleet.period", Type::Duration, A_SPAN, "how far back runs began that count for fleet.max-…"),
    restricted(
        "notify.command",
        Type::List,
        A_LIST,
        "what is run when an agent waits, is stuck, failed or is done",
    ),
    key(
        "notify.terminal",
        Type::Choice(&["off", "bell", "words"]),
        "`off`, `bell` or `words`",
        "how your terminal tells you that: a bell, or a bell and words (OSC 9)",
    ),
    restricted(
        "profile.*.program",
        Type::Choice(PROGRAMS),
        "`claude`, `codex`, `gemini`, `acp`, `api`, `hybrid`, `replay` or `command`",
        "which kind of program it is",
    ),
    restricted("profile.*.command", Type::List, A_LIST, "the program's file and arguments that belong to it"),
    restricted("profile.*.args", Type::List, A_LIST, "arguments that are added at the end"),
    restricted("profile.*.env.*", Type::Text, "words", "a variable of the program's environment"),
    restricted("profile.*.pass-env", Type::List, A_LIST, "variables of your environment that it gets"),
    restricted(
        "profile.*.permissions",
        Type::Choice(PERMISSIONS),
        "`plan`, `accept-edits` or `bypass`",
        "what it may do without asking",
    ),
    key(
        "profile.*.sandbox",
        Type::Choice(SANDBOXES),
        "`none`, `landlock` or `bubblewrap`",
        "what keeps its program from what is not its own; a repository can only make it stricter",
    ),
    restricted(
        "profile.*.tools",
        Type::List,
        A_LIST,
        "the only tools that it has (`Read`); with a pattern (`Bash(make *)`) what fits is not asked either",
    ),
    restricted(
        "profile.*.denied-tools",
        Type::List,
        A_LIST,
        "tools, or uses of tools, that it does not have",
    ),
    key("profile.*.description", Type::Text, "words", "what it is for, in a line"),
    restricted(
        "team.*.steps",
        Type::List,
        A_LIST,
        "the steps of a team, each a profile's name; those that work side by side in one word with blanks",
    ),
    key("team.*.description", Type::Text, "words", "what the team is for, in a line"),
    restricted(
        "team.*.*.profile",
        Type::Text,
        "a profile's name",
        "the profile of a step that is not called like one",
    ),
    restricted(
        "team.*.*.after",
        Type::List,
        A_LIST,
        "the steps that a step goes on from, if not those named before it",
    ),
    restricted("team.*.*.prompt", Type::Text, "words", "what the agent of a step is told beside its task"),
    key("profile.*.model", Type::Text, "a model's name", "the model, in the program's own words"),
    key("profile.*.role", Type::Text, "words", "what it is told about its role"),
    restricted(
        "profile.*.price-input",
        Type::Money,
        DOLLARS,
        "what a million tokens of input cost, where its program tells no cost",
    ),
    restricted(
        "profile.*.price-cached",
        Type::Money,
        DOLLARS,
        "the same of input from a cache [default: price-input]",
    ),
    restricted(
        "profile.*.price-output",
        Type::Money,
        DOLLARS,
        "the same of output; without both, no cost is reckoned",
    ),
    key("profile.*.max-cost", Type::Money, DOLLARS, "what an agent may cost over all its runs"),
    key("profile.*.max-tokens", Type::Count, A_COUNT, "how many tokens an agent may use over all its runs"),
    key("profile.*.max-turns", Type::Count, A_COUNT, "how many turns an agent may take over all its runs"),
    key("profile.*.max-time", Type::Duration, A_SPAN, "how long all runs of an agent may take together"),
    key("profile.*.idle-timeout", Type::Duration, A_SPAN, "how long it may be silent; no limit by itself"),
    key(
        "profile.*.timeout",
        Type::Duration,
        A_SPAN,
        "how long a run may take, its waiting included; no limit by itself",
    ),
];

impl Key {
    /// Every key.
    pub const fn all() -> &'static [Self] {
        KEYS
    }

    /// The key that `path` is an instance of.
    pub fn find(path: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.matches(path))
    }

    /// Whether what a repository says about it needs the user's approval.
    pub const fn is_restricted(&self) -> bool {
        self.restricted
    }

    /// Whether a value may be a list of words.
    pub(super) const fn takes_list(&self) -> bool {
        matches!(self.kind, Type::List | Type::Command)
    }

    /// Whether a value must be one.
    pub(super) const fn is_list(&self) -> bool {
        matches!(self.kind, Type::List)
    }

    /// What its values look like, for messages.
    pub(super) const fn expected(&self) -> &'static str {
        self.expected
    }

    fn matches(&self, path: &str) -> bool {
        let (mut pattern, mut path) = (self.pattern.split('.'), path.split('.'));
        loop {
            match (pattern.next(), path.next()) {
                (None, None) => return true,
                (Some("*"), Some(part)) if !part.is_empty() => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }

    /// Reads a value given as words: one for most types, any number for lists.
    pub fn parse(&self, words: &[String]) -> Option<Value> {
        if self.kind == Type::List {
            return Some(Value::List(words.to_vec()));
        }
        if self.kind == Type::Command && words.len() > 1 {
            return Some(Value::List(words.to_vec()));
        }
        // git config may say a key several times: the last one counts.
        let text = words.last()?;
        match self.kind {
            Type::List | Type::Text | Type::Command => Some(Value::Text(text.clone())),
            Type::Name => text.parse::<crate::model::Name>().ok().map(|_| Value::Text(text.clone())),
            Type::Integer { min, max } => {
                text.parse().ok().filter(|number| (min..=max).contains(number)).map(Value::Integer)
            }
            Type::Count => count(text).map(Value::Integer),
            Type::Duration => duration(text).map(Value::Duration),
            Type::Money => money(text).map(Value::Money),
            Type::Size => size(text).map(Value::Size),
            Type::Choice(choices) => choices.contains(&text.as_str()).then(|| Value::Text(text.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_written_alike() {
        for (path, text) in [
            ("profile.a.max-cost", "2.50"),
            ("profile.a.price-cached", "0.175"),
            ("profile.a.timeout", "90s"),
            ("profile.a.timeout", "2h"),
            ("grace", "10m"),
            ("space-floor", "512M"),
            ("space-floor", "3G"),
            ("jobs", "16"),
            ("profile.a.permissions", "plan"),
        ] {
            assert_eq!(Key::find(path).unwrap().parse(&[text.into()]).unwrap().to_string(), text);
        }
        let tokens = Key::find("task.max-tokens").unwrap();
        assert_eq!(tokens.parse(&["200k".into()]), Some(Value::Integer(200_000)));
        for (path, text) in [
            ("fleet.max-tokens", "0"),
            ("fleet.max-tokens", "2G"),
            ("profile.a.max-cost", "-1"),
            ("profile.a.max-cost", "1e3"),
            ("profile.a.timeout", "2y"),
            ("jobs", "0"),
            ("space-floor", "2 GB"),
            ("profile.a.permissions", "root"),
            ("default-profile", "../x"),
        ] {
            assert_eq!(Key::find(path).unwrap().parse(&[text.into()]), None, "{path} = {text}");
        }
        assert!(Key::find("profile..model").is_none());
        assert!(Key::find("profile.a.env.PATH").is_some());
    }
}
