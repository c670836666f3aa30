//! What a choice between two sides leaves out, before it is made.

use super::files::Lines;
use super::lines::{Change, compare};

/// Lines that one side brought and that are not there as it brought them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) struct LeftOut {
    /// Added ones that are gone.
    pub(in super::super) added: usize,
    /// Removed ones that are back.
    pub(in super::super) removed: usize,
}

/// What `chosen` lacks of the first side and of the other. Counted as a receipt counts.
pub(in super::super) fn left_out(base: &[u8], sides: [&[u8]; 2], chosen: &[u8]) -> [LeftOut; 2] {
    let mut lines = Lines::default();
    let [base, ours, theirs, chosen] = [base, sides[0], sides[1], chosen].map(|text| lines.tokens(text));
    let changes = [Change { base: &base, tip: &ours }, Change { base: &base, tip: &theirs }];
    let found = compare(&changes, &chosen, &|token| lines.tells(token));
    let mut all = [LeftOut::default(); 2];
    for line in found.missing.iter().filter(|line| line.added) {
        all[line.who].added += 1;
    }
    for &(who, ..) in &found.superseded {
        all[who].added += 1;
    }
    for line in &found.back {
        all[line.who].removed += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_that_is_not_taken_is_left_out_line_by_line() {
        let (base, ours, theirs) = (b"a\nb\n", b"a\nblue\n", b"a\ngrey\nfox\n");
        let of =
            |chosen: &[u8]| left_out(base, [ours, theirs], chosen).map(|left| (left.added, left.removed));
        assert_eq!(of(ours), [(0, 0), (2, 0)]);
        assert_eq!(of(theirs), [(1, 0), (0, 0)]);
        assert_eq!(of(b"a\nblue\ngrey\nfox\n"), [(0, 0), (0, 0)]);
        assert_eq!(of(base), [(1, 1), (2, 0)], "a line that both removed is back once");
        assert_eq!(of(b""), [(1, 0), (2, 0)]);
    }

    #[test]
    fn a_deletion_that_is_not_taken_brings_lines_back() {
        let [ours, theirs] = left_out(b"a\nb\n", [b"a\nb\nc\n", b""], b"a\nb\nc\n");
        assert_eq!((ours, theirs), (LeftOut::default(), LeftOut { added: 0, removed: 2 }));
        let [ours, theirs] = left_out(b"a\nb\n", [b"a\nb\nc\n", b""], b"");
        assert_eq!((ours, theirs), (LeftOut { added: 1, removed: 0 }, LeftOut::default()));
    }
}
