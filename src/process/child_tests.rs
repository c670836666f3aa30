//! Real children that misbehave in every way we know.

use super::*;
use std::path::Path;
use std::time::Instant as Clock;

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

fn sh(script: &str) -> Command {
    Command::new("/bin/sh").args(["-c", script]).env("PATH", PATH)
}

/// A number of seconds that no other process of the machine sleeps: suites may run side by side.
fn seconds(number: u32) -> String {
    format!("9{number}.{:07}", std::process::id())
}

fn options(mark: &str) -> ChildOptions {
    ChildOptions {
        grace: Duration::from_millis(300),
        mark: Some(("ORCHESTRA_TEST".to_owned(), format!("{mark}-{}", std::process::id()))),
        ..ChildOptions::default()
    }
}

/// Everything a child wrote to stdout and stderr, and how it ended.
async fn all(child: &mut Child) -> (Vec<Line>, Vec<Line>, Exit) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match timeout(Duration::from_secs(20), child.next()).await.expect("the child must end").unwrap() {
            ChildEvent::Lines { source: Source::Stdout, lines, .. } => out.extend(lines),
            ChildEvent::Lines { source: Source::Stderr, lines, .. } => err.extend(lines),
            ChildEvent::Exited(exit) => return (out, err, exit),
        }
    }
}

async fn wait_for(child: &mut Child, word: &[u8]) {
    loop {
        match timeout(Duration::from_secs(20), child.next()).await.unwrap().expect("it must say the word") {
            ChildEvent::Lines { lines, .. } if lines.iter().any(|line| line.bytes == word) => return,
            ChildEvent::Lines { .. } => {}
            ChildEvent::Exited(exit) => panic!("ended early: {exit:?}"),
        }
    }
}

/// Who has `marker` in their command line.
fn found(marker: &str) -> Vec<std::ffi::OsString> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.split(|&b| b == 0).any(|arg| arg == marker.as_bytes())
        })
        .map(|entry| entry.file_name())
        .collect()
}

/// Polls until nobody has `marker` in their command line.
async fn assert_nobody(marker: &str) {
    let limit = Clock::now() + Duration::from_secs(3);
    // One that is about to become a `sleep` is not called so yet.
    sleep(Duration::from_millis(50)).await;
    while !found(marker).is_empty() {
        assert!(Clock::now() < limit, "still alive: {:?}", found(marker));
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn lines_come_whole_in_order_and_as_bytes() {
    let script = "printf 'a\\n\\303'; printf '\\244\\0b\\nno newline'; echo err >&2; exit 3";
    let mut child = sh(script).start(&options("lines")).unwrap();
    let (out, err, exit) = all(&mut child).await;
    let texts: Vec<&[u8]> = out.iter().map(|line| line.bytes.as_slice()).collect();
    assert_eq!(texts, [b"a".as_slice(), "ä\0b".as_bytes(), b"no newline"]);
    assert!(!out[2].ended);
    assert_eq!(err[0].bytes, b"err");
    assert_eq!((exit.code, exit.signal, exit.sent, exit.leaked, exit.held), (Some(3), None, None, 0, false));
    assert!(child.next().await.is_none());
}

#[tokio::test]
async fn a_huge_line_is_cut_and_the_stream_stays_in_step() {
    let options = ChildOptions { line_limit: 1 << 20, ..options("huge") };
    let mut child = sh("head -c 5000000 /dev/zero; echo; echo after").start(&options).unwrap();
    let (out, _, exit) = all(&mut child).await;
    assert_eq!((out[0].bytes.len(), out[0].cut), (1 << 20, 5_000_000 - (1 << 20)));
    assert_eq!(out[1].bytes, b"after");
    assert_eq!(exit.code, Some(0));
}

#[tokio::test]
async fn a_flood_waits_for_its_reader_and_can_be_ended() {
    let mut child = Command::new("/usr/bin/yes").start(&options("flood")).unwrap();
    let mut seen = 0;
    while seen < 200_000 {
        if let Some(ChildEvent::Lines { lines, .. }) = child.next().await {
            seen += lines.len();
        }
    }
    child.stop();
    let (_, _, exit) = all(&mut child).await;
    assert_eq!((exit.signal, exit.sent), (Some(15), Some(15)));
}

#[tokio::test]
async fn streaming_input_arrives_and_its_end_too() {
    let options = ChildOptions { streaming: true, ..options("cat") };
    let mut child = Command::new("/bin/cat").start(&options).unwrap();
    child.write(b"one\n".to_vec()).unwrap();
    wait_for(&mut child, b"one").await;
    child.write(b"two\n".to_vec()).unwrap();
    child.close_input();
    assert_eq!(child.write(Vec::new()), Err(InputError::Closed));
    let (out, _, exit) = all(&mut child).await;
    assert_eq!(out[0].bytes, b"two");
    assert_eq!(exit.code, Some(0));
}

#[tokio::test]
async fn one_that_ignores_term_is_killed_after_its_grace() {
    let seconds = seconds(1);
    let script = format!("trap '' TERM; echo up; while :; do sleep {seconds}; done");
    let mut child = sh(&script).start(&options("term")).unwrap();
    wait_for(&mut child, b"up").await;
    let begun = Clock::now();
    child.stop();
    let (_, _, exit) = all(&mut child).await;
    assert_eq!((exit.signal, exit.sent), (Some(9), Some(9)));
    assert!(begun.elapsed() < Duration::from_millis(1300), "grace + 1 s: {:?}", begun.elapsed());
    assert_nobody(&seconds).await;
}

#[tokio::test]
async fn a_second_wish_does_not_wait_for_the_grace() {
    let options = ChildOptions { grace: Duration::from_secs(60), ..options("second") };
    let seconds = seconds(2);
    let script = format!("trap '' TERM; echo up; while :; do sleep {seconds}; done");
    let mut child = sh(&script).start(&options).unwrap();
    wait_for(&mut child, b"up").await;
    child.stop();
    child.kill();
    let (_, _, exit) = all(&mut child).await;
    assert_eq!(exit.signal, Some(9));
    assert_nobody(&seconds).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn descendants_are_ended_wherever_they_went() {
    for (number, escape) in [
        "sleep $S &",
        "setsid sleep $S &",
        "setsid sh -c 'sleep $S & sleep $S' &",
        "(setsid sh -c 'trap \"\" TERM; while :; do sleep $S; done' >/dev/null 2>&1 &) &",
        "(sh -c 'sleep $S & exec sleep $S' &)",
        "nohup sleep $S >/dev/null 2>&1 &",
    ]
    .iter()
    .enumerate()
    {
        let duration = seconds(10 + u32::try_from(number).unwrap());
        let script = format!("export S={duration}\n{escape}\necho up; sleep $S; wait");
        let mut child = sh(&script).start(&options(&format!("escape{number}"))).unwrap();
        wait_for(&mut child, b"up").await;
        child.stop();
        let (_, _, exit) = all(&mut child).await;
        assert_eq!(exit.sent.is_some(), exit.code != Some(0), "{escape}: {exit:?}");
        assert_nobody(&duration).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn whoever_outlives_the_child_is_a_leak_and_does_not_hold_us_up() {
    for (number, leak) in
        ["sleep $S &", "setsid sleep $S &", "(setsid sleep $S >/dev/null 2>&1 </dev/null &)"]
            .iter()
            .enumerate()
    {
        let duration = seconds(20 + u32::try_from(number).unwrap());
        let begun = Clock::now();
        let script = format!("export S={duration}\n{leak}\necho done");
        let mut child = sh(&script).start(&options(&format!("leak{number}"))).unwrap();
        let (out, _, exit) = all(&mut child).await;
        assert_eq!(out[0].bytes, b"done");
        assert_eq!((exit.code, exit.sent, exit.leaked), (Some(0), None, 1), "{leak}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{leak}: {:?}", begun.elapsed());
        assert_nobody(&duration).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_dropped_child_is_ended() {
    let seconds = seconds(3);
    let script = format!("setsid sleep {seconds} & echo up; sleep {seconds}");
    let mut child = sh(&script).start(&options("drop")).unwrap();
    wait_for(&mut child, b"up").await;
    drop(child);
    assert_nobody(&seconds).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn orphans_of_a_dead_supervisor_are_found_by_their_mark() {
    let mark = format!("ORCHESTRA_TEST=orphan-{}", std::process::id());
    let (key, value) = mark.split_once('=').unwrap();
    let seconds = seconds(4);
    let script = format!("(setsid sleep {seconds} >/dev/null 2>&1 &)");
    Command::new("/bin/sh").args(["-c", &script]).env("PATH", PATH).env(key, value).read().unwrap();
    assert_eq!(crate::process::end_orphans(None, &mark, Duration::from_millis(500)), 1);
    assert_nobody(&seconds).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error_with_its_name() {
    let error = Command::new("/nowhere/agent").start(&ChildOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "start `/nowhere/agent`");
    assert!(!Path::new("/nowhere").exists());
}
