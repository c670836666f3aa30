//! What programs say in words only when their model refuses: the HTTP status, and how long they wait.

/// The HTTP status that `words` name: `unexpected status 401 Unauthorized`, `last status: 429`, or a rate limit.
pub(super) fn named_status(words: &str) -> Option<u16> {
    let lower = words.to_ascii_lowercase();
    let number = lower.match_indices("status").find_map(|(at, word)| {
        let rest = lower[at + word.len()..].trim_start_matches([':', ' ', '"', '\'']);
        let digits = rest.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        let whole = !rest[3..].starts_with(|next: char| next.is_ascii_digit());
        digits.parse().ok().filter(|status| whole && (400..600).contains(status))
    });
    let limited = ["rate limit", "too many requests", "resource exhausted", "resource has been exhausted"];
    number.or_else(|| limited.iter().any(|phrase| lower.contains(phrase)).then_some(429))
}

/// How long `words` say that the program waits: `try again in 1.2s`, `Retrying after 5622ms`.
pub(super) fn pause_ms(words: &str) -> Option<u64> {
    let rest =
        ["Retrying after ", "try again in "].into_iter().find_map(|phrase| words.split_once(phrase))?.1;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
    let number: f64 = rest[..end].trim_end_matches('.').parse().ok()?;
    let unit = match &rest[end..] {
        unit if unit.starts_with("ms") => 1.0,
        unit if unit.starts_with('s') => 1000.0,
        unit if unit.starts_with('m') => 60_000.0,
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    Some((number * unit).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_found_in_words() {
        for (words, status) in [
            ("unexpected status 401 Unauthorized: no", Some(401)),
            ("exceeded retry limit, last status: 429 Too Many Requests", Some(429)),
            ("unexpected status 529 <unknown status code>: overloaded", Some(529)),
            ("rate limit exceeded: Rate limit reached.", Some(429)),
            ("Attempt 1 failed with status 503. Retrying with backoff...", Some(503)),
            ("status 4290", None),
            ("stream disconnected before completion", None),
            ("status é", None),
            ("", None),
        ] {
            assert_eq!(named_status(words), status, "{words}");
        }
    }

    #[test]
    fn pauses_are_found_in_words() {
        assert_eq!(pause_ms("Please try again in 1.2s."), Some(1200));
        assert_eq!(pause_ms("Suggested retry after 1s.. Retrying after 5622ms..."), Some(5622));
        assert_eq!(pause_ms("try again in 6m0s"), Some(360_000));
        assert_eq!(pause_ms("try again in a while"), None);
        assert_eq!(pause_ms("later"), None);
    }
}
