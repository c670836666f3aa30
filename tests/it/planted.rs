//! Secrets that an agent and its user let fall, of every family that is known and in sixteen ways of writing: in the task's
//! text, in what the agent prints, in what it notes and in files that it leaves; and in prompts, out of which names and
//! commits are made. None of them is in anything that is stored by us or arrives at a remote. All are made up here, so that
//! no scanner of this repository finds one.

use std::fs;
use std::path::Path;

use aho_corasick::AhoCorasick;
use git_orchestra::agent::Redactor;

use crate::claims::{machine, remote};
use crate::harness::Sandbox;
use crate::harness::sandbox::write_in;
use crate::worker::Running;

/// So many rows of the table are planted, evenly spread, unless `ORCHESTRA_PLANTS=all`.
const FEW: usize = 12;
/// So many are typed as prompts, evenly spread.
const PROMPTS: usize = 20;
/// So many characters of a secret must not stand together where texts are cut.
const PART: usize = 20;
/// The words of one finding.
const CHUNK: usize = 40_000;

struct Plant {
    family: &'static str,
    /// As it is planted.
    line: String,
    /// What must be nowhere.
    gone: Vec<String>,
}

fn plants() -> Vec<Plant> {
    let mut state = u64::from(std::process::id()) << 20 | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let all = Redactor::examples(&mut random);
    let step =
        if std::env::var("ORCHESTRA_PLANTS").is_ok_and(|of| of == "all") { 1 } else { all.len() / FEW };
    let mut plants = Vec::new();
    for (family, secret, text) in all.into_iter().step_by(step) {
        // A program's output is looked through line by line.
        let (secret, text) = (secret.replace('\n', "\\n"), text.replace('\n', "\\n"));
        let each = |text: &str, write: &dyn Fn(u8) -> String| text.bytes().map(write).collect::<String>();
        let escaped = |text: &str| each(text, &|byte| format!("\\u{byte:04x}"));
        let percent = |text: &str| each(text, &|byte| format!("%{byte:02X}"));
        let hex = |text: &str| each(text, &|byte| format!("{byte:02x}"));
        let base64 = |text: &str| core(format!("{text}  ").as_bytes(), 0);
        let ways = [text.clone(), escaped(&text), percent(&text), hex(&text), base64(&text)];
        let mut gone = vec![secret.clone(), escaped(&secret), percent(&secret), hex(&secret)];
        gone.extend((0..3).map(|offset| core(secret.as_bytes(), offset)));
        plants.extend(ways.map(|line| Plant { family, line, gone: gone.clone() }));
        // As `base64` writes it on lines of its own, seen in the JSON of a tool's result.
        let mut wrapped = base64(&text);
        (1..=wrapped.len() / 76).rev().for_each(|line| wrapped.insert_str(line * 76, "\\n"));
        for line in [base64(&base64(&text)), hex(&base64(&text)), wrapped] {
            plants.push(Plant { family, gone: vec![line.clone()], line });
        }
        plants.extend(hidden(&secret, &text).map(|line| Plant { family, gone: seen(&secret, &line), line }));
    }
    plants.push(key(&mut random));
    plants
}

/// A text whose secret has something inside that nobody sees, as `grep --color` and others write it.
fn hidden(secret: &str, text: &str) -> [String; 8] {
    let parts =
        ["\u{1b}[m\u{1b}[K", "\0", "\u{200b}", "\u{1b}]0;title\u{7}", "\u{202e}", "\u{8}", "\u{e0041}"];
    let apart = |part: &str| {
        let (before, after) = secret.split_at(secret.len() / 3);
        text.replace(secret, &format!("\u{1b}[01;31m\u{1b}[K{before}{part}{after}"))
    };
    let lines = parts.map(apart);
    let json = serde_json::to_string(&lines[0]).unwrap();
    let [one, two, three, four, five, six, seven] = lines;
    [one, two, three, four, five, six, seven, json]
}

/// What must be nowhere of a line with such a secret: as it is shown, as it is, as JSON has it, and what is behind the place.
fn seen(secret: &str, line: &str) -> Vec<String> {
    let json = |text: &str| serde_json::to_string(text).unwrap().trim_matches('"').to_owned();
    let apart = line.strip_prefix('"').and_then(|line| line.strip_suffix('"')).unwrap_or(line);
    // From the secret on: what stands before it may stay.
    let from = apart.find("01;31m").map_or(0, |at| at + "01;31m".len());
    let apart = &apart[from..];
    let behind = &secret[secret.len() / 3..];
    vec![secret.to_owned(), apart.to_owned(), json(apart), behind.to_owned()]
}

/// A private key on lines of its own, none of which has a shape but the first and the last.
fn key(random: &mut impl FnMut(usize) -> usize) -> Plant {
    let body: Vec<String> =
        (0..12).map(|_| (0..64).map(|_| char::from(LETTERS[random(LETTERS.len())])).collect()).collect();
    let edge = |which: &str| format!("-----{which} OPENSSH {} KEY-----", "PRIVATE");
    let line = format!("{}\n{}\n{}", edge("BEGIN"), body.join("\n"), edge("END"));
    Plant { family: "private-key", line, gone: body }
}

const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The characters of the base 64 of any text that holds `value` at this offset, as far as `value` alone decides them.
fn core(value: &[u8], offset: usize) -> String {
    let bit = |index: usize| value[index / 8] >> (7 - index % 8) & 1;
    let skip = (6 - offset * 8 % 6) % 6;
    let groups = (skip..).step_by(6).take_while(|start| start + 6 <= value.len() * 8);
    let six = |start: usize| (start..start + 6).fold(0, |six, index| six << 1 | bit(index));
    groups.map(|start| char::from(LETTERS[usize::from(six(start))])).collect()
}

/// Every object that is reached from refs of ours, or every object at all.
fn objects(of: &Sandbox, all: bool) -> Vec<(String, Vec<u8>)> {
    let list = if all {
        of.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"])
    } else {
        of.git(&[
            "rev-list",
            "--objects",
            "--no-object-names",
            "--glob=refs/orchestra/*",
            "--glob=refs/notes/*",
        ])
    };
    let mut command = of.command("git");
    command.args(["cat-file", "--batch"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, list.as_bytes()).unwrap());
    let out = child.wait_with_output().unwrap().stdout;
    writer.join().unwrap();
    let (mut rest, mut found) = (&out[..], Vec::new());
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let header = String::from_utf8(rest[..end].to_vec()).unwrap();
        let size: usize = header.rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{header}"));
        found.push((header, rest[end + 1..end + 1 + size].to_vec()));
        rest = &rest[end + 2 + size..];
    }
    found
}

/// Every file below a directory.
fn files(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&path, found),
            kind if kind.is_file() => found.push((path.display().to_string(), fs::read(&path).unwrap())),
            _ => {}
        }
    }
}

#[test]
fn none_of_the_planted_secrets_is_stored_or_sent() {
    let remote = remote();
    let plants = plants();
    let lines: Vec<&str> = plants.iter().map(|plant| plant.line.as_str()).collect();
    let text = lines.join("\n");
    let dir = remote.root().join("plants");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("all"), format!("{text}\n")).unwrap();
    let (mut chunk, mut chunks) = (String::new(), 0);
    for (at, line) in lines.iter().enumerate() {
        chunk.push_str(line);
        chunk.push('\n');
        if chunk.len() > CHUNK || at + 1 == lines.len() {
            fs::write(dir.join(format!("chunk-{chunks}")), std::mem::take(&mut chunk)).unwrap();
            chunks += 1;
        }
    }
    let ada = machine(&remote);
    let at = dir.display();
    let script = format!(
        "cat {at}/all; cp {at}/all left.txt; \
         for chunk in {at}/chunk-*; do git orchestra finding add \"$(cat $chunk)\" || exit 1; done; \
         git orchestra finding add \"$(head -n 1 {at}/all)\" --path README.md || exit 1; sleep 3; echo the end"
    );
    // What runs beside others is looked at in objects of its own, which are packed and never leave.
    let config = format!(
        "default-profile = 'hand'\ntranscripts = 'remote'\nclaim-ttl = '4s'\nradar.watch = 'off'\n\
         [profile.hand]\nprogram = 'command'\ncommand = ['sh', '-c', '''{script}''']\n"
    );
    write_in(ada.home(), ".config/git-orchestra/config.toml", &config);
    ada.ok(&["task", "add", "Let them fall", "-F", &format!("{at}/all")]);
    ada.ok(&["sync"]);
    let ended = Running::start(&ada, &["--once"]).end();
    assert_eq!(ended.code, 0, "{}", ended.stdout.chars().take(2_000).collect::<String>());
    ada.ok(&["task", "add", &format!("Titled {}", lines[0])]);
    ada.ok(&["sync"]);
    let held = ada.orchestra(&["push", "--branches"]);
    assert!(held.code == 1 && held.stderr.contains("was not pushed"), "{held}");

    let mut stored = objects(&ada, false);
    stored.extend(objects(&remote, true));
    files(&ada.git_dir().join("orchestra"), &mut stored);
    let bytes: usize = stored.iter().map(|(_, content)| content.len()).sum();
    let of_us = |word: &[u8]| stored.iter().any(|(_, content)| memchr::memmem::find(content, word).is_some());
    assert!(of_us(b"the end") && of_us(b"[redacted:"), "what the agent said is there");
    assert!(ada.json(&["finding", "list"])["data"].as_array().unwrap().len() > chunks, "and what it noted");
    let (needles, of): (Vec<&String>, Vec<&Plant>) =
        plants.iter().flat_map(|plant| plant.gone.iter().map(move |gone| (gone, plant))).unzip();
    let all = AhoCorasick::new(&needles).unwrap();
    let mut leaks = Vec::new();
    for (place, content) in &stored {
        leaks.extend(all.find_iter(content).map(|found| {
            let at = found.pattern().as_usize();
            (of[at].family, needles[at].clone(), place.clone())
        }));
    }
    leaks.sort();
    leaks.dedup();
    let families: std::collections::BTreeSet<_> = plants.iter().map(|plant| plant.family).collect();
    println!(
        "{} families, {} plants, {} places, {bytes} bytes, {} leaks",
        families.len(),
        plants.len(),
        stored.len(),
        leaks.len()
    );
    assert!(leaks.is_empty(), "{:#?}", &leaks[..leaks.len().min(20)]);
}

/// What is typed is for the agent; what we call its work by has nothing of it: the commit of what it leaves, the merge, its
/// branch, its directory.
#[test]
fn none_of_a_prompt_is_in_a_commit_a_name_or_a_directory() {
    let ada = Sandbox::new();
    let config = "transcripts = 'local'\nradar.watch = 'off'\n[profile.hand]\nprogram = 'command'\n\
                  command = ['sh', '-c', 'echo \"$0\" >\"told-$GIT_ORCHESTRA_AGENT.txt\"', '{prompt}']\n";
    write_in(ada.home(), ".config/git-orchestra/config.toml", config);
    // No argument has a NUL.
    let fits = |plant: &Plant| plant.gone.len() > 1 && !plant.line.contains('\0');
    let plants: Vec<Plant> = plants().into_iter().filter(fits).collect();
    let few = plants.iter().rev().step_by(plants.len() / PROMPTS);
    let mut needles = Vec::new();
    for (at, plant) in few.enumerate() {
        let prompt = if at % 2 == 0 { plant.line.clone() } else { format!("use {}", plant.line) };
        ada.ok(&["spawn", "--profile", "hand", &format!("-m{prompt}")]);
        needles.extend(plant.gone.iter().map(|gone| gone.chars().take(PART).collect::<String>()));
    }
    // A later run has the same title.
    let agents = ada.json(&["status"]);
    let name = agents["data"][0]["name"].as_str().unwrap().to_owned();
    ada.ok(&["resume", &name, "-m", "again"]);
    let told = ada.git(&["log", "--all", "-p", "--format="]);
    assert!(needles.iter().any(|needle| told.contains(needle)), "it was told what was typed");
    ada.orchestra(&["merge"]);
    let messages = ada.git(&["log", "--all", "--reflog", "--format=%B"]);
    assert!(messages.contains("use [redacted:") && messages.contains("Left uncommitted by"), "{messages}");
    let leaks: Vec<&String> = needles.iter().filter(|needle| messages.contains(*needle)).collect();
    assert!(leaks.is_empty(), "{leaks:?} in {messages}");

    let mut names = ada.git(&["for-each-ref", "--format=%(refname)"]);
    let dirs = [ada.root(), ada.root().join("repo.orchestra"), ada.git_dir().join("worktrees")];
    for entry in dirs.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten()) {
        names = format!("{names}\n{}", entry.file_name().display());
    }
    assert!(names.contains("refs/heads/orchestra/use"), "{names}");
    // A name is made of words in small letters.
    let words = |text: &String| {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() >= PART / 2);
        words.map(|word| word[..PART / 2].to_ascii_lowercase()).collect::<Vec<_>>()
    };
    let leaks: Vec<String> = needles.iter().flat_map(words).filter(|word| names.contains(word)).collect();
    assert!(leaks.is_empty(), "{leaks:?} in {names}");
}
