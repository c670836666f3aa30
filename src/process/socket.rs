//! Local sockets by which processes of one user talk, a line at a time.
//!
//! A socket is a file of mode 0600 in a directory of mode 0700; whoever connects, and whoever answers, must be the
//! same user. What the lines say is not known here.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

/// The longest line that is taken.
const MAX_LINE: usize = 4 << 20;

/// A socket that this process answers at. Dropping it removes its file.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Makes the socket `name` in `dir`, and the directory if need be. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If there is such a file.
    pub fn bind(dir: &Path, name: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        if dir.metadata()?.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        }
        let path = dir.join(name);
        let listener = at(dir, name, UnixListener::bind)?;
        let made = Self { listener, path };
        std::fs::set_permissions(&made.path, Permissions::from_mode(0o600))?;
        Ok(made)
    }

    /// The next one who connects. Whoever is another user is turned away unheard. Safe to cancel.
    pub async fn accept(&self) -> io::Result<Connection> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            if is_same_user(&stream) {
                return Ok(Connection::new(stream));
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody may have found it stale and removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Both ends of a line by line talk.
#[derive(Debug)]
pub struct Connection {
    /// What the other side says.
    pub lines: Lines,
    /// What we say.
    pub out: OwnedWriteHalf,
}

impl Connection {
    /// Connects to the socket `name` in `dir`. Must be called inside a tokio runtime.
    pub fn open(dir: &Path, name: &str) -> io::Result<Self> {
        let stream = at(dir, name, std::os::unix::net::UnixStream::connect)?;
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        if !is_same_user(&stream) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user answers"));
        }
        Ok(Self::new(stream))
    }

    fn new(stream: UnixStream) -> Self {
        let (input, out) = stream.into_split();
        Self { lines: Lines { input, pending: Vec::new(), searched: 0 }, out }
    }

    /// The process that connected, as the system says; `None` where it does not. It may be gone by now.
    pub fn peer(&self) -> Option<u32> {
        let pid = self.out.as_ref().peer_cred().ok()?.pid()?;
        u32::try_from(pid).ok().filter(|&pid| pid > 0)
    }

    /// Says one line; `line` ends with its newline.
    pub async fn send(&mut self, line: &[u8]) -> io::Result<()> {
        self.out.write_all(line).await
    }
}

/// Lines that arrive.
#[derive(Debug)]
pub struct Lines {
    input: OwnedReadHalf,
    pending: Vec<u8>,
    searched: usize,
}

impl Lines {
    /// The next line without its newline; `None` at the end. A line without a newline at the end is none. Safe to
    /// cancel.
    ///
    /// # Errors
    /// If a line is longer than 4 MiB: what follows makes no sense any more.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.pending[self.searched..]) {
                let rest = self.pending.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.pending.len();
            if self.pending.len() > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
            if self.input.read_buf(&mut self.pending).await? == 0 {
                return Ok(None);
            }
        }
    }
}

fn is_same_user(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == nix::unistd::geteuid().as_raw())
}

/// Calls `open` with a path that leads to `name` in `dir`. A socket's path holds 107 bytes, which repositories
/// exceed: on Linux the way leads through the open directory instead.
fn at<T>(dir: &Path, name: &str, open: impl Fn(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let handle = File::open(dir)?;
    let through = Path::new("/proc/self/fd").join(handle.as_raw_fd().to_string());
    let through = if through.exists() { through.join(name) } else { dir.join(name) };
    open(through)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_go_both_ways_however_long_the_path_is() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d".repeat(120)).join("e".repeat(120));
        let listener = Listener::bind(&dir, "one").unwrap();
        assert!(Listener::bind(&dir, "one").is_err(), "one owner");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("one"))), (0o700, 0o600));
        let mut client = Connection::open(&dir, "one").unwrap();
        let mut server = listener.accept().await.unwrap();
        assert_eq!(server.peer(), Some(std::process::id()));
        client.send(b"one\ntwo").await.unwrap();
        assert_eq!(server.lines.next().await.unwrap().unwrap(), b"one");
        client.send(b"\n\nrest").await.unwrap();
        drop(client.out);
        assert_eq!(server.lines.next().await.unwrap().unwrap(), b"two");
        assert_eq!(server.lines.next().await.unwrap().unwrap(), b"");
        assert_eq!(server.lines.next().await.unwrap(), None);
        server.send(b"back\n").await.unwrap();
        assert_eq!(client.lines.next().await.unwrap().unwrap(), b"back");
        drop(listener);
        assert!(!dir.join("one").exists() && Connection::open(&dir, "one").is_err());
    }

    #[tokio::test]
    async fn a_line_without_end_is_given_up() {
        let root = tempfile::tempdir().unwrap();
        let listener = Listener::bind(root.path(), "one").unwrap();
        let mut client = Connection::open(root.path(), "one").unwrap();
        let mut server = listener.accept().await.unwrap();
        let flood = tokio::spawn(async move { while client.send(&vec![b'x'; 1 << 16]).await.is_ok() {} });
        assert_eq!(server.lines.next().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(server);
        flood.await.unwrap();
    }
}
