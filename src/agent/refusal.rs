//! What programs say in words only when their model refuses: the HTTP status, and how long they wait.

use super::resets;
use crate::model::Timestamp;

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

/// Whether `words` say that a limit is reached which passes by itself; and when, if they say that too.
pub fn limit_words(words: &str, now: Timestamp) -> Option<Option<Timestamp>> {
    let lower = words.to_ascii_lowercase();
    let until = passes(words, &lower, now);
    // What only money or another setting helps. More credits are offered also where waiting does.
    if ["billing", "spend limit", "not_found"].iter().any(|phrase| lower.contains(phrase))
        || lower.contains("credit") && until.is_none()
    {
        return None;
    }
    let phrases =
        ["usage limit", "limit reached", "overloaded", "too many requests", "quota exceeded", "rate limit"];
    let limited = matches!(named_status(words), Some(429 | 529))
        || lower.contains("hit your") && lower.contains("limit")
        || lower.contains("api error") && (lower.contains("429") || lower.contains("529"))
        || phrases.iter().any(|phrase| lower.contains(phrase));
    limited.then_some(until)
}

/// When a limit passes, if `words` say so; `lower` is the same in small letters.
fn passes(words: &str, lower: &str, now: Timestamp) -> Option<Timestamp> {
    let stamp = lower.split('|').skip(1).find_map(|rest| {
        let digits = rest.trim_start().get(..10)?;
        digits.parse::<u64>().ok().map(|seconds| Timestamp(seconds.saturating_mul(1000)))
    });
    let spans = ["try again in ", "resets in ", "reset after ", "retry in "];
    let span = || spans.iter().find_map(|phrase| spelled_span(lower.split_once(phrase)?.1));
    let after = || span().map(|ms| Timestamp(now.0.saturating_add(ms)));
    stamp.or_else(after).or_else(|| resets::moment(words, now))
}

/// The time span that `words` begin with, in milliseconds: `2h 5m`, `3 days 4 hours 5 minutes`, `56s`.
fn spelled_span(words: &str) -> Option<u64> {
    let (mut rest, mut sum) = (words, 0_u64);
    loop {
        rest = rest.trim_start_matches([' ', ',']).trim_start_matches("and ");
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let Ok(number) = rest[..digits].parse::<u64>() else { break };
        let after = rest[digits..].trim_start();
        let unit = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let factor = match &after[..unit] {
            "ms" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            _ => break,
        };
        sum = sum.saturating_add(number.saturating_mul(factor));
        rest = &after[unit..];
    }
    (sum > 0).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_pass_are_told_from_those_that_do_not() {
        let now = Timestamp(1_000);
        let minutes = |minutes: u64| Some(Some(Timestamp(1_000 + minutes * 60_000)));
        let minutes_after_midnight = |minutes: u64| Some(Some(Timestamp(minutes * 60_000)));
        for (words, limit) in [
            ("Claude AI usage limit reached|1795273200", Some(Some(Timestamp(1_795_273_200_000)))),
            ("You've hit your session limit", Some(None)),
            ("API Error: Repeated 529 Overloaded errors", Some(None)),
            ("API Error: Request rejected (429) - try again in 2 hours and 5 minutes.", minutes(125)),
            ("You've hit your usage limit. Try again in 1 day 3m.", minutes(1443)),
            ("You've hit your session limit · resets 12:01am (UTC)", minutes_after_midnight(1)),
            (
                "You've hit your usage limit. Visit https://x.y to purchase more credits or try again at Jan 2nd, \
                 1970 0:30 (UTC).",
                minutes_after_midnight(1470),
            ),
            ("exceeded retry limit, last status: 429 Too Many Requests", Some(None)),
            ("You've hit your monthly spend limit.", None),
            ("Your credit balance is too low", None),
            ("API Error: 401 invalid x-api-key", None),
            ("the tests fail", None),
        ] {
            assert_eq!(limit_words(words, now), limit, "{words}");
        }
    }

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
