//! Tasks.

use insta::assert_snapshot;

use super::Stage;

#[test]
fn a_first_task_makes_the_state_and_says_so() {
    let stage = Stage::new();
    assert_snapshot!(stage.run(&["task", "list"]), @r#"
    $ git orchestra task list
    --- stderr
    no tasks; `git orchestra task add TITLE` adds one
    --- exit 0
    "#);
    let before = stage.sandbox.fingerprint();
    let out = stage.sandbox.orchestra(&["task", "add", "Parse dates"]);
    assert_snapshot!(stage.filter(&out.stderr), @r#"made refs/orchestra/state in <root>/repo/.git; files, index and configuration are as they were"#);
    assert!(stage.sandbox.orchestra(&["task", "add", "Again"]).stderr.is_empty());
    assert_eq!(stage.sandbox.fingerprint(), before);
    assert_snapshot!(stage.run(&["init"]), @r#"
    $ git orchestra init
    --- stderr
    there is state already; nothing was changed
    --- exit 0
    "#);
}

#[test]
fn tasks_are_listed_by_what_can_be_done() {
    let mut stage = Stage::new();
    let parse = stage.add(
        "<p>",
        &[
            "task",
            "add",
            "Parse dates",
            "-m",
            "RFC 3339 only.",
            "-m",
            "Leap seconds too.",
            "--touches",
            "src/date/**",
            "--label",
            "core",
            "--zone",
            "time",
        ],
    );
    let long = "Use the parser wherever dates come in from the outside and are shown to somebody";
    let using = stage.add("<u>", &["task", "add", long, "--after", &parse, "--priority", "2"]);
    let docs = stage.add("<d>", &["task", "add", "Document it", "--priority=-1"]);
    assert_snapshot!(stage.run(&["task", "list"]), @r#"
    $ git orchestra task list
    ID    STATE    PRI  TITLE                                    AFTER  LABELS  ZONE
    <p>   ready         Parse dates                                     core    time
    <d>   ready     -1  Document it
    <u>   blocked    2  Use the parser wherever dates come in …  <p>
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["task", "ready"]), @r#"
    $ git orchestra task ready
    ID    STATE  PRI  TITLE        LABELS  ZONE
    <p>   ready       Parse dates  core    time
    <d>   ready   -1  Document it
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["task", "show", &parse]), @r#"
    $ git orchestra task show <p>
    task <p>
    title:      Parse dates
    state:      ready
    before:     <u>
    touches:    src/date/**
    labels:     core
    zone:       time
    added:      <time> (<age> ago)

        RFC 3339 only.

        Leap seconds too.
    --- exit 0
    "#);
    stage.sandbox.ok(&["task", "close", &parse, "-m", "done by hand"]);
    stage.sandbox.ok(&["task", "start", &docs]);
    assert_snapshot!(stage.run(&["task", "list", "--all"]), @r#"
    $ git orchestra task list --all
    ID    STATE    PRI  TITLE                                           LABELS  ZONE
    <d>   started   -1  Document it
    <u>   ready      2  Use the parser wherever dates come in from th…
    <p>   closed        Parse dates                                     core    time
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["task", "list", "--all", "--porcelain"]), @r#"
    $ git orchestra task list --all --porcelain
    <d>	started	-1	-	Document it
    <u>	ready	2	-	Use the parser wherever dates come in from the outside and are shown to somebody
    <p>	closed	0	-	Parse dates
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["task", "start", &parse]), @r#"
    $ git orchestra task start <p>
    --- stderr
    error: `Parse dates` is closed
    hint: `git orchestra task reopen` opens it again
    --- exit 1
    "#);
    stage.sandbox.ok(&["task", "reopen", &parse]);
    stage.sandbox.ok(&[
        "task",
        "edit",
        &using,
        "--no-after",
        &parse,
        "--title",
        "Use the parser",
        "--label",
        "core",
        "--zone",
        "time",
    ]);
    assert_snapshot!(stage.run(&["task", "list", "--label", "core", "--zone", "time"]), @r#"
    $ git orchestra task list --label core --zone time
    ID    STATE  PRI  TITLE           LABELS  ZONE
    <u>   ready    2  Use the parser  core    time
    <p>   ready       Parse dates     core    time
    --- exit 0
    "#);
    stage.sandbox.assert_sound();
}

#[test]
fn a_task_cannot_come_after_itself() {
    let mut stage = Stage::new();
    let a = stage.add("<a>", &["task", "add", "First"]);
    let b = stage.add("<b>", &["task", "add", "Second", "--after", &a]);
    let c = stage.add("<c>", &["task", "add", "Third", "--after", &b]);
    assert_snapshot!(stage.run(&["task", "edit", &a, "--after", &c]), @r#"
    $ git orchestra task edit <a> --after <c>
    --- stderr
    error: the task would come after itself: <a> (First) after <c> (Third) after <b> (Second) after <a> (First)
    --- exit 1
    "#);
    assert_snapshot!(stage.run(&["task", "edit", &a, "--after", &a]), @r#"
    $ git orchestra task edit <a> --after <a>
    --- stderr
    error: the task would come after itself: <a> (First) after <a> (First)
    --- exit 1
    "#);
    assert_snapshot!(stage.run(&["task", "list"]), @r#"
    $ git orchestra task list
    ID    STATE    TITLE   AFTER
    <a>   ready    First
    <b>   blocked  Second  <a>
    <c>   blocked  Third   <b>
    --- exit 0
    "#);
}

#[test]
fn what_is_wrong_is_said_with_a_way_out() {
    let mut stage = Stage::new();
    stage.add("<a>", &["task", "add", "First"]);
    assert_snapshot!(stage.run(&["task", "show", "zzzz"]), @r#"
    $ git orchestra task show zzzz
    --- stderr
    error: failed to find task `zzzz`
    hint: `git orchestra task list --all` lists the tasks
    --- exit 1
    "#);
    assert_snapshot!(stage.run(&["show", "nothing-like-it"]), @r#"
    $ git orchestra show nothing-like-it
    --- stderr
    error: failed to find anything called `nothing-like-it`
    hint: `git orchestra task list --all` and `git orchestra status --all` list what there is
    --- exit 1
    "#);
    assert_snapshot!(stage.run(&["task", "add", "  "]), @r#"
    $ git orchestra task add   
    --- stderr
    error: a task needs a title
    --- exit 2
    "#);
    assert_snapshot!(stage.run(&["task", "add", "x", "--touches", "../out"]), @r#"
    $ git orchestra task add x --touches ../out
    --- stderr
    error: `../out` is no path in the repository: globs start at its root, without `/` and `..`
    --- exit 2
    "#);
    assert_snapshot!(stage.run(&["task", "add", "x", "--touches", "src/["]), @r#"
    $ git orchestra task add x --touches src/[
    --- stderr
    error: `src/[` is no glob
    caused by: error parsing glob 'src/[': unclosed character class; missing ']'
    --- exit 2
    "#);
    assert_snapshot!(stage.run(&["-C", "/", "task", "list"]), @r#"
    $ git orchestra -C / task list
    --- stderr
    error: failed to find a git repository in / or above it
    hint: go to a git repository, or name one with `-C DIR`
    --- exit 1
    "#);
    assert_snapshot!(stage.run(&["task", "lst"]), @r#"
    $ git orchestra task lst
    --- stderr
    error: unrecognized subcommand 'lst'

      tip: a similar subcommand exists: 'list'

    Usage: git orchestra task [OPTIONS] <COMMAND>

    For more information, try '--help'.
    --- exit 2
    "#);
}

#[test]
fn titles_cannot_drive_the_terminal_or_break_records() {
    let mut stage = Stage::new();
    stage.add("<a>", &["task", "add", "red \u{1b}[31malert\u{7}\tand\u{202e}bidi"]);
    assert_snapshot!(stage.run(&["task", "list"]), @r#"
    $ git orchestra task list
    ID    STATE  TITLE
    <a>   ready  red <U+001B>[31malert<U+0007> and<U+202E>bidi
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["task", "list", "--porcelain"]), @r#"
    $ git orchestra task list --porcelain
    <a>	ready	0	-	red <U+001B>[31malert<U+0007> and<U+202E>bidi
    --- exit 0
    "#);
    let raw = stage.sandbox.orchestra(&["task", "list", "-z"]).stdout;
    assert!(raw.ends_with("red \u{1b}[31malert\u{7}\tand\u{202e}bidi\0"), "{raw:?}");
}

#[test]
fn an_editor_writes_title_and_description() {
    let mut stage = Stage::new();
    let editor = stage.sandbox.root().join("editor");
    std::fs::write(&editor, "#!/bin/sh\nprintf 'From the editor\\n\\nIts body.\\n#; left out\\n' >\"$1\"\n")
        .unwrap();
    std::fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    stage.sandbox.set_env("GIT_EDITOR", editor);
    let id = stage.add("<a>", &["task", "add", "-e"]);
    assert_snapshot!(stage.run(&["show", &id]), @r#"
    $ git orchestra show <a>
    task <a>
    title:      From the editor
    state:      ready
    added:      <time> (<age> ago)

        Its body.
    --- exit 0
    "#);
    // A repository's own configuration is the agents' to write: it names no editor.
    stage.sandbox.git(&["config", "core.editor", "touch evil #"]);
    stage.sandbox.set_env("GIT_EDITOR", "");
    stage.sandbox.set_env("EDITOR", "true");
    stage.sandbox.ok(&["task", "edit", &id, "-e"]);
    assert!(!stage.sandbox.repo().join("evil").exists());
}

#[test]
fn a_description_comes_from_a_file() {
    let mut stage = Stage::new();
    stage.sandbox.write("notes.md", "\n  From a file.  \n\n");
    let id = stage.add("<a>", &["task", "add", "Read it", "-F", "notes.md"]);
    assert_eq!(stage.sandbox.json(&["show", &id])["data"]["body"], "  From a file.");
}

#[test]
fn one_record_that_cannot_be_read_hides_no_other() {
    let sandbox = crate::harness::Sandbox::new();
    sandbox.ok(&["task", "add", "Good"]);
    let bad = sandbox.ok(&["task", "add", "Bad"]);
    let id = sandbox.json(&["show", &bad])["data"]["id"].as_str().unwrap().to_owned();
    let path = format!("tasks/{}/{}/{id}.json", &id[..1], &id[1..2]);
    sandbox.plumb_commit("refs/orchestra/state", "somebody else", &[(&path, "{ no record")]);
    let out = sandbox.orchestra(&["task", "list"]);
    assert!(out.code == 0 && out.stdout.contains("Good") && !out.stdout.contains("Bad"), "{out}");
    assert!(out.stderr.contains(&format!("left out what cannot be read in the state: {path}")), "{out}");
    // What is not needed for it goes on; what is named is an error.
    sandbox.ok(&["task", "add", "Another"]);
    let out = sandbox.orchestra(&["task", "edit", &id, "--title", "x"]);
    assert!(out.code == 1 && out.stderr.contains(&path), "{out}");
}
