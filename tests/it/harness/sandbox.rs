//! Hermetic repositories: a temporary directory with a HOME, an identity and an environment of its own.
#![expect(
    clippy::disallowed_methods,
    reason = "the harness starts the programs under test and needs the PATH"
)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The program under test.
pub(crate) const ORCHESTRA: &str = env!("CARGO_BIN_EXE_git-orchestra");

/// How long any one command may take before the test fails; the machines that run the tests are slow and shared.
const DEADLINE: Duration = Duration::from_secs(120);

/// The kinds of repository that users have.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of `git init`")]
pub(crate) struct Layout {
    /// Without a checkout.
    pub(crate) bare: bool,
    /// Refs in the reftable format.
    pub(crate) reftable: bool,
    /// Objects named by SHA-256.
    pub(crate) sha256: bool,
    /// `Sandbox::repo` is a linked worktree on the branch `linked`, beside the main checkout.
    pub(crate) linked: bool,
    /// No commit yet: HEAD is unborn.
    pub(crate) unborn: bool,
}

/// A repository in a temporary directory, and everything that commands in it need. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Sandbox {
    dir: TempDir,
    repo: PathBuf,
    home: PathBuf,
    env: BTreeMap<OsString, OsString>,
    /// Seconds after the sandbox's epoch: commits made by `git` have dates that only depend on their order.
    tick: AtomicU64,
}

impl Sandbox {
    /// A plain repository on `main` with one commit, which holds `README.md`.
    pub(crate) fn new() -> Self {
        Self::with(Layout::default())
    }

    /// A repository of the given kind; its one commit (unless unborn) holds `README.md`.
    pub(crate) fn with(layout: Layout) -> Self {
        let dir = tempfile::Builder::new().prefix("orchestra-it-").tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let home = root.join("home");
        let main = root.join(if layout.bare { "repo.git" } else { "repo" });
        fs::create_dir_all(home.join(".config")).unwrap();
        fs::create_dir_all(&main).unwrap();
        // What it says depends on who is how fast: its own suite switches it on.
        fs::write(
            home.join(".gitconfig"),
            "[user]\n\tname = Ada Example\n\temail = ada@example.org\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
             [orchestra \"radar\"]\n\twatch = off\n",
        )
        .unwrap();
        let mut sandbox =
            Self { env: environment(&home), dir, repo: main.clone(), home, tick: AtomicU64::new(0) };
        let mut init = vec!["init", "--quiet", "-b", "main"];
        init.extend(layout.bare.then_some("--bare"));
        init.extend(layout.reftable.then_some("--ref-format=reftable"));
        init.extend(layout.sha256.then_some("--object-format=sha256"));
        sandbox.git(&init);
        if !layout.unborn {
            sandbox.plumb_commit("refs/heads/main", "first commit", &[("README.md", "# sandbox\n")]);
            if !layout.bare {
                sandbox.git(&["reset", "--quiet", "--hard"]);
            }
        }
        if layout.linked {
            let linked = root.join("linked");
            sandbox.git(&["worktree", "add", "--quiet", "-b", "linked", linked.to_str().unwrap()]);
            sandbox.repo = linked;
        }
        sandbox
    }

    /// The temporary directory: repository, home and worktrees are inside.
    pub(crate) fn root(&self) -> PathBuf {
        self.home.parent().unwrap().to_owned()
    }

    /// The checkout (or bare repository) that commands run in.
    pub(crate) fn repo(&self) -> &Path {
        &self.repo
    }

    /// The HOME of every command.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The repository's common git directory.
    pub(crate) fn git_dir(&self) -> PathBuf {
        PathBuf::from(self.git(&["rev-parse", "--path-format=absolute", "--git-common-dir"]))
    }

    /// Sets a variable for every later command.
    pub(crate) fn set_env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        self.env.insert(key.as_ref().to_owned(), value.as_ref().to_owned());
    }

    /// Runs git in the repository and returns its output without the last newline; fails the test if git fails.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.git_in(&self.repo, args)
    }

    /// As [`Self::git`], in another directory.
    pub(crate) fn git_in(&self, dir: &Path, args: &[&str]) -> String {
        let out = self.try_git_in(dir, args, b"");
        assert!(out.code == 0, "git {args:?} in {}\n{out}", dir.display());
        out.stdout.strip_suffix('\n').unwrap_or(&out.stdout).to_owned()
    }

    /// Runs git with `input`, whatever it answers.
    pub(crate) fn try_git_in(&self, dir: &Path, args: &[&str], input: &[u8]) -> Output {
        let date = format!("{} +0000", 1_767_225_600 + self.tick.fetch_add(60, Ordering::Relaxed));
        let mut command = self.command("git");
        command.current_dir(dir).args(args);
        command.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        command.env("GIT_OPTIONAL_LOCKS", "0");
        run(command, input)
    }

    /// Runs `git-orchestra` in the repository, off a terminal and without input.
    pub(crate) fn orchestra(&self, args: &[&str]) -> Output {
        self.orchestra_in(&self.repo, args)
    }

    /// As [`Self::orchestra`], in another directory.
    pub(crate) fn orchestra_in(&self, dir: &Path, args: &[&str]) -> Output {
        let mut command = self.command(ORCHESTRA);
        command.current_dir(dir).args(args);
        run(command, b"")
    }

    /// Runs `git-orchestra`, which must exit 0, and returns its standard output without the last newline.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let out = self.orchestra(args);
        assert!(out.code == 0, "git orchestra {args:?}\n{out}");
        out.stdout.strip_suffix('\n').unwrap_or(&out.stdout).to_owned()
    }

    /// The answer of a reading command with `--json`.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let text = self.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("git orchestra {args:?} --json: {error}\n{text}"))
    }

    /// Makes a bare repository beside this one, and a remote `origin` of it.
    pub(crate) fn add_remote(&self) -> PathBuf {
        let remote = self.root().join("remote.git");
        let path = remote.to_str().expect("UTF-8");
        self.git(&["init", "--quiet", "--bare", path]);
        self.git(&["remote", "add", "origin", path]);
        remote
    }

    /// Every command that `--help` lists.
    pub(crate) fn listed_commands(&self) -> Vec<String> {
        let help = self.ok(&["--help"]);
        let commands: Vec<String> = help
            .lines()
            .take_while(|line| *line != "Options:")
            .filter(|line| line.starts_with("  ") && !line.starts_with("   ") && !line.starts_with("  -"))
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect();
        assert!(commands.len() > 35, "{commands:?}");
        commands
    }

    /// A command with the sandbox's environment and nothing else, in the repository.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.env).current_dir(&self.repo);
        command
    }

    /// Writes a file of the checkout, with its directories.
    pub(crate) fn write(&self, path: &str, text: &str) {
        write_in(&self.repo, path, text);
    }

    /// Reads a file of the checkout.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.repo.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Commits everything in the checkout and returns the commit's id.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.commit_in(&self.repo, message)
    }

    /// As [`Self::commit`], in another worktree.
    pub(crate) fn commit_in(&self, dir: &Path, message: &str) -> String {
        self.git_in(dir, &["add", "--all"]);
        self.git_in(dir, &["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git_in(dir, &["rev-parse", "HEAD"])
    }

    /// Makes a commit that adds or replaces `files` on top of `reference`, without any checkout, and moves the ref.
    pub(crate) fn plumb_commit(&self, reference: &str, message: &str, files: &[(&str, &str)]) -> String {
        let index = self.root().join("plumbing-index");
        let _ = fs::remove_file(&index);
        let parent = self.try_git_in(&self.repo, &["rev-parse", "--quiet", "--verify", reference], b"");
        let parent = (parent.code == 0).then(|| parent.stdout.trim().to_owned());
        let git = |args: &[&str], input: &[u8]| {
            let date = format!("{} +0000", 1_767_225_600 + self.tick.fetch_add(60, Ordering::Relaxed));
            let mut command = self.command("git");
            command.args(args).env("GIT_INDEX_FILE", &index);
            command.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
            let out = run(command, input);
            assert!(out.code == 0, "git {args:?}\n{out}");
            out.stdout.trim().to_owned()
        };
        if let Some(parent) = &parent {
            git(&["read-tree", parent], b"");
        }
        for (path, text) in files {
            let blob = git(&["hash-object", "-w", "--stdin"], text.as_bytes());
            git(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{path}")], b"");
        }
        let tree = git(&["write-tree"], b"");
        let mut args = vec!["commit-tree", &tree, "-m", message];
        if let Some(parent) = &parent {
            args.extend(["-p", parent]);
        }
        let commit = git(&args, b"");
        git(&["update-ref", reference, &commit], b"");
        let _ = fs::remove_file(&index);
        commit
    }

    /// What the repository's checkout looks like now.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint_of(&self.repo)
    }

    /// What the checkout at `dir` looks like now: taken twice and compared, it proves that nobody touched it.
    pub(crate) fn fingerprint_of(&self, dir: &Path) -> Fingerprint {
        let git_dir = PathBuf::from(self.git_in(dir, &["rev-parse", "--absolute-git-dir"]));
        let common =
            PathBuf::from(self.git_in(dir, &["rev-parse", "--path-format=absolute", "--git-common-dir"]));
        let mut files = BTreeMap::new();
        hash_files(dir, dir, &mut files);
        let mut shared = BTreeMap::new();
        for place in ["hooks", "info"] {
            hash_files(&common, &common.join(place), &mut shared);
        }
        Fingerprint {
            head: fs::read_to_string(git_dir.join("HEAD")).unwrap(),
            commit: self
                .try_git_in(dir, &["rev-parse", "--quiet", "--verify", "HEAD"], b"")
                .stdout
                .trim()
                .to_owned(),
            index: hash_file(&git_dir.join("index")),
            config: fs::read_to_string(common.join("config")).unwrap(),
            user_config: fs::read_to_string(self.home.join(".gitconfig")).unwrap(),
            shared,
            files,
        }
    }

    /// Fails the test unless the repository is sound: `git fsck` says nothing.
    pub(crate) fn assert_sound(&self) {
        let out = self.try_git_in(
            &self.repo,
            &["fsck", "--full", "--strict", "--no-progress", "--no-dangling"],
            b"",
        );
        // An unborn HEAD is a notice, not a fault.
        let complaints = out.stderr.lines().filter(|line| !line.starts_with("notice: ")).count();
        assert!(out.code == 0 && out.stdout.is_empty() && complaints == 0, "git fsck\n{out}");
    }

    /// Keeps the directory on disk and says where it is: for looking into a failing test.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.root()
    }
}

/// What a command answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// The exit code; 128 + n after signal n.
    pub(crate) code: i32,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// The state of a checkout and of the settings that act on it, in a form whose differences can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// What HEAD says.
    pub(crate) head: String,
    /// The commit that it leads to; empty if unborn.
    pub(crate) commit: String,
    /// Hash of the index file.
    pub(crate) index: String,
    /// The repository's configuration.
    pub(crate) config: String,
    /// The user's configuration.
    pub(crate) user_config: String,
    /// Hashes of hooks and of `info/`.
    pub(crate) shared: BTreeMap<String, String>,
    /// Hash and permissions of every file of the checkout, ignored ones included.
    pub(crate) files: BTreeMap<String, String>,
}

/// Writes a file under `dir`, with its directories.
pub(crate) fn write_in(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Runs a command to its end with `input`; fails the test when it takes longer than any command may.
pub(crate) fn run(mut command: Command, input: &[u8]) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    let shown = format!("{} {:?}", command.get_program().display(), command.get_args().collect::<Vec<_>>());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
    let pid = child.id();
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        // A program may end without reading all of it.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = wait.recv_timeout(DEADLINE) else {
        kill(pid, nix::sys::signal::Signal::SIGKILL);
        panic!("{shown} did not end within {DEADLINE:?} (or something that it started holds its output)");
    };
    Output::from(output.unwrap())
}

/// Sends a signal to a process that a test started.
pub(crate) fn kill(pid: u32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    // It may be gone already.
    let _ = nix::sys::signal::kill(pid, signal);
}

/// Polls until `probe` answers, and fails the test when it does not within the deadline of commands.
pub(crate) fn wait_for<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    poll(probe).unwrap_or_else(|| panic!("{what}: not within {DEADLINE:?}"))
}

/// Polls until `probe` answers; `None` when it does not within the deadline of commands.
pub(crate) fn poll<T>(mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = std::time::Instant::now();
    while start.elapsed() < DEADLINE {
        if let Some(found) = probe() {
            return Some(found);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap());
        Self {
            stdout: String::from_utf8(output.stdout).expect("what we print is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("what we print is UTF-8"),
            code,
        }
    }
}

/// The whole environment of a sandbox's commands.
fn environment(home: &Path) -> BTreeMap<OsString, OsString> {
    // The directory of the program under test comes first, so that `git orchestra …` finds it.
    let mut path = vec![Path::new(ORCHESTRA).parent().unwrap().to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").expect("tests need git on the PATH")));
    let mut env = BTreeMap::new();
    let mut set = |key: &str, value: &OsStr| env.insert(OsString::from(key), value.to_owned());
    set("PATH", &std::env::join_paths(path).unwrap());
    set("HOME", home.as_os_str());
    set("XDG_CONFIG_HOME", home.join(".config").as_os_str());
    set("GIT_CONFIG_NOSYSTEM", OsStr::new("1"));
    set("GIT_TERMINAL_PROMPT", OsStr::new("0"));
    set("LC_ALL", OsStr::new("C.UTF-8"));
    set("TZ", OsStr::new("UTC"));
    env
}

fn hash_files(root: &Path, path: &Path, files: &mut BTreeMap<String, String>) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if path != root && path.file_name() == Some(OsStr::new(".git")) {
        return;
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            hash_files(root, &entry.unwrap().path(), files);
        }
    } else {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        files.insert(name, format!("{:o} {}", meta.permissions().mode(), hash_file(path)));
    }
}

fn hash_file(path: &Path) -> String {
    let bytes = if path.is_symlink() {
        fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()
    } else {
        fs::read(path).unwrap_or_default()
    };
    Sha256::digest(bytes).iter().take(8).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

#[test]
fn every_layout_is_sound_and_its_fingerprint_is_stable() {
    let linked = Layout { linked: true, ..Layout::default() };
    let reftable = Layout { reftable: true, sha256: true, ..Layout::default() };
    let unborn = Layout { unborn: true, ..Layout::default() };
    for layout in [Layout::default(), linked, reftable, unborn] {
        let sandbox = Sandbox::with(layout);
        sandbox.assert_sound();
        let before = sandbox.fingerprint();
        sandbox.git(&["status"]);
        assert_eq!(before, sandbox.fingerprint(), "{layout:?}");
        sandbox.write("a/b.txt", "one\n");
        assert_ne!(before, sandbox.fingerprint(), "{layout:?}");
        if !layout.unborn {
            sandbox.commit("a file");
            assert_eq!(sandbox.git(&["log", "--format=%s <%ae>"]).lines().count(), 2, "{layout:?}");
        }
    }
    let bare = Sandbox::with(Layout { bare: true, ..Layout::default() });
    bare.plumb_commit("refs/heads/main", "second", &[("a/b.txt", "one\n")]);
    assert_eq!(bare.git(&["show", "main:a/b.txt"]), "one");
    bare.assert_sound();
}
