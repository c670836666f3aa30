//! Which branch a gate fails with, in as few runs as possible.
//!
//! Pure: it knows how many commits there are, and asks whether the gates pass after the first `k` of them; after none is
//! the target itself.

/// How the commits of a merge are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// All at once, and by halves if that fails: few runs where most branches are good.
    Batch,
    /// One after the other: no more runs than that where many are bad.
    Single,
}

/// What trying them gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The gates pass after all.
    Passes,
    /// They fail on the target, before anything is merged.
    Target,
    /// They pass after one commit less than this and fail after it.
    Fails(usize),
}

/// At least this share of the branches of before, in hundredths, was bad where one at a time is no worse.
const BAD: usize = 25;
/// Of fewer branches than this nothing is concluded.
const ENOUGH: usize = 8;

impl Pace {
    /// The better one, by how many of the branches of before were bad.
    pub(super) const fn by(tried: usize, bad: usize) -> Self {
        if tried >= ENOUGH && bad * 100 >= tried * BAD { Self::Single } else { Self::Batch }
    }
}

/// Finds a commit of `count` with which the gates begin to fail.
pub(super) fn search<E>(
    count: usize,
    pace: Pace,
    mut passes: impl FnMut(usize) -> Result<bool, E>,
) -> Result<Found, E> {
    let (mut good, mut bad) = (0, count);
    match pace {
        Pace::Batch => {
            if passes(count)? {
                return Ok(Found::Passes);
            }
            while bad - good > 1 {
                let middle = good + (bad - good) / 2;
                if passes(middle)? { good = middle } else { bad = middle }
            }
        }
        Pace::Single => loop {
            if good == count {
                return Ok(Found::Passes);
            }
            if !passes(good + 1)? {
                bad = good + 1;
                break;
            }
            good += 1;
        },
    }
    // Only a target that passes makes the first branch guilty.
    if good == 0 && !passes(0)? { Ok(Found::Target) } else { Ok(Found::Fails(bad)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    /// Searches where the gates fail after each commit for which `fails` says so, and counts the runs.
    fn tried(count: usize, pace: Pace, fails: impl Fn(usize) -> bool) -> (Found, usize) {
        let mut runs = 0;
        let found = search(count, pace, |at| {
            runs += 1;
            Ok::<_, Infallible>(!fails(at))
        });
        (found.unwrap(), runs)
    }

    fn halvings(count: usize) -> usize {
        count.next_power_of_two().ilog2() as usize
    }

    #[test]
    fn a_good_batch_is_one_run_and_a_bad_one_few_more() {
        assert_eq!(tried(8, Pace::Batch, |_| false), (Found::Passes, 1));
        assert_eq!(tried(8, Pace::Batch, |at| at >= 5), (Found::Fails(5), 4));
        assert_eq!(tried(8, Pace::Batch, |at| at >= 1), (Found::Fails(1), 5), "the target too");
        assert_eq!(tried(1, Pace::Batch, |at| at >= 1), (Found::Fails(1), 2));
        assert_eq!(tried(8, Pace::Batch, |_| true), (Found::Target, 5));
        assert_eq!(tried(3, Pace::Single, |at| at >= 2), (Found::Fails(2), 2));
        assert_eq!(tried(3, Pace::Single, |_| true), (Found::Target, 2));
        assert_eq!(
            (Pace::by(7, 7), Pace::by(8, 1), Pace::by(8, 2)),
            (Pace::Batch, Pace::Batch, Pace::Single)
        );
    }

    proptest! {
        #[test]
        fn the_guilty_one_is_always_found_in_the_runs_expected(count in 1_usize..200, at in 1_usize..200) {
            let guilty = 1 + at % count;
            for (pace, most) in [(Pace::Batch, 2 + halvings(count)), (Pace::Single, guilty + 1)] {
                let (found, runs) = tried(count, pace, |at| at >= guilty);
                prop_assert_eq!(found, Found::Fails(guilty));
                prop_assert!(runs <= most, "{:?}: {} runs of {}", pace, runs, most);
            }
        }

        #[test]
        fn whatever_fails_where_it_says_so_passes_before(
            fails in proptest::collection::vec(any::<bool>(), 2..40),
        ) {
            let count = fails.len() - 1;
            for pace in [Pace::Batch, Pace::Single] {
                match tried(count, pace, |at| fails[at]).0 {
                    Found::Passes => prop_assert!(!fails[count]),
                    Found::Target => prop_assert!(fails[0] && fails[1]),
                    Found::Fails(at) => prop_assert!(fails[at] && !fails[at - 1]),
                }
            }
        }
    }
}
