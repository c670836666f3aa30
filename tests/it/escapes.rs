//! Agents that leave processes behind in every way we know, ended in every way there is: nobody is left.
//!
//! Who is left is found without any means of ours: each process that an agent starts has a word in its command line
//! that nobody else has, and holds a lock of its own on a file. In CI each way meets each ending once;
//! `ORCHESTRA_ESCAPES=1000` starts each way so often.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::Sandbox;
use crate::harness::sandbox::{ORCHESTRA, kill, wait_for, write_in};

/// How long an agent may take to end when it is asked to.
const GRACE: &str = "1s";

/// How many times each way is started.
fn starts() -> usize {
    std::env::var("ORCHESTRA_ESCAPES")
        .map_or(4, |count| count.parse().expect("ORCHESTRA_ESCAPES is a number"))
}

/// What an agent does, by its name: `$1` is the way, `$2` a word that names all that it starts. Whatever it starts
/// has the lock of descriptor 9.
const WAYS: [(&str, &str); 10] = [
    ("plain", r#"held "$2" & held "$2" &"#),
    ("session", r#"setsid sh "$0" held "$2" &"#),
    // Its parent is gone, and it has the pipe that its words go into.
    ("orphan", r#"(sh "$0" held "$2" & )"#),
    ("group", r#"set -m; sh "$0" held "$2" & set +m"#),
    ("deaf", r#"(trap '' TERM HUP INT QUIT; setsid sh "$0" deaf-held "$2" &)"#),
    ("hushed", r#"(nohup setsid sh "$0" held "$2" <&- >&- 2>&- &)"#),
    // Nothing of its environment is left, nor of its session, nor a parent.
    ("bare", r#"(env -i /usr/bin/setsid /bin/sh "$0" held "$2" <&- >&- 2>&- &)"#),
    // The same, and it becomes another program all the time.
    ("changing", r#"(env -i /usr/bin/setsid /bin/sh "$0" changing-on "$2" <&- >&- 2>&- &)"#),
    // Asked to end it starts two that fork and are gone, in sessions of their own, faster than anybody looks.
    ("storm", r#"(setsid sh "$0" storm-held "$2" </dev/null >/dev/null 2>&1 &)"#),
    // The same without an environment.
    ("bare-storm", r#"(env -i /usr/bin/setsid /bin/sh "$0" storm-held "$2" </dev/null >/dev/null 2>&1 &)"#),
];

/// What those do that the ways start.
const PARTS: &str = r#"
held() { while :; do sleep 600; done; }
case $1 in
held) held ;;
deaf-held) trap '' TERM HUP INT QUIT; held ;;
changing-on) sleep 0.01; exec env -i /bin/sh "$0" changing-on "$2" ;;
storm-held)
    trap 'setsid sh "$0" comet "$2" 300 & setsid sh "$0" comet "$2" 300 &' TERM
    while :; do sleep 600 & wait; done ;;
comet)
    if [ "$3" -gt 0 ]; then setsid /bin/sh "$0" comet "$2" $(($3 - 1)) & exit; fi
    held ;;
esac
"#;

/// How an agent's run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Its program ends by itself.
    Own,
    /// A person stops it from another terminal.
    Stop,
    /// It is silent for longer than it may.
    Deadline,
    /// Whoever watches it is killed, and the next command finds what that left.
    Killed,
}

impl Ending {
    const ALL: [Self; 4] = [Self::Own, Self::Stop, Self::Deadline, Self::Killed];
}

/// A sandbox whose profile `escape` does what the agent's name says, and then ends if `ends`.
fn sandbox(token: &str, ending: Ending) -> Sandbox {
    let sandbox = Sandbox::new();
    let mut script = format!("{PARTS}\nexec 9>>\"$3/$1\"; flock -s 9\ncase ${{1%-[0-9]*}} in\n");
    for (way, text) in WAYS {
        writeln!(script, "{way}) {text} ;;").unwrap();
    }
    // It has begun when whatever it starts has begun: a moment of its own for each.
    script += "esac\nsleep 0.1; echo up; touch \"$3/$1.up\"\n";
    script += if ending == Ending::Own { "exit 0\n" } else { "held\n" };
    // The parts are called by name too: they end before the rest.
    write_in(&sandbox.root(), "escape.sh", &script);
    std::fs::create_dir(sandbox.root().join("held")).unwrap();
    let root = sandbox.root();
    let line = format!(
        "exec /bin/sh {0}/escape.sh \"$(basename \"$(git branch --show-current)\")\" {token} {0}/held",
        root.display()
    );
    let words = json!(["/bin/sh", "-c", line]);
    let idle = if ending == Ending::Deadline { "idle-timeout = \"1s\"\n" } else { "" };
    let text =
        format!("grace = \"{GRACE}\"\n[profile.escape]\nprogram = \"command\"\ncommand = {words}\n{idle}");
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &text);
    sandbox
}

/// Processes with `token` in their command lines, by number; zombies have none.
fn named(token: &str) -> BTreeMap<u32, String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let found = processes.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(token).then_some((pid, line))
    });
    found.collect()
}

/// The ways of which somebody still holds the lock.
fn holding(sandbox: &Sandbox) -> Vec<String> {
    let files = std::fs::read_dir(sandbox.root().join("held")).unwrap().flatten();
    let held = files
        .filter(|file| matches!(File::open(file.path()).unwrap().try_lock(), Err(TryLockError::WouldBlock)));
    held.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
}

fn session(sandbox: &Sandbox, args: &[&str]) -> Child {
    let mut command = sandbox.command(ORCHESTRA);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(File::create(sandbox.root().join("said")).unwrap());
    command.spawn().unwrap()
}

/// How long after the last word the last process was gone; and who is left.
struct Round {
    survivors: Vec<String>,
    took: Duration,
}

/// One agent for each of the ways, all in one session, ended in this way.
fn round(number: usize, ending: Ending) -> Round {
    let token = format!("escapee-{}-{number}", std::process::id());
    let sandbox = sandbox(&token, ending);
    let tasks: Vec<String> =
        WAYS.iter().map(|(way, _)| sandbox.ok(&["task", "add", &format!("{way} {number}")])).collect();
    let jobs = WAYS.len().to_string();
    let detached = ending == Ending::Killed && !(number / 4).is_multiple_of(2);
    let mut args = vec!["spawn", "--profile", "escape", "--jobs", &jobs];
    args.extend(detached.then_some("--detach"));
    args.extend(tasks.iter().map(String::as_str));
    let mut child = session(&sandbox, &args);
    let up = |way: &str| sandbox.root().join(format!("held/{way}-{number}.up")).exists();
    wait_for("everybody to be up", || {
        let ended =
            child.try_wait().unwrap().filter(|status| !status.success() && ending != Ending::Deadline);
        assert!(ended.is_none(), "{}", std::fs::read_to_string(sandbox.root().join("said")).unwrap());
        WAYS.iter().all(|(way, _)| up(way)).then_some(())
    });
    let begun = Instant::now();
    match ending {
        Ending::Own | Ending::Deadline => drop(child.wait().unwrap()),
        Ending::Stop => {
            sandbox.ok(&["stop", "--all", "--wait"]);
            child.wait().unwrap();
        }
        Ending::Killed => {
            if detached {
                child.wait().unwrap();
                let watchers = watchers(&sandbox);
                for &pid in &watchers {
                    kill(pid, Signal::SIGKILL);
                }
                // Not our children: on a busy machine one takes a moment to die, and holds its lease until then.
                let dead = |pid: &u32| !std::fs::exists(format!("/proc/{pid}")).unwrap();
                wait_for("the watchers to die", || watchers.iter().all(dead).then_some(()));
            }
            kill(child.id(), Signal::SIGKILL);
            child.wait().unwrap();
            assert!(named(&token).len() >= WAYS.len(), "they are there before: {:?}", named(&token));
            let recovered = sandbox.ok(&["recover"]);
            assert_eq!(recovered.matches("it is lost").count(), WAYS.len(), "{recovered}");
        }
    }
    let took = begun.elapsed();
    // Whatever is there now is there: nobody waits for it to go.
    let mut survivors: Vec<String> = named(&token).into_values().collect();
    survivors.extend(holding(&sandbox).into_iter().map(|way| format!("lock of {way}")));
    for pid in named(&token).into_keys() {
        kill(pid, Signal::SIGKILL);
    }
    Round { survivors, took }
}

/// The processes that watch agents, as their leases say.
fn watchers(sandbox: &Sandbox) -> Vec<u32> {
    let leases = std::fs::read_dir(sandbox.git_dir().join("orchestra/leases")).unwrap().flatten();
    let files = leases.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    files
        .map(|path| {
            let lease: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            u32::try_from(lease["supervisor"]["pid"].as_u64().unwrap()).unwrap()
        })
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn nobody_outlives_a_run_whatever_it_does_and_however_it_ends() {
    let only = std::env::var("ORCHESTRA_ESCAPES_ENDING").ok();
    let (mut survivors, mut slowest) = (Vec::new(), BTreeMap::new());
    let mut rounds = 0;
    while rounds < starts() {
        let ending = Ending::ALL[rounds % Ending::ALL.len()];
        if only.as_ref().is_none_or(|only| *only == format!("{ending:?}")) {
            let round = round(rounds, ending);
            let entry: &mut Duration = slowest.entry(format!("{ending:?}")).or_default();
            *entry = round.took.max(*entry);
            survivors.extend(round.survivors.into_iter().map(|who| format!("{ending:?}: {who}")));
        }
        rounds += 1;
        if rounds.is_multiple_of(50) {
            println!("{rounds} starts of {} ways, {} survivors, {slowest:?}", WAYS.len(), survivors.len());
        }
    }
    println!("{rounds} starts of {} ways, {} survivors, {slowest:?}", WAYS.len(), survivors.len());
    assert!(survivors.is_empty(), "{survivors:#?}");
}
