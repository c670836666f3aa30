//! A very small HTTP/1.1 server on the loopback interface: a thread per connection, one request each, bodies
//! streamed in chunks. It knows just what the agent programs need.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `POST`
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The whole body.
    pub(crate) body: Vec<u8>,
}

/// The way back to the client.
pub(crate) struct Responder {
    stream: TcpStream,
}

/// A running server; it ends when dropped, and connections with it.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// Serves `handle` on a free port of 127.0.0.1. A handler's error is the client going away.
    pub(crate) fn start<H>(handle: H) -> Self
    where
        H: Fn(&Request, Responder) -> io::Result<()> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let handle = Arc::new(handle);
        let stop = Arc::clone(&stopped);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let handle = Arc::clone(&handle);
                thread::spawn(move || {
                    let request = read_request(&stream)?;
                    handle(&request, Responder { stream })
                });
            }
        });
        Self { address, stopped }
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees the flag.
        drop(TcpStream::connect(self.address));
    }
}

impl Responder {
    /// Sends a whole answer.
    pub(crate) fn whole(mut self, status: u16, headers: &[(&str, String)], body: &[u8]) -> io::Result<()> {
        self.head(status, "application/json", headers, &format!("content-length: {}\r\n", body.len()))?;
        self.stream.write_all(body)?;
        self.stream.flush()
    }

    /// Begins an event stream; each piece is sent at once.
    pub(crate) fn stream(mut self, headers: &[(&str, String)]) -> io::Result<Pieces> {
        self.head(200, "text/event-stream", headers, "transfer-encoding: chunked\r\n")?;
        Ok(Pieces { stream: self.stream })
    }

    fn head(&mut self, status: u16, kind: &str, headers: &[(&str, String)], length: &str) -> io::Result<()> {
        use std::fmt::Write as _;
        let mut head =
            format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n{length}");
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        self.stream.write_all(head.as_bytes())
    }
}

/// An answer that is under way.
pub(crate) struct Pieces {
    stream: TcpStream,
}

impl Pieces {
    /// Sends some bytes now.
    pub(crate) fn send(&mut self, text: &str) -> io::Result<()> {
        write!(self.stream, "{:x}\r\n{text}\r\n", text.len())?;
        self.stream.flush()
    }

    /// Ends the answer.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.stream.write_all(b"0\r\n\r\n")?;
        self.stream.flush()
    }

    /// Says nothing more, and returns when the client gives up.
    pub(crate) fn hang(mut self) -> io::Result<()> {
        let mut rest = [0; 64];
        while self.stream.read(&mut rest)? > 0 {}
        Ok(())
    }
}

fn read_request(stream: &TcpStream) -> io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let path = words.next().unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { continue };
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        if name == "content-length" {
            length = value.parse().map_err(io::Error::other)?;
        }
        headers.push((name, value));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Request { method, path, headers, body })
}
