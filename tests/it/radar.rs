//! Work that collides while it is done: what an agent is told that edits what another one has changed.

use serde_json::{Value, json};

use crate::harness::programs::use_claude;
use crate::harness::sandbox::{ORCHESTRA, Output, run, wait_for, write_in};
use crate::harness::{Endpoint, Sandbox, Step};

const MENU: &str = "soup\nbread\ncheese\nfish\nrice\nbeans\nsalad\nfruit\ncake\ntea\n";

/// A repository with a menu, and a profile `sh` that changes its fish and goes on until it is stopped.
fn kitchen(edits: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("menu.txt", MENU);
    sandbox.write("old.txt", "old\n");
    sandbox.commit("a menu");
    let script = "sed -i s/fish/lobster/ menu.txt; rm old.txt; echo changed; exec sleep 600";
    let words = json!(["/bin/sh", "-c", script]);
    let config = format!(
        "grace = \"1s\"\n[radar]\nedits = \"{edits}\"\n[profile.sh]\nprogram = \"command\"\ncommand = {words}\n\
         [profile.free]\nprogram = \"claude\"\npermissions = \"bypass\"\n"
    );
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &config);
    sandbox
}

/// Starts the agent that changes the fish.
fn start_cook(sandbox: &Sandbox) {
    sandbox.ok(&["task", "add", "Serve lobster"]);
    sandbox.ok(&["spawn", "--detach", "--profile", "sh", "--name", "red-owl"]);
    wait_for("the cook's change", || sandbox.ok(&["log", "red-owl"]).contains("changed").then_some(()));
}

/// Two agents that change the same dish, each in its own way, and go on until they are stopped; the second one changes it
/// back when it is told to.
fn two_cooks(radar: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("menu.txt", MENU);
    sandbox.commit("a menu");
    let config = format!(
        "grace = \"1s\"\n\
         [profile.lobster]\nprogram = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"{}\"]\n\
         [profile.tofu]\nprogram = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"{}\"]\n",
        "sed -i s/fish/lobster/ menu.txt; exec sleep 600",
        "mkdir deep; echo x >deep/file; sed -i s/fish/tofu/ menu.txt; \
         while ! test -e ../back; do sleep 0.1; done; sed -i s/tofu/fish/ menu.txt; echo y >deep/file; exec sleep 600",
    );
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &config);
    sandbox.git(&["config", "--global", "orchestra.radar.watch", radar]);
    sandbox
}

fn start(sandbox: &Sandbox, name: &str, profile: &str) {
    sandbox.ok(&["task", "add", &format!("Serve {profile}")]);
    sandbox.ok(&["spawn", "--detach", "--profile", profile, "--name", name]);
}

/// All findings, resolved ones too.
fn findings(sandbox: &Sandbox) -> Vec<Value> {
    sandbox.json(&["finding", "list", "--all"])["data"].as_array().unwrap().clone()
}

fn told(sandbox: &Sandbox, agent: &str, words: &str) {
    wait_for(words, || sandbox.ok(&["log", agent]).contains(words).then_some(()));
}

#[test]
fn agents_that_would_conflict_are_told_while_they_work_and_when_it_is_over() {
    let sandbox = two_cooks("on");
    let user = sandbox.fingerprint();
    start(&sandbox, "red-owl", "lobster");
    start(&sandbox, "grey-fox", "tofu");
    told(&sandbox, "red-owl", "its work would conflict with that of grey-fox, who is at work too: menu.txt");
    told(&sandbox, "grey-fox", "its work would conflict with that of red-owl, who is at work too: menu.txt");
    let found = wait_for("the finding", || Some(findings(&sandbox)).filter(|found| !found.is_empty()));
    let [finding] = &found[..] else { panic!("one for both: {found:?}") };
    assert_eq!(
        finding["message"],
        "grey-fox and red-owl work on the same lines and would conflict in menu.txt"
    );
    assert_eq!((&finding["author"], &finding["anchor"]["path"]), (&json!("radar"), &json!("menu.txt")));
    assert_eq!(finding["between"].as_array().unwrap().len(), 2);
    // What was seen is nowhere but apart, and goes with the agents.
    let unreachable = sandbox.git(&["fsck", "--unreachable", "--no-reflogs"]);
    assert!(!unreachable.contains("unreachable commit"), "{unreachable}");
    assert_eq!(sandbox.fingerprint(), user);

    write_in(&sandbox.root(), "repo.orchestra/back", "");
    told(&sandbox, "grey-fox", "would merge cleanly with that of red-owl again");
    told(&sandbox, "red-owl", "would merge cleanly with that of grey-fox again");
    let found = findings(&sandbox);
    assert_eq!((found.len(), &found[0]["status"]), (1, &json!("resolved")), "{found:?}");
    sandbox.ok(&["stop", "--all", "--wait"]);
    wait_for("the last word to be taken back", || {
        let left = std::fs::read_dir(sandbox.git_dir().join("orchestra/radar")).unwrap().flatten();
        left.map(|entry| entry.file_name()).all(|name| name == "objects").then_some(())
    });
    for name in ["red-owl", "grey-fox"] {
        let files = std::fs::read_dir(sandbox.git_dir().join("worktrees").join(name)).unwrap().flatten();
        let left = files.map(|entry| entry.file_name().into_string().unwrap());
        assert_eq!(left.filter(|name| name.starts_with("orchestra-index")).count(), 0);
    }
    let log = sandbox.ok(&["oplog"]);
    assert!(log.contains("radar"), "{log}");
}

#[test]
fn what_the_radar_said_is_settled_when_one_of_both_has_landed() {
    let sandbox = two_cooks("on");
    start(&sandbox, "red-owl", "lobster");
    start(&sandbox, "grey-fox", "tofu");
    wait_for("the finding", || (!findings(&sandbox).is_empty()).then_some(()));
    sandbox.ok(&["stop", "--all", "--wait"]);
    assert_eq!(findings(&sandbox)[0]["status"], "open");
    sandbox.ok(&["merge", "red-owl"]);
    let found = findings(&sandbox);
    assert_eq!(found[0]["status"], "resolved", "{found:?}");
    assert!(found[0]["resolution"].as_str().unwrap().ends_with("has landed"), "{found:?}");
}

#[test]
fn nothing_is_looked_at_where_the_settings_say_so_and_where_an_agent_is_alone() {
    let sandbox = two_cooks("off");
    start(&sandbox, "red-owl", "lobster");
    start(&sandbox, "grey-fox", "tofu");
    wait_for("both", || {
        let menu =
            |name: &str| std::fs::read_to_string(worktree_of(&sandbox, name).join("menu.txt")).unwrap();
        (menu("red-owl").contains("lobster") && menu("grey-fox").contains("tofu")).then_some(())
    });
    sandbox.ok(&["stop", "--all", "--wait"]);
    assert!(!sandbox.git_dir().join("orchestra/radar").exists());

    let alone = two_cooks("on");
    start(&alone, "red-owl", "lobster");
    alone.ok(&["stop", "--all", "--wait"]);
    assert_eq!(findings(&alone), Vec::<Value>::new());
}

/// What the hook answers a Claude Code that runs in the main checkout.
fn asked(sandbox: &Sandbox, tool: &str, input: &Value) -> Output {
    let mut command = sandbox.command(ORCHESTRA);
    command.args(["hook", "pre-tool-use"]).current_dir(sandbox.repo());
    let told = json!({"session_id": "s", "tool_name": tool, "tool_input": input, "tool_use_id": "t"});
    run(command, told.to_string().as_bytes())
}

fn edit(sandbox: &Sandbox, file: &str, old: &str, new: &str) -> Value {
    json!({"file_path": sandbox.repo().join(file), "old_string": old, "new_string": new})
}

#[test]
fn whoever_edits_lines_that_an_agent_has_changed_is_told() {
    let sandbox = kitchen("warn");
    let quiet = |what: &str, output: &Output| {
        assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{what}: {output}");
    };
    let fish = edit(&sandbox, "menu.txt", "fish", "tofu");
    quiet("nobody is at work", &asked(&sandbox, "Edit", &fish));
    start_cook(&sandbox);
    let told = asked(&sandbox, "Edit", &fish);
    let answer: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told}"));
    let answer = &answer["hookSpecificOutput"];
    assert_eq!(answer["hookEventName"], "PreToolUse");
    assert_eq!(answer["permissionDecision"], Value::Null, "what may be done is for others to say");
    let words = answer["additionalContext"].as_str().unwrap();
    assert!(words.contains("red-owl") && words.contains("(its task: Serve lobster)"), "{words}");
    assert!(words.contains("menu.txt") && !words.contains("tofu"), "{words}");

    // A line far from it, the same change, another file, what edits nothing, what the tool itself would refuse.
    quiet("elsewhere", &asked(&sandbox, "Edit", &edit(&sandbox, "menu.txt", "cake", "pie")));
    quiet("the same change", &asked(&sandbox, "Edit", &edit(&sandbox, "menu.txt", "fish", "lobster")));
    quiet("another file", &asked(&sandbox, "Edit", &edit(&sandbox, "README.md", "sandbox", "kitchen")));
    quiet("a command", &asked(&sandbox, "Bash", &json!({"command": "sed -i s/fish/tofu/ menu.txt"})));
    quiet("no such line", &asked(&sandbox, "Edit", &edit(&sandbox, "menu.txt", "pizza", "pasta")));
    let outside = json!({"file_path": "/nowhere/menu.txt", "content": "x"});
    quiet("outside", &asked(&sandbox, "Write", &outside));
    // The whole file anew, and a file that the agent has deleted.
    let whole =
        json!({"file_path": sandbox.repo().join("menu.txt"), "content": MENU.replace("fish", "tofu")});
    assert!(asked(&sandbox, "Write", &whole).stdout.contains("red-owl"));
    let deleted = asked(&sandbox, "Edit", &edit(&sandbox, "old.txt", "old", "new"));
    assert!(deleted.stdout.contains("has deleted it"), "{deleted}");
    // What conflicts already conflicts no more than before.
    sandbox.write("menu.txt", &MENU.replace("fish", "tofu"));
    quiet("below", &asked(&sandbox, "Edit", &edit(&sandbox, "menu.txt", "cake", "pie")));

    let broken = {
        let mut command = sandbox.command(ORCHESTRA);
        command.args(["hook", "pre-tool-use"]).current_dir(sandbox.repo());
        run(command, b"{\"tool\":")
    };
    // Claude Code takes 2 for a refusal: what goes wrong here must never be one.
    assert!(broken.code == 1 && broken.stderr.contains("what the hook was told"), "{broken}");
    sandbox.ok(&["stop", "red-owl", "--wait"]);
    sandbox.write("menu.txt", MENU);
    quiet("it has stopped", &asked(&sandbox, "Edit", &fish));
}

#[test]
fn nobody_looks_where_the_settings_say_so() {
    let sandbox = kitchen("off");
    start_cook(&sandbox);
    let output = asked(&sandbox, "Edit", &edit(&sandbox, "menu.txt", "fish", "tofu"));
    assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{output}");
    sandbox.ok(&["stop", "red-owl", "--wait"]);
}

/// The model behind the real Claude Code: edits the fish, then what its first tool said decides nothing.
fn endpoint() -> Endpoint {
    Endpoint::start([(
        "tofu",
        vec![
            Step::read("menu.txt"),
            Step::edit("menu.txt", "fish", "tofu"),
            Step::say("That is what I could do."),
        ],
    )])
}

/// What the model was told after its edit.
fn after_the_edit(endpoint: &Endpoint) -> String {
    endpoint.seen_by("tofu").pop().unwrap().body["messages"].to_string()
}

fn worktree_of(sandbox: &Sandbox, name: &str) -> std::path::PathBuf {
    sandbox.root().join("repo.orchestra").join(name)
}

/// What the model of a real agent was told that edits what another one has changed, and what came of its edit.
fn edited_beside_another(edits: &str) -> (String, String) {
    let mut sandbox = kitchen(edits);
    let endpoint = endpoint();
    use_claude(&mut sandbox, &endpoint);
    start_cook(&sandbox);
    sandbox.ok(&["task", "add", "Serve tofu", "-m", "[script:tofu]"]);
    sandbox.ok(&["spawn", "--profile", "claude", "--name", "grey-fox"]);
    let told = after_the_edit(&endpoint);
    assert!(told.contains("red-owl, another agent at work in this repository"), "{told}");
    let menu = std::fs::read_to_string(worktree_of(&sandbox, "grey-fox").join("menu.txt")).unwrap();
    sandbox.ok(&["stop", "red-owl", "--wait"]);
    (told, menu)
}

#[test]
fn the_denial_of_an_edit_reaches_the_model_of_a_real_agent() {
    let (told, menu) = edited_beside_another("deny");
    assert!(told.contains("The edit was not made.") && told.contains("\"is_error\":true"), "{told}");
    assert_eq!(menu, MENU);
}

#[test]
fn the_warning_before_an_edit_reaches_the_model_of_a_real_agent() {
    let (_, menu) = edited_beside_another("warn");
    assert_eq!(menu, MENU.replace("fish", "tofu"), "it was made");
}

#[test]
fn an_agent_that_would_edit_in_another_checkout_is_refused() {
    let mut sandbox = kitchen("warn");
    let endpoint = Endpoint::start([(
        "stray",
        vec![
            Step::call(
                "Write",
                json!({"file_path": sandbox.repo().join("new.txt"), "content": "not mine\n"}),
            ),
            Step::say("Done."),
        ],
    )]);
    use_claude(&mut sandbox, &endpoint);
    // Without it the program refuses to bypass permissions as root.
    sandbox.set_env("IS_SANDBOX", "1");
    let user = sandbox.fingerprint();
    sandbox.ok(&["task", "add", "Go astray", "-m", "[script:stray]"]);
    sandbox.ok(&["spawn", "--profile", "free", "--name", "grey-fox"]);
    let told = endpoint.seen_by("stray").pop().unwrap().body["messages"].to_string();
    assert!(told.contains("You are grey-fox, and your files are in"), "{told}");
    assert_eq!(sandbox.fingerprint(), user);
    assert!(!sandbox.repo().join("new.txt").exists());
}

#[test]
fn the_hook_is_put_into_the_users_settings_of_claude_code_and_taken_out_again() {
    let sandbox = Sandbox::new();
    let file = sandbox.repo().join(".claude/settings.local.json");
    let installed = sandbox.ok(&["hook", "install", "--claude"]);
    assert_eq!(installed, file.to_str().unwrap());
    let parsed: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(parsed["hooks"]["PreToolUse"][0]["matcher"], "Edit|MultiEdit|Write|NotebookEdit");
    assert!(!sandbox.git_dir().join("hooks/pre-commit").exists(), "nothing else was asked for");
    sandbox.ok(&["hook", "uninstall"]);
    assert!(!file.exists(), "there was none before");

    // What else is in it stays as it is, to the byte.
    let own = "{\n    \"permissions\": {\"allow\": [\"Bash(ls)\"]},\n\n    \"a\":1 }\n";
    std::fs::write(&file, own).unwrap();
    sandbox.ok(&["hook", "install", "--claude"]);
    let once = std::fs::read_to_string(&file).unwrap();
    let parsed: Value = serde_json::from_str(&once).unwrap();
    assert_eq!((&parsed["a"], parsed["hooks"].is_object()), (&json!(1), true));
    sandbox.ok(&["hook", "install", "--claude"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), once, "once is enough");
    sandbox.ok(&["hook", "uninstall"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), own);

    for (theirs, words) in [("{\"hooks\":{}}", "has hooks of yours"), ("[", "is no JSON object")] {
        std::fs::write(&file, theirs).unwrap();
        let refused = sandbox.orchestra(&["hook", "install", "--claude"]);
        assert!(refused.code == 1 && refused.stderr.contains(words), "{refused}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), theirs);
    }
}
