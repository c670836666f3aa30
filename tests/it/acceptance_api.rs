//! The built-in program `api`, behind the real `spawn`, against a scripted model.

use std::path::PathBuf;

use git_orchestra::model::{CostSource, Outcome, Sandbox as Level};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::acceptance_codex::{configure, outcome, the_agent};
use crate::confined::levels;
use crate::harness::programs::claude;
use crate::harness::sandbox::{self, wait_for, write_in};
use crate::harness::{Endpoint, Odd, Sandbox, Step};
use crate::spawn::{runs, seconds};

const BYPASS: &str = "permissions = 'bypass'";
/// A key as a user has one.
const KEY: &str = "sk-ant-planted-correct-horse-battery";

/// A user whose default profile is the built-in program, with these lines in it.
pub(crate) fn with_api<const N: usize>(
    scripts: [(&str, Vec<Step>); N],
    profile: &str,
) -> (Sandbox, Endpoint) {
    let mut sandbox = Sandbox::new();
    let endpoint = Endpoint::start(scripts);
    for (key, value) in endpoint.env() {
        sandbox.set_env(key, value);
    }
    sandbox.set_env("ANTHROPIC_API_KEY", KEY);
    let config = format!(
        "default-profile = 'api'\ngrace = '2s'\npark = '1s'\n[profile.api]\nmodel = 'claude-opus-4-8'\n{profile}\n"
    );
    configure(&sandbox, &config);
    (sandbox, endpoint)
}

fn spawn(sandbox: &Sandbox, words: &str) -> sandbox::Output {
    sandbox.orchestra(&["spawn", "-m", words, "--name", "heron"])
}

/// What is on the agent's branch.
fn file(sandbox: &Sandbox, path: &str) -> String {
    sandbox.git(&["show", &format!("orchestra/heron:{path}")])
}

fn has_file(sandbox: &Sandbox, path: &str) -> bool {
    let object = format!("orchestra/heron:{path}");
    sandbox.try_git_in(sandbox.repo(), &["cat-file", "-e", &object], b"").code == 0
}

fn reason(sandbox: &Sandbox) -> String {
    match outcome(sandbox, "heron") {
        Outcome::Failed { reason } => reason,
        other => panic!("{other:?}"),
    }
}

/// The worktree of its last agent.
pub(crate) fn worktree(sandbox: &Sandbox) -> PathBuf {
    let list = sandbox.git(&["worktree", "list", "--porcelain"]);
    list.lines().filter_map(|line| line.strip_prefix("worktree ")).next_back().unwrap().into()
}

/// The answers of tools that came with the last question.
fn told(endpoint: &Endpoint) -> Vec<String> {
    let last = endpoint.seen().pop().unwrap().body;
    let messages = last["messages"].as_array().unwrap();
    let blocks = messages.last().unwrap()["content"].as_array().unwrap();
    let results = blocks.iter().filter(|block| block["type"] == "tool_result");
    results.map(|block| block["content"].as_str().unwrap().to_owned()).collect()
}

/// What a request holds, without the marks of what is to be kept.
fn unmarked(mut value: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("cache_control");
                map.values_mut().for_each(strip);
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut value);
    value
}

#[test]
fn it_edits_runs_and_reports_and_asks_so_that_a_cache_finds_its_start() {
    let script = vec![
        Step::read("menu.txt")
            .thinking("Let me\nsee.", "c2lnbmF0dXJl")
            .saying("I look.")
            .tokens(10, 40, 0, 2_000),
        Step::edit("menu.txt", "fish", "tofu").tokens(20, 30, 2_000, 100),
        Step::write("new/count.sh", "wc -l < menu.txt\n")
            .and(
                "Bash",
                json!({"command": "sh new/count.sh > count.txt; git add -A; git commit -qm 'Count them'"}),
            )
            .tokens(30, 20, 2_100, 100),
        Step::say("There is tofu.").tokens(40, 10, 2_200, 100),
    ];
    let (sandbox, endpoint) = with_api([("work", script)], BYPASS);
    sandbox.write("menu.txt", "soup\nfish\n");
    sandbox.write("AGENTS.md", "Use tabs.\n");
    sandbox.commit("a menu");
    let user = sandbox.fingerprint();
    let spawned = spawn(&sandbox, "Serve tofu [script:work]");
    assert_eq!(spawned.code, 0, "{spawned}\n{}", sandbox.ok(&["log", "heron"]));
    assert_eq!(sandbox.fingerprint(), user);
    assert_eq!((file(&sandbox, "menu.txt"), file(&sandbox, "count.txt")), ("soup\ntofu".into(), "2".into()));
    assert_eq!(sandbox.git(&["log", "--format=%s", "main..orchestra/heron"]), "Count them");

    let agent = the_agent(&sandbox, "heron");
    let run = &agent.runs[&1];
    assert_eq!(run.model.as_deref(), Some("claude-opus-4-8"));
    let usage = run.usage;
    assert_eq!(
        (usage.input, usage.output, usage.cache_read, usage.cache_write, usage.turns),
        (100, 100, 6_300, 2_300, 4)
    );
    let cost = usage.cost.unwrap();
    // 5 $ and 25 $ a million; a tenth to read the cache, a quarter more to write it.
    assert_eq!((cost.micro_usd, cost.source), (500 + 2_500 + 3_150 + 14_375, CostSource::Computed));
    assert_eq!(run.context.unwrap().used, 2_350);
    let log = sandbox.ok(&["log", "heron"]);
    for words in ["I look.", "Let me", "menu.txt", "sh new/count.sh", "There is tofu."] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(!sandbox.ok(&["log", "heron", "--raw"]).contains("\"partial\":true"), "pieces are not kept");

    let seen = endpoint.seen_by("work");
    assert_eq!(seen.len(), 4);
    for (earlier, later) in seen.iter().zip(&seen[1..]) {
        let (earlier, later) = (unmarked(earlier.body.clone()), unmarked(later.body.clone()));
        for key in ["model", "system", "tools", "max_tokens"] {
            assert_eq!(earlier[key], later[key], "{key}");
        }
        let (before, after) =
            (earlier["messages"].as_array().unwrap(), later["messages"].as_array().unwrap());
        assert_eq!(before[..], after[..before.len()], "what was asked before is asked again as it was");
    }
    for request in &seen {
        let marks = request.body.to_string().matches("cache_control").count();
        assert!((2..=4).contains(&marks), "{marks}");
        let last =
            request.body["messages"].as_array().unwrap().last().unwrap()["content"].as_array().unwrap();
        assert!(last.last().unwrap()["cache_control"].is_object(), "{last:?}");
    }
    let thought = &seen[1].body["messages"][1]["content"][0];
    assert_eq!(
        *thought,
        json!({"type": "thinking", "thinking": "Let me\nsee.", "signature": "c2lnbmF0dXJl"})
    );
    let system = seen[0].body["system"].to_string();
    assert!(system.contains("Use tabs.") && system.contains("orchestra/heron"), "{system}");
    assert!(seen[0].headers.iter().any(|(name, value)| name == "anthropic-version" && value == "2023-06-01"));
}

#[test]
fn a_key_is_nowhere_but_where_it_is_sent() {
    let script = vec![
        Step::bash(
            "env > env.txt; tr '\\0' '\\n' < /proc/$PPID/cmdline > argv.txt; echo $ANTHROPIC_BASE_URL",
        ),
        Step::bash(&format!("echo it is {KEY}")),
        Step::say(&format!("The key is {KEY}.")),
    ];
    let (sandbox, endpoint) = with_api([("leak", script)], BYPASS);
    let spawned = spawn(&sandbox, "Leak it [script:leak]");
    assert_eq!(spawned.code, 0, "{spawned}");
    let env = file(&sandbox, "env.txt");
    assert!(env.contains("GIT_ORCHESTRA_AGENT=") && !env.contains("ANTHROPIC"), "{env}");
    let argv = file(&sandbox, "argv.txt");
    assert!(argv.contains("__api") && !argv.contains("Leak it") && !argv.contains("sk-ant"), "{argv}");
    assert!(endpoint.seen().len() == 3 && !spawned.to_string().contains(KEY), "{spawned}");
    // Nor in any file that was left, packed and compressed ones included.
    let objects =
        sandbox.command("git").args(["cat-file", "--batch-all-objects", "--batch"]).output().unwrap();
    assert!(objects.status.success() && find(&objects.stdout, "redacted").is_some());
    assert!(find(&objects.stdout, "correct-horse").is_none(), "an object holds it");
    let mut files = 0;
    let mut dirs = vec![sandbox.root()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).unwrap();
                assert!(find(&bytes, "correct-horse").is_none(), "{}", entry.path().display());
                files += 1;
            }
        }
    }
    let conversation = conversations(&sandbox);
    assert!(files > 20 && conversation.contains("[redacted:"), "{conversation}");
}

fn find(haystack: &[u8], needle: &str) -> Option<usize> {
    memchr::memmem::find(haystack, needle.as_bytes())
}

/// All conversations that are kept.
fn conversations(sandbox: &Sandbox) -> String {
    let dir = sandbox.home().join(".local/share/git-orchestra/conversations");
    let files = std::fs::read_dir(dir).unwrap().flatten();
    files.map(|entry| std::fs::read_to_string(entry.path()).unwrap()).collect()
}

#[test]
fn commands_are_asked_about_and_an_answer_holds_when_it_goes_on() {
    let script = vec![
        Step::write("free.txt", "edits are not asked\n"),
        Step::bash("touch marker"),
        Step::say("I wait."),
    ];
    let again = vec![Step::bash("touch marker"), Step::say("Touched.")];
    let (sandbox, endpoint) = with_api([("ask", script), ("A person answered", again)], "");
    let out = spawn(&sandbox, "Touch the marker [script:ask]");
    assert_eq!(out.code, 3, "{out}");
    assert!(out.stdout.contains("wants to use Bash: touch marker"), "{out}");
    assert!(has_file(&sandbox, "free.txt") && !has_file(&sandbox, "marker"));
    assert!(told(&endpoint)[0].contains("Nobody is there"), "{:?}", told(&endpoint));
    let decisions = sandbox.json(&["decide"]);
    sandbox.ok(&["decide", decisions["data"][0]["id"].as_str().unwrap(), "allow"]);
    let out = sandbox.orchestra(&["resume", "heron"]);
    assert_eq!(out.code, 0, "{out}\n{}", sandbox.ok(&["log", "heron"]));
    assert!(has_file(&sandbox, "marker"));
    let first = endpoint.seen().pop().unwrap().body["messages"][0].to_string();
    assert!(first.contains("[script:ask]"), "the same conversation: {first}");
}

#[test]
fn one_that_plans_can_only_read() {
    let script = vec![
        Step::read("README.md"),
        Step::write("x", "x").and("Bash", json!({"command": "touch y"})),
        Step::say("That is the plan."),
    ];
    let (sandbox, endpoint) = with_api([("plan", script)], "permissions = 'plan'");
    let out = spawn(&sandbox, "Plan [script:plan]");
    assert_eq!(out.code, 0, "{out}");
    assert!(!has_file(&sandbox, "x") && !has_file(&sandbox, "y"));
    assert!(told(&endpoint).iter().all(|words| words.contains("not allowed")), "{:?}", told(&endpoint));
    let tools = endpoint.seen()[0].body["tools"].to_string();
    assert!(
        tools.contains("\"Read\"") && !tools.contains("\"Bash\"") && !tools.contains("\"Edit\""),
        "{tools}"
    );
}

#[test]
fn an_interrupt_ends_its_command_and_a_message_goes_on() {
    let number = seconds(41);
    let script = vec![Step::bash(&format!("sleep {number}"))];
    let more = vec![Step::write("more.txt", "more\n"), Step::hang()];
    let last = vec![Step::say("Good.")];
    let (sandbox, endpoint) = with_api([("long", script), ("more", more), ("last", last)], BYPASS);
    sandbox.ok(&["spawn", "--detach", "-m", "Wait [script:long]", "--name", "heron"]);
    wait_for("its command", || runs(&number).then_some(()));
    sandbox.ok(&["interrupt", "heron"]);
    wait_for("the end of its command", || (!runs(&number)).then_some(()));
    wait_for("the end of its turn", || sandbox.ok(&["log", "heron"]).contains("result: ").then_some(()));
    let status = sandbox.ok(&["status"]);
    assert!(status.contains("for a message"), "{status}");
    sandbox.ok(&["send", "heron", "Do something else [script:more]"]);
    // In the middle of an answer, too.
    wait_for("the answer that hangs", || (endpoint.seen_by("more").len() == 2).then_some(()));
    let asked = endpoint.seen_by("more")[0].body["messages"].to_string();
    assert!(asked.contains("A person broke this off"), "{asked}");
    sandbox.ok(&["interrupt", "heron"]);
    sandbox.ok(&["send", "heron", "That is enough [script:last]"]);
    let waited = sandbox.orchestra(&["wait", "heron", "--timeout", "1m"]);
    assert_eq!(waited.code, 0, "{waited}\n{}", sandbox.ok(&["log", "heron"]));
    assert_eq!(outcome(&sandbox, "heron"), Outcome::Succeeded);
    assert!(has_file(&sandbox, "more.txt"));
}

#[test]
fn a_message_comes_in_between() {
    let script = vec![Step::bash("while [ ! -e go ]; do sleep 0.05; done"), Step::say("Never said.")];
    let more = vec![Step::say("I heard.")];
    let (sandbox, endpoint) = with_api([("wait", script), ("more", more)], BYPASS);
    sandbox.ok(&["spawn", "--detach", "-m", "Wait [script:wait]", "--name", "heron"]);
    wait_for("its command", || (endpoint.seen().len() == 1).then_some(()));
    let tree = worktree(&sandbox);
    sandbox.ok(&["send", "heron", "By the way [script:more]"]);
    std::fs::write(tree.join("go"), "").unwrap();
    assert_eq!(sandbox.orchestra(&["wait", "heron", "--timeout", "1m"]).code, 0);
    let last = endpoint.seen().pop().unwrap().body["messages"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["content"][0]["type"], "tool_result", "{last:#}");
    assert_eq!(last["content"][1]["text"], "By the way [script:more]", "{last:#}");
}

#[test]
fn a_kill_in_the_middle_of_a_command_is_gone_on_from() {
    let number = seconds(43);
    let script =
        vec![Step::write("one.txt", "one\n"), Step::bash(&format!("echo $PPID > pid; sleep {number}"))];
    let on = vec![Step::write("two.txt", "two\n"), Step::say("Done.")];
    let (sandbox, endpoint) = with_api([("long", script), ("Go on where you stopped.", on)], BYPASS);
    sandbox.ok(&["spawn", "--detach", "-m", "Wait [script:long]", "--name", "heron"]);
    wait_for("its command", || runs(&number).then_some(()));
    let tree = worktree(&sandbox);
    let pid = std::fs::read_to_string(tree.join("pid")).unwrap();
    sandbox::kill(pid.trim().parse().unwrap(), Signal::SIGKILL);
    let waited = sandbox.orchestra(&["wait", "heron", "--timeout", "1m"]);
    assert_eq!(waited.code, 4, "{waited}");
    wait_for("the end of its command", || (!runs(&number)).then_some(()));
    let out = sandbox.orchestra(&["resume", "heron"]);
    assert_eq!(out.code, 0, "{out}\n{}", sandbox.ok(&["log", "heron"]));
    assert_eq!((file(&sandbox, "one.txt"), file(&sandbox, "two.txt")), ("one".into(), "two".into()));
    let messages = endpoint.seen().pop().unwrap().body["messages"].to_string();
    assert!(messages.contains("was ended before this call was answered"), "{messages}");
}

#[test]
fn what_passes_is_tried_again_and_no_call_is_half_made() {
    let script = vec![
        Step::say("At last.")
            .failing(1, 529, Some(0))
            .failing(1, 500, None)
            .odd(Odd::Cut)
            .odd(Odd::Garbled)
            .odd(Odd::Overloaded),
    ];
    let (sandbox, endpoint) = with_api([("odd", script)], BYPASS);
    let out = spawn(&sandbox, "Try [script:odd]");
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(endpoint.seen_by("odd").len(), 6);
    assert!(!has_file(&sandbox, "odd"));
    let log = sandbox.ok(&["log", "heron"]);
    for words in ["529", "500", "broke off", "garbled", "overloaded"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    // It was parked in between: a turn began in either process.
    let usage = the_agent(&sandbox, "heron").runs[&1].usage;
    assert_eq!((usage.turns, usage.input), (2, 100 + 3 * 7), "what was begun was paid for\n{log}");
}

#[test]
fn a_server_without_measure_is_cut_off() {
    let script = vec![Step::say("Well.").odd(Odd::LongLine).odd(Odd::Endless)];
    let (sandbox, _endpoint) = with_api([("flood", script)], BYPASS);
    let out = spawn(&sandbox, "Try [script:flood]");
    assert_eq!(out.code, 0, "{out}");
    let log = sandbox.ok(&["log", "heron"]);
    for words in ["a line of its answer is longer than 8 MiB", "its answer is longer than 64 MiB"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(!has_file(&sandbox, "odd"));
}

#[test]
fn a_key_that_is_refused_ends_it_at_once() {
    let (sandbox, endpoint) = with_api([("no", vec![Step::say("x").failing(9, 401, None)])], BYPASS);
    let out = spawn(&sandbox, "Try [script:no]");
    assert_eq!((out.code, endpoint.seen().len()), (4, 1), "{out}");
    let reason = reason(&sandbox);
    assert!(
        reason.contains("refuses the key: status 401") && reason.contains("ANTHROPIC_API_KEY"),
        "{reason}"
    );
}

#[test]
fn what_the_server_does_not_take_is_said_in_its_words() {
    let (sandbox, endpoint) = with_api([("no", vec![Step::say("x").failing(9, 400, None)])], BYPASS);
    let out = spawn(&sandbox, "Try [script:no]");
    assert_eq!((out.code, endpoint.seen().len()), (4, 1), "{out}");
    assert!(reason(&sandbox).contains("max_tokens: too large"), "{}", reason(&sandbox));
}

#[test]
fn without_a_key_nothing_is_asked() {
    let (mut sandbox, endpoint) = with_api([("no", vec![Step::say("x")])], BYPASS);
    sandbox.set_env("ANTHROPIC_API_KEY", "");
    let out = spawn(&sandbox, "Try [script:no]");
    assert_eq!((out.code, endpoint.seen().len()), (4, 0), "{out}");
    assert!(reason(&sandbox).contains("there is no key"), "{}", reason(&sandbox));
}

#[test]
fn a_limit_parks_it_and_it_goes_on_by_itself() {
    let script = vec![Step::write("one.txt", "one\n"), Step::say("x").failing(99, 429, Some(0))];
    let on = vec![Step::write("two.txt", "two\n"), Step::say("Both written.")];
    let (sandbox, endpoint) = with_api([("limit", script), ("Go on where you stopped.", on)], BYPASS);
    let out = spawn(&sandbox, "Write two [script:limit]");
    assert_eq!(out.code, 0, "{out}\n{}", sandbox.ok(&["log", "heron"]));
    assert_eq!((file(&sandbox, "one.txt"), file(&sandbox, "two.txt")), ("one".into(), "two".into()));
    let log = sandbox.ok(&["log", "heron"]);
    for words in ["its model is over a limit (429", "parked until"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    let first = endpoint.seen().pop().unwrap().body["messages"][0].to_string();
    assert!(first.contains("[script:limit]"), "the same conversation: {first}");
}

#[test]
fn a_sub_agent_has_a_conversation_of_its_own() {
    let task = json!({"description": "Look", "prompt": "Look around [script:look]"});
    let script =
        vec![Step::write("main.txt", "x\n").and("Task", task).tokens(100, 10, 0, 0), Step::say("It looked.")];
    let look =
        vec![Step::bash("echo seen > seen.txt").tokens(1_000, 10, 0, 0), Step::say("There is a file.")];
    let (sandbox, endpoint) = with_api([("main", script), ("look", look)], BYPASS);
    let out = spawn(&sandbox, "Have it looked [script:main]");
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(file(&sandbox, "seen.txt"), "seen");
    let asked = &endpoint.seen_by("look")[0].body;
    assert_eq!(asked["messages"].as_array().unwrap().len(), 1);
    assert!(!asked["tools"].to_string().contains("\"Task\""), "{asked:#}");
    assert_eq!(told(&endpoint)[1], "There is a file.");
    let usage = the_agent(&sandbox, "heron").runs[&1].usage;
    assert_eq!(
        (usage.input, usage.turns),
        (100 + 1_000 + 100 + 100, 2),
        "its tokens count, and its turns are its own"
    );
    let events = sandbox.ok(&["log", "heron", "--json"]);
    assert!(events.contains("\"parent\""), "{events}");
}

#[test]
fn it_keeps_a_list_of_what_it_has_to_do() {
    let todos = |first: &str, second: &str| {
        json!({"todos": [
            {"content": "Read", "status": first, "activeForm": "Reading"},
            {"content": "Write", "status": second, "activeForm": "Writing"}
        ]})
    };
    let script = vec![
        Step::call("TodoWrite", todos("in_progress", "pending")),
        Step::write("a.txt", "a\n").and("TodoWrite", todos("completed", "completed")),
        Step::call("TodoWrite", json!({"todos": [{"content": "Read", "status": "soon"}]})),
        Step::say("All is done."),
    ];
    let (sandbox, endpoint) = with_api([("list", script)], BYPASS);
    let out = spawn(&sandbox, "Keep a list [script:list]");
    assert_eq!(out.code, 0, "{out}");
    assert!(endpoint.seen()[0].body["tools"].to_string().contains("\"TodoWrite\""));
    let answers: Vec<String> = endpoint.seen().iter().map(|seen| seen.body["messages"].to_string()).collect();
    assert!(answers[1].contains("[>] Read\\n[ ] Write"), "{}", answers[1]);
    assert!(answers[2].contains("[x] Read\\n[x] Write"), "{}", answers[2]);
    // A list that it cannot read is an answer, and ends nothing.
    assert!(answers[3].contains("\"is_error\":true") && answers[3].contains("soon"), "{}", answers[3]);
    let log = sandbox.ok(&["log", "heron"]);
    assert!(log.contains("TodoWrite") && log.contains("All is done."), "{log}");
}

#[test]
fn it_keeps_its_budgets() {
    let step = || Step::bash("true").tokens(1_000, 10, 0, 0);
    let (sandbox, endpoint) = with_api([("on", vec![step(), step(), step(), step(), step()])], BYPASS);
    let out =
        sandbox.orchestra(&["spawn", "-m", "On and on [script:on]", "--name", "heron", "--max-turns", "2"]);
    assert_eq!(out.code, 9, "{out}");
    assert!(endpoint.seen().len() <= 3, "{}", endpoint.seen().len());
}

#[test]
fn a_question_that_was_asked_again_is_one_turn() {
    let step = || Step::bash("true").failing(1, 529, Some(0));
    let (sandbox, endpoint) = with_api([("on", vec![step(), step(), step(), step()])], BYPASS);
    let out =
        sandbox.orchestra(&["spawn", "-m", "On and on [script:on]", "--name", "heron", "--max-turns", "1"]);
    assert_eq!(out.code, 9, "{out}");
    assert_eq!(the_agent(&sandbox, "heron").runs[&1].usage.turns, 1);
    assert_eq!(endpoint.seen_by("on").len(), 2, "once in vain");
}

#[test]
fn money_is_kept_to_where_anybody_knows_the_price() {
    let steps = || vec![Step::bash("true").tokens(1_000, 10, 0, 0), Step::say("Done.")];
    let (sandbox, _endpoint) = with_api([("work", steps()), ("more", steps())], BYPASS);
    let spawn = |name: &str, words: &str, profile: &str| {
        let args = ["spawn", "-m", words, "--name", name, "--max-cost", "0.001", "--profile", profile];
        (sandbox.orchestra(&args), sandbox.ok(&["log", name]))
    };
    let unknown = "[profile.unknown]\nprogram = 'api'\nmodel = 'mystery-model-9'\npermissions = 'bypass'\n";
    configure(
        &sandbox,
        &format!("{unknown}{}price-input = 5.0\nprice-output = 25.0\n", unknown.replace("unknown", "priced")),
    );
    let (out, log) = spawn("heron", "Work [script:work]", "unknown");
    assert_eq!(out.code, 0, "{out}\n{log}");
    assert!(log.contains("`max-cost` is not in force"), "{log}");
    let (out, log) = spawn("fox", "Work [script:more]", "priced");
    assert_eq!(out.code, 9, "{out}\n{log}");
    assert!(!log.contains("not in force"), "{log}");
}

#[test]
fn long_output_and_old_answers_make_room() {
    let long = || Step::bash("seq 1 20000").tokens(10, 20, 0, 0);
    let script = vec![long(), long(), long(), long().tokens(180_000, 20, 0, 0), Step::say("Done.")];
    let (sandbox, endpoint) = with_api([("long", script)], BYPASS);
    let out = spawn(&sandbox, "Count [script:long]");
    assert_eq!(out.code, 0, "{out}\n{}", sandbox.ok(&["log", "heron"]));
    let answers: Vec<Vec<String>> = endpoint
        .seen_by("long")
        .iter()
        .map(|seen| {
            let blocks = seen.body["messages"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|m| m["content"].as_array().unwrap());
            blocks.filter_map(|block| block["content"].as_str().map(str::to_owned)).collect()
        })
        .collect();
    let first = &answers[1][0];
    assert!(first.len() < 31_000 && first.contains("bytes are left out here"), "{}", first.len());
    assert_eq!(&answers[3][0], first, "nothing is taken out before it must be");
    assert!(
        answers[4][0].contains("taken out to make room") && answers[4][3].starts_with("1\n2\n"),
        "{:?}",
        answers[4]
    );
    assert!(sandbox.ok(&["log", "heron"]).contains("its window is nearly full"));
}

#[test]
fn confined_it_works_and_reaches_nothing_else() {
    if !levels().contains(&Level::Landlock) {
        return;
    }
    let script = vec![
        Step::bash("cat ~/secret; echo x > ~/planted; cat /proc/$PPID/environ; true"),
        Step::call("Read", json!({"file_path": "{cwd}/../../../secret"}))
            .and("Write", json!({"file_path": "/tmp/planted", "content": "x"})),
        Step::write("inside.txt", "inside\n"),
        Step::say("Done."),
    ];
    let (sandbox, endpoint) = with_api([("out", script)], BYPASS);
    write_in(sandbox.home(), "secret", "a-secret-of-the-user\n");
    let out = sandbox.orchestra(&[
        "spawn",
        "-m",
        "Get out [script:out]",
        "--name",
        "heron",
        "--sandbox",
        "landlock",
    ]);
    assert_eq!(out.code, 0, "{out}\n{}", sandbox.ok(&["log", "heron"]));
    assert!(has_file(&sandbox, "inside.txt") && !sandbox.home().join("planted").exists());
    let all: Vec<String> = endpoint.seen().iter().map(|seen| seen.body["messages"].to_string()).collect();
    let last = all.last().unwrap();
    assert!(last.contains("Permission denied") && last.contains("is not inside the worktree"), "{last}");
    assert!(!last.contains("a-secret-of-the-user"), "{last}");
}

/// A user whose default profile is the built-in program with the real Claude Code behind it, which has a login of its own.
fn with_hybrid<const N: usize>(scripts: [(&str, Vec<Step>); N]) -> (Sandbox, Endpoint) {
    let (mut sandbox, endpoint) = with_api(scripts, BYPASS);
    sandbox.set_env("CLAUDE_CLI_PATH", claude());
    configure(
        &sandbox,
        "default-profile = 'hybrid'\ngrace = '2s'\n[profile.hybrid]\nmodel = 'claude-opus-4-8'\n",
    );
    write_in(sandbox.home(), ".claude/settings.json", "{\"apiKeyHelper\": \"echo sk-ant-of-another-login\"}");
    (sandbox, endpoint)
}

/// Who asked what a script answered.
fn askers(endpoint: &Endpoint, script: &str) -> Vec<bool> {
    let agent = |headers: &[(String, String)]| {
        headers.iter().any(|(name, value)| name == "user-agent" && value.starts_with("git-orchestra/"))
    };
    endpoint.seen_by(script).iter().map(|seen| agent(&seen.headers)).collect()
}

#[test]
fn where_the_key_is_refused_claude_code_does_the_work() {
    let script = vec![
        Step::write("one.txt", "one\n").failing(1, 401, None),
        Step::bash("sh -c 'touch marker'"),
        Step::say("I wait."),
    ];
    let again = vec![Step::bash("sh -c 'touch marker'"), Step::say("Touched.")];
    let (sandbox, endpoint) = with_hybrid([("work", script), ("A person answered", again)]);
    let out = spawn(&sandbox, "Write it [script:work]");
    assert_eq!(out.code, 3, "{out}\n{}", sandbox.ok(&["log", "heron"]));
    assert_eq!(file(&sandbox, "one.txt"), "one");
    assert_eq!(askers(&endpoint, "work"), [true, false, false, false]);
    let log = sandbox.ok(&["log", "heron"]);
    assert!(log.contains("Claude Code does the work: its model refuses the key: status 401"), "{log}");
    assert!(!log.contains(KEY) && conversations(&sandbox).is_empty());
    let run = &the_agent(&sandbox, "heron").runs[&1];
    assert!(run.session.is_some() && run.usage.output >= 60, "{run:?}");
    // What it asks comes through, and the answer holds in its own conversation.
    let decisions = sandbox.json(&["decide"]);
    sandbox.ok(&["decide", decisions["data"][0]["id"].as_str().unwrap(), "allow"]);
    let out = sandbox.orchestra(&["resume", "heron"]);
    assert_eq!(out.code, 0, "{out}\n{}", sandbox.ok(&["log", "heron"]));
    assert!(has_file(&sandbox, "marker"));
    assert_eq!(askers(&endpoint, "A person answered"), [false, false]);
    assert!(sandbox.ok(&["log", "heron"]).contains("its conversation is one of Claude Code"));
}

#[test]
fn without_a_key_claude_code_does_the_work() {
    let script = vec![Step::hang()];
    let more = vec![Step::write("one.txt", "one\n"), Step::say("Done.")];
    let (mut sandbox, endpoint) = with_hybrid([("work", script), ("more", more)]);
    sandbox.set_env("ANTHROPIC_API_KEY", "");
    sandbox.ok(&["spawn", "--detach", "-m", "Write it [script:work]", "--name", "heron"]);
    wait_for("the answer that hangs", || (!endpoint.seen_by("work").is_empty()).then_some(()));
    sandbox.ok(&["interrupt", "heron"]);
    sandbox.ok(&["send", "heron", "Do this instead [script:more]"]);
    let waited = sandbox.orchestra(&["wait", "heron", "--timeout", "1m"]);
    assert_eq!(waited.code, 0, "{waited}\n{}", sandbox.ok(&["log", "heron"]));
    assert_eq!(file(&sandbox, "one.txt"), "one");
    assert_eq!(askers(&endpoint, "more"), [false, false]);
    assert!(sandbox.ok(&["log", "heron"]).contains("Claude Code does the work: there is no key for the API"));
}

#[test]
fn claude_code_keeps_the_limits_too() {
    let work = || (1..9).map(|number| Step::write(&format!("{number}.txt"), "x\n")).collect();
    let (mut sandbox, endpoint) = with_hybrid([("work", work()), ("more", work())]);
    sandbox.set_env("ANTHROPIC_API_KEY", "");
    for (name, words, limit) in [
        ("heron", "Write [script:work]", ["--max-turns", "2"]),
        ("fox", "Write [script:more]", ["--max-cost", "0.003"]),
    ] {
        let out = sandbox.orchestra(&["spawn", "-m", words, "--name", name, limit[0], limit[1]]);
        assert_eq!(out.code, 9, "{out}\n{}", sandbox.ok(&["log", name]));
        let Outcome::Stopped { over: Some(over), .. } = outcome(&sandbox, name) else { panic!("{out}") };
        assert_eq!(format!("--{}", over.key()), limit[0]);
    }
    assert_eq!(askers(&endpoint, "work"), [false, false]);
}

#[test]
fn nobody_takes_over_what_was_begun() {
    let script = vec![Step::write("one.txt", "one\n"), Step::say("x").failing(9, 401, None)];
    let (sandbox, endpoint) = with_hybrid([("work", script)]);
    let out = spawn(&sandbox, "Write it [script:work]");
    assert_eq!(out.code, 4, "{out}");
    assert!(reason(&sandbox).contains("refuses the key"), "{}", reason(&sandbox));
    assert_eq!(askers(&endpoint, "work"), [true, true]);
    assert_eq!(file(&sandbox, "one.txt"), "one");
}

#[test]
fn nobody_takes_over_for_a_limit_that_passes() {
    let script = vec![Step::write("one.txt", "one\n").failing(3, 429, Some(0)), Step::say("Done.")];
    let (sandbox, endpoint) = with_hybrid([("work", script)]);
    let out = spawn(&sandbox, "Write it [script:work]");
    assert_eq!(out.code, 0, "{out}\n{}", sandbox.ok(&["log", "heron"]));
    assert_eq!(askers(&endpoint, "work"), [true; 5], "Claude Code was never asked");
    assert_eq!(file(&sandbox, "one.txt"), "one");
    let log = sandbox.ok(&["log", "heron"]);
    assert!(log.contains("429") && !log.contains("Claude Code does the work"), "{log}");
}
