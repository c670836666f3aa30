//! Agents: status, log, diff and show, on programs that really ran.

use insta::assert_snapshot;

use super::Stage;
use crate::harness::{Sandbox, Terminal};

/// Two ready tasks, and a profile `worker` that changes the same line for each and notes a finding.
pub(crate) fn stage() -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.set_env("COLUMNS", "100");
    let script = "echo \"$GIT_ORCHESTRA_AGENT_NAME\" >README.md; echo extra >\"$GIT_ORCHESTRA_AGENT_NAME.txt\"; \
                  git orchestra finding add \"Seen by $GIT_ORCHESTRA_AGENT_NAME\" --path README.md:1 >/dev/null; \
                  echo working; echo careful >&2";
    let profile = format!("[profile.worker]\nprogram = 'command'\ncommand = ['sh', '-c', '''{script}''']\n");
    let file = sandbox.home().join(".config/git-orchestra/config.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, profile).unwrap();
    sandbox.ok(&["task", "add", "Alpha", "--priority", "1"]);
    sandbox.ok(&["task", "add", "Beta"]);
    sandbox
}

#[test]
fn what_agents_did_can_be_seen() {
    let mut stage = Stage { sandbox: stage(), ids: Vec::new() };
    let out = stage.sandbox.orchestra(&["spawn", "--profile", "worker", "--jobs", "1"]);
    assert_eq!(out.code, 0, "{out}");
    for (task, name) in
        stage.sandbox.json(&["task", "list"])["data"].as_array().unwrap().iter().zip(["<a>", "<b>"])
    {
        stage.ids.push((task["id"].as_str().unwrap().to_owned(), name));
    }
    for (agent, name) in
        stage.sandbox.json(&["status"])["data"].as_array().unwrap().iter().zip(["<A>", "<B>"])
    {
        stage.ids.push((agent["id"].as_str().unwrap().to_owned(), name));
    }
    assert_snapshot!(stage.run(&["status"]), @r#"
    $ git orchestra status
    AGENT  STATE          TASK        COMMITS  FILES  LAST
    alpha  done (exit 0)  <a> Alpha  +1           2 <age>
    beta   done (exit 0)  <b> Beta   +1           2 <age>
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["log", "alpha"]), @r#"
    $ git orchestra log alpha
    run 1, started <time>, done
       0s  working
       0s  careful
       0s  exited with 0
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["log", "alpha", "--raw"]), @r#"
    $ git orchestra log alpha --raw
    working
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["diff", "alpha"]), @r#"
    $ git orchestra diff alpha
    diff --git a/README.md b/README.md
    index bcf5263..4a58007 100644
    --- a/README.md
    +++ b/README.md
    @@ -1 +1 @@
    -# sandbox
    +alpha
    diff --git a/alpha.txt b/alpha.txt
    new file mode 100644
    index 0000000..0f22871
    --- /dev/null
    +++ b/alpha.txt
    @@ -0,0 +1 @@
    +extra
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["diff", "beta", "--name-only"]), @r#"
    $ git orchestra diff beta --name-only
    README.md
    beta.txt
    --- exit 0
    "#);
    let found = stage.sandbox.json(&["finding", "list", "--agent", "alpha"]);
    assert_eq!(found["data"][0]["author"], "alpha");
    assert_eq!(found["data"][0]["task"].as_str().unwrap(), stage.ids[0].0);
    // What is uncommitted belongs to the diff, and git's own diff in a hostile repository runs nothing.
    let worktree = stage.sandbox.git(&["worktree", "list", "--porcelain"]);
    let worktree = worktree
        .lines()
        .find_map(|line| line.strip_prefix("worktree ").filter(|path| path.ends_with("alpha")))
        .unwrap();
    std::fs::write(std::path::Path::new(worktree).join("more.txt"), "more\n").unwrap();
    stage.sandbox.git(&["config", "diff.external", "touch evil #"]);
    assert_eq!(stage.sandbox.ok(&["diff", "alpha", "--name-only"]), "README.md\nalpha.txt\nmore.txt");
    assert_eq!(stage.sandbox.ok(&["diff", "alpha", "--name-only", "--committed"]), "README.md\nalpha.txt");
    assert!(!stage.sandbox.repo().join("evil").exists());
    assert_snapshot!(stage.run(&["status", "--porcelain"]), @r#"
    $ git orchestra status --porcelain
    <A>	alpha	done	refs/heads/orchestra/alpha	1	0	2	-	0	-	<ms>	<a>	exit 0
    <B>	beta	done	refs/heads/orchestra/beta	1	0	2	-	0	-	<ms>	<b>	exit 0
    --- exit 0
    "#);
}

#[test]
fn a_log_is_followed_until_the_run_ends() {
    let mut sandbox = stage();
    let go = sandbox.root().join("go");
    sandbox.set_env("COLUMNS", "80");
    let script = format!("echo first; while [ ! -e {} ]; do sleep 0.05; done; echo second", go.display());
    let profile = format!("[profile.worker]\nprogram = 'command'\ncommand = ['sh', '-c', '''{script}''']\n");
    std::fs::write(sandbox.home().join(".config/git-orchestra/config.toml"), profile).unwrap();
    let mut spawn =
        Terminal::orchestra(&sandbox, &["spawn", "--profile", "worker", "-m", "x", "--name", "slow"], 24, 80);
    spawn.wait_for("first");
    assert_eq!(sandbox.json(&["status"])["data"][0]["state"], "running");
    let mut log = Terminal::orchestra(&sandbox, &["log", "slow", "--follow"], 24, 80);
    log.wait_for("first");
    std::fs::write(go, "").unwrap();
    log.wait_for("second");
    assert_eq!((log.end(), spawn.end()), (0, 0));
    assert_eq!(sandbox.json(&["status"])["data"][0]["state"], "done");
}
