//! An estimate of how many tokens a text is, while the program has not said it yet.
//!
//! The tables (o200k, 8.5 MB) are loaded once, by a thread of their own, when the first estimate is wanted. Until
//! they are there the answer is `None`: a guess by length is never shown as an estimate by tiktoken. The table is
//! another vendor's than most agents' models, so the figure is near, not equal; it never mixes with reported ones.

use std::sync::{Once, OnceLock};
use tiktoken_rs::CoreBPE;

static TABLES: OnceLock<Option<CoreBPE>> = OnceLock::new();
static LOADING: Once = Once::new();

/// Longest stretch that is encoded at once: the encoder's time grows faster than a text without spaces.
const STRETCH: usize = 1024;

/// Starts loading the tables if nobody has; returns at once.
pub fn warm_up() {
    LOADING.call_once(|| {
        let load = || TABLES.get_or_init(|| tiktoken_rs::o200k_base().ok()).is_some();
        // Without a thread there is no estimate: the figure is a convenience.
        let _ = std::thread::Builder::new().name("tiktoken".into()).spawn(load);
    });
}

/// About how many tokens `text` is; `None` until the tables are loaded, which the first call starts.
pub fn estimate(text: &str) -> Option<u64> {
    let Some(tables) = TABLES.get() else {
        warm_up();
        return None;
    };
    let tables = tables.as_ref()?;
    let mut rest = text;
    let mut tokens = 0;
    while !rest.is_empty() {
        let limit = super::tool::start(rest, STRETCH).len();
        let end = if limit == rest.len() {
            limit
        } else {
            rest[..limit].rfind(char::is_whitespace).filter(|&at| at > 0).unwrap_or(limit)
        };
        tokens += tables.count_ordinary(&rest[..end]);
        rest = &rest[end..];
    }
    u64::try_from(tokens).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn the_estimate_appears_once_the_tables_are_loaded() {
        let deadline = Instant::now() + Duration::from_secs(60);
        let tokens = loop {
            if let Some(tokens) = estimate("hello world, this is a test") {
                break tokens;
            }
            assert!(Instant::now() < deadline, "the tables were not loaded");
            std::thread::yield_now();
        };
        assert_eq!(tokens, 7);
        assert_eq!(estimate(""), Some(0));
        let prose = "the quick brown fox ".repeat(1000);
        assert_eq!(estimate(&prose).map(|tokens| tokens / 100), Some(40));
        // Not quadratic: a megabyte without a space.
        assert!(estimate(&"x".repeat(1 << 20)).is_some());
    }
}
