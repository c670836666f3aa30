//! Spawn, resume and remove with real programs in real repositories.

use super::budget::Budgets;
use super::supervise::{Finished, Progress, SuperviseOptions, Supervisor};
use super::*;
use crate::agent::{Redactor, find_adapter};
use crate::config::{Settings, Sources};
use crate::git::testing::Sandbox;
use crate::model::{
    Agent, Anchor, Budget, Finding, FindingStatus, Id, Outcome, Severity, Task, TaskStatus, Timestamp,
};
use crate::process::SystemClock;
use crate::store::{Cleaner, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

struct Stage {
    sandbox: Sandbox,
    store: Store,
}

impl Stage {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(options: &[&str]) -> Self {
        let sandbox = Sandbox::new(options);
        let repo = sandbox.open();
        let author = repo.identity();
        Self { store: Store::open(repo, Arc::new(SystemClock), author), sandbox }
    }

    fn task(&self, title: &str, after: &[Id]) -> Task {
        let task = Task {
            id: self.store.new_id().unwrap(),
            title: title.to_owned(),
            body: String::new(),
            status: TaskStatus::Open,
            priority: 0,
            after: after.iter().copied().collect(),
            touches: ["src".to_owned()].into(),
            labels: BTreeSet::new(),
            zone: None,
            assignee: None,
            holder: None,
            fence: 0,
            result: None,
            created: Timestamp(1),
            changed: Timestamp(1),
        };
        self.store.transact(|tx| tx.put(&task)).unwrap();
        task
    }

    fn outfit(script: &str) -> Outfit {
        let mut profile = Settings::load(&Sources::default()).unwrap().profile("command").unwrap();
        profile.env.insert("GIT_COMMITTER_NAME".to_owned(), "Ada".to_owned());
        let program = ["/bin/sh", "-c", script].map(OsString::from).into();
        Outfit {
            profile,
            program,
            adapter: find_adapter("command").unwrap(),
            budget: Budget::default(),
            sandbox_is_said: false,
            any_answer: false,
        }
    }

    fn request(tasks: &[Id], script: &str) -> SpawnRequest {
        let outfit = Self::outfit(script);
        SpawnRequest {
            tasks: tasks.into(),
            prompt: None,
            name: None,
            base: None,
            zone: None,
            force: false,
            step: None,
            outfit,
        }
    }

    fn surroundings(&self) -> Surroundings {
        let env: BTreeMap<OsString, OsString> =
            [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", self.sandbox.dir.path().to_str().unwrap())]
                .map(|(key, value)| (key.into(), value.into()))
                .into();
        let worktree_root = default_worktree_root(self.store.repo());
        Surroundings {
            env: Arc::new(env),
            program_dir: None,
            edit_hook: None,
            worktree_root,
            budgets: Budgets::default(),
            park: Duration::from_secs(30),
            limits: self.store.repo().local_dir(),
            slot: None,
            provision: Provision::default(),
            sandboxing: Sandboxing::default(),
            redactor: Arc::new(Redactor::new(Vec::<(String, String)>::new())),
        }
    }

    fn run(&self, claims: Vec<Claim>) -> (Vec<Finished>, Vec<Progress>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = SuperviseOptions {
                jobs: 3,
                memory_floor: 0,
                grace: Duration::from_millis(500),
                interactive: false,
                answer_timeout: Duration::ZERO,
                any_answer: false,
                radar: false,
                sweep: false,
            };
            let redactor = Arc::new(Redactor::new(Vec::<(String, String)>::new()));
            let supervisor = Supervisor::new(self.store.clone(), redactor, options);
            let (_requests, receiver) = mpsc::channel(1);
            let (progress, mut told) = mpsc::channel(64);
            let running = tokio::spawn(run_claims(
                claims,
                self.surroundings(),
                self.store.clone(),
                supervisor,
                receiver,
                progress,
                None,
            ));
            let mut all = Vec::new();
            while let Some(progress) = told.recv().await {
                all.push(progress);
            }
            (running.await.unwrap(), all)
        })
    }

    fn agent(&self, name: &str) -> Agent {
        self.store.state().unwrap().require_named(name).unwrap()
    }

    fn stored(&self, task: &Task) -> Task {
        self.store.state().unwrap().require(&task.id).unwrap()
    }
}

#[test]
fn tasks_become_agents_that_work_beside_each_other() {
    let stage = Stage::new();
    let tasks = [stage.task("Parse dates", &[]), stage.task("Parse dates", &[]), stage.task("Ärger!", &[])];
    let ids = tasks.each_ref().map(|task| task.id);
    let head = stage.sandbox.git(&["rev-parse", "HEAD"]);
    let script =
        "echo \"$GIT_ORCHESTRA_AGENT_NAME\" >\"$GIT_ORCHESTRA_AGENT_NAME\"; echo x >shared; git add shared";
    let commits = stage.sandbox.git(&["rev-list", "--all", "--count"]);
    let spawned = spawn(&stage.store, &Stage::request(&ids, script)).unwrap();
    assert_eq!(spawned.base.target.as_deref(), Some("refs/heads/main"));
    assert_eq!(spawned.base.commit.to_string(), head);
    let names: Vec<_> = spawned.claims.iter().map(|claim| claim.agent.name.to_string()).collect();
    assert_eq!(names, ["parse-dates", "parse-dates-2", "rger"]);
    let after: u32 = stage.sandbox.git(&["rev-list", "--all", "--count"]).parse().unwrap();
    assert_eq!(after - commits.parse::<u32>().unwrap(), 1, "one change of the state for all");
    for (task, claim) in tasks.iter().zip(&spawned.claims) {
        let stored = stage.stored(task);
        assert_eq!((stored.status, stored.assignee), (TaskStatus::Started, Some(claim.agent.id)));
    }
    let (finished, _) = stage.run(spawned.claims);
    assert_eq!(finished.len(), 3);
    for name in names {
        assert_eq!(stage.agent(&name).runs[&1].outcome, Some(Outcome::Succeeded), "{finished:?}");
        assert_eq!(stage.sandbox.git(&["show", &format!("orchestra/{name}:{name}")]), name);
    }
    assert_eq!(stage.sandbox.git(&["status", "--porcelain"]), "");
    assert!(stage.sandbox.dir.path().join("repo.orchestra/parse-dates-2/shared").exists());
}

#[test]
fn tasks_that_should_not_begin_are_refused_by_name_and_nothing_is_claimed() {
    let stage = Stage::new();
    let first = stage.task("First", &[]);
    let second = stage.task("Second", &[first.id]);
    let error = spawn(&stage.store, &Stage::request(&[first.id, second.id], "true")).unwrap_err();
    assert!(error.to_string().contains("(Second): it comes after") && error.to_string().contains("(First)"));
    assert!(error.hint().unwrap().contains("--force"));
    assert_eq!(stage.stored(&first).status, TaskStatus::Open, "all or none");
    assert!(lease::take_dead(stage.store.repo()).unwrap().is_empty());

    let spawned = spawn(&stage.store, &Stage::request(&[first.id], "true")).unwrap();
    let error = spawn(&stage.store, &Stage::request(&[first.id], "true")).unwrap_err();
    assert!(error.to_string().ends_with("(First): first works on it"), "{error}");
    let mut forced = Stage::request(&[second.id], "true");
    forced.force = true;
    assert_eq!(spawn(&stage.store, &forced).unwrap().claims.len(), 1);
    drop(spawned);

    let mut closed = stage.stored(&first);
    closed.status = TaskStatus::Closed;
    stage.store.transact(|tx| tx.put(&closed)).unwrap();
    forced.tasks = vec![first.id];
    let error = spawn(&stage.store, &forced).unwrap_err();
    assert!(error.hint().unwrap().contains("task reopen"), "even --force does not reopen");
}

#[test]
fn an_unborn_branch_and_an_empty_wish_are_refused() {
    let stage = Stage::new();
    stage.sandbox.git(&["checkout", "-q", "--orphan", "empty"]);
    let mut request = Stage::request(&[], "true");
    request.prompt = Some("Do it".to_owned());
    let error = spawn(&stage.store, &request).unwrap_err();
    assert_eq!(error.to_string(), "start an agent: the repository has no commit yet");
    request.base = Some("main".to_owned());
    let spawned = spawn(&stage.store, &request).unwrap();
    assert_eq!(spawned.base.target.as_deref(), Some("refs/heads/main"));
    request.prompt = Some("  ".to_owned());
    assert!(spawn(&stage.store, &request).is_err());
}

#[test]
fn findings_about_its_paths_are_told_to_a_new_agent() {
    let stage = Stage::new();
    let finding = |message: &str, path: Option<&str>, severity| Finding {
        id: stage.store.new_id().unwrap(),
        message: message.to_owned(),
        severity,
        status: FindingStatus::Open,
        anchor: path.map(|path| Anchor { path: path.to_owned(), line: None }),
        commit: None,
        agent: None,
        author: "Ada".to_owned(),
        task: None,
        between: BTreeSet::new(),
        resolution: None,
        created: Timestamp(1),
    };
    for finding in [
        finding("inside", Some("src/a/b.rs"), Severity::Info),
        finding("outside", Some("lib/a.rs"), Severity::Critical),
        finding("everywhere", None, Severity::High),
        finding("minor", None, Severity::Low),
    ] {
        stage.store.transact(|tx| tx.put(&finding)).unwrap();
    }
    let task = stage.task("Work", &[]);
    let claims =
        spawn(&stage.store, &Stage::request(&[task.id], "echo \"$GIT_ORCHESTRA_PROMPT\"")).unwrap().claims;
    let (_, told) = stage.run(claims);
    let told = format!("{told:?}");
    assert!(told.contains("inside") && told.contains("everywhere"), "{told}");
    assert!(!told.contains("outside") && !told.contains("minor"), "{told}");
}

#[test]
fn a_claim_that_was_never_run_can_be_resumed() {
    let stage = Stage::new();
    let task = stage.task("Work", &[]);
    // Killed between the claim and the worktree.
    drop(spawn(&stage.store, &Stage::request(&[task.id], "false")).unwrap());
    // A child that another test forks just now has the lease open too, until it is another program.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut said = recover(&stage.store).unwrap();
    while said.is_empty() && std::time::Instant::now() < deadline {
        std::thread::yield_now();
        said = recover(&stage.store).unwrap();
    }
    let said: Vec<&str> = said.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(said, ["work was not started; `git orchestra resume work` starts it"]);
    let id = stage.agent("work").id;
    let claim = resume(&stage.store, &id, None, &Stage::outfit("echo done >done")).unwrap();
    let (finished, _) = stage.run(vec![claim]);
    assert_eq!(finished[0].outcome, Some(Outcome::Succeeded));
    // And again, after its directory was removed by hand.
    let path = stage.store.repo().find_worktree("work").unwrap().unwrap().path;
    std::fs::remove_dir_all(&path).unwrap();
    let claim = resume(&stage.store, &id, Some("More"), &Stage::outfit("cat done >more")).unwrap();
    let error = resume(&stage.store, &id, None, &Stage::outfit("true")).unwrap_err();
    assert_eq!(error.to_string(), "start work: it is running");
    let (finished, _) = stage.run(vec![claim]);
    assert_eq!((finished[0].run, &finished[0].outcome), (2, &Some(Outcome::Succeeded)));
    assert_eq!(stage.sandbox.git(&["show", "orchestra/work:more"]), "done");
}

#[test]
fn what_is_cleaned_out_of_a_prompt_is_in_no_name_and_no_title() {
    let mut stage = Stage::new();
    let cleaner =
        Cleaner::new(|text| text.contains("s3cret").then(|| text.replace("s3cret", "[redacted:KEY]")));
    stage.store = stage.store.with_cleaner(cleaner);
    let told =
        |prompt: &str| SpawnRequest { prompt: Some(prompt.to_owned()), ..Stage::request(&[], "echo x >x") };
    let mut spawned = spawn(&stage.store, &told("log in with s3cret\nand go on")).unwrap();
    let claim = spawned.claims.pop().unwrap();
    assert_eq!((claim.agent.name.as_str(), &*claim.title), ("log-in-with", "log in with [redacted:KEY]"));
    assert_eq!(claim.prompt, "log in with s3cret\nand go on", "the agent is told all of it");
    let (finished, _) = stage.run(vec![claim]);
    let id = finished[0].agent;
    let subject = || stage.sandbox.git(&["log", "-1", "--format=%s", "orchestra/log-in-with"]);
    assert_eq!(subject(), "log in with [redacted:KEY]");
    let claim = resume(&stage.store, &id, Some("s3cret"), &Stage::outfit("echo y >x")).unwrap();
    assert_eq!(claim.title, "log in with [redacted:KEY]");
    drop(claim);
    let mut spawned = spawn(&stage.store, &told("s3cret")).unwrap();
    assert_eq!(spawned.claims.pop().unwrap().agent.branch, "refs/heads/orchestra/agent");
}

#[test]
fn an_agent_without_a_worktree_frees_its_task() {
    let stage = Stage::new();
    let task = stage.task("Work", &[]);
    let claims = spawn(&stage.store, &Stage::request(&[task.id], "true")).unwrap().claims;
    std::fs::create_dir_all(stage.sandbox.dir.path().join("repo.orchestra/work")).unwrap();
    let (finished, _) = stage.run(claims);
    assert!(finished[0].error.as_deref().is_some_and(|error| error.contains("it exists")), "{finished:?}");
    assert_eq!((stage.stored(&task).status, stage.stored(&task).assignee), (TaskStatus::Open, None));
    assert!(stage.agent("work").removed.is_some());
}

#[test]
fn removing_an_agent_loses_nothing() {
    let stage = Stage::with(&["--object-format=sha256"]);
    std::fs::write(stage.sandbox.path().join(".gitignore"), "*.env\ntarget/\n").unwrap();
    stage.sandbox.git(&["add", "."]);
    stage.sandbox.git(&["commit", "-q", "-m", "ignore"]);
    let task = stage.task("Work", &[]);
    let script = "echo kept >committed";
    let claims = spawn(&stage.store, &Stage::request(&[task.id], script)).unwrap().claims;
    stage.run(claims);
    let agent = stage.agent("work");
    let path = stage.store.repo().find_worktree("work").unwrap().unwrap().path;
    std::fs::write(path.join("loose"), "loose").unwrap();
    std::fs::write(path.join("my.env"), "secret").unwrap();
    std::fs::create_dir(path.join("target")).unwrap();
    let large = std::fs::File::create(path.join("target/large")).unwrap();
    large.set_len(20 << 20).unwrap();
    let error = remove(&stage.store, &agent.id, RemoveOptions::default(), None).unwrap_err();
    assert!(error.to_string().contains("target/") && path.exists(), "{error}");
    std::fs::remove_file(path.join("target/large")).unwrap();
    let removed = remove(&stage.store, &agent.id, RemoveOptions::default(), None).unwrap();
    let (rescue, commit) = removed.rescue.unwrap();
    assert_eq!(rescue, "refs/orchestra/rescue/work/1");
    let files = stage.sandbox.git(&["ls-tree", "-r", "--name-only", commit.as_str()]);
    assert_eq!(files, ".gitignore\ncommitted\nloose\nmy.env");
    assert!(!path.exists());
    assert_eq!(stage.sandbox.git(&["for-each-ref", "refs/heads/orchestra"]), "");
    assert_eq!(stage.sandbox.git(&["log", "--format=%s", "-2", rescue.as_str()]), "Kept of work\nWork");
    assert!(stage.agent("work").removed.is_some());
    assert_eq!(stage.stored(&task).status, TaskStatus::Open);
    assert!(resume(&stage.store, &agent.id, None, &Stage::outfit("true")).is_err());
    // The name is free again, and the next one that goes is kept beside the first.
    let claims = spawn(&stage.store, &Stage::request(&[task.id], script)).unwrap().claims;
    stage.run(claims);
    let id = stage.agent("work").id;
    let removed = remove(&stage.store, &id, RemoveOptions::default(), None).unwrap();
    assert_eq!(removed.rescue.unwrap().0, "refs/orchestra/rescue/work/2");
}

#[test]
fn what_was_merged_or_never_begun_needs_no_rescue() {
    let stage = Stage::new();
    let (one, two) = (stage.task("One", &[]), stage.task("Two", &[]));
    let claims = spawn(&stage.store, &Stage::request(&[one.id], "echo x >one")).unwrap().claims;
    stage.run(claims);
    let claims = spawn(&stage.store, &Stage::request(&[two.id], "true")).unwrap().claims;
    stage.run(claims);
    stage.sandbox.git(&["merge", "-q", "orchestra/one"]);
    for name in ["one", "two"] {
        let removed = remove(&stage.store, &stage.agent(name).id, RemoveOptions::default(), None).unwrap();
        assert_eq!(removed.rescue, None, "{name}");
    }
    assert_eq!(stage.sandbox.git(&["for-each-ref", "refs/heads/orchestra", "refs/orchestra/rescue"]), "");
    stage.sandbox.git(&["fsck", "--strict"]);
}

#[test]
fn no_record_takes_refs_and_worktrees_of_others_along() {
    let stage = Stage::new();
    let task = stage.task("Work", &[]);
    let claims = spawn(&stage.store, &Stage::request(&[task.id], "echo x >work")).unwrap().claims;
    stage.run(claims);
    stage.sandbox.git(&["branch", "release"]);
    let theirs = stage.sandbox.dir.path().join("hotfix");
    stage.sandbox.git(&["worktree", "add", "-q", "-b", "hotfix", theirs.to_str().unwrap()]);
    std::fs::write(theirs.join("precious"), "x").unwrap();
    let real = stage.agent("work");
    let refs = stage.sandbox.git(&["for-each-ref", "refs/heads", "refs/tags"]);
    let hostile = [
        ("evil", "refs/heads/release"),
        ("hotfix", "refs/heads/hotfix"),
        ("work", "refs/heads/orchestra/work"),
    ];
    for (name, branch) in hostile {
        let forged = Agent {
            id: stage.store.new_id().unwrap(),
            name: name.parse().unwrap(),
            branch: branch.to_owned(),
            target: Some(branch.to_owned()),
            task: None,
            ..real.clone()
        };
        stage.store.transact(|tx| tx.put(&forged)).unwrap();
        assert!(resume(&stage.store, &forged.id, None, &Stage::outfit("true")).is_err(), "{name}");
        let removed = remove(&stage.store, &forged.id, RemoveOptions::default(), None).unwrap();
        assert!(removed.rescue.is_none() && !removed.worktree && !removed.own, "{removed:?}");
        assert_eq!(stage.sandbox.git(&["for-each-ref", "refs/heads", "refs/tags"]), refs);
    }
    assert!(theirs.join("precious").exists());
    assert!(stage.store.repo().find_worktree("work").unwrap().unwrap().is_intact());
    assert!(remove(&stage.store, &real.id, RemoveOptions::default(), None).unwrap().worktree);
}

#[test]
fn an_agent_whose_worktree_holds_repositories_is_not_removed() {
    let stage = Stage::new();
    let task = stage.task("Work", &[]);
    let script = "mkdir inner; cd inner; git init -q; echo precious >p; git add p; git commit -qm inner";
    let claims = spawn(&stage.store, &Stage::request(&[task.id], script)).unwrap().claims;
    let (finished, _) = stage.run(claims);
    assert_eq!((finished[0].commits, finished[0].leftovers), (0, false), "{finished:?}");
    let id = stage.agent("work").id;
    let error =
        remove(&stage.store, &id, RemoveOptions { discard_ignored: true, ..RemoveOptions::default() }, None)
            .unwrap_err();
    assert!(error.to_string().contains("(inner)"), "{error}");
    let path = stage.store.repo().find_worktree("work").unwrap().unwrap().path;
    assert!(path.join("inner/p").exists());
    assert_eq!(stage.sandbox.git(&["for-each-ref", "refs/orchestra/rescue"]), "");
    std::fs::remove_dir_all(path.join("inner")).unwrap();
    remove(&stage.store, &id, RemoveOptions::default(), None).unwrap();
    assert!(!path.exists());
}
