//! Real processes in real worktrees.

use super::*;
use crate::agent::{Decoder, Launch, PermissionReply, Redactor};
use crate::git::testing::Sandbox;
use crate::git::{NewWorktree, Repository};
use crate::model::{
    Answer, Decision, DecisionKind, DecisionStatus, Event, EventKind, Outcome, Run, Timestamp, Usage,
};
use crate::orchestrate::breaker::{Limited, Probe};
use crate::orchestrate::lease::{self, LeaseInfo};
use crate::orchestrate::prepare::Prepared;
use crate::orchestrate::status::{self, Activity};
use crate::orchestrate::{recover, testing_agent, trust};
use crate::process::SystemClock;
use crate::store::{PROVENANCE_NOTES, Store};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// A program that is a shell script. It speaks a language of its own: `ask X` wants permission, `done` ends a
/// turn, `fail` ends it badly, and anything else is text.
#[derive(Debug)]
struct Shell {
    script: String,
    streaming: bool,
}

#[derive(Default)]
struct ShellDecoder {
    idle: bool,
    failure: Option<String>,
}

impl Adapter for Shell {
    fn name(&self) -> &'static str {
        "shell"
    }

    fn launch(&self, request: &LaunchRequest) -> Launch {
        let input = self.streaming.then(|| format!("{}\n", request.prompt).into_bytes());
        Launch {
            argv: ["/bin/sh", "-c", &self.script].map(Into::into).into(),
            input,
            keeps_input: true,
            ..Launch::default()
        }
    }

    fn decoder(&self, _: &LaunchRequest) -> Box<dyn Decoder> {
        Box::new(ShellDecoder::default())
    }

    fn message(&self, text: &str) -> Option<Vec<u8>> {
        self.streaming.then(|| format!("{text}\n").into_bytes())
    }

    fn interrupt(&self) -> Option<Vec<u8>> {
        None
    }

    fn permission_reply(&self, request: &str, reply: &PermissionReply) -> Option<Vec<u8>> {
        let word = if matches!(reply, PermissionReply::Allow { .. }) { "allow" } else { "deny" };
        Some(format!("{word} {request}\n").into_bytes())
    }
}

impl Decoder for ShellDecoder {
    fn line(&mut self, line: &[u8], at: Timestamp, events: &mut Vec<Event>) {
        let text = String::from_utf8_lossy(line).into_owned();
        self.idle = text == "done" || text == "fail";
        let result = |error| EventKind::Result {
            subtype: text.clone(),
            error,
            text: String::new(),
            usage: Usage::default(),
        };
        let kind = match text.split_once(' ') {
            Some(("ask", what)) => EventKind::PermissionAsked {
                request: "q1".to_owned(),
                tool: "Bash".to_owned(),
                summary: what.to_owned(),
                input: format!("{{\"command\":\"{what}\"}}"),
                questions: Vec::new(),
            },
            _ if text == "done" => result(false),
            _ if text == "fail" => {
                self.failure = Some("it said so".to_owned());
                result(true)
            }
            _ => EventKind::Text { text, partial: false },
        };
        events.push(Event { at, parent: None, kind });
    }

    fn usage(&self) -> Usage {
        Usage { input: 3, output: 4, ..Usage::default() }
    }

    fn is_idle(&self) -> bool {
        self.idle
    }

    fn reported_failure(&self) -> Option<String> {
        self.failure.clone()
    }
}

struct Stage {
    sandbox: Sandbox,
    store: Store,
    jobs: usize,
    interactive: bool,
    answer_timeout: Duration,
    memory_kills: fn() -> Option<u64>,
    any_answer: bool,
}

impl Stage {
    fn new() -> Self {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        let author = repo.identity();
        let store = Store::open(repo, Arc::new(SystemClock), author);
        Self {
            sandbox,
            store,
            jobs: 4,
            interactive: false,
            answer_timeout: Duration::ZERO,
            memory_kills: || None,
            any_answer: false,
        }
    }

    fn repo(&self) -> &Repository {
        self.store.repo()
    }

    fn plan(&self, name: &str, script: &str) -> Plan {
        let tip = self.repo().resolve_commit("HEAD").unwrap();
        let mut agent = testing_agent(name);
        agent.base = tip.clone();
        let run = Run { started: Timestamp(1), ..Run::default() };
        agent.runs.insert(1, run.into());
        let info = LeaseInfo::queued(agent.id, agent.name.clone(), 1, Timestamp(1));
        let lease = Lease::take(self.repo(), info).unwrap().unwrap();
        self.store.transact(|tx| tx.put(&agent)).unwrap();
        let root = self.sandbox.dir.path().join("agents");
        let new =
            NewWorktree { name: &agent.name, root: &root, branch: &agent.branch, base: &tip, sparse: &[] };
        let worktree = self.repo().add_worktree(&new).unwrap();
        let path = ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
        let home = ("HOME".into(), self.sandbox.dir.path().join("home").into());
        let mail = [("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "a@b"), ("GIT_COMMITTER_NAME", "Ada")];
        let mail =
            mail.into_iter().chain([("GIT_COMMITTER_EMAIL", "a@b")]).map(|(k, v)| (k.into(), v.into()));
        Plan {
            agent,
            run: 1,
            lease,
            worktree,
            tip,
            adapter: Arc::new(Shell { script: script.to_owned(), streaming: true }),
            launch: LaunchRequest { prompt: "go".to_owned(), ..LaunchRequest::default() },
            env: [path, home].into_iter().chain(mail).collect(),
            limits: Limits {
                idle: None,
                total: None,
                after_result: Duration::from_millis(300),
                silence: Duration::from_secs(600),
                space: 0,
            },
            purse: Purse::default(),
            breaker: None,
            slot: None,
            decided: BTreeMap::new(),
            title: "Do it".to_owned(),
            confinement: None,
            confiners: Confiners::default(),
            prepared: Prepared::default(),
        }
    }

    fn supervisor(&self) -> Supervisor {
        let options = SuperviseOptions {
            jobs: self.jobs,
            memory_floor: 0,
            grace: Duration::from_millis(500),
            interactive: self.interactive,
            answer_timeout: self.answer_timeout,
            any_answer: self.any_answer,
            radar: false,
            sweep: false,
        };
        let redactor = Arc::new(Redactor::new([("KEY", "s3cr3t-value-1234")]));
        let mut supervisor = Supervisor::new(self.store.clone(), redactor, options);
        supervisor.memory_kills = self.memory_kills;
        supervisor
    }

    /// Runs plans to their end, and returns everything that was told.
    async fn run(&self, plans: Vec<Plan>) -> (Vec<Finished>, Vec<Progress>) {
        self.run_with(plans, |_, _| {}).await
    }

    async fn run_with(
        &self,
        plans: Vec<Plan>,
        mut react: impl FnMut(&Progress, &mpsc::Sender<Request>),
    ) -> (Vec<Finished>, Vec<Progress>) {
        let (plan_sender, plan_receiver) = mpsc::channel(16);
        let (sender, requests) = mpsc::channel(16);
        let (progress, mut told) = mpsc::channel(64);
        for plan in plans {
            plan_sender.send(plan).await.unwrap();
        }
        drop(plan_sender);
        let running = tokio::spawn(self.supervisor().supervise(plan_receiver, requests, progress));
        let mut all = Vec::new();
        while let Some(progress) = told.recv().await {
            react(&progress, &sender);
            all.push(progress);
        }
        (running.await.unwrap(), all)
    }

    fn stored(&self, name: &str) -> Run {
        Run::clone(&self.store.state().unwrap().require_named::<Agent>(name).unwrap().runs[&1])
    }
}

fn texts(told: &[Progress]) -> Vec<String> {
    told.iter()
        .filter_map(|progress| match progress {
            Progress::Event { event, .. } => match &event.kind {
                EventKind::Text { text, .. } | EventKind::Notice { text } => Some(text.clone()),
                _ => None,
            },
            Progress::Notice { text, .. } => Some(text.clone()),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_run_is_recorded_with_its_work_its_words_and_its_provenance() {
    let stage = Stage::new();
    let script =
        "read prompt; echo \"told $prompt\"; echo the key is s3cr3t-value-1234; echo one >one; git add one
        git commit -q -m one; echo two >two; echo oops >&2; echo done; cat >/dev/null";
    let (finished, told) = stage.run(vec![stage.plan("heron", script)]).await;
    let run = stage.stored("heron");
    assert_eq!(run.outcome, Some(Outcome::Succeeded), "{told:?}");
    assert_eq!((finished[0].commits, finished[0].leftovers, finished[0].error.clone()), (2, true, None));
    assert_eq!((run.usage.input, run.usage.output), (3, 4));
    let words = texts(&told);
    assert!(words.contains(&"told go".to_owned()) && words.contains(&"oops".to_owned()), "{words:?}");
    assert!(!format!("{told:?}").contains("s3cr3t"));
    let branch = "orchestra/heron";
    let log = stage.sandbox.git(&["log", "--format=%s", &format!("main..{branch}")]);
    assert_eq!(log, "Do it\none");
    for commit in stage.sandbox.git(&["rev-list", &format!("main..{branch}")]).lines() {
        let note = stage.repo().find_note(PROVENANCE_NOTES, &commit.parse().unwrap()).unwrap().unwrap();
        assert!(note.contains("\"name\":\"heron\"") && note.contains("\"tokens\":7"), "{note}");
    }
    let kept = stage.store.state().unwrap();
    let kept = kept.transcript(stage.repo(), run.transcript.as_ref().unwrap()).unwrap();
    let kept = String::from_utf8(kept).unwrap();
    assert!(kept.contains("told go") && kept.contains("oops") && !kept.contains("s3cr3t"), "{kept}");
    assert!(lease::live(stage.repo()).is_empty() && lease::take_dead(stage.repo()).unwrap().is_empty());
    stage.sandbox.git(&["fsck", "--strict"]);
}

#[tokio::test]
async fn as_many_run_at_once_as_may_and_all_come_to_an_end() {
    let mut stage = Stage::new();
    stage.jobs = 2;
    let count = stage.sandbox.dir.path().join("count");
    std::fs::create_dir(&count).unwrap();
    let count = count.display();
    // Each says how many are there, itself included.
    let script = format!("mkdir {count}/$$; ls {count} | wc -l; sleep 0.1; rmdir {count}/$$; echo done");
    let plans: Vec<_> = ["a", "b", "c", "d", "e"].iter().map(|name| stage.plan(name, &script)).collect();
    let (finished, told) = stage.run(plans).await;
    assert_eq!(finished.len(), 5);
    assert!(finished.iter().all(|f| f.outcome == Some(Outcome::Succeeded)), "{finished:?}");
    let seen: Vec<u32> = texts(&told).iter().filter_map(|text| text.trim().parse().ok()).collect();
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().all(|&n| n <= 2), "{seen:?}");
}

#[tokio::test]
async fn what_fails_and_what_claims_to_have_failed_is_failed() {
    let stage = Stage::new();
    let plans = vec![
        stage.plan("exits", "exit 3"),
        stage.plan("says", "echo fail; cat >/dev/null"),
        stage.plan("dies", "kill -9 $$"),
    ];
    stage.run(plans).await;
    let reason = |name: &str| match stage.stored(name).outcome {
        Some(Outcome::Failed { reason }) => reason,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(reason("exits"), "exit 3");
    assert_eq!(reason("says"), "it said so");
    assert_eq!(reason("dies"), "signal 9");
}

#[tokio::test]
async fn one_that_is_stopped_is_stopped_even_if_it_claims_success() {
    let mut stage = Stage::new();
    stage.jobs = 1;
    let script = "trap 'echo work >kept; echo done; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let plans = vec![stage.plan("first", script), stage.plan("second", script)];
    let (finished, _) = stage
        .run_with(plans, |progress, requests| {
            if let Progress::Event { event: Event { kind: EventKind::Text { .. }, .. }, .. } = progress {
                requests.try_send(Request::Stop { agent: None, by: "interrupt".to_owned() }).unwrap();
            }
        })
        .await;
    assert_eq!(finished.len(), 2);
    assert_eq!(stage.stored("first").outcome, Some(Outcome::stopped("interrupt")));
    let work = stage.sandbox.git(&["show", "orchestra/first:kept"]);
    assert_eq!(work, "work", "what it left is committed all the same");
    let second = stage.store.state().unwrap().require_named::<Agent>("second").unwrap();
    assert!(second.runs.is_empty(), "it never ran");
    assert!(lease::live(stage.repo()).is_empty());
}

#[tokio::test]
async fn deadlines_end_the_silent_and_the_endless_and_those_that_do_not_go() {
    let stage = Stage::new();
    let mut silent = stage.plan("silent", "sleep 60");
    silent.limits.idle = Some(Duration::from_millis(200));
    let mut endless = stage.plan("endless", "while :; do echo x; sleep 0.05; done");
    endless.limits.total = Some(Duration::from_millis(300));
    let stays = stage.plan("stays", "echo done; sleep 60");
    stage.run(vec![silent, endless, stays]).await;
    let by = |by: &str| Some(Outcome::stopped(by));
    assert_eq!(stage.stored("silent").outcome, by("idle"));
    assert_eq!(stage.stored("endless").outcome, by("deadline"));
    assert_eq!(stage.stored("stays").outcome, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn silence_that_nothing_explains_is_told_once() {
    let stage = Stage::new();
    let read = "read more; echo heard";
    let script = format!("read go; echo up; {read}; {read}; echo done; cat >/dev/null");
    let ask = format!("read go; echo 'ask rm -rf x'; {read}; echo done; cat >/dev/null");
    let brief = |mut plan: Plan| {
        plan.limits.silence = Duration::from_millis(100);
        plan
    };
    let mut plain = brief(stage.plan("plain", &format!("read go; sleep 0.3; {}", &script[9..])));
    plain.agent.program = "command".to_owned();
    let mut speaks = brief(stage.plan("speaks", &script));
    speaks.agent.program = "claude".to_owned();
    let (silent, plain_id) = (speaks.agent.id, plain.agent.id);
    let mut told_of = Vec::new();
    let (_, told) = stage
        .run_with(vec![speaks, plain], |progress, requests| {
            let more =
                |agent| requests.try_send(Request::Message { agent, text: "more".to_owned() }).unwrap();
            match progress {
                Progress::Silent { agent, .. } => {
                    told_of.push(*agent);
                    more(*agent);
                }
                Progress::Event { agent, event: Event { kind: EventKind::Text { text, .. }, .. } }
                    if *agent == plain_id && text == "up" =>
                {
                    more(*agent);
                    more(*agent);
                }
                _ => {}
            }
        })
        .await;
    // Once after each line; of a program that tells nothing but its output silence says nothing.
    assert_eq!(told_of, [silent, silent], "{told:?}");
    let mut stage = stage;
    stage.answer_timeout = Duration::from_secs(1);
    let mut asks = brief(stage.plan("asks", &ask));
    asks.agent.program = "claude".to_owned();
    let (_, told) = stage.run(vec![asks]).await;
    assert!(
        !told.iter().any(|one| matches!(one, Progress::Silent { .. })),
        "it waits for an answer: {told:?}"
    );
}

#[tokio::test]
async fn the_time_of_a_run_goes_on_while_it_waits_for_its_model() {
    let stage = Stage::new();
    let mut plan = stage.plan("heron", "echo done");
    let later = stage.store.clock().now().after(Duration::from_secs(600));
    plan.breaker = Some(open_breaker(&stage, &plan, later));
    plan.limits.total = Some(Duration::from_millis(200));
    let (finished, _) = stage.run(vec![plan]).await;
    assert_eq!(finished[0].outcome, Some(Outcome::stopped("deadline")));
}

#[tokio::test]
async fn a_program_behind_a_shell_that_the_kernel_ended_is_told_from_others() {
    static KILLS: AtomicU64 = AtomicU64::new(0);
    let mut stage = Stage::new();
    let script = "sh -c 'kill -9 $$'; exit $?";
    let reason = |finished: &[Finished]| match &finished[0].outcome {
        Some(Outcome::Failed { reason }) => reason.clone(),
        other => panic!("{other:?}"),
    };
    stage.memory_kills = || Some(7);
    let (finished, _) = stage.run(vec![stage.plan("killed", script)]).await;
    assert_eq!(reason(&finished), "exit 137");
    // One more each time that somebody looks.
    stage.memory_kills = || Some(KILLS.fetch_add(1, Ordering::Relaxed));
    let (finished, _) = stage.run(vec![stage.plan("starved", script)]).await;
    assert_eq!(reason(&finished), "exit 137: as it seems, the kernel ended it for want of memory");
}

/// A breaker of a model that serves nobody before `until`.
fn open_breaker(stage: &Stage, plan: &Plan, until: Timestamp) -> Breaker {
    let me = Probe::of(stage.repo(), plan.agent.id, plan.run);
    let dir = stage.sandbox.dir.path().join("data");
    let breaker = Breaker::new(&dir, "shell", &BTreeMap::new(), |_| true, me, Duration::from_secs(1));
    let limited = Limited { why: "429 rate_limit".to_owned(), until: Some(until) };
    breaker.trip(&limited, stage.store.clock().now()).unwrap();
    breaker
}

#[tokio::test]
async fn who_waits_for_its_model_keeps_nobody_from_running_and_goes_on_in_its_turn() {
    let mut stage = Stage::new();
    stage.jobs = 1;
    let mut limited = stage.plan("limited", "read go; echo mine; echo done; cat >/dev/null");
    let soon = stage.store.clock().now().after(Duration::from_secs(5));
    limited.breaker = Some(open_breaker(&stage, &limited, soon));
    let slot = Slot::one_of(1);
    assert!(slot.attempt(stage.repo()).unwrap());
    limited.slot = Some(slot);
    let other = stage.plan("other", "read go; echo up; read more; echo over; echo done; cat >/dev/null");
    let (busy, id) = (limited.agent.id, other.agent.id);
    let mut slots = Vec::new();
    let (finished, told) = stage
        .run_with(vec![limited, other], |progress, requests| {
            let Progress::Event { agent, event } = progress else { return };
            match &event.kind {
                EventKind::Text { text, .. } if text == "up" => {
                    slots.push(Slot::one_of(1).attempt(stage.repo()).unwrap());
                }
                EventKind::Notice { text } if *agent == busy && text.ends_with("it waits for its turn") => {
                    requests.try_send(Request::Message { agent: id, text: "go on".to_owned() }).unwrap();
                }
                _ => {}
            }
        })
        .await;
    let said: Vec<String> = texts(&told)
        .into_iter()
        .filter(|text| ["up", "over", "mine"].contains(&text.as_str()) || text.contains("its model should"))
        .map(|text| text.split(": ").last().unwrap().to_owned())
        .collect();
    let all = ["up", "it waits for its turn", "over", "it tries, for all that wait", "mine"];
    assert_eq!(said, all, "{told:?}");
    assert_eq!(slots, [true], "other processes may run, too");
    assert!(finished.iter().all(|one| one.outcome == Some(Outcome::Succeeded)), "{finished:?}");
}

#[tokio::test]
async fn words_of_a_full_disk_stop_a_run_only_where_it_is_full() {
    let stage = Stage::new();
    let script = |words: &str| {
        let say = format!("echo 'cp: x: {words}' >&2");
        format!("read go; {say}; {say}; {say}; echo work >file; echo done; cat >/dev/null")
    };
    let roomy = stage.plan("roomy", &script("No space left on device"));
    let mut full = stage.plan("full", &script("No space left on device"));
    full.limits.space = u64::MAX;
    let quota = stage.plan("quota", &script("Disk quota exceeded"));
    let (_, told) = stage.run(vec![roomy, full, quota]).await;
    assert_eq!(stage.stored("roomy").outcome, Some(Outcome::Succeeded), "{told:?}");
    let goes_on = texts(&told).into_iter().filter(|text| text.ends_with("are free, so it goes on")).count();
    assert_eq!(goes_on, 1, "it is said once: {told:?}");
    for name in ["full", "quota"] {
        assert_eq!(stage.stored(name).outcome, Some(Outcome::stopped("a full disk")), "{told:?}");
    }
    let said = |words: &str| texts(&told).iter().any(|text| text.contains(words));
    assert!(said("times that the disk is full, ") && said("a disk quota is used up"), "{told:?}");
}

#[tokio::test]
async fn messages_reach_a_running_agent() {
    let stage = Stage::new();
    let script = "read a; echo ready; read b; echo \"heard $b\"; echo done; cat >/dev/null";
    let (_, told) = stage
        .run_with(vec![stage.plan("heron", script)], |progress, requests| {
            if let Progress::Event { agent, event: Event { kind: EventKind::Text { text, .. }, .. } } =
                progress
                && text == "ready"
            {
                requests.try_send(Request::Message { agent: *agent, text: "hello".to_owned() }).unwrap();
            }
        })
        .await;
    assert!(texts(&told).contains(&"heard hello".to_owned()), "{told:?}");
    assert_eq!(stage.stored("heron").outcome, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_permission_question_is_asked_recorded_or_known() {
    let script = "read go; echo 'ask rm -rf x'; read answer; echo \"$answer\"; echo done; cat >/dev/null";
    // With somebody there.
    let mut stage = Stage::new();
    stage.interactive = true;
    let (_, told) = stage
        .run_with(vec![stage.plan("asks", script)], |progress, requests| {
            if let Progress::Event { agent, event } = progress
                && let EventKind::PermissionAsked { request, .. } = &event.kind
            {
                let (agent, request) = (*agent, request.clone());
                requests.try_send(Request::Permission { agent, request, allow: true, answer: None }).unwrap();
            }
        })
        .await;
    assert!(texts(&told).contains(&"allow q1".to_owned()), "{told:?}");
    // With nobody there, twice the same question.
    stage.interactive = false;
    let (finished, told) = stage.run(vec![stage.plan("alone", script)]).await;
    assert!(texts(&told).contains(&"deny q1".to_owned()), "{told:?}");
    let decision: Decision = stage.store.state().unwrap().require(&finished[0].decisions[0]).unwrap();
    assert_eq!(decision.question, "alone wants to use Bash: rm -rf x");
    // With the answer known.
    let mut plan = stage.plan("knows", script);
    plan.decided.insert(decision.subject, Ruling::Allowed(None));
    let (finished, told) = stage.run(vec![plan]).await;
    assert!(texts(&told).contains(&"allow q1".to_owned()) && finished[0].decisions.is_empty(), "{told:?}");
}

/// What `status` says of an agent that runs.
fn activity(stage: &Stage, name: &str) -> Activity {
    let agent = stage.store.state().unwrap().require_named::<Agent>(name).unwrap();
    status::activity_of(&stage.store, &agent).unwrap()
}

#[tokio::test]
async fn only_what_a_run_waits_for_makes_it_wait() {
    let mut stage = Stage::new();
    stage.answer_timeout = Duration::from_secs(600);
    stage.any_answer = true;
    let ask =
        "read go; echo 'ask rm -rf x'; read answer; echo \"$answer\"; read more; echo done; cat >/dev/null";
    let plan = stage.plan("heron", ask);
    let agent = plan.agent.id;
    // As a merge asks about its branch, or a run before this one asked and was refused for now.
    let other = stage.store.new_id().unwrap();
    let put = |tx: &mut crate::store::Transaction<'_>| {
        let kind = DecisionKind::Conflict;
        tx.put(&Decision {
            agent: Some(agent),
            ..Decision::open(other, kind, "Which?".to_owned(), Timestamp(1))
        })
    };
    stage.store.transact(put).unwrap();
    let mut seen = Vec::new();
    let (finished, told) = stage
        .run_with(vec![plan], |progress, requests| match progress {
            Progress::Started { .. } => seen.push(activity(&stage, "heron")),
            Progress::Waiting { decision, .. } => {
                seen.push(activity(&stage, "heron"));
                let store = stage.store.clone();
                let asked = *decision;
                let answer = move |tx: &mut crate::store::Transaction<'_>| {
                    let mut decision: Decision = tx.require(&asked)?;
                    decision.status = DecisionStatus::Answered;
                    let (key, by) = ("allow".to_owned(), "Ada".to_owned());
                    decision.answer =
                        Some(Answer { key, text: None, by, signature: None, like: None, at: Timestamp(2) });
                    tx.put(&decision)
                };
                store.transact(answer).unwrap();
            }
            Progress::Event { event: Event { kind: EventKind::Text { text, .. }, .. }, .. }
                if text == "allow q1" =>
            {
                seen.push(activity(&stage, "heron"));
                let more = Request::Message { agent, text: "more".to_owned() };
                requests.try_send(more).unwrap();
            }
            _ => {}
        })
        .await;
    assert_eq!(finished[0].outcome, Some(Outcome::Succeeded), "{told:?}");
    let words: Vec<&str> = seen.iter().map(Activity::word).collect();
    assert_eq!(words, ["running", "waiting", "running"], "{seen:?}");
    // Off a terminal it is refused at once, and works on; its decision stays.
    stage.answer_timeout = Duration::ZERO;
    let mut seen = Vec::new();
    let (finished, told) = stage
        .run_with(vec![stage.plan("alone", ask)], |progress, requests| {
            if let Progress::Event { agent, event: Event { kind: EventKind::Text { text, .. }, .. } } =
                progress
                && text == "deny q1"
            {
                seen.push(activity(&stage, "alone"));
                requests.try_send(Request::Message { agent: *agent, text: "more".to_owned() }).unwrap();
            }
        })
        .await;
    assert_eq!(finished[0].decisions.len(), 1, "{told:?}");
    assert!(matches!(seen[..], [Activity::Running { .. }]), "{seen:?}");
}

#[tokio::test]
async fn what_touches_the_shared_configuration_is_noticed_and_git_does_not_run_for_it() {
    let stage = Stage::new();
    let main = stage.sandbox.path();
    let canary = stage.sandbox.dir.path().join("canary");
    let script = format!(
        "git config filter.x.clean 'touch {}; cat'; echo '* filter=x' >.gitattributes; echo x >file; echo done",
        canary.display()
    );
    let (finished, told) = stage.run(vec![stage.plan("heron", &script)]).await;
    assert!(texts(&told).iter().any(|text| text.contains("shares: config")), "{told:?}");
    assert!(!finished[0].leftovers && !canary.exists());
    assert!(main.join(".git/config").exists());
    let Some(Outcome::Failed { reason }) = stage.stored("heron").outcome else { panic!("{finished:?}") };
    assert_eq!(
        reason,
        "could not save what it left uncommitted: somebody changed what git runs here (config)"
    );
}

#[tokio::test]
async fn a_change_that_a_person_accepted_holds_up_nobody_of_the_same_session() {
    let stage = Stage::new();
    trust::remember(stage.repo()).unwrap();
    let heron = stage.plan("heron", "read go; git config x.y z; echo work >file; echo done; cat >/dev/null");
    let owl = stage.plan("owl", "read go; read more; echo work >file; echo done; cat >/dev/null");
    let id = owl.agent.id;
    let (finished, told) = stage
        .run_with(vec![heron, owl], |progress, requests| {
            if let Progress::Finished(finished) = progress
                && finished.name.as_str() == "heron"
            {
                assert!(!finished.leftovers, "nobody had accepted it then");
                trust::accept(stage.repo(), &trust::find_change(stage.repo()).unwrap().unwrap()).unwrap();
                requests.try_send(Request::Message { agent: id, text: "go on".to_owned() }).unwrap();
            }
        })
        .await;
    assert!(finished.iter().any(|one| one.name.as_str() == "owl" && one.leftovers), "{told:?}");
    assert_eq!(stage.stored("owl").outcome, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn where_nobody_knows_whether_the_shared_configuration_was_touched_git_does_not_run_either() {
    // The first is a change like another; with the second nothing can be said.
    for (link, why) in [("config.worktree", "(config, config.worktree)"), ("hooks", "is not known")] {
        let stage = Stage::new();
        let canary = stage.sandbox.dir.path().join("canary");
        let script = format!(
            "git config filter.x.clean 'touch {}; cat'; echo '* filter=x' >.gitattributes; echo x >file; \
             cd $(git rev-parse --git-common-dir); rm -rf {link}; ln -s {link} {link}; echo done",
            canary.display()
        );
        let (finished, told) = stage.run(vec![stage.plan("heron", &script)]).await;
        assert!(!finished[0].leftovers && !canary.exists(), "{told:?}");
        let Some(Outcome::Failed { reason }) = stage.stored("heron").outcome else { panic!("{finished:?}") };
        assert!(reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn a_run_does_not_start_in_a_worktree_that_is_not_its_own() {
    let stage = Stage::new();
    let plan = stage.plan("heron", "echo done");
    stage.sandbox.git_in(&plan.worktree.path, &["checkout", "-q", "-b", "elsewhere"]);
    let (finished, _) = stage.run(vec![plan]).await;
    let Some(Outcome::Failed { reason }) = &finished[0].outcome else { panic!("{finished:?}") };
    assert!(reason.contains("refs/heads/elsewhere is checked out"), "{reason}");
}

#[test]
fn a_dead_watchers_run_is_lost_and_one_that_never_started_is_forgotten() {
    let stage = Stage::new();
    assert!(recover(&stage.store).unwrap().is_empty());
    let mut lost = stage.plan("lost", "");
    let queued = stage.plan("queued", "");
    lost.lease.started(None, Timestamp(2)).unwrap();
    std::fs::write(lost.worktree.path.join("work"), "work").unwrap();
    drop((lost.lease, queued.lease));
    // A child that another test forks right now holds our files until it runs its program.
    let mut said = recover(&stage.store).unwrap();
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while said.len() < 2 && std::time::Instant::now() < limit {
        said.extend(recover(&stage.store).unwrap());
    }
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said.iter().any(|one| one.text.contains("it is lost; 1 uncommitted path")), "{said:?}");
    assert_eq!(stage.stored("lost").outcome, Some(Outcome::Lost));
    assert!(stage.store.state().unwrap().require_named::<Agent>("queued").unwrap().runs.is_empty());
    assert!(recover(&stage.store).unwrap().is_empty(), "once");
}
