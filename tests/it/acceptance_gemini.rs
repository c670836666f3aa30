//! The real Gemini CLI as an agent: it edits, runs commands, is counted, stopped, continued and refused.

use git_orchestra::model::Outcome;
use nix::sys::signal::Signal;

use crate::acceptance_codex::{configure, figures, outcome, processes_with, the_agent, wait_for_file};
use crate::harness::programs;
use crate::harness::{Answer, Model, Sandbox, Terminal, gemini};

/// A sandbox whose default agents are the real Gemini CLI, found in `PATH`, and talk to these scripts.
pub(crate) fn with_scripts<const N: usize>(
    permissions: &str,
    scripts: [(&str, Vec<Answer>); N],
) -> (Sandbox, Model) {
    let mut sandbox = Sandbox::new();
    let model = gemini::start(scripts);
    gemini::use_model(&mut sandbox, &model);
    let program = programs::gemini();
    let command = sandbox.command("true");
    let path = command.get_envs().find_map(|(key, value)| (key == "PATH").then_some(value?));
    let dirs = [program.parent().unwrap().to_owned()].into_iter().chain(std::env::split_paths(path.unwrap()));
    let path = std::env::join_paths(dirs).unwrap();
    sandbox.set_env("PATH", path);
    configure(
        &sandbox,
        &format!(
            "default-profile = 'gemini'\n[profile.gemini]\nmodel = 'gemini-2.5-pro'\npermissions = '{permissions}'\n"
        ),
    );
    (sandbox, model)
}

#[test]
fn it_edits_runs_commands_is_counted_and_continued() {
    let work = vec![
        Answer::write("src/new.txt", "one\ntwo\n").saying("I will write a file.").tokens([1_000, 0, 50, 10]),
        Answer::replace("README.md", "# sandbox", "# changed").tokens([1_100, 900, 40, 0]),
        Answer::run(
            "sed -n 2p src/new.txt > second.txt; echo ${GITHUB_TOKEN-none} > token.txt; \
             git add . && git commit -qm 'its own commit'; ls gone",
        )
        .tokens([1_200, 1_000, 30, 0]),
        Answer::say("All done now.").tokens([1_300, 1_100, 20, 5]),
    ];
    let more = vec![Answer::say("I remember.").tokens([1_500, 1_300, 7, 0])];
    let (mut sandbox, model) = with_scripts("bypass", [("work", work), ("more", more)]);
    // It starts itself a second time, with more memory, unless it is told not to.
    sandbox.set_env("GEMINI_CLI_NO_RELAUNCH", "true");
    sandbox.set_env("GITHUB_TOKEN", "not-for-agents");
    let user = sandbox.fingerprint();
    sandbox.ok(&["finding", "add", "Mind the gap", "--path", "README.md:1"]);
    let task = sandbox.ok(&["task", "add", "Write it [script:work]", "--touches", "README.md"]);
    let spawned = sandbox.orchestra(&["spawn", &task, "--name", "scribe", "--record", "../record.jsonl"]);
    assert_eq!(spawned.code, 0, "{spawned}");
    assert_eq!(sandbox.fingerprint(), user);

    let show = |path: &str| sandbox.git(&["show", &format!("orchestra/scribe:{path}")]);
    assert_eq!(
        [show("src/new.txt"), show("README.md"), show("second.txt"), show("token.txt")],
        ["one\ntwo", "# changed", "two", "none"]
    );
    assert_eq!(sandbox.git(&["log", "--format=%s", "main..orchestra/scribe"]), "its own commit");
    let log = sandbox.ok(&["log", "scribe"]);
    for words in [
        "model gemini-2.5-pro",
        "I will write a file.",
        "write_file src/new.txt",
        "replace README.md",
        "run_shell_command sed -n 2p",
        "No such file or directory",
        "All done now.",
    ] {
        assert!(log.contains(words), "no `{words}` in\n{log}");
    }
    assert!(!log.contains("unrecognised") && !log.contains("YOLO"), "{log}");
    let first = model.asked_by("work")[0].body["contents"].to_string();
    assert!(first.contains("You are the agent `scribe`") && first.contains("Mind the gap"), "{first}");
    let agent = the_agent(&sandbox, "scribe");
    assert_eq!(figures(&agent, 1), [1_600, 3_000, 155, 4]);

    let resumed = sandbox.orchestra(&["resume", "scribe", "-m", "And now [script:more]"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    let last = model.asked_by("more").pop().unwrap().body["contents"].to_string();
    assert!(last.contains("All done now.") && last.contains("[script:work]"), "{last}");
    let again = the_agent(&sandbox, "scribe");
    assert_eq!(again.session, agent.session);
    assert_eq!(figures(&again, 2), [200, 1_300, 7, 1]);
    assert_eq!(outcome(&sandbox, "scribe"), Outcome::Succeeded);

    // What was recorded can be played as an agent, without the program and its model.
    configure(&sandbox, "[profile.again]\nprogram = 'replay'\nargs = ['../../record.jsonl']\n");
    let replayed = sandbox.orchestra(&["spawn", "--profile", "again", "-m", "Again", "--name", "player"]);
    assert_eq!(replayed.code, 0, "{replayed}");
    assert_eq!(sandbox.git(&["show", "orchestra/player:second.txt"]), "two");
    let log = sandbox.ok(&["log", "player"]);
    assert!(log.contains("I will write a file.") && log.contains("replace README.md"), "{log}");
    assert_eq!(figures(&the_agent(&sandbox, "player"), 1), [1_600, 3_000, 155, 4]);
    sandbox.assert_sound();
}

/// By itself it ignores the signal while its group does not get it, and says 0 when it does.
#[test]
fn a_run_that_we_stopped_is_never_a_success_and_goes_on_later() {
    let work = vec![
        Answer::write("half-gemini.txt", "half of it\n"),
        Answer::run("touch started; tail -f half-gemini.txt").saying("And then I wait."),
        Answer::say("The rest is done, too."),
    ];
    let (sandbox, model) =
        with_scripts("bypass", [("long", work), ("more", vec![Answer::say("I remember.")])]);
    let args = ["spawn", "-m", "Do it [script:long]", "--name", "walker"];
    let mut terminal = Terminal::orchestra(&sandbox, &args, 30, 100);
    wait_for_file(&sandbox, "started");
    terminal.signal(Signal::SIGINT);
    assert_eq!(terminal.end(), 130, "{}", terminal.screen());
    let Outcome::Stopped { by, .. } = outcome(&sandbox, "walker") else { panic!("it was stopped") };
    assert!(!by.is_empty());
    assert_eq!(sandbox.git(&["show", "orchestra/walker:half-gemini.txt"]), "half of it");
    assert_eq!(processes_with("half-gemini.txt"), Vec::<String>::new(), "its command ended with it");
    assert!(sandbox.ok(&["log", "walker"]).contains("And then I wait."));

    let resumed = sandbox.orchestra(&["resume", "walker", "-m", "And now [script:more]"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    let last = model.asked_by("more").pop().unwrap().body["contents"].to_string();
    assert!(last.contains("[script:long]") && last.contains("half-gemini.txt"), "{last}");
    assert_eq!(outcome(&sandbox, "walker"), Outcome::Succeeded);
}

#[test]
fn refusals_of_its_model_are_retries_and_failures() {
    let (mut sandbox, model) = with_scripts(
        "accept-edits",
        [
            ("locked", vec![Answer::say("Never.").failing(100, 401)]),
            ("limited", vec![Answer::say("Here I am.").failing(1, 429)]),
            ("overloaded", vec![Answer::say("There I am.").failing(1, 503)]),
        ],
    );
    sandbox.set_env("GEMINI_CLI_NO_RELAUNCH", "true");
    let tasks = ["locked", "limited", "overloaded"]
        .map(|script| sandbox.ok(&["task", "add", &format!("The {script} one [script:{script}]")]));
    let args = [&["spawn", "--jobs", "3"], &tasks.each_ref().map(String::as_str)[..]];
    let spawned = sandbox.orchestra(&args.concat());
    assert_eq!(spawned.code, 4, "one agent failed: {spawned}");

    let agents = sandbox.json(&["status"])["data"].to_string();
    let name = |script: &str| {
        let title = format!("the-{script}-one");
        let at = agents.find(&title).unwrap_or_else(|| panic!("no {title} in {agents}"));
        agents[at..].split('"').next().unwrap().to_owned()
    };
    let Outcome::Failed { reason } = outcome(&sandbox, &name("locked")) else { panic!("it failed") };
    assert_eq!(reason, "exit 145: 401: API key not valid");
    for (script, status) in [("limited", "429"), ("overloaded", "503")] {
        assert_eq!(outcome(&sandbox, &name(script)), Outcome::Succeeded, "{script}");
        assert_eq!(model.asked_by(script).len(), 2, "{script}");
        let log = sandbox.ok(&["log", &name(script)]);
        assert!(log.contains(status) && log.contains("attempt 1 failed") && log.contains("I am."), "{log}");
        assert!(!log.contains("processTicksAndRejections"), "no stack traces: {log}");
    }
    // Without a terminal it offers its model no tool that it would have to ask for.
    let tools = model.asked_by("limited")[0].body["tools"].to_string();
    assert!(tools.contains("write_file") && !tools.contains("run_shell_command"), "{tools}");
}
