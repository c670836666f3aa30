//! The real agent programs, in the one version that the suite was written against.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Endpoint, Sandbox};

/// The real Claude Code: installed by `.ci/install-agents` when it is not there. A machine that cannot have it
/// fails the tests that need it: they prove the main job, and are never skipped silently.
pub(crate) fn claude() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| installed("claude")).clone()
}

/// The real Codex, as [`claude`].
pub(crate) fn codex() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| installed("codex")).clone()
}

/// The real Gemini CLI, as [`claude`].
pub(crate) fn gemini() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| installed("gemini")).clone()
}

/// The real pnpm, as [`claude`].
pub(crate) fn pnpm() -> PathBuf {
    installed("pnpm")
}

/// The real Yarn, as [`claude`].
pub(crate) fn yarn() -> PathBuf {
    installed("yarn")
}

/// The real `bwrap`: unpacked by `.ci/install-servers` when the machine has none, and never skipped silently.
pub(crate) fn bwrap() -> PathBuf {
    super::servers::installed("bwrap")
}

fn installed(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/install-agents");
    let output = Command::new(&script)
        .arg(name)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "{} failed: the tests need node, npm and its registry\n{stderr}",
        script.display()
    );
    let line = stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    PathBuf::from(line.unwrap_or_else(|| panic!("{} names no {name}:\n{stdout}", script.display())))
}

/// Points every later command of the sandbox at the real Claude Code and the scripted endpoint.
pub(crate) fn use_claude(sandbox: &mut Sandbox, endpoint: &Endpoint) {
    sandbox.set_env("CLAUDE_CLI_PATH", claude());
    for (key, value) in endpoint.env() {
        sandbox.set_env(key, value);
    }
}

/// A program that is talked to in lines of JSON.
pub(crate) struct Dialogue {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Every line so far.
    pub(crate) heard: Vec<Value>,
}

impl Dialogue {
    /// Starts the command.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { stdin: child.stdin.take(), child, lines, heard: Vec::new() }
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one line.
    pub(crate) fn send(&mut self, message: &Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    /// Sends what a user says.
    pub(crate) fn tell(&mut self, text: &str) {
        self.send(&json!({"type": "user", "message": {"role": "user", "content": text}}));
    }

    /// Waits for the next line of this type.
    pub(crate) fn expect(&mut self, kind: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|error| panic!("no {kind}: {error}: {:#?}", self.heard));
            let value: Value = serde_json::from_str(&line).unwrap();
            self.heard.push(value.clone());
            if value["type"] == kind {
                return value;
            }
        }
    }

    /// Closes its input and waits for its end.
    pub(crate) fn end(mut self) -> ExitStatus {
        self.stdin = None;
        while self.lines.recv_timeout(Duration::from_secs(60)).is_ok() {}
        self.child.wait().unwrap()
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the product relies on, asked of the program itself: to be looked at first when its version moves.
mod claude_code {
    use super::super::{Step, sandbox, wait_for};
    use super::*;
    use nix::sys::signal::Signal;

    const SESSION: &str = "0b9d8f5c-8f0e-4f7e-9d2e-6a1c3b5d7e9f";

    fn streaming(sandbox: &Sandbox, session: [&str; 2]) -> Dialogue {
        let mut command = sandbox.command(claude());
        command.args(["-p", "--output-format", "stream-json", "--verbose", "--input-format", "stream-json"]);
        command.args(["--include-partial-messages", "--permission-prompt-tool", "stdio"]);
        command.args(["--permission-mode", "acceptEdits"]).args(session);
        Dialogue::start(command)
    }

    #[test]
    fn it_writes_edits_and_runs_commands_as_scripted() {
        let mut sandbox = Sandbox::new();
        let endpoint = Endpoint::start([(
            "one",
            vec![
                Step::write("new.txt", "one\ntwo\n").saying("Writing.").tokens(100, 30, 50, 7),
                Step::edit("new.txt", "two", "three").failing(1, 529, Some(0)),
                Step::bash("sed -n 2p new.txt > second.txt"),
                Step::say("All done."),
            ],
        )]);
        use_claude(&mut sandbox, &endpoint);
        let mut command = sandbox.command(claude());
        command.args([
            "-p",
            "--output-format",
            "stream-json",
            "--verbose",
            "--permission-mode",
            "acceptEdits",
        ]);
        command.arg("Please [script:one]");
        let output = sandbox::run(command, b"");
        assert_eq!(output.code, 0, "{output}");
        let result: Value = serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(result["subtype"], "success");
        assert_eq!(result["usage"]["output_tokens"], 90, "30 + 3 × 20, each message once");
        assert_eq!(sandbox.read("new.txt") + &sandbox.read("second.txt"), "one\nthree\nthree\n");
        let steps: Vec<usize> =
            endpoint.seen_by("one").iter().map(|seen| seen.step.as_ref().unwrap().1).collect();
        assert_eq!(steps, [0, 1, 1, 2, 3], "the failed request was repeated");
    }

    #[test]
    fn it_asks_for_permission_on_its_pipes_and_continues_a_conversation() {
        let mut sandbox = Sandbox::new();
        let endpoint = Endpoint::start([
            ("ask", vec![Step::bash("curl --version > /dev/null; touch asked"), Step::say("It is there.")]),
            ("more", vec![Step::say("I remember.")]),
        ]);
        use_claude(&mut sandbox, &endpoint);
        let mut client = streaming(&sandbox, ["--session-id", SESSION]);
        client.tell("Go [script:ask]");
        let asked = client.expect("control_request");
        assert_eq!(asked["request"]["subtype"], "can_use_tool", "{asked:#}");
        assert_eq!(asked["request"]["tool_name"], "Bash");
        let answer = json!({"behavior": "allow", "updatedInput": asked["request"]["input"]});
        client.send(&json!({"type": "control_response", "response": {
            "subtype": "success", "request_id": asked["request_id"], "response": answer}}));
        assert_eq!(client.expect("result")["result"], "It is there.");
        assert!(client.end().success());
        assert!(sandbox.repo().join("asked").exists());

        let mut client = streaming(&sandbox, ["--resume", SESSION]);
        client.tell("And now [script:more]");
        assert_eq!(client.expect("result")["result"], "I remember.");
        assert!(client.end().success());
        let last = endpoint.seen().pop().unwrap().body["messages"].to_string();
        assert!(last.contains("It is there."), "the conversation so far is sent again: {last}");
    }

    /// In `-p` mode with a prompt as its argument it says `success` and exits 0 instead: neither is to be believed.
    #[test]
    fn terminated_while_its_input_is_open_it_says_nothing_and_leaves_its_command_running() {
        let mut sandbox = Sandbox::new();
        let endpoint = Endpoint::start([(
            "long",
            vec![Step::bash("echo $$ > pid.new; mv pid.new pid; tail -f /dev/null")],
        )]);
        use_claude(&mut sandbox, &endpoint);
        let mut command = sandbox.command(claude());
        command.args(["-p", "--output-format", "stream-json", "--verbose", "--input-format", "stream-json"]);
        command.args(["--allowed-tools", "Bash"]);
        let mut client = Dialogue::start(command);
        client.tell("Go [script:long]");
        let shell: i32 = wait_for("the command", || {
            std::fs::read_to_string(sandbox.repo().join("pid")).ok()?.trim().parse().ok()
        });
        sandbox::kill(client.pid(), Signal::SIGTERM);
        let rest: Vec<String> = client.lines.iter().collect();
        assert!(rest.iter().all(|line| !line.contains(r#""type":"result""#)), "{rest:#?}");
        assert_eq!(client.end().code(), Some(143));
        // The Bash tool runs in a session of its own: whoever only signals the client leaves this behind.
        nix::sys::signal::killpg(nix::unistd::Pid::from_raw(shell), Signal::SIGKILL)
            .expect("the command's session outlived the client");
    }
}
