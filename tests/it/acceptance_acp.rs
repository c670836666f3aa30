//! The real Gemini CLI behind the Agent Client Protocol: it edits, runs commands, asks, is counted, interrupted, stopped,
//! continued and refused. And agents that do not keep to the protocol.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;

use git_orchestra::agent::bridge::{Begin, Wish};
use git_orchestra::model::{Event, EventKind, Outcome};
use nix::sys::signal::Signal;

use crate::acceptance_codex::{configure, figures, outcome, processes_with, the_agent, wait_for_file};
use crate::harness::sandbox::{ORCHESTRA, kill, poll};
use crate::harness::{Answer, Model, Sandbox, Terminal, gemini, programs};
use crate::life::console;

/// A sandbox whose default agents are the real `gemini --acp`, and talk to these scripts.
pub(crate) fn with_scripts<const N: usize>(
    permissions: &str,
    scripts: [(&str, Vec<Answer>); N],
) -> (Sandbox, Model) {
    let mut sandbox = Sandbox::new();
    let model = gemini::start(scripts);
    gemini::use_model(&mut sandbox, &model);
    // It starts itself a second time, with more memory, unless it is told not to.
    sandbox.set_env("GEMINI_CLI_NO_RELAUNCH", "true");
    let program = programs::gemini();
    configure(
        &sandbox,
        &format!(
            "default-profile = 'behind'\npark = '1s'\n[profile.behind]\nprogram = 'acp'\nmodel = 'gemini-2.5-pro'\n\
             command = ['{}', '--acp', '--skip-trust']\npermissions = '{permissions}'\n\
             pass-env = ['GEMINI_API_KEY', 'GOOGLE_GEMINI_BASE_URL', 'GEMINI_CLI_NO_RELAUNCH']\n",
            program.display()
        ),
    );
    (sandbox, model)
}

#[test]
fn it_edits_runs_commands_is_counted_and_continued() {
    let work = vec![
        Answer::write("src/new.txt", "one\ntwo\n")
            .saying("I will write a file.")
            .thinking("**Planning** the file")
            .tokens([1_000, 0, 50, 10]),
        Answer::replace("README.md", "# sandbox", "# changed").tokens([1_100, 900, 40, 0]),
        Answer::run(
            "sed -n 2p src/new.txt > second.txt; echo ${GITHUB_TOKEN-none} > token.txt; \
             git add . && git commit -qm 'its own commit'",
        )
        .tokens([1_200, 1_000, 30, 0]),
        Answer::say("All done now.").tokens([1_300, 1_100, 20, 5]),
    ];
    let more = vec![Answer::say("I remember.").tokens([1_500, 1_300, 7, 0])];
    let (mut sandbox, model) = with_scripts("bypass", [("work", work), ("more", more)]);
    sandbox.set_env("GITHUB_TOKEN", "not-for-agents");
    let user = sandbox.fingerprint();
    let task = sandbox.ok(&["task", "add", "Write it [script:work]", "--touches", "README.md"]);
    let spawned = sandbox.orchestra(&["spawn", &task, "--name", "scribe"]);
    assert_eq!(spawned.code, 0, "{spawned}\n{}", sandbox.ok(&["log", "scribe"]));
    assert_eq!(sandbox.fingerprint(), user);

    let show = |path: &str| sandbox.git(&["show", &format!("orchestra/scribe:{path}")]);
    assert_eq!(
        [show("src/new.txt"), show("README.md"), show("second.txt"), show("token.txt")],
        ["one\ntwo", "# changed", "two", "none"]
    );
    assert_eq!(
        sandbox.git(&["log", "--format=%s %an", "main..orchestra/scribe"]),
        "its own commit Ada Example"
    );
    let log = sandbox.ok(&["log", "scribe"]);
    for words in [
        "model gemini-2.5-pro",
        "Planning",
        "I will write a file.",
        "edit src/new.txt",
        "edit README.md",
        "execute sed -n 2p",
        "All done now.",
    ] {
        assert!(log.contains(words), "no `{words}` in\n{log}");
    }
    assert!(!log.contains("unrecognised"), "{log}");
    let first = model.asked_by("work")[0].body["contents"].to_string();
    assert!(first.contains("You are the agent `scribe`"), "{first}");
    let agent = the_agent(&sandbox, "scribe");
    // Of the cache and of thoughts it says nothing there, and a prompt is a turn.
    assert_eq!(figures(&agent, 1), [4_600, 0, 140, 1]);
    assert_eq!(agent.runs[&1].usage.estimated_output, 0);

    let resumed = sandbox.orchestra(&["resume", "scribe", "-m", "And now [script:more]"]);
    assert_eq!(resumed.code, 0, "{resumed}\n{}", sandbox.ok(&["log", "scribe"]));
    let last = model.asked_by("more").pop().unwrap().body["contents"].to_string();
    assert!(last.contains("All done now.") && last.contains("[script:work]"), "{last}");
    let again = the_agent(&sandbox, "scribe");
    assert_eq!(again.session, agent.session);
    assert_eq!(figures(&again, 2), [1_500, 0, 7, 1]);
    assert_eq!(outcome(&sandbox, "scribe"), Outcome::Succeeded);
    assert_eq!(
        sandbox.ok(&["log", "scribe"]).matches("I will write a file.").count(),
        1,
        "it is not said again"
    );
    sandbox.assert_sound();
}

#[test]
fn what_it_asks_is_answered_by_the_profile_on_a_terminal_or_later() {
    let asks = || Answer::run("curl --version > /dev/null; touch asked");
    let (sandbox, _model) = with_scripts(
        "accept-edits",
        [
            ("ask", vec![Answer::write("edited.txt", "x\n"), asks(), Answer::say("I could not.")]),
            ("again", vec![asks(), Answer::say("Now I could.")]),
            ("there", vec![asks(), Answer::say("You were there.")]),
        ],
    );
    // Nobody is there: it becomes a decision, and edits go on without one.
    let spawned = sandbox.orchestra(&["spawn", "-m", "Do it [script:ask]", "--name", "heron"]);
    assert_eq!(spawned.code, 3, "{spawned}\n{}", sandbox.ok(&["log", "heron"]));
    assert_eq!(sandbox.git(&["ls-tree", "--name-only", "orchestra/heron"]), "README.md\nedited.txt");
    let decisions = sandbox.json(&["decide"]);
    let decision = &decisions["data"][0];
    assert!(
        decision["question"].as_str().unwrap().contains("heron wants to use execute: curl"),
        "{decision}"
    );
    sandbox.ok(&["decide", decision["id"].as_str().unwrap(), "allow"]);
    let resumed = sandbox.orchestra(&["resume", "heron", "-m", "Try again [script:again]"]);
    assert_eq!(resumed.code, 0, "{resumed}\n{}", sandbox.ok(&["log", "heron"]));
    sandbox.git(&["cat-file", "-e", "orchestra/heron:asked"]);

    let args = ["spawn", "-m", "Do it, too [script:there]", "--name", "fox"];
    let mut terminal = Terminal::orchestra(&sandbox, &args, 30, 100);
    terminal.wait_for("let it use execute? y/n");
    terminal.type_in("y\r");
    terminal.wait_for("You were there.");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    sandbox.git(&["cat-file", "-e", "orchestra/fox:asked"]);
}

#[test]
fn one_that_plans_changes_nothing() {
    let work =
        vec![Answer::write("new.txt", "x\n"), Answer::run("touch ran"), Answer::say("That is the plan.")];
    let (sandbox, _model) = with_scripts("plan", [("plan", work)]);
    let spawned = sandbox.orchestra(&["spawn", "-m", "Plan it [script:plan]", "--name", "heron"]);
    assert_eq!(spawned.code, 0, "{spawned}");
    assert_eq!(sandbox.git(&["ls-tree", "--name-only", "orchestra/heron"]), "README.md");
    assert!(sandbox.ok(&["log", "heron"]).contains("That is the plan."));
}

#[test]
fn it_is_interrupted_told_what_to_do_instead_and_stopped_to_its_last_process() {
    let (sandbox, model) = with_scripts(
        "bypass",
        [
            ("long", vec![Answer::run("touch started; tail -f README.md"), Answer::say("Never.")]),
            (
                "other",
                vec![
                    Answer::write("half-acp.txt", "half\n"),
                    Answer::run("touch again; tail -f half-acp.txt"),
                ],
            ),
            ("more", vec![Answer::say("I remember.")]),
        ],
    );
    let mut child = console(&sandbox, &["spawn", "-m", "Do it [script:long]", "--name", "heron"]);
    wait_for_file(&sandbox, "started");
    sandbox.ok(&["interrupt", "heron"]);
    let dropped = poll(|| sandbox.ok(&["log", "heron"]).contains("cancelled").then_some(()));
    assert!(dropped.is_some(), "{}", sandbox.ok(&["log", "heron"]));
    assert_eq!(sandbox.orchestra(&["wait", "heron", "--timeout", "1"]).code, 7, "it waits for a word");
    sandbox.ok(&["send", "heron", "Do the other [script:other]"]);
    wait_for_file(&sandbox, "again");
    kill(child.id(), Signal::SIGINT);
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(matches!(outcome(&sandbox, "heron"), Outcome::Stopped { .. }));
    assert_eq!(sandbox.git(&["show", "orchestra/heron:half-acp.txt"]), "half");
    let place = sandbox.root().to_string_lossy().into_owned();
    assert_eq!(processes_with("half-acp.txt"), Vec::<String>::new(), "its command ended with it");
    let left: Vec<_> = processes_with("__acp").into_iter().filter(|line| line.contains(&place)).collect();
    assert_eq!(left, Vec::<String>::new());

    let resumed = sandbox.orchestra(&["resume", "heron", "-m", "And now [script:more]"]);
    assert_eq!(resumed.code, 0, "{resumed}\n{}", sandbox.ok(&["log", "heron"]));
    let last = model.asked_by("more").pop().unwrap().body["contents"].to_string();
    assert!(last.contains("[script:other]"), "{last}");
}

#[test]
fn refusals_of_its_model_are_failures_and_pauses() {
    let (sandbox, model) = with_scripts(
        "bypass",
        [
            ("locked", vec![Answer::say("Never.").failing(9, 401)]),
            ("limited", vec![Answer::say("Here I am.").failing(1, gemini::DAILY)]),
        ],
    );
    let locked = sandbox.orchestra(&["spawn", "-m", "Do it [script:locked]", "--name", "heron"]);
    assert_eq!(locked.code, 4, "{locked}");
    let failed = Outcome::Failed { reason: "401: API key not valid".to_owned() };
    assert_eq!(outcome(&sandbox, "heron"), failed);
    let limited = sandbox.orchestra(&["spawn", "-m", "Do it [script:limited]", "--name", "fox"]);
    let log = sandbox.ok(&["log", "fox"]);
    assert_eq!(limited.code, 0, "{limited}\n{log}");
    for words in ["exhausted your daily quota", "it goes on by itself", "parked until", "Here I am."] {
        assert!(log.contains(words), "no `{words}` in\n{log}");
    }
    assert_eq!((the_agent(&sandbox, "fox").runs.len(), model.asked_by("limited").len()), (1, 2));
}

#[test]
fn an_overloaded_model_is_waited_for() {
    let (sandbox, model) =
        with_scripts("bypass", [("busy", vec![Answer::say("Here I am.").failing(1, 529)])]);
    let spawned = sandbox.orchestra(&["spawn", "-m", "Do it [script:busy]", "--name", "heron"]);
    let log = sandbox.ok(&["log", "heron"]);
    assert_eq!(spawned.code, 0, "{spawned}\n{log}");
    assert_eq!((the_agent(&sandbox, "heron").runs.len(), model.asked_by("busy").len()), (1, 2));
    // It tries again by itself, and tells that only when it ends: on its standard error, as words of nobody's.
    let raw = sandbox.ok(&["log", "heron", "--raw"]);
    assert!(!raw.contains("\"type\":\"retry\"") && !log.contains("parked until"), "{raw}");
    let told = log.find("Attempt 1 failed with status 529").unwrap_or_else(|| panic!("{log}"));
    assert!(log.find("Here I am.").is_some_and(|said| said < told), "{log}");
}

/// What the client says of an agent up to its first result, and that result's words.
fn behind(agent: &[&str]) -> (Vec<EventKind>, String) {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(ORCHESTRA);
    command.args(["__acp", "--patience", "2", "--"]).args(agent);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let begin = Begin { session: "ours".into(), prompt: "do it".into(), ..Begin::default() };
    let mut input = child.stdin.take().unwrap();
    input.write_all(&Wish::Begin(Box::new(begin)).encode()).unwrap();
    let mut kinds = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let event: Event = serde_json::from_str(&line.unwrap()).unwrap();
        kinds.push(event.kind);
        if matches!(kinds.last(), Some(EventKind::Result { .. })) {
            break;
        }
    }
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let Some(EventKind::Result { error: true, text, .. }) = kinds.last() else { panic!("{kinds:?}") };
    let text = text.clone();
    (kinds, text)
}

#[test]
fn agents_that_do_not_keep_to_the_protocol_fail_in_words() {
    for (agent, words) in [
        (&["/nowhere/agent"][..], "failed to start `/nowhere/agent`"),
        (&["sh", "-c", "echo oops >&2; exit 3"], "it ended in the middle of its work (exit 3)"),
        (&["yes", "rubbish"], "it does not speak the Agent Client Protocol"),
        (&["tail", "-f", "/dev/null"], "no answer to `initialize`"),
    ] {
        let (kinds, text) = behind(agent);
        assert!(text.contains(words), "{agent:?}: {text}");
        assert!(kinds.len() < 30, "what nobody knows is not told without end: {}", kinds.len());
    }
}

#[test]
fn a_hostile_agent_is_heard_to_its_end() {
    let script = r#"
        read -r line; echo '{"id":1,"result":{"protocolVersion":1}}'
        read -r line; echo '{"id":3,"result":{"sessionId":"s"}}'
        read -r line
        update() { echo '{"method":"session/update","params":{"sessionId":"s","update":{"sessionUpdate":"'"$1"'"'"$2"'}}}'; }
        for n in $(seq 3000); do update "new-$n"; done
        update agent_message_chunk ',"content":{"type":"text","text":"'"$(head -c 1000000 /dev/zero | tr '\0' x)"'"}'
        printf '\377\376\n[[[[\n'
        echo '{"id":"a","method":"fs/write_text_file","params":{"path":"/etc/passwd","content":""}}'
        read -r line
        case $line in *-32601*) why=refused;; *) why=served;; esac
        echo '{"id":5,"error":{"code":500,"message":"'$why'"}}'
        sleep 60
    "#;
    let (kinds, text) = behind(&["sh", "-c", script]);
    assert_eq!(text, "500: refused");
    let said = kinds.iter().filter_map(|kind| match kind {
        EventKind::Text { text, partial: false } => Some(text.len()),
        _ => None,
    });
    assert_eq!(said.sum::<usize>(), 1_000_000);
    assert!(kinds.len() < 1000, "{}", kinds.len());
    assert!(kinds.iter().any(
        |kind| matches!(kind, EventKind::Notice { text } if text.contains("more lines that nobody knows"))
    ));
}

#[test]
fn a_profile_names_the_program_behind_it() {
    let sandbox = Sandbox::new();
    let spawned = sandbox.orchestra(&["spawn", "-m", "x", "--profile", "acp"]);
    assert!(spawned.code == 2 && spawned.stderr.contains("profile `acp` names no command"), "{spawned}");
    assert!(spawned.stderr.contains("set `profile.acp.command`"), "{spawned}");
}
