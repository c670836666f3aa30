//! Asking the model until it answers: what is worth another try, and when.

use super::http::Failure;
use std::time::Duration;

/// After how many tries in vain it is given up.
pub(super) const TRIES: u64 = 10;
/// After how many nobody is thought to be there.
const UNREACHED: u64 = 3;
/// The first pause, and the longest that is our own.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(32);

impl Failure {
    /// The HTTP status, if it came so far.
    pub(super) const fn status(&self) -> Option<u16> {
        match self {
            Self::Unreached(_) | Self::Broken(_) => None,
            Self::Refused { status, .. } => Some(*status),
        }
    }

    /// What an answer says that breaks off with an error.
    pub(super) fn in_the_middle(kind: String, message: String) -> Self {
        let status = match kind.as_str() {
            "invalid_request_error" => 400,
            "authentication_error" => 401,
            "billing_error" => 402,
            "permission_error" => 403,
            "not_found_error" => 404,
            "request_too_large" => 413,
            "rate_limit_error" => 429,
            "timeout_error" => 504,
            "overloaded_error" => 529,
            _ => 500,
        };
        Self::Refused { status, kind, message, retry_after: None }
    }

    /// Whether it may go well the next time.
    pub(super) const fn passes(&self) -> bool {
        match self {
            Self::Unreached(_) | Self::Broken(_) => true,
            Self::Refused { status, .. } => matches!(status, 408 | 409 | 429 | 500..),
        }
    }

    /// Whether the API is not to be had at all, after so many tries: no way there, no key that counts, no money.
    pub(super) fn is_lasting(&self, attempt: u64) -> bool {
        match self {
            Self::Unreached(_) => attempt >= UNREACHED,
            Self::Broken(_) => false,
            Self::Refused { status, message, .. } => {
                matches!(status, 401..=403)
                    || *status == 400 && message.to_ascii_lowercase().contains("credit balance")
            }
        }
    }

    /// In a word, for whoever counts them.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Unreached(words) | Self::Broken(words) => words,
            Self::Refused { kind, .. } => kind.trim_end_matches("_error"),
        }
    }

    /// In a sentence, for whoever has to mend it.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Unreached(words) | Self::Broken(words) => format!("its model cannot be reached: {words}"),
            Self::Refused { status: status @ (401 | 403), message, .. } => format!(
                "its model refuses the key: status {status}, {message}; ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN holds it"
            ),
            Self::Refused { status, kind, message, .. } => {
                format!("its model refuses: status {status}, {kind}: {message}")
            }
        }
    }

    /// How long to wait before the `attempt`th try; `chance` (from 0 to 255) keeps those apart that failed together.
    pub(super) fn pause(&self, attempt: u64, chance: u8) -> Duration {
        if let Self::Refused { retry_after: Some(wanted), .. } = self {
            return (*wanted).max(FIRST);
        }
        let doubled = FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(LONGEST);
        doubled.mul_f64(f64::from(chance) / 1024.0 + 0.875)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, retry_after: Option<u64>) -> Failure {
        let (kind, message) = ("rate_limit_error".to_owned(), "slow down".to_owned());
        Failure::Refused { status, kind, message, retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn pauses_grow_to_a_limit_and_the_endpoint_may_choose_one() {
        let pauses: Vec<_> = [1, 2, 3, 7, 8, 60].map(|n| refused(500, None).pause(n, 128).as_millis()).into();
        assert_eq!(pauses, [500, 1000, 2000, 32_000, 32_000, 32_000]);
        assert!(refused(500, None).pause(1, 0) < refused(500, None).pause(1, 255));
        assert_eq!(refused(429, Some(90)).pause(1, 0), Duration::from_secs(90));
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        for (status, passes) in [
            (400, false),
            (401, false),
            (402, false),
            (403, false),
            (404, false),
            (429, true),
            (500, true),
            (529, true),
        ] {
            assert_eq!(refused(status, None).passes(), passes, "{status}");
        }
        assert!(Failure::Broken("reset".into()).passes());
        for (failure, attempt, lasting) in [
            (refused(401, None), 1, true),
            (refused(402, None), 1, true),
            (refused(429, None), 9, false),
            (refused(400, None), 1, false),
            (refused(529, None), 9, false),
            (Failure::Broken("reset".into()), 9, false),
            (Failure::Unreached("refused".into()), 2, false),
            (Failure::Unreached("refused".into()), 3, true),
            (Failure::in_the_middle("x".into(), "x".into()), 9, false),
        ] {
            assert_eq!(failure.is_lasting(attempt), lasting, "{failure:?}");
        }
        let message = "Your credit balance is too low to access the Anthropic API.".to_owned();
        let kind = "invalid_request_error".to_owned();
        assert!(Failure::Refused { status: 400, kind, message, retry_after: None }.is_lasting(1));
        let late = Failure::in_the_middle("overloaded_error".into(), "Overloaded".into());
        assert_eq!((late.status(), late.name(), late.passes()), (Some(529), "overloaded", true));
    }

    #[test]
    fn a_limit_is_known_as_one_by_its_words_and_a_bad_key_is_not() {
        let known = |failure: Failure| {
            crate::agent::limit_words(&failure.words(), crate::model::Timestamp(0)).is_some()
        };
        assert!(known(refused(429, None)) && known(refused(529, None)));
        assert!(
            !known(refused(401, None))
                && !known(refused(400, None))
                && !known(Failure::Broken("reset".into()))
        );
    }
}
