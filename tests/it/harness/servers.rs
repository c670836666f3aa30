//! Real servers of git on 127.0.0.1, each with the bare repository of a sandbox behind it, ended with the test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::Sandbox;

/// Who may use the servers that ask, and the password.
pub(crate) const USER: &str = "ada";
pub(crate) const PASSWORD: &str = "correct horse";

/// A server that ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    /// Where the repository is.
    pub(crate) url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Where `.ci/install-servers` says that things are. A machine that cannot have them fails the tests that need them.
pub(super) fn installed(name: &str) -> PathBuf {
    static FOUND: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/install-servers");
        #[expect(clippy::disallowed_methods, reason = "the harness starts what the tests need")]
        let output = Command::new(&script).output().unwrap_or_else(|e| panic!("{}: {e}", script.display()));
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} failed:\n{words}", script.display());
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().filter_map(|line| line.split_once(' ')).map(|(k, v)| (k.into(), v.into())).collect()
    });
    found.get(name).unwrap_or_else(|| panic!(".ci/install-servers names no {name}")).into()
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Starts a server that listens on the port it is given, which stands for `PORT` in its address, and waits until it
/// does.
fn start(remote: &Sandbox, what: &str, url: &str, command: impl Fn(u16) -> Command) -> Server {
    let log = remote.root().join(format!("{what}.log"));
    for _ in 0..20 {
        let port = free_port();
        let mut command = command(port);
        let output = std::fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
        let mut server = Server { child, port, url: url.replace("PORT", &port.to_string()) };
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until && server.child.try_wait().unwrap().is_none() {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return server;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    panic!("no {what} came up:\n{}", std::fs::read_to_string(log).unwrap_or_default());
}

/// `git daemon` with the repository as `/repo.git`, for everybody to write.
pub(crate) fn git_daemon(remote: &Sandbox) -> Server {
    // Not `git daemon`: that is a parent which leaves its child behind when it is killed.
    let program = Path::new(&remote.git(&["--exec-path"])).join("git-daemon");
    let base = remote.root();
    start(remote, "git-daemon", "git://127.0.0.1:PORT/repo.git", |port| {
        let mut command = remote.command(&program);
        command.args(["--export-all", "--enable=receive-pack", "--reuseaddr", "--listen=127.0.0.1"]);
        command.arg(format!("--port={port}")).arg(format!("--base-path={}", base.display()));
        command
    })
}

/// lighttpd, which asks for [`USER`] and [`PASSWORD`] and starts `git http-backend`.
pub(crate) fn lighttpd(remote: &Sandbox) -> Server {
    let root = remote.root();
    let backend = Path::new(&remote.git(&["--exec-path"])).join("git-http-backend");
    let place = |name: &str| root.join(name).display().to_string();
    std::fs::write(root.join("passwords"), format!("{USER}:{PASSWORD}\n")).unwrap();
    start(remote, "lighttpd", "http://127.0.0.1:PORT/git/repo.git", |port| {
        let config = format!(
            r#"server.port = {port}
server.bind = "127.0.0.1"
server.document-root = "{root}"
server.upload-dirs = ("{root}")
server.modules = ("mod_alias", "mod_setenv", "mod_auth", "mod_authn_file", "mod_cgi")
auth.backend = "plain"
auth.backend.plain.userfile = "{passwords}"
auth.require = ("" => ("method" => "basic", "realm" => "git", "require" => "valid-user"))
alias.url = ("/git" => "{backend}")
cgi.assign = ("" => "")
setenv.set-environment = (
  "GIT_PROJECT_ROOT" => "{root}", "GIT_HTTP_EXPORT_ALL" => "1", "HOME" => "{home}", "PATH" => env.PATH,
)
"#,
            root = root.display(),
            passwords = place("passwords"),
            backend = backend.display(),
            home = place("home"),
        );
        let file = root.join("lighttpd.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = remote.command(installed("lighttpd"));
        command.env("LD_LIBRARY_PATH", installed("libraries")).arg("-D").arg("-f").arg(file);
        command.arg("-m").arg(installed("lighttpd-modules"));
        command
    })
}

/// sshd with keys of its own, its only account being [`USER`]: [`ssh`] with the key `user_key` gets in, `other_key`
/// does not.
pub(crate) fn sshd(remote: &Sandbox) -> Server {
    let root = remote.root();
    let place = |name: &str| root.join(name).display().to_string();
    for key in ["host_key", "user_key", "other_key"] {
        let mut keygen = remote.command("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &place(key)]);
        assert!(keygen.status().unwrap().success());
    }
    let public = |key: &str| std::fs::read_to_string(place(&format!("{key}.pub"))).unwrap();
    std::fs::write(root.join("authorized_keys"), public("user_key")).unwrap();
    // sshd looks accounts up, its own for the part without rights too, and machines have neither of ours.
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let accounts = format!(
        "{USER}:x:{uid}:{gid}::{}:/bin/sh\nsshd:x:64999:64999::/run/sshd:/bin/false\n",
        place("home")
    );
    std::fs::write(root.join("passwd"), accounts).unwrap();
    std::fs::write(root.join("group"), format!("{USER}:x:{gid}:\nsshd:x:64999:\n")).unwrap();
    if uid.is_root() {
        let empty = Path::new("/run/sshd");
        std::fs::create_dir_all(empty).unwrap();
        std::fs::set_permissions(empty, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let url = format!("ssh://{USER}@127.0.0.1:PORT{}", remote.repo().display());
    let server = start(remote, "sshd", &url, |port| {
        let mut config = String::new();
        for line in [
            format!("Port {port}"),
            "ListenAddress 127.0.0.1".to_owned(),
            format!("HostKey {}", place("host_key")),
            format!("AuthorizedKeysFile {}", place("authorized_keys")),
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no".to_owned(),
            "StrictModes no\nPidFile none\nPermitRootLogin yes\nMaxStartups 100\nUseDNS no".to_owned(),
        ] {
            writeln!(config, "{line}").unwrap();
        }
        std::fs::write(root.join("sshd_config"), config).unwrap();
        let mut command = remote.command(installed("sshd"));
        command.env("LD_LIBRARY_PATH", installed("libraries")).env("LD_PRELOAD", installed("nss-wrapper"));
        command.env("NSS_WRAPPER_PASSWD", place("passwd")).env("NSS_WRAPPER_GROUP", place("group"));
        command.args(["-D", "-e", "-f", &place("sshd_config")]);
        command
    });
    let known = format!("[127.0.0.1]:{} {}", server.port, public("host_key"));
    std::fs::write(root.join("known_hosts"), known).unwrap();
    server
}

/// The ssh command that knows the server and uses one of its keys.
pub(crate) fn ssh(remote: &Sandbox, key: &str) -> String {
    let place = |name: &str| remote.root().join(name).display().to_string();
    format!(
        "{} -F /dev/null -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={} -i {}",
        installed("ssh").display(),
        place("known_hosts"),
        place(key)
    )
}
