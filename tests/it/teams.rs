//! Teams: the steps of one task, each agent going on from what those before it did.

use serde_json::Value;

use crate::harness::programs::use_claude;
use crate::harness::sandbox::{poll, write_in};
use crate::harness::{Endpoint, Sandbox, Step};

/// Every role is this script. It is told who it is by its own name, and what by its prompt.
const SCRIPT: &str = r#"
step=${GIT_ORCHESTRA_AGENT_NAME##*-}
printf %s "$GIT_ORCHESTRA_PROMPT" >"$HOME/told-$step"
git log --format=%s >"$HOME/log-$step"
echo "the word of $step"
case $step in
planner|reviewer) ;;
*) echo "$step" >"$step.txt"; test ! -e "$HOME/shared" || echo "$step" >shared.txt ;;
esac
test ! -e "$HOME/wait-$step" || sleep 600
test ! -e "$HOME/fail-$step"
"#;

fn sandbox(more: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let words = serde_json::json!(["/bin/sh", "-c", SCRIPT]);
    let config =
        format!("default-profile = 'sh'\n{more}\n[profile.sh]\nprogram = 'command'\ncommand = {words}\n");
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &config);
    sandbox
}

fn told(sandbox: &Sandbox, step: &str) -> String {
    std::fs::read_to_string(sandbox.home().join(format!("told-{step}"))).unwrap_or_default()
}

fn rows(sandbox: &Sandbox) -> Vec<Value> {
    sandbox.json(&["status", "--all"])["data"].as_array().unwrap().clone()
}

#[test]
fn each_step_goes_on_from_those_before_it_and_one_branch_lands() {
    let sandbox = sandbox("");
    let task = sandbox.ok(&["task", "add", "Offer soup", "-m", "Hot."]);
    let main = sandbox.git(&["rev-parse", "main"]);
    let out = sandbox.orchestra(&["spawn", "--team", "auto", &task]);
    assert_eq!(out.code, 0, "{out}");
    assert!(out.stderr.contains("team feature, as nothing says that it is anything else"), "{out}");
    assert!(out.stderr.contains("all 5 steps of feature are done"), "{out}");

    // What each was told: its role, the task, and the words of all before it, and of nobody else.
    assert!(!told(&sandbox, "planner").contains("the word of"), "{}", told(&sandbox, "planner"));
    let builder = told(&sandbox, "builder");
    assert!(builder.contains("You build.") && builder.contains("Offer soup\n\nHot."), "{builder}");
    assert!(builder.contains("planner, by agent offer-soup-planner:\nthe word of planner"), "{builder}");
    assert!(builder.contains(&format!("began from commit {main}")), "{builder}");
    for step in ["tester", "documenter"] {
        let told = told(&sandbox, step);
        assert!(told.contains("the word of builder") && told.contains("builder.txt | 1 +"), "{told}");
        assert!(!told.contains("the word of tester") && !told.contains("the word of documenter"), "{told}");
    }
    let reviewer = told(&sandbox, "reviewer");
    for step in ["planner", "builder", "tester", "documenter"] {
        assert!(reviewer.contains(&format!("the word of {step}")), "{step}: {reviewer}");
    }
    // The last branch has all of it, and it is the only one that is merged.
    let files = sandbox.git(&["ls-tree", "--name-only", "orchestra/offer-soup-reviewer"]);
    assert_eq!(files, "README.md\nbuilder.txt\ndocumenter.txt\ntester.txt");
    let plan = sandbox.json(&["merge", "--dry-run"]);
    let text = plan.to_string();
    assert!(text.contains("offer-soup-reviewer") && !text.contains("offer-soup-builder"), "{plan:#}");
    sandbox.ok(&["merge"]);
    assert_eq!(sandbox.git(&["ls-tree", "--name-only", "main"]), files);
    assert_eq!(sandbox.json(&["show", &task])["data"]["status"], "closed");
    let again = sandbox.orchestra(&["merge"]);
    assert!(again.code == 0 && !again.stdout.contains("offer-soup"), "{again}");
    let tester = rows(&sandbox).into_iter().find(|row| row["name"] == "offer-soup-tester").unwrap();
    assert_eq!((&tester["step"]["team"], &tester["step"]["step"]), (&"feature".into(), &"tester".into()));
    let table = sandbox.ok(&["status", "--all"]);
    assert!(table.contains("tester of feature: Offer soup"), "{table}");
    let shown = sandbox.ok(&["show", "offer-soup-tester"]);
    assert!(shown.contains("tester of feature"), "{shown}");
    sandbox.assert_sound();
}

/// The templates by kind of task: who works, after whom, and from whose branch.
#[test]
fn every_kind_of_task_has_its_steps() {
    let kinds: [(&str, &str, &[&str]); 3] = [
        ("Fix the soup", "bug-fix", &["analyst", "builder", "tester", "reviewer"]),
        ("Review the menu", "code-review", &["analyst", "reviewer"]),
        ("Document the salt", "docs", &["analyst", "documenter", "reviewer"]),
    ];
    for (title, team, steps) in kinds {
        let sandbox = sandbox("");
        let task = sandbox.ok(&["task", "add", title]);
        let out = sandbox.orchestra(&["spawn", "--team", "auto", &task]);
        assert_eq!(out.code, 0, "{out}");
        assert!(out.stderr.contains(&format!("team {team}, as")), "{out}");
        let mut agents = rows(&sandbox);
        agents.sort_by_key(|row| row["created"].as_u64());
        let name = |row: &Value| row["name"].as_str().unwrap().rsplit('-').next().unwrap().to_owned();
        assert_eq!(agents.iter().map(name).collect::<Vec<_>>(), steps, "{team}");
        for (at, step) in steps.iter().enumerate() {
            let told = told(&sandbox, step);
            for (other, word) in steps.iter().enumerate() {
                let knows = told.contains(&format!("the word of {word}"));
                assert_eq!(knows, other < at, "{team}: {step} of {word}: {told}");
            }
        }
        let last = agents.last().unwrap()["name"].as_str().unwrap();
        let files = sandbox.git(&["ls-tree", "--name-only", &format!("orchestra/{last}")]);
        let made = steps[..steps.len() - 1].iter().map(|step| format!("{step}.txt"));
        let made: Vec<String> = std::iter::once("README.md".to_owned()).chain(made).collect();
        assert_eq!(files, made.join("\n"), "{team}");
    }
}

#[test]
fn what_fails_stops_what_comes_after_it_and_the_same_command_goes_on() {
    let sandbox = sandbox(
        "[team.mine]\nsteps = ['planner', 'builder apart', 'reviewer']\napart.profile = 'tester'\nreviewer.prompt = 'Look twice.'",
    );
    sandbox.write("x.txt", "x\n");
    let task = sandbox.ok(&["task", "add", "Mend it", "--label", "mine"]);
    write_in(sandbox.home(), "fail-builder", "");
    let out = sandbox.orchestra(&["spawn", "--team", "auto", &task]);
    assert_eq!(out.code, 4, "{out}");
    assert!(out.stderr.contains("team mine, as its label is `mine`"), "{out}");
    assert!(out.stderr.contains("builder is not done (mend-it-builder: failed)"), "{out}");
    assert!(out.stderr.contains("not begun: reviewer"), "{out}");
    assert_eq!(told(&sandbox, "reviewer"), "");
    assert!(told(&sandbox, "apart").contains("You test."), "what stands beside it is not stopped");
    std::fs::remove_file(sandbox.home().join("fail-builder")).unwrap();
    let before = told(&sandbox, "planner");
    std::fs::remove_file(sandbox.home().join("told-planner")).unwrap();

    let out = sandbox.orchestra(&["spawn", "--team", "auto", &task]);
    assert_eq!(out.code, 0, "{out}");
    assert!(out.stderr.contains("team mine, as it works on that already"), "{out}");
    assert!(out.stderr.contains("builder 2/4 of mine goes on"), "{out}");
    assert!(!before.is_empty() && told(&sandbox, "planner").is_empty(), "what is done is not done again");
    assert!(told(&sandbox, "reviewer").contains("Look twice."), "{}", told(&sandbox, "reviewer"));
    assert_eq!(rows(&sandbox).len(), 4, "no step has two agents");
    let over = sandbox.orchestra(&["spawn", "--team", "mine", &task]);
    assert!(over.code == 0 && over.stderr.contains("all 4 steps of mine are done"), "{over}");
}

#[test]
fn a_killed_team_goes_on_where_it_was() {
    let sandbox = sandbox("");
    let slow = "until test -e \"$HOME/go\"; do sleep 0.05; done; exec /bin/sh -c \"$SLOW\"";
    let config = format!(
        "[profile.builder]\nprogram = 'command'\ncommand = {}\n[profile.builder.env]\nSLOW = {}\n",
        serde_json::json!(["/bin/sh", "-c", slow]),
        serde_json::json!(SCRIPT)
    );
    let path = sandbox.home().join(".config/git-orchestra/config.toml");
    let old = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{old}{config}")).unwrap();
    let task = sandbox.ok(&["task", "add", "Write it", "--label", "doc"]);
    sandbox.ok(&["task", "edit", &task, "--label", "feature"]);
    let mut child = sandbox.command(crate::harness::sandbox::ORCHESTRA);
    child.args(["spawn", "--team", "feature", &task]);
    let mut child =
        child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let running = || {
        let rows = rows(&sandbox);
        rows.iter().any(|row| row["name"] == "write-it-builder" && row["state"] == "running").then_some(())
    };
    poll(running).expect("the builder runs");
    let beside = sandbox.orchestra(&["spawn", "--team", "feature", &task]);
    assert!(beside.code == 2 && beside.stderr.contains("write-it-builder runs already"), "{beside}");
    child.kill().unwrap();
    child.wait().unwrap();
    write_in(sandbox.home(), "go", "");
    std::fs::remove_file(sandbox.home().join("told-planner")).unwrap();
    let out = sandbox.orchestra(&["spawn", "--team", "feature", &task]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(told(&sandbox, "planner"), "");
    assert_eq!(rows(&sandbox).len(), 5, "{out}");
    sandbox.assert_sound();
}

#[test]
fn steps_side_by_side_that_conflict_are_for_a_person() {
    let sandbox = sandbox("[team.two]\nsteps = ['tester documenter', 'reviewer']");
    write_in(sandbox.home(), "shared", "");
    let task = sandbox.ok(&["task", "add", "Clash"]);
    let out = sandbox.orchestra(&["spawn", "--team", "two", &task]);
    assert_eq!(out.code, 1, "{out}");
    assert!(
        out.stderr.contains("what clash-tester and clash-documenter did conflicts in shared.txt")
            || out.stderr.contains("what clash-documenter and clash-tester did conflicts in shared.txt"),
        "{out}"
    );
    // The way on that the hint names.
    let hint = out.stderr.lines().find(|line| line.contains("merge `orchestra/")).unwrap();
    let (other, mine) = if hint.contains("merge `orchestra/clash-tester`") {
        ("clash-tester", "clash-documenter")
    } else {
        ("clash-documenter", "clash-tester")
    };
    let worktree = sandbox.root().join("repo.orchestra").join(mine);
    sandbox.git_in(&worktree, &["merge", "--quiet", "-X", "ours", &format!("orchestra/{other}")]);
    let out = sandbox.orchestra(&["spawn", "--team", "two", &task]);
    assert_eq!(out.code, 0, "{out}");
    let files = sandbox.git(&["ls-tree", "--name-only", "orchestra/clash-reviewer"]);
    assert!(files.contains("tester.txt") && files.contains("documenter.txt"), "{files}");
}

#[test]
fn without_a_terminal_each_step_begins_the_next() {
    let sandbox = sandbox("");
    let task = sandbox.ok(&["task", "add", "Offer soup"]);
    let out = sandbox.orchestra(&["spawn", "--team", "feature", "--detach", "-m", "Use no salt.", &task]);
    assert_eq!(out.code, 0, "{out}");
    assert!(out.stdout.contains("offer-soup-planner  started") && !out.stdout.contains("builder"), "{out}");
    let agents =
        ["planner", "builder", "tester", "documenter", "reviewer"].map(|step| format!("offer-soup-{step}"));
    // Who waits for the task waits for all of them, and not for the first alone.
    let waited = sandbox.orchestra(&["wait", &task]);
    assert!(waited.code == 0 && waited.stdout.contains("offer-soup-reviewer"), "{waited}");
    let rows = rows(&sandbox);
    assert!(
        agents.iter().all(|name| rows.iter().any(|row| row["name"] == **name && row["state"] == "done")),
        "{rows:#?}"
    );
    assert_eq!(rows.len(), agents.len(), "two that end at once begin no step twice: {rows:#?}");
    for step in ["tester", "reviewer"] {
        let told = told(&sandbox, step);
        assert!(told.contains("the word of builder") && told.contains("Use no salt."), "{told}");
    }
    let files = sandbox.git(&["ls-tree", "--name-only", "orchestra/offer-soup-reviewer"]);
    assert_eq!(files, "README.md\nbuilder.txt\ndocumenter.txt\ntester.txt");
    let again = sandbox.orchestra(&["spawn", "--team", "feature", "--detach", &task]);
    assert!(again.code == 0 && again.stderr.contains("all 5 steps of feature are done"), "{again}");
    sandbox.assert_sound();
}

#[test]
fn who_waits_for_a_task_is_told_of_the_step_that_failed_and_its_agents_are_stopped_by_it() {
    let sandbox = sandbox("[team.two]\nsteps = ['builder', 'reviewer']");
    let task = sandbox.ok(&["task", "add", "Offer soup"]);
    for command in ["wait", "stop"] {
        let nobody = sandbox.orchestra(&[command, &task]);
        assert!(nobody.code == 8 && nobody.stderr.contains("no agent works on task"), "{nobody}");
        let unknown = sandbox.orchestra(&[command, "nosuch"]);
        assert!(unknown.code == 8 && unknown.stderr.contains("`nosuch`"), "{unknown}");
    }
    write_in(sandbox.home(), "fail-builder", "");
    sandbox.ok(&["spawn", "--team", "two", "--detach", &task]);
    let waited = sandbox.orchestra(&["wait", &task]);
    assert!(waited.code == 4 && waited.stdout.contains("offer-soup-builder  failed"), "{waited}");
    std::fs::remove_file(sandbox.home().join("fail-builder")).unwrap();

    // What failed before and goes on now counts once.
    write_in(sandbox.home(), "wait-reviewer", "");
    sandbox.ok(&["spawn", "--team", "two", "--detach", &task]);
    sandbox.ok(&["wait", "--for", "running", "--any", &task]);
    poll(|| sandbox.home().join("told-reviewer").exists().then_some(())).expect("the reviewer works");
    let over = sandbox.orchestra(&["wait", "--timeout", "1s", &task]);
    assert_eq!(over.code, 7, "the reviewer works: {over}");
    let stopped = sandbox.orchestra(&["stop", "--wait", &task]);
    assert!(stopped.code == 0 && stopped.stdout.contains("offer-soup-reviewer  stopped"), "{stopped}");
    assert_eq!(sandbox.orchestra(&["wait", &task]).code, 4);
}

#[test]
fn who_waits_for_a_task_that_nobody_goes_on_with_is_told_so() {
    let sandbox = sandbox("[team.two]\nsteps = ['builder', 'reviewer']");
    let task = sandbox.ok(&["task", "add", "Offer soup"]);
    sandbox.ok(&["spawn", "--team", "two", &task]);
    sandbox.ok(&["remove", "--force", "offer-soup-reviewer"]);
    let waited = sandbox.orchestra(&["wait", &task]);
    assert!(waited.code == 4 && waited.stderr.contains("nobody begins reviewer of team two"), "{waited}");
    assert!(waited.stderr.contains("`git orchestra spawn --team two --detach"), "{waited}");
}

#[test]
fn what_keeps_a_step_from_beginning_where_nobody_looks_is_a_finding() {
    let sandbox = sandbox("[team.two]\nsteps = ['tester documenter', 'reviewer']");
    write_in(sandbox.home(), "shared", "");
    let task = sandbox.ok(&["task", "add", "Clash"]);
    sandbox.ok(&["spawn", "--team", "two", "--detach", &task]);
    let found = poll(|| {
        let found = sandbox.json(&["finding", "list"])["data"].clone();
        found.as_array().is_some_and(|all| !all.is_empty()).then_some(found)
    })
    .unwrap();
    let message = found[0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("the team two stopped before reviewer: failed to begin reviewer"),
        "{message}"
    );
    assert!(
        message.contains("conflicts in shared.txt") && message.contains("git orchestra spawn --team two")
    );
    assert_eq!((found.as_array().unwrap().len(), &found[0]["severity"]), (1, &Value::from("high")));
    assert_eq!(rows(&sandbox).len(), 2, "the reviewer did not begin");

    // One that fails stops what comes after it, without a finding: its own row says it.
    std::fs::remove_file(sandbox.home().join("shared")).unwrap();
    write_in(sandbox.home(), "fail-planner", "");
    let task = sandbox.ok(&["task", "add", "Fail"]);
    sandbox.ok(&["spawn", "--team", "feature", "--detach", &task]);
    poll(|| {
        rows(&sandbox)
            .iter()
            .any(|row| row["name"] == "fail-planner" && row["state"] == "failed")
            .then_some(())
    })
    .unwrap();
    std::fs::remove_file(sandbox.home().join("fail-planner")).unwrap();
    // The supervisor that watched it is gone once the same command goes on.
    let out =
        poll(|| Some(sandbox.orchestra(&["spawn", "--team", "feature", &task])).filter(|out| out.code == 0));
    assert!(out.unwrap().stderr.contains("all 5 steps of feature are done"));
    assert_eq!(sandbox.json(&["finding", "list"])["data"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_no_team_is_said_before_anything_begins() {
    let sandbox = sandbox("[team.bad]\nsteps = ['nobody']");
    let task = sandbox.ok(&["task", "add", "Nothing"]);
    for (args, words) in [
        (vec!["spawn", "--team", "bad", &task], "find the profile `nobody`"),
        (vec!["spawn", "--team", "none", &task], "find the team `none`; there are bad, bug-fix,"),
        (vec!["spawn", "--team", "docs"], "TASK"),
        (vec!["spawn", "--team", "docs", &task, "--name", "x"], "--name"),
    ] {
        let out = sandbox.orchestra(&args);
        assert!(out.code != 0 && out.stderr.contains(words), "{out}");
    }
    assert!(rows(&sandbox).is_empty());
    let offered = sandbox.ok(&["__complete", "spawn", "--team", ""]);
    assert!(
        ["auto", "feature", "bad"].iter().all(|name| offered.lines().any(|line| line == *name)),
        "{offered}"
    );
}

#[test]
fn real_agents_hand_on_what_they_found_out() {
    let mut sandbox = Sandbox::new();
    sandbox.write("menu.txt", "soup\nbread\n");
    sandbox.commit("a menu");
    let config = "[team.pair]\nsteps = ['planner', 'builder']\nplanner.prompt = '[script:plan]'\nbuilder.prompt = '[script:build]'\n";
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", config);
    let endpoint = Endpoint::start([
        ("plan", vec![Step::read("menu.txt"), Step::say("The plan: put tofu after the bread.")]),
        ("build", vec![Step::write("tofu.txt", "tofu\n"), Step::say("There is tofu.")]),
    ]);
    use_claude(&mut sandbox, &endpoint);
    let task = sandbox.ok(&["task", "add", "Offer tofu"]);
    let out = sandbox.orchestra(&["spawn", "--team", "pair", &task]);
    assert_eq!(out.code, 0, "{out}");
    let asked = &endpoint.seen_by("build")[0].body;
    let messages = asked["messages"].to_string();
    assert!(messages.contains("planner, by agent offer-tofu-planner:"), "{messages}");
    assert!(messages.contains("The plan: put tofu after the bread."), "{messages}");
    assert!(asked["system"].to_string().contains("You build."), "{}", asked["system"]);
    let plan = &endpoint.seen_by("plan")[0].body;
    assert!(plan["system"].to_string().contains("You plan, and change nothing."), "{}", plan["system"]);
    assert!(!plan["messages"].to_string().contains("tofu after the bread"));
    assert_eq!(sandbox.git(&["show", "orchestra/offer-tofu-builder:tofu.txt"]), "tofu");
    sandbox.assert_sound();
}

#[test]
fn a_step_that_asks_a_person_is_waited_for() {
    let mut sandbox = Sandbox::new();
    let config = "[team.pair]\nsteps = ['builder', 'tester']\nbuilder.prompt = '[script:build]'\ntester.prompt = '[script:test]'\n";
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", config);
    let endpoint = Endpoint::start([
        ("build", vec![Step::bash("curl --version > tofu.txt"), Step::say("I was not let.")]),
        ("test", vec![Step::say("It is tested.")]),
    ]);
    use_claude(&mut sandbox, &endpoint);
    let task = sandbox.ok(&["task", "add", "Offer tofu"]);
    let out = sandbox.orchestra(&["spawn", "--team", "pair", &task]);
    assert_eq!(out.code, 3, "{out}");
    assert!(out.stderr.contains("builder waits for an answer (offer-tofu-builder)"), "{out}");
    assert!(out.stderr.contains("not begun: tester") && endpoint.seen_by("test").is_empty(), "{out}");
    // Asking again changes nothing while nobody has answered.
    assert_eq!(sandbox.orchestra(&["spawn", "--team", "pair", &task]).code, 3);
    let decision = sandbox.json(&["decide"])["data"][0]["id"].as_str().unwrap().to_owned();
    sandbox.ok(&["decide", &decision, "allow"]);
    let out = sandbox.orchestra(&["spawn", "--team", "pair", &task]);
    assert_eq!(out.code, 0, "{out}");
    assert!(
        out.stderr.contains("builder 1/2 of pair goes on") && !endpoint.seen_by("test").is_empty(),
        "{out}"
    );
    let over = sandbox.orchestra(&["spawn", "--team", "pair", &task]);
    assert!(over.code == 0 && over.stderr.contains("all 2 steps of pair are done"), "{over}");
}

#[test]
fn what_a_record_says_of_work_that_is_not_here_counts_for_nothing() {
    let sandbox = sandbox("[team.two]\nsteps = ['tester', 'reviewer']");
    let task = sandbox.ok(&["task", "add", "Look"]);
    let base = sandbox.git(&["rev-parse", "main"]);
    for (digit, branch) in [("h", "refs/heads/main"), ("j", "refs/heads/orchestra/evil")] {
        let id = digit.repeat(16);
        let forged = serde_json::json!({
            "id": id, "name": "evil", "profile": "sh", "program": "command", "branch": branch, "base": base,
            "task": sandbox.json(&["show", &task])["data"]["id"], "step": {"team": "two", "step": "tester"},
            "prompt": "evil", "machine": sandbox.read(".git/orchestra/machine").trim(), "created": 9_000,
            "runs": {"1": {"started": 1, "ended": 2, "outcome": {"is": "succeeded"}, "usage": {}}},
        });
        let path = format!("agents/{digit}/{digit}/{id}.json");
        sandbox.plumb_commit("refs/orchestra/state", "forged", &[(&path, &format!("{forged}\n"))]);
        assert!(rows(&sandbox).iter().any(|row| row["id"] == id.as_str()), "it is read as a record");
    }
    let out = sandbox.orchestra(&["spawn", "--team", "two", &task]);
    assert_eq!(out.code, 0, "{out}");
    assert!(told(&sandbox, "tester").contains("You test."), "{out}");
    assert!(!told(&sandbox, "reviewer").contains("evil"), "{}", told(&sandbox, "reviewer"));
}
