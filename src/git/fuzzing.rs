//! What holds of any bytes that git may print: for the fuzzers, and for the tests. Each function fails by a panic.

use super::{diff, leftover, merge, worktree};
use crate::model::LineRange;

/// What is read of a diff is one range after the other.
pub fn diff(data: &[u8]) {
    let end = |range: &LineRange| u64::from(range.start) + u64::from(range.len);
    for change in diff::parse_patches(data).unwrap_or_default() {
        assert_eq!(change.old_path.is_some(), change.status == diff::ChangeStatus::Renamed);
        assert!(change.hunks.iter().all(|hunk| end(&hunk.old) + end(&hunk.new) > 0));
    }
    let _ = diff::parse_numstat(data);
    leftover::parse_status(data);
    for checkout in worktree::parse_list(data) {
        assert!(checkout.commit.is_none_or(|commit| !commit.is_null()));
    }
}

/// Of a merge every conflict has a version, and what is said of it is among the messages.
pub fn merge(data: &[u8]) {
    let Some(merged) = merge::parse_merge(data) else { return };
    for conflict in &merged.conflicts {
        assert!(conflict.base.is_some() || conflict.ours.is_some() || conflict.theirs.is_some());
        assert!(
            conflict.message.is_empty()
                || merged.messages.iter().any(|one| conflict.message.contains(&one.text))
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What git prints, in pieces.
    const PIECES: [&str; 24] = [
        ":100644 100755 ",
        "0123456789012345678901234567890123456789",
        " ",
        " M\0",
        " R100\0",
        " T\0",
        "a b\0",
        "\0",
        "diff --git a/x b/x\n",
        "@@ -1,2 +4294967295,0 @@\n",
        "@@ -0,0 +1 @@ fn\n",
        "-old\n",
        "+new\n",
        "\\ No newline at end of file\n",
        "Binary files a and b differ\n",
        "\n",
        "18446744073709551615\t18446744073709551615\tx\0",
        "1\0",
        "0\0",
        "100644 0123456789012345678901234567890123456789 2\tx\0",
        "CONFLICT (contents)\0",
        "worktree /x\0HEAD ",
        "branch refs/heads/x\0",
        "1 .M N... 100644 100644 100644 0 0 x\0",
    ];

    proptest! {
        #[test]
        fn whatever_git_prints_is_read_or_refused(
            pieces in proptest::collection::vec(0_usize..PIECES.len(), 0..20),
            junk in proptest::collection::vec(any::<u8>(), 0..6),
        ) {
            let mut data: Vec<u8> = pieces.iter().flat_map(|&piece| PIECES[piece].bytes()).collect();
            diff(&data);
            merge(&data);
            data.extend(junk);
            diff(&data);
            merge(&data);
        }
    }
}
