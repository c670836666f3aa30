//! The main job on the real Claude Code: tasks, three agents at once, what they did and said, overlap, and a merge
//! with one approved conflict, while the user's own checkout is in the middle of something else.

use git_orchestra::model::{
    Agent, Cost, CostSource, Decision, Merge, MergeStatus, Outcome, Task, TaskStatus,
};
use serde_json::Value;

use crate::harness::programs::use_claude;
use crate::harness::{Endpoint, Sandbox, Step};

const MENU: &str = "soup\nbread\ncheese\nfish\nrice\nbeans\nsalad\nfruit\ncake\ntea\n";

/// A user with work of all kinds lying about on a branch of their own.
fn busy_user() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("menu.txt", MENU);
    sandbox.write("notes/today.md", "Nothing yet.\n");
    sandbox.commit("a menu");
    sandbox.git(&["switch", "--quiet", "-c", "ada/wip"]);
    sandbox.write("staged.txt", "staged\n");
    sandbox.git(&["add", "staged.txt"]);
    sandbox.write("menu.txt", &MENU.replace("tea", "coffee"));
    sandbox.write("untracked.txt", "untracked\n");
    // What agents may run without asking is the user's to say, not the repository's.
    let config = "[profile.claude]\nargs = [\"--allowed-tools\", \"Bash\"]\n";
    let path = sandbox.home().join(".config/git-orchestra/config.toml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, config).unwrap();
    sandbox
}

fn three_agents() -> Endpoint {
    Endpoint::start([
        (
            // Edits a line that the second agent edits too, and leaves it uncommitted.
            "vegetarian",
            vec![
                Step::read("menu.txt")
                    .saying("I will read the menu.")
                    .tokens(1_000, 40, 0, 12_000)
                    .meeting("all", 3),
                Step::edit("menu.txt", "fish", "tofu").tokens(50, 80, 12_000, 300),
                Step::bash("grep -n tofu menu.txt").tokens(60, 35, 12_300, 200),
                Step::say("There is tofu now.").tokens(40, 9, 12_500, 100),
            ],
        ),
        (
            "seafood",
            vec![
                Step::read("menu.txt").tokens(1_001, 41, 0, 12_000).meeting("all", 3),
                Step::edit("menu.txt", "fish", "lobster").tokens(51, 81, 12_000, 301),
                Step::bash(
                    "sed -i s/cake/pie/ menu.txt && git add menu.txt && git commit -q -m 'Serve lobster'",
                )
                .tokens(61, 36, 12_301, 201),
                Step::say("Lobster is served.").tokens(41, 10, 12_502, 101),
            ],
        ),
        (
            // Two tools in one answer; new files only.
            "counting",
            vec![
                Step::write("count.sh", "wc -l < menu.txt\n")
                    .and(
                        "Bash",
                        serde_json::json!({"command": "sh count.sh > count.txt", "description": "Count"}),
                    )
                    .tokens(1_002, 122, 0, 12_000)
                    .meeting("all", 3),
                Step::say("Ten dishes.").tokens(42, 11, 12_000, 350),
            ],
        ),
    ])
}

/// The records of one kind, as anyone can read them with plain git.
fn records<T: serde::de::DeserializeOwned>(sandbox: &Sandbox, directory: &str) -> Vec<T> {
    let files = sandbox.git(&["ls-tree", "-r", "--name-only", "refs/orchestra/state", directory]);
    let read = |path: &str| sandbox.git(&["show", &format!("refs/orchestra/state:{path}")]);
    files
        .lines()
        .map(|path| serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}")))
        .collect()
}

fn agent(sandbox: &Sandbox, name: &str) -> Agent {
    records::<Agent>(sandbox, "agents").into_iter().find(|agent| agent.name.as_str() == name).unwrap()
}

/// The last `result` that the program itself printed.
fn own_result(sandbox: &Sandbox, agent: &str) -> Value {
    let raw = sandbox.ok(&["log", agent, "--raw"]);
    let mut lines = raw.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.find(|line| line["type"] == "result").unwrap_or_else(|| panic!("{agent} printed no result:\n{raw}"))
}

#[test]
fn three_real_agents_from_tasks_to_a_merge() {
    let mut sandbox = busy_user();
    let endpoint = three_agents();
    use_claude(&mut sandbox, &endpoint);
    let user = sandbox.fingerprint();
    let main_before = sandbox.git(&["rev-parse", "main"]);

    // Tasks.
    let add = |title: &str, body: &str, touches: &str| {
        sandbox.ok(&["task", "add", title, "-m", body, "--touches", touches])
    };
    let vegetarian = add("Offer something vegetarian", "Replace the fish. [script:vegetarian]", "menu.txt");
    let seafood = add("Offer seafood", "Something fancy. [script:seafood]", "menu.txt");
    let counting = add("Count the dishes", "In a script. [script:counting]", "count*");
    let ready = sandbox.ok(&["task", "ready"]);
    for id in [&vegetarian, &seafood, &counting] {
        assert!(ready.contains(&id[..4]), "{ready}");
    }

    // Three agents at once: none is answered before all three have come.
    let spawned =
        sandbox.orchestra(&["spawn", "--base", "main", "--jobs", "3", &vegetarian, &seafood, &counting]);
    assert_eq!(spawned.code, 0, "{spawned}");
    assert_eq!(sandbox.fingerprint(), user, "spawn left the user's checkout alone");
    let agents: Vec<Agent> = records(&sandbox, "agents");
    assert_eq!(agents.len(), 3);
    let name_of = |task: &str| {
        let found = agents.iter().find(|agent| agent.task.is_some_and(|id| id.as_str().starts_with(task)));
        found.unwrap_or_else(|| panic!("an agent of {task}")).name.to_string()
    };
    let (vegetarian, seafood, counting) = (name_of(&vegetarian), name_of(&seafood), name_of(&counting));

    // Their work is on their branches, uncommitted work included, based on main.
    let show =
        |branch: &str, path: &str| sandbox.git(&["show", &format!("orchestra/{branch}:{path}")]) + "\n";
    assert_eq!(show(&vegetarian, "menu.txt"), MENU.replace("fish", "tofu"));
    assert_eq!(show(&seafood, "menu.txt"), MENU.replace("fish", "lobster").replace("cake", "pie"));
    assert_eq!(show(&counting, "count.txt").trim(), "10");
    assert_eq!(sandbox.git(&["log", "--format=%s", &format!("main..orchestra/{seafood}")]), "Serve lobster");

    assert_figures(&sandbox, [&vegetarian, &seafood, &counting]);
    assert_what_is_shown(&sandbox, [&vegetarian, &seafood, &counting]);

    // The merge stops at the one conflict, off a terminal with a decision.
    let plan = sandbox.ok(&["merge", "--into", "main", "--dry-run"]);
    assert!([&vegetarian, &seafood, &counting].iter().all(|name| plan.contains(name.as_str())), "{plan}");
    let stopped = sandbox.orchestra(&["merge", "--into", "main"]);
    assert_eq!(stopped.code, 3, "{stopped}");
    assert_eq!(sandbox.git(&["rev-parse", "main"]), main_before, "nothing moves before the end");
    let [decision] = &records::<Decision>(&sandbox, "decisions")[..] else { panic!("one question") };
    let shown = sandbox.ok(&["show", decision.id.as_str()]);
    for word in ["menu.txt", "tofu", "lobster", "fish", &vegetarian, &seafood] {
        assert!(
            shown.contains(word),
            "both sides, the base and the names are needed to answer: no {word} in\n{shown}"
        );
    }
    let keys: Vec<&str> = decision.choices.iter().map(|choice| choice.key.as_str()).collect();
    let take = decision
        .choices
        .iter()
        .find(|choice| choice.label.contains(&seafood))
        .map(|choice| choice.key.as_str());
    let take = take.unwrap_or_else(|| panic!("a choice that names {seafood} among {:?}", decision.choices));
    assert!(keys.len() > 2, "{keys:?}");
    sandbox.ok(&["decide", decision.id.as_str(), take]);
    let landed = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!(landed.code, 0, "{landed}");

    // The tree is what was approved, and everybody's other lines are in it.
    let main = |path: &str| sandbox.git(&["show", &format!("main:{path}")]) + "\n";
    assert_eq!(main("menu.txt"), MENU.replace("fish", "lobster").replace("cake", "pie"));
    assert_eq!(main("count.sh"), "wc -l < menu.txt\n");
    assert_eq!(main("count.txt").trim(), "10");
    assert_eq!(sandbox.git(&["merge-base", "main", &main_before]), main_before);
    for name in [&vegetarian, &seafood, &counting] {
        assert_eq!(sandbox.git(&["rev-list", &format!("main..orchestra/{name}")]), "", "{name} is merged");
    }
    let [merge] = &records::<Merge>(&sandbox, "merges")[..] else { panic!("one merge") };
    assert_eq!(merge.status, MergeStatus::Landed);
    assert!(records::<Task>(&sandbox, "tasks").iter().all(|task| task.status == TaskStatus::Closed));

    // And the user never noticed.
    assert_eq!(sandbox.fingerprint(), user);
    assert_readable_with_plain_git(&sandbox, [&vegetarian, &seafood, &counting]);
}

/// Tokens and cost are the client's own figures, each message counted once.
fn assert_figures(sandbox: &Sandbox, names: [&String; 3]) {
    let expected = [(1_150, 164, 36_800, 12_600), (1_154, 168, 36_803, 12_603), (1_044, 133, 12_000, 12_350)];
    for (name, (input, output, cache_read, cache_write)) in names.into_iter().zip(expected) {
        let result = own_result(sandbox, name);
        let agent = agent(sandbox, name);
        let (_, run) = agent.last_run().unwrap();
        assert_eq!(run.outcome, Some(Outcome::Succeeded), "{name}");
        let usage = run.usage;
        assert_eq!((usage.input, usage.output), (input, output), "{name}");
        assert_eq!((usage.cache_read, usage.cache_write), (cache_read, cache_write), "{name}");
        assert_eq!(result["usage"]["input_tokens"], usage.input);
        assert_eq!(result["usage"]["output_tokens"], usage.output);
        assert_eq!(result["usage"]["cache_read_input_tokens"], usage.cache_read);
        assert_eq!(result["usage"]["cache_creation_input_tokens"], usage.cache_write);
        let Some(Cost { micro_usd, source }) = usage.cost else { panic!("{name} reported a cost") };
        assert_eq!(source, CostSource::Reported);
        let usd = result["total_cost_usd"].as_f64().unwrap();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let recorded = micro_usd as f64;
        assert!((usd * 1e6 - recorded).abs() <= 0.5 && recorded > 0.0, "{name}: {usd} and {micro_usd}");
    }
}

fn assert_what_is_shown(sandbox: &Sandbox, names: [&String; 3]) {
    let [vegetarian, seafood, counting] = names;
    let status = sandbox.ok(&["status"]);
    for name in names {
        let line = status
            .lines()
            .find(|line| line.contains(name.as_str()))
            .unwrap_or_else(|| panic!("{name}:\n{status}"));
        assert!(line.contains("done"), "{line}");
    }
    let log = sandbox.ok(&["log", vegetarian]);
    for word in ["I will read the menu.", "Edit", "menu.txt", "Bash", "grep -n tofu", "There is tofu now."] {
        assert!(log.contains(word), "no `{word}` in\n{log}");
    }
    let diff = sandbox.ok(&["diff", counting]);
    assert!(diff.contains("+wc -l < menu.txt"), "{diff}");
    // One pair overlaps; the third touches nothing of theirs.
    let overlap = sandbox.json(&["overlap"]);
    let pairs = overlap["data"]["pairs"].as_array().unwrap_or_else(|| panic!("{overlap:#}"));
    let conflicts: Vec<&Value> =
        pairs.iter().filter(|pair| pair["forecast"].to_string().contains("conflict")).collect();
    let text = conflicts.iter().map(ToString::to_string).collect::<String>();
    assert!(conflicts.len() == 1 && text.contains("menu.txt"), "{overlap:#}");
    let shown = sandbox.ok(&["overlap"]);
    assert!(shown.contains("menu.txt") && shown.contains(seafood.as_str()), "{shown}");
}

/// The state, the notes and the objects are sound and make sense without the program.
fn assert_readable_with_plain_git(sandbox: &Sandbox, names: [&String; 3]) {
    let notes = sandbox.git(&["log", "--notes=orchestra/*", "--format=%s%n%N", "main"]);
    for name in names {
        assert!(notes.contains(name.as_str()), "the provenance of {name}:\n{notes}");
    }
    let lobster =
        notes.split("Serve lobster").nth(1).unwrap_or_else(|| panic!("the agent's own commit:\n{notes}"));
    assert!(lobster.contains(names[1].as_str()), "the agent's own commit has a note too:\n{notes}");
    let log = sandbox.git(&["log", "--format=%an <%ae>|%cn|%s", "refs/orchestra/state"]);
    assert!(log.lines().all(|line| line.split('|').all(|part| !part.trim().is_empty())), "{log}");
    assert!(log.contains("Ada Example <ada@example.org>"), "{log}");
    let bodies =
        sandbox.git(&["log", "--format=%(trailers:key=Orchestra-Op,valueonly)", "refs/orchestra/state"]);
    let operations = bodies.lines().filter(|line| !line.is_empty());
    let operations: Vec<Value> = operations.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(operations.len() >= 8, "{bodies}");
    sandbox.assert_sound();
}
