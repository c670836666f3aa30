//! The README's commands, run as written, and its picture, drawn from a real run.
//!
//! Blocks behind `<!-- test: NAME -->` are one session in one repository: each `$ ` line is run by a shell, must exit
//! as its comment says (`# exits 3`, otherwise 0), and must print what the README shows. Ids, object names, times
//! and the order of lines that agents print at once differ from run to run and are not compared. `BLESS=1` writes
//! what was really printed back into the README, and draws the picture anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::harness::programs::use_claude;
use crate::harness::{Endpoint, Sandbox, Step, Terminal, sandbox};

/// One command of a session, with what is shown below it.
#[derive(Debug)]
struct Entry {
    /// What follows `$ `.
    shown: String,
    /// The command without its comment.
    command: String,
    exit: i32,
    output: Vec<String>,
}

fn readme() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")
}

fn blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}

#[test]
fn the_daily_workflow_is_as_the_readme_shows_it() {
    let mut sandbox = Sandbox::new();
    sandbox.write("src/dates.sh", DATES);
    sandbox.write("src/check.sh", "sh src/dates.sh 2026-11-20\n");
    sandbox.commit("a parser of dates");
    let endpoint = Endpoint::start([
        ("ISO dates", iso_dates()),
        ("Relative dates", relative_dates()),
        ("Explain the formats", description()),
        ("hold conflict markers", resolution()),
    ]);
    use_claude(&mut sandbox, &endpoint);
    sandbox.set_env("COLUMNS", "100");
    run_session(&sandbox, "daily");
}

#[test]
fn several_machines_are_as_the_readme_shows_them() {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    let (remote, laptop) = (root.join("remote.git"), root.join("laptop"));
    sandbox.git(&["init", "--quiet", "--bare", "-b", "main", remote.to_str().unwrap()]);
    sandbox.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    sandbox.git(&["push", "--quiet", "origin", "main"]);
    sandbox.git(&["clone", "--quiet", remote.to_str().unwrap(), laptop.to_str().unwrap()]);
    run_session(&sandbox, "machines");
}

#[test]
fn agents_in_the_background_are_as_the_readme_shows_them() {
    let mut sandbox = Sandbox::new();
    let held = vec![Step::read("README.md").saying("I will look first.").behind("for ever")];
    let endpoint =
        Endpoint::start([("Go on", vec![Step::say("They are sorted.")]), ("Sort the imports", held)]);
    use_claude(&mut sandbox, &endpoint);
    run_session(&sandbox, "background");
}

#[test]
fn worktrees_are_made_ready_as_the_readme_shows_it() {
    let mut sandbox = Sandbox::new();
    sandbox.set_env("COLUMNS", "100");
    let config = "worktree.setup = [\"sh\", \"-c\", \"cp README.md manual && echo 1 page\"]\n\n[profile.look]\n\
                  program = \"command\"\ncommand = [\"sh\", \"-c\", \"ls -A; cat .env\"]\n";
    sandbox::write_in(sandbox.home(), ".config/git-orchestra/config.toml", config);
    sandbox.write(".gitignore", ".env\nmanual\n");
    sandbox.commit("ignore");
    sandbox.write(".worktreeinclude", ".env\n");
    sandbox.write(".env", "DATABASE=development\n");
    run_session(&sandbox, "worktrees");
}

#[test]
fn a_pipeline_is_as_the_readme_shows_it() {
    let mut sandbox = Sandbox::new();
    sandbox.set_env("COLUMNS", "100");
    let config = "[profile.words]\nprogram = \"command\"\ncommand = [\"sh\", \"-c\", \"date >$GIT_ORCHESTRA_AGENT_NAME\"]\n\n\
                  [gate.test]\nrun = \"ls *-the-*\"\n\n\
                  [pipeline.nightly]\nprofile = \"words\"\ngates = [\"test\"]\napprove = \"problems\"\n";
    sandbox::write_in(sandbox.home(), ".config/git-orchestra/config.toml", config);
    run_session(&sandbox, "pipeline");
}

#[test]
fn gates_are_as_the_readme_shows_them() {
    let mut sandbox = crate::merge::fleet(&[
        ("iso-dates", &[("iso", "2026-11-20\n")]),
        ("relative-dates", &[("relative", "today\n"), ("broken", "")]),
        ("explain-the-formats", &[("manual", "Dates\n")]),
    ]);
    sandbox.set_env("COLUMNS", "100");
    sandbox.write("tests.sh", "test ! -e broken || { echo 'today: no such date'; exit 1; }\n");
    sandbox.commit("tests");
    let config = "[gate.test]\nrun = \"sh tests.sh\"\ntimeout = \"5m\"\n";
    sandbox::write_in(sandbox.home(), ".config/git-orchestra/config.toml", config);
    run_session(&sandbox, "gates");
}

const DATES: &str = "\
# Prints the date that its argument means, as year-month-day.
parse() {
  case $1 in
    *) echo \"unknown date: $1\" >&2; return 1 ;;
  esac
}
parse \"$1\"
";

fn iso_dates() -> Vec<Step> {
    vec![
        Step::read("src/dates.sh").saying("I will look at the parser first.").tokens(1_210, 64, 0, 14_200),
        Step::edit("src/dates.sh", "    *) echo", "    ????-??-??) echo \"$1\" ;;\n    *) echo")
            .tokens(212, 121, 14_200, 460),
        Step::bash("sed -n 3,6p src/dates.sh").tokens(96, 58, 14_660, 210),
        Step::say("ISO dates are accepted.").tokens(74, 12, 14_870, 90),
    ]
}

fn relative_dates() -> Vec<Step> {
    let new = "    today) date +%F ;;\n    tomorrow) date -d tomorrow +%F ;;\n    *) echo";
    vec![
        Step::read("src/dates.sh").saying("Reading the parser.").tokens(1_214, 51, 0, 14_200),
        Step::edit("src/dates.sh", "    *) echo", new).tokens(204, 143, 14_200, 455),
        Step::say("`today` and `tomorrow` are accepted.").tokens(71, 15, 14_655, 120),
    ]
}

fn description() -> Vec<Step> {
    let text = "# Dates\n\n- `2026-11-20`\n- `today`, `tomorrow`\n";
    vec![
        Step::write("docs/dates.md", text).saying("A short page will do.").tokens(1_190, 88, 0, 14_200),
        Step::say("The formats are described in docs/dates.md.").tokens(68, 17, 14_200, 130),
    ]
}

fn resolution() -> Vec<Step> {
    let both = DATES.replace(
        "    *) echo",
        "    ????-??-??) echo \"$1\" ;;\n    today) date +%F ;;\n    tomorrow) date -d tomorrow +%F ;;\n    *) echo",
    );
    vec![
        Step::read("src/dates.sh").tokens(1_490, 44, 0, 14_200),
        Step::write("src/dates.sh", &both).tokens(302, 167, 14_200, 480),
        Step::say("Both kinds of dates are accepted now.").tokens(73, 14, 14_680, 210),
    ]
}

/// Runs every block of a session; compares, or rewrites the README when blessing.
fn run_session(sandbox: &Sandbox, session: &str) {
    let text = std::fs::read_to_string(readme()).unwrap();
    let mut blessed = String::new();
    let mut ids = BTreeMap::new();
    let mut differences = String::new();
    let mut blocks = 0;
    for part in split_blocks(&text, session) {
        let Part::Block(entries) = part else {
            let Part::Prose(prose) = part else { unreachable!() };
            blessed.push_str(prose);
            continue;
        };
        blocks += 1;
        for entry in entries {
            let (output, exit) = run_shell(sandbox, &translate(&entry.command, &ids));
            assert_eq!(exit, entry.exit, "$ {}\n{}", entry.command, output.join("\n"));
            learn(&entry.output, &output, &mut ids);
            if shape(&entry.output) != shape(&output) {
                let shown = (entry.output.join("\n"), output.join("\n"));
                let _ = writeln!(
                    differences,
                    "$ {}\n-- the README:\n{}\n-- now:\n{}",
                    entry.command, shown.0, shown.1
                );
            }
            let _ = writeln!(blessed, "$ {}", translate(&entry.shown, &ids));
            for line in &output {
                let _ = writeln!(blessed, "{line}");
            }
        }
    }
    assert!(blocks > 0, "the README has no block of the session {session}");
    if blessing() {
        std::fs::write(readme(), blessed).unwrap();
    } else {
        assert!(differences.is_empty(), "BLESS=1 rewrites the README, after:\n{differences}");
    }
}

enum Part<'a> {
    Prose(&'a str),
    Block(Vec<Entry>),
}

/// Cuts the text into what is kept as it is and the commands of one session.
fn split_blocks<'a>(text: &'a str, session: &str) -> Vec<Part<'a>> {
    let opening = format!("<!-- test: {session} -->\n```console\n");
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(&opening) {
        let (prose, block) = rest.split_at(at + opening.len());
        let end = block.find("```").expect("the block is closed");
        parts.push(Part::Prose(prose));
        parts.push(Part::Block(entries(&block[..end])));
        rest = &block[end..];
    }
    parts.push(Part::Prose(rest));
    parts
}

fn entries(block: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in block.lines() {
        if let Some(shown) = line.strip_prefix("$ ") {
            let (command, comment) = shown.split_once("  # ").unwrap_or((shown, ""));
            let exit = comment.strip_prefix("exits ").map_or(0, |code| code[..1].parse().expect("a digit"));
            let (shown, command) = (shown.to_owned(), command.trim_end().to_owned());
            entries.push(Entry { shown, command, exit, output: Vec::new() });
        } else if let Some(entry) = entries.last_mut() {
            entry.output.push(line.to_owned());
        }
    }
    entries
}

fn run_shell(sandbox: &Sandbox, command: &str) -> (Vec<String>, i32) {
    let mut shell = sandbox.command("sh");
    shell.args(["-c", &format!("exec 2>&1\n{command}")]);
    let output = sandbox::run(shell, b"");
    let place = sandbox.root().display().to_string();
    (output.stdout.lines().map(|line| line.trim_end().replace(&place, "/home/ada")).collect(), output.code)
}

/// What is printed anew on each run: ids as the program shows them.
fn id() -> Regex {
    Regex::new(r"\b[g-hj-km-np-tv-z][0-9a-hj-km-np-tv-z]{3,15}\b").unwrap()
}

/// Remembers which id stands now where the README has another: in lines that are otherwise the same.
fn learn(shown: &[String], now: &[String], ids: &mut BTreeMap<String, String>) {
    let id = id();
    for (shown, now) in shown.iter().zip(now) {
        if shape(std::slice::from_ref(shown)) == shape(std::slice::from_ref(now)) {
            let pairs = id.find_iter(shown).zip(id.find_iter(now));
            for (shown, now) in pairs.filter(|(shown, now)| shown.as_str() != now.as_str()) {
                ids.insert(shown.as_str().to_owned(), now.as_str().to_owned());
            }
        }
    }
}

fn translate(command: &str, ids: &BTreeMap<String, String>) -> String {
    id().replace_all(command, |found: &regex::Captures<'_>| {
        ids.get(&found[0]).cloned().unwrap_or_else(|| found[0].to_owned())
    })
    .into_owned()
}

/// The lines without what differs between two runs, sorted: agents that run at once print in any order, and which of
/// two that conflict comes first follows from random ids.
fn shape(lines: &[String]) -> Vec<String> {
    let patterns = [
        (r"\bresolve-[a-z-]+…?", "RESOLVER"),
        (r"\b(iso-dates|relative-dates|explain-the-formats)\b", "NAME"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}\b", "SESSION"),
        (r"\b[0-9a-f]{7,64}\b", "OBJECT"),
        (r"\b\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \d{4} \+0000", "TIME"),
        (r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?Z?)?", "TIME"),
        (r"\b\d+(\.\d+)? ?(ms|s|m|h|seconds?|minutes?)\b", "SPAN"),
        (r"\bpid \d+", "pid N"),
        (r"\(\d in the order given\)", "(N in the order given)"),
        (r"^ *\d\.? +NAME", "N NAME"),
        (r" +", " "),
    ]
    .map(|(pattern, word)| (Regex::new(pattern).unwrap(), word));
    let id = id();
    // The matrix of overlaps has a place for each pair, and places follow from the order.
    let matrix = Regex::new(r"·|^ +main( +\d)+$").unwrap();
    let mut shapes: Vec<String> = lines
        .iter()
        .filter(|line| !matrix.is_match(line))
        .map(|line| {
            let line = patterns
                .iter()
                .fold(line.clone(), |line, (pattern, word)| pattern.replace_all(&line, *word).into_owned());
            id.replace_all(&line, "ID").into_owned()
        })
        .collect();
    shapes.sort();
    shapes
}

#[test]
fn the_demo_runs_and_is_drawn() {
    let sandbox = Sandbox::new();
    let start = std::time::Instant::now();
    let mut terminal = Terminal::orchestra(&sandbox, &["demo"], 36, 100);
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    assert!(start.elapsed().as_secs() < 60, "the demo took {:?}", start.elapsed());
    if blessing() {
        let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/demo.svg");
        std::fs::create_dir_all(picture.parent().unwrap()).unwrap();
        std::fs::write(picture, terminal.film("git orchestra demo")).unwrap();
    }
}
