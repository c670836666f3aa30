//! Asking the endpoint: one question, and its answer as it streams in.
//!
//! Each question has a thread of its own that reads the answer and hands on its events. Whoever does not want to hear
//! more drops the receiver: the thread ends with the next thing that comes, or with its timeout. What a server may send is
//! bounded in every direction.

use super::wire;
use crate::agent::lenient::Object;
use crate::agent::tool::{one_line, start};
use serde::Deserialize;
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;
use tokio::sync::mpsc;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

/// Where questions go if nobody says otherwise.
const ENDPOINT: &str = "https://api.anthropic.com";
/// The version of the API that is spoken.
const VERSION: &str = "2023-06-01";
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(30);
/// How long one answer may take in all.
const ANSWER: Duration = Duration::from_secs(3600);
/// The most bytes of one event, of a whole answer, and of a refusal.
const MAX_EVENT: u64 = 8 << 20;
const MAX_ANSWER: u64 = 64 << 20;
const MAX_REFUSAL: u64 = 64 << 10;

/// Who asks, and by which way. Of no use in a log: it holds the key.
#[derive(Clone, Default)]
pub struct Access {
    /// Sent as `x-api-key`.
    pub key: Option<String>,
    /// Sent as `authorization`, if there is no key.
    pub token: Option<String>,
    /// Another endpoint than Anthropic's.
    pub endpoint: Option<String>,
    /// A proxy's address, and the hosts that are asked without it.
    pub proxy: Option<String>,
    /// Hosts that are asked without it, with commas in between.
    pub no_proxy: Option<String>,
    /// Certificates that are trusted in place of Mozilla's list (PEM).
    pub roots: Option<Vec<u8>>,
    /// How long an answer may stand still.
    pub idle: Duration,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Why there was no answer, or no whole one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody was reached: the words.
    Unreached(String),
    /// The connection broke, or what came cannot be understood.
    Broken(String),
    /// The endpoint refuses.
    Refused {
        status: u16,
        /// `overloaded_error`
        kind: String,
        message: String,
        /// How long it wants us to wait.
        retry_after: Option<Duration>,
    },
}

/// What comes of a question.
#[derive(Debug)]
pub(super) enum Piece {
    /// The data of one event.
    Event(String),
    /// It is over, before its last event or after.
    Over(Failure),
}

/// An endpoint, and who we are there.
pub(super) struct Client {
    agent: Agent,
    url: String,
    header: (&'static str, String),
}

impl Client {
    /// Fails in words for whoever started us.
    pub(super) fn new(access: &Access) -> Result<Self, String> {
        let header = match (&access.key, &access.token) {
            (Some(key), _) => ("x-api-key", key.clone()),
            (None, Some(token)) => ("authorization", format!("Bearer {token}")),
            (None, None) => {
                return Err("there is no key: set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN".to_owned());
            }
        };
        if header.1.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
            return Err(
                "the key holds what no key can hold: a line break, or a letter beyond ASCII".to_owned()
            );
        }
        let base = access.endpoint.as_deref().unwrap_or(ENDPOINT).trim_end_matches('/');
        let uri = base.parse::<ureq::http::Uri>().ok();
        if !uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
        {
            return Err("ANTHROPIC_BASE_URL is no address like https://HOST".to_owned());
        }
        let proxy =
            access.proxy.as_deref().map(|address| proxy(address, access.no_proxy.as_deref())).transpose()?;
        let mut tls = TlsConfig::builder();
        if let Some(pem) = &access.roots {
            tls = tls.root_certs(roots(pem)?);
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // The key goes nowhere else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .tls_config(tls.build())
            .user_agent(concat!("git-orchestra/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(access.idle))
            .timeout_global(Some(ANSWER))
            .build();
        Ok(Self { agent: config.into(), url: format!("{base}/v1/messages"), header })
    }

    /// Asks; what comes of it comes one by one, and [`Piece::Over`] last.
    pub(super) fn ask(&self, body: Vec<u8>) -> mpsc::Receiver<Piece> {
        let (sender, receiver) = mpsc::channel(64);
        let (agent, url, header) = (self.agent.clone(), self.url.clone(), self.header.clone());
        let over = sender.clone();
        let ask = move || {
            let failure = stream(&agent, &url, &header, &body, &sender);
            // Whoever does not listen any more does not want to know.
            let _ = sender.blocking_send(Piece::Over(failure));
        };
        if std::thread::Builder::new().name("answer".into()).spawn(ask).is_err() {
            let _ = over.try_send(Piece::Over(Failure::Broken("no thread could be started".to_owned())));
        }
        receiver
    }
}

fn proxy(address: &str, without: Option<&str>) -> Result<Proxy, String> {
    // An address of a proxy may hold a password: it is not repeated.
    let odd = |_| "the proxy's address cannot be read: it should be like http://HOST:PORT".to_owned();
    let plain = Proxy::new(address).map_err(odd)?;
    let Some(without) = without else { return Ok(plain) };
    let mut builder = Proxy::builder(plain.protocol()).host(plain.host()).port(plain.port());
    if let Some(name) = plain.username() {
        builder = builder.username(name);
    }
    if let Some(password) = plain.password() {
        builder = builder.password(password);
    }
    let hosts = without.split(',').map(str::trim).filter(|host| !host.is_empty());
    hosts.fold(builder, ureq::ProxyBuilder::no_proxy).build().map_err(odd)
}

fn roots(pem: &[u8]) -> Result<RootCerts, String> {
    let items: Result<Vec<_>, _> = parse_pem(pem).collect();
    let items =
        items.map_err(|error| format!("the file that SSL_CERT_FILE names cannot be read: {error}"))?;
    let certificates: Vec<_> = items
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err("the file that SSL_CERT_FILE names holds no certificate".to_owned());
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// Asks and hands on what comes, until it is over or nobody listens.
fn stream(
    agent: &Agent,
    url: &str,
    (name, value): &(&'static str, String),
    body: &[u8],
    to: &mpsc::Sender<Piece>,
) -> Failure {
    let request = agent
        .post(url)
        .header(*name, value)
        .header("anthropic-version", VERSION)
        .header("content-type", "application/json")
        .header("accept", "text/event-stream");
    let mut response = match request.send(body) {
        Ok(response) => response,
        Err(error) if is_unreached(&error) => return Failure::Unreached(one_line(&error.to_string())),
        Err(error) => return Failure::Broken(one_line(&error.to_string())),
    };
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    if status != 200 {
        let retry_after = header("retry-after").and_then(|value| value.trim().parse::<u64>().ok());
        let mut body = Vec::new();
        // What it said as far as it said it.
        let _ = response.body_mut().as_reader().take(MAX_REFUSAL).read_to_end(&mut body);
        return refusal(status, retry_after.map(Duration::from_secs), &body);
    }
    if !header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
        return Failure::Broken("its answer is no stream of events".to_owned());
    }
    let mut reader = BufReader::new(response.body_mut().as_reader().take(MAX_ANSWER));
    loop {
        match next_event(&mut reader) {
            Ok(Some(data)) => {
                if to.blocking_send(Piece::Event(data)).is_err() {
                    return Failure::Broken(String::new());
                }
            }
            Ok(None) if reader.get_ref().limit() == 0 => {
                return Failure::Broken(format!("its answer is longer than {} MiB", MAX_ANSWER >> 20));
            }
            Ok(None) => return Failure::Broken("its answer broke off".to_owned()),
            Err(words) => return Failure::Broken(words),
        }
    }
}

/// Whether an error says that there is no way to the endpoint.
fn is_unreached(error: &ureq::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    use ureq::{Error, Timeout};
    match error {
        Error::HostNotFound
        | Error::ConnectionFailed
        | Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        Error::Io(error) => matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable),
        _ => false,
    }
}

/// The data of the next event; `None` at the end.
pub(super) fn next_event(reader: &mut impl BufRead) -> Result<Option<String>, String> {
    let mut data = String::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_EVENT).read_until(b'\n', &mut line);
        let read = read.map_err(|error| format!("its answer broke off: {}", one_line(&error.to_string())))?;
        if read == 0 {
            return Ok(None);
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == MAX_EVENT {
            return Err(format!("a line of its answer is longer than {} MiB", MAX_EVENT >> 20));
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() && !data.is_empty() {
            return Ok(Some(data));
        }
        if let Some(more) = text.strip_prefix("data:") {
            if (data.len() + more.len()) as u64 > MAX_EVENT {
                return Err(format!("an event of its answer is longer than {} MiB", MAX_EVENT >> 20));
            }
            data.push_str(more.strip_prefix(' ').unwrap_or(more));
        }
    }
}

/// What a refusal says.
fn refusal(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Failure {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Body<'a> {
        #[serde(borrow)]
        error: Object<wire::Error<'a>>,
    }
    let text = String::from_utf8_lossy(body);
    let error = serde_json::from_str::<Body<'_>>(&text).unwrap_or_default().error.0.unwrap_or_default();
    let message =
        error.message.some_text().map_or_else(|| one_line(&text), |words| start(words, 2000).to_owned());
    let kind = error.kind.some_text().unwrap_or("error").to_owned();
    Failure::Refused { status, kind, message, retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stream: &[u8]) -> Vec<Result<Option<String>, String>> {
        let mut reader = BufReader::new(stream);
        let mut events = Vec::new();
        loop {
            let event = next_event(&mut reader);
            let over = !matches!(event, Ok(Some(_)));
            events.push(event);
            if over {
                return events;
            }
        }
    }

    #[test]
    fn events_are_read_however_they_are_written() {
        let stream = b": hello\nevent: a\ndata: {\"a\":\ndata:1}\nid: 7\n\n\n\r\ndata: \xff\r\n\r\ndata: cut";
        let texts: Vec<_> = events(stream).into_iter().map(Result::unwrap).collect();
        assert_eq!(texts, [Some("{\"a\":1}".to_owned()), Some("\u{fffd}".to_owned()), None]);
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let size = usize::try_from(MAX_EVENT).unwrap();
        let mut stream = b"data: ".to_vec();
        stream.resize(size + 10, b'x');
        assert!(events(&stream)[0].is_err());
        let half = [b"data: ".to_vec(), vec![b'x'; size / 2 + 1], b"\n".to_vec()].concat();
        assert!(events(&[half.clone(), half].concat())[0].is_err(), "nor one of many lines");
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        let body =
            br#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: too large"}}"#;
        let Failure::Refused { status: 400, kind, message, .. } = refusal(400, None, body) else { panic!() };
        assert_eq!((kind.as_str(), message.as_str()), ("invalid_request_error", "max_tokens: too large"));
        let Failure::Refused { message, .. } = refusal(502, None, b"<html>Bad\nGateway") else { panic!() };
        assert_eq!(message, "<html>Bad …");
    }

    #[test]
    fn what_cannot_work_is_said_before_anything_is_asked() {
        let with = |key: &str| Access { key: Some(key.to_owned()), ..Access::default() };
        let error = |access: &Access| Client::new(access).err().unwrap();
        assert!(error(&Access::default()).contains("ANTHROPIC_API_KEY"));
        for url in ["api.example.org", "ftp://x", "http://", "x y"] {
            let words = error(&Access { endpoint: Some(url.to_owned()), ..with("k") });
            assert!(words.contains("ANTHROPIC_BASE_URL"), "{url}: {words}");
        }
        let words = error(&with("sk-ant\n-line"));
        assert!(!words.contains("sk-ant"), "{words}");
        assert!(error(&Access { roots: Some(b"nothing".to_vec()), ..with("k") }).contains("no certificate"));
        let proxy = Some("http://user:secret-word@[".to_owned());
        let words = error(&Access { proxy, ..with("k") });
        assert!(words.contains("proxy") && !words.contains("secret-word"), "{words}");
        assert!(!format!("{:?}", with("sk-secret")).contains("secret"));
        let proxy = Some("http://user:word@127.0.0.1:3128".to_owned());
        Client::new(&Access { proxy, no_proxy: Some("localhost, .example.org".into()), ..with("k") })
            .unwrap();
    }
}
