//! A person reads what an agent changed, and the agent is told what they think of it.

use crate::harness::programs::use_claude;
use crate::harness::sandbox::{wait_for, write_in};
use crate::harness::{Endpoint, Sandbox, Step, Terminal};

const MENU: &str = "soup\nbread\ncheese\nfish\nrice\n";

/// A repository in which the real Claude Code has served tofu.
fn served() -> (Sandbox, Endpoint) {
    let mut sandbox = Sandbox::new();
    sandbox.write("menu.txt", MENU);
    sandbox.commit("a menu");
    let endpoint = Endpoint::start([
        ("serve", vec![Step::read("menu.txt"), Step::edit("menu.txt", "fish", "tofu"), Step::say("Served.")]),
        (
            "Deal with each point",
            vec![Step::edit("menu.txt", "tofu", "smoked tofu"), Step::say("Smoked now.")],
        ),
    ]);
    use_claude(&mut sandbox, &endpoint);
    sandbox.ok(&["task", "add", "Serve tofu", "-m", "[script:serve]"]);
    sandbox.ok(&["spawn", "--name", "grey-fox"]);
    (sandbox, endpoint)
}

/// What the model was told by the review.
fn told(endpoint: &Endpoint) -> String {
    let seen = endpoint.seen_by("Deal with each point");
    seen.first().unwrap_or_else(|| panic!("it was not told")).body["messages"].to_string()
}

#[test]
fn comments_go_to_the_agent_as_one_message_in_another_run() {
    let (sandbox, endpoint) = served();
    let template = sandbox.ok(&["review", "grey-fox", "--print"]);
    assert!(template.contains("\n> -fish\n> +tofu\n"), "{template}");
    let commented = template.replace("> +tofu\n", "> +tofu\nSmoke it.\nTwice.\n");
    sandbox.write("review.txt", &format!("Well done.\n{commented}"));
    let reviewed = sandbox.ok(&["review", "grey-fox", "-F", "review.txt"]);
    assert!(reviewed.ends_with("grey-fox  told 2 comments"), "{reviewed}");
    let told = told(&endpoint);
    let words = "Ada Example has read your changes and says this.";
    assert!(told.contains(words), "{told}");
    assert!(told.contains("1. on the whole\\n   Well done."), "{told}");
    assert!(told.contains("2. menu.txt:4\\n   | +tofu\\n   Smoke it.\\n   Twice."), "{told}");
    let diff = sandbox.ok(&["diff", "grey-fox"]);
    assert!(diff.contains("+smoked tofu"), "{diff}");
    assert!(!sandbox.git_dir().join("orchestra/reviews/grey-fox.diff").exists(), "it has arrived");
}

#[test]
fn without_a_comment_nothing_is_sent() {
    let (sandbox, endpoint) = served();
    let template = sandbox.ok(&["review", "grey-fox", "--print"]);
    sandbox.write("review.txt", &template);
    let reviewed = sandbox.orchestra(&["review", "grey-fox", "-F", "review.txt"]);
    assert!(reviewed.code == 0 && reviewed.stderr.contains("no comment: nothing was sent"), "{reviewed}");
    let nothing = sandbox.orchestra(&["review", "grey-fox", "--print", "--", "nowhere"]);
    assert!(nothing.code == 0 && nothing.stderr.contains("has changed nothing there"), "{nothing}");
    let no_terminal = sandbox.orchestra(&["review", "grey-fox"]);
    assert!(no_terminal.code == 2 && no_terminal.stderr.contains("--print"), "{no_terminal}");
    assert!(endpoint.seen_by("Deal with each point").is_empty());
}

#[test]
fn on_a_terminal_the_diff_is_shown_and_the_editor_takes_the_comments() {
    let (mut sandbox, endpoint) = served();
    sandbox.set_env("GIT_EDITOR", "sed -i '/^> +tofu/a Smoke it.'");
    let mut terminal = Terminal::orchestra(&sandbox, &["--no-pager", "review", "grey-fox"], 40, 100);
    terminal.wait_for("+tofu");
    terminal.wait_for("told 1 comment");
    assert_eq!(terminal.end(), 0);
    assert!(told(&endpoint).contains("menu.txt:4"), "{}", told(&endpoint));
}

#[test]
fn comments_that_do_not_arrive_are_kept() {
    let sandbox = Sandbox::new();
    let config = "grace = '1s'\n[profile.sh]\nprogram = 'command'\ncommand = ['/bin/sh', '-c', 'echo x >new; exec sleep 600']\n";
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", config);
    sandbox.ok(&["task", "add", "Be deaf"]);
    sandbox.ok(&["spawn", "--detach", "--profile", "sh", "--name", "red-owl"]);
    let template = wait_for("its file", || {
        let out = sandbox.orchestra(&["review", "red-owl", "--print"]);
        (out.code == 0 && out.stdout.contains("> +x")).then_some(out.stdout)
    });
    sandbox.write("review.txt", &format!("{template}Why?\n"));
    let refused = sandbox.orchestra(&["review", "red-owl", "-F", "review.txt"]);
    assert_eq!(refused.code, 1, "{refused}");
    let kept = sandbox.git_dir().join("orchestra/reviews/red-owl.diff");
    assert!(refused.stderr.contains(kept.to_str().unwrap()), "{refused}");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), format!("{template}Why?\n"));
    sandbox.ok(&["stop", "red-owl", "--wait"]);
}
