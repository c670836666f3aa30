//! The real Codex as an agent: it edits, runs commands, is counted, stopped, continued and refused.

use git_orchestra::model::{Agent, Outcome};
use nix::sys::signal::Signal;

use crate::harness::programs::codex;
use crate::harness::{Answer, Model, Sandbox, Terminal, openai, wait_for};

/// A sandbox whose default agents are the real Codex, found by configuration, and talk to these scripts.
pub(crate) fn with_scripts<const N: usize>(scripts: [(&str, Vec<Answer>); N]) -> (Sandbox, Model) {
    let mut sandbox = Sandbox::new();
    let model = openai::start(scripts);
    openai::use_model(&mut sandbox, &model);
    let config = format!("default-profile = 'codex'\n[profile.codex]\ncommand = ['{}']\n", codex().display());
    configure(&sandbox, &config);
    (sandbox, model)
}

pub(crate) fn configure(sandbox: &Sandbox, config: &str) {
    let path = sandbox.home().join(".config/git-orchestra/config.toml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, config).unwrap();
}

pub(crate) fn the_agent(sandbox: &Sandbox, name: &str) -> Agent {
    let paths = sandbox.git(&["ls-tree", "-r", "--name-only", "refs/orchestra/state", "agents"]);
    let mut agents = paths.lines().map(|path| -> Agent {
        serde_json::from_str(&sandbox.git(&["show", &format!("refs/orchestra/state:{path}")])).unwrap()
    });
    agents.find(|agent| agent.name.as_str() == name).unwrap_or_else(|| panic!("no agent {name}: {paths}"))
}

pub(crate) fn outcome(sandbox: &Sandbox, name: &str) -> Outcome {
    the_agent(sandbox, name).last_run().unwrap().1.outcome.clone().expect("the run is over")
}

/// Input that no cache held, input from the cache, output and turns of a run.
pub(crate) fn figures(agent: &Agent, run: u32) -> [u64; 4] {
    let usage = agent.runs[&run].usage;
    assert_eq!(usage.cost, None, "it reports none, and no price is known");
    [usage.input, usage.cache_read, usage.output, usage.turns]
}

/// Waits for a file that an agent makes in its worktree, wherever that is.
pub(crate) fn wait_for_file(sandbox: &Sandbox, name: &str) {
    wait_for("the agent's command", || {
        // While a worktree is being made, git may fail to list it.
        let listed = sandbox.try_git_in(sandbox.repo(), &["worktree", "list", "--porcelain"], b"");
        let mut places = listed.stdout.lines().filter_map(|line| line.strip_prefix("worktree "));
        places.any(|place| std::path::Path::new(place).join(name).exists()).then_some(())
    });
}

/// The command lines of all processes that contain `words`.
pub(crate) fn processes_with(words: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.unwrap().path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(words).then_some(line)
    });
    all.collect()
}

#[test]
fn it_edits_runs_commands_is_counted_and_continued() {
    let work = vec![
        Answer::write("src/new.txt", "one\ntwo\n")
            .saying("I will write a file.")
            .thinking("**Planning** the file")
            .tokens([1_000, 0, 50, 10]),
        Answer::replace("README.md", "# sandbox", "# changed").tokens([1_100, 900, 40, 0]),
        Answer::run("sed -n 2p src/new.txt > second.txt; echo ${GITHUB_TOKEN-none} > token.txt; ls gone")
            .tokens([1_200, 1_000, 30, 0]),
        Answer::say("All done.").tokens([1_300, 1_100, 20, 0]),
    ];
    let more = vec![Answer::say("I remember.").tokens([1_500, 1_300, 7, 0])];
    let (mut sandbox, model) = with_scripts([("work", work), ("more", more)]);
    sandbox.set_env("GITHUB_TOKEN", "not-for-agents");
    let user = sandbox.fingerprint();
    sandbox.ok(&["finding", "add", "Mind the gap", "--path", "README.md:1"]);
    let task = sandbox.ok(&["task", "add", "Write it [script:work]", "--touches", "README.md"]);
    let spawned = sandbox.orchestra(&["spawn", &task, "--name", "scribe"]);
    assert_eq!(spawned.code, 0, "{spawned}");
    assert_eq!(sandbox.fingerprint(), user);

    // Its sandbox keeps it from committing; what it left is committed for it.
    let show = |path: &str| sandbox.git(&["show", &format!("orchestra/scribe:{path}")]);
    assert_eq!(
        [show("src/new.txt"), show("README.md"), show("second.txt"), show("token.txt")],
        ["one\ntwo", "# changed", "two", "none"]
    );
    let log = sandbox.ok(&["log", "scribe"]);
    for words in [
        "**Planning** the file",
        "I will write a file.",
        "file_change add src/new.txt",
        "file_change README.md",
        "command_execution sed -n 2p",
        "No such file or directory",
        "All done.",
    ] {
        assert!(log.contains(words), "no `{words}` in\n{log}");
    }
    assert!(!log.contains("unrecognised"), "{log}");
    let first = model.asked_by("work")[0].body["input"].to_string();
    assert!(first.contains("You are the agent `scribe`") && first.contains("Mind the gap"), "{first}");
    let agent = the_agent(&sandbox, "scribe");
    assert_eq!(figures(&agent, 1), [1_600, 3_000, 140, 1]);
    let thread = agent.session.clone().unwrap();
    assert!(log.contains(&thread), "the conversation is the one that it named: {thread}\n{log}");

    // The conversation goes on, and its figures are what is new.
    let resumed = sandbox.orchestra(&["resume", "scribe", "-m", "And now [script:more]"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    let last = model.asked_by("more").pop().unwrap().body["input"].to_string();
    assert!(last.contains("All done.") && last.contains("[script:work]"), "the conversation so far: {last}");
    let agent = the_agent(&sandbox, "scribe");
    assert_eq!(agent.session.as_deref(), Some(thread.as_str()));
    assert_eq!(figures(&agent, 2), [200, 1_300, 7, 1]);
    assert_eq!(outcome(&sandbox, "scribe"), Outcome::Succeeded);
    sandbox.assert_sound();
}

#[test]
fn a_run_that_we_stopped_is_never_a_success_and_goes_on_later() {
    let work = vec![
        Answer::write("half-codex.txt", "half of it\n"),
        Answer::run("touch started; tail -f half-codex.txt"),
        Answer::say("The rest is done, too."),
    ];
    let (sandbox, model) = with_scripts([("long", work), ("more", vec![Answer::say("I remember.")])]);
    let args = ["spawn", "-m", "Do it [script:long]", "--name", "walker"];
    let mut terminal = Terminal::orchestra(&sandbox, &args, 30, 100);
    wait_for_file(&sandbox, "started");
    terminal.signal(Signal::SIGINT);
    assert_eq!(terminal.end(), 130, "{}", terminal.screen());
    let Outcome::Stopped { by, .. } = outcome(&sandbox, "walker") else { panic!("it was stopped") };
    assert!(!by.is_empty());
    assert_eq!(sandbox.git(&["show", "orchestra/walker:half-codex.txt"]), "half of it");
    assert_eq!(processes_with("half-codex.txt"), Vec::<String>::new(), "its command ended with it");

    let resumed = sandbox.orchestra(&["resume", "walker", "-m", "And now [script:more]"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    let last = model.asked_by("more").pop().unwrap().body["input"].to_string();
    assert!(last.contains("[script:long]") && last.contains("half-codex.txt"), "{last}");
    assert_eq!(outcome(&sandbox, "walker"), Outcome::Succeeded);
}

#[test]
fn refusals_of_its_model_are_retries_and_failures() {
    let (sandbox, model) = with_scripts([
        ("locked", vec![Answer::say("Never.").failing(100, 401)]),
        ("limited", vec![Answer::say("Here I am.").failing(2, 429)]),
        ("overloaded", vec![Answer::say("Never.").failing(100, 529)]),
    ]);
    let path = codex().display().to_string();
    configure(&sandbox, &format!("[profile.codex]\ncommand = ['{path}']\nmax-turns = 7\n"));
    let add = |script: &str| sandbox.ok(&["task", "add", &format!("The {script} one [script:{script}]")]);
    let tasks = ["locked", "limited", "overloaded"].map(add);
    let [locked, limited, overloaded] = tasks.each_ref().map(String::as_str);
    let spawned = sandbox.orchestra(&["spawn", "--profile", "codex", "--jobs", "2", locked, limited]);
    assert_eq!(spawned.code, 4, "one agent failed: {spawned}");
    // One that is never served waits until somebody stops it.
    sandbox.ok(&["spawn", "--profile", "codex", "--detach", overloaded]);

    let agents = sandbox.json(&["status"])["data"].to_string();
    let name = |script: &str| {
        let title = format!("the-{script}-one");
        let at = agents.find(&title).unwrap_or_else(|| panic!("no {title} in {agents}"));
        agents[at..].split('"').next().unwrap().to_owned()
    };
    let reason = |script: &str| match outcome(&sandbox, &name(script)) {
        Outcome::Failed { reason } => reason,
        other => panic!("{script}: {other:?}"),
    };
    assert!(reason("locked").contains("401 Unauthorized: Incorrect API key"), "{}", reason("locked"));
    wait_for("a parked agent", || {
        let parked = sandbox.ok(&["log", &name("overloaded")]);
        (parked.contains("its model is over a limit (529") && parked.contains("parked until")).then_some(())
    });
    sandbox.ok(&["stop", &name("overloaded"), "--wait"]);
    assert!(matches!(outcome(&sandbox, &name("overloaded")), Outcome::Stopped { .. }));
    assert_eq!(outcome(&sandbox, &name("limited")), Outcome::Succeeded);
    assert_eq!(model.asked_by("limited").len(), 3);
    let log = sandbox.ok(&["log", &name("limited")]);
    assert!(
        log.contains("429") && log.contains("attempt 2 of 5 failed") && log.contains("Here I am."),
        "{log}"
    );
    assert!(log.contains("`max-turns` is not in force"), "what it cannot keep is said: {log}");
    let log = sandbox.ok(&["log", &name("locked")]);
    assert!(log.contains("401") && log.contains("attempt 1 of 5"), "{log}");
}

#[test]
fn with_a_price_its_cost_is_reckoned_and_counts() {
    let work = vec![Answer::say("Done.").tokens([1_000, 600, 50, 0])];
    let (sandbox, _model) = with_scripts([("work", work)]);
    let config = format!(
        "default-profile = 'codex'\n[profile.codex]\ncommand = ['{}']\nmodel = 'gpt-5-codex'\n\
         price-input = 2\nprice-cached = '0.175'\nprice-output = '10.00'\nmax-cost = '0.001'\n",
        codex().display()
    );
    configure(&sandbox, &config);
    let spawned = sandbox.orchestra(&["spawn", "-m", "Do it [script:work]", "--name", "scribe"]);
    assert!(spawned.stdout.contains("`max-cost` counts between runs, not within one"), "{spawned}");
    let run = the_agent(&sandbox, "scribe").runs[&1].clone();
    // 400 × 2 + 600 × 0.175 + 50 × 10 millionths.
    let cost = run.usage.cost.map(|cost| (cost.micro_usd, cost.source));
    assert_eq!(cost, Some((1_405, git_orchestra::model::CostSource::Computed)), "{:?}", run.usage);
    let spent = sandbox.json(&["cost", "--by", "model"]);
    assert!(spent["data"].to_string().contains("gpt-5-codex"), "{spent}");
    let more = sandbox.orchestra(&["resume", "scribe", "-m", "more"]);
    assert!(more.code != 0 && more.stderr.contains("max-cost"), "{more}");
}
