//! What a choice between two sides leaves out, before it is made.

use super::files::Lines;
use super::lines::{Change, compare};

/// A line that one side brought and that is not there as it brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum LeftOut {
    /// An added one that is gone: where in that side.
    Added(usize),
    /// A removed one that is back: where it may have been in the version before both.
    Removed(Vec<usize>),
}

/// What `chosen` lacks of the first side and of the other. Counted as a receipt counts.
pub(in super::super) fn left_out(base: &[u8], sides: [&[u8]; 2], chosen: &[u8]) -> [Vec<LeftOut>; 2] {
    let mut lines = Lines::default();
    let [base, ours, theirs, chosen] = [base, sides[0], sides[1], chosen].map(|text| lines.tokens(text));
    let changes = [Change { base: &base, tip: &ours }, Change { base: &base, tip: &theirs }];
    let found = compare(&changes, &chosen, &|token| lines.tells(token));
    let mut all = [Vec::new(), Vec::new()];
    for line in found.missing.iter().filter(|line| line.added) {
        all[line.who].push(LeftOut::Added(line.at));
    }
    for &(who, at, _) in &found.superseded {
        all[who].push(LeftOut::Added(at));
    }
    for line in &found.back {
        let was = (0..base.len()).filter(|&at| base[at] == line.token).collect();
        all[line.who].push(LeftOut::Removed(was));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(left: &[LeftOut]) -> (usize, usize) {
        let added = left.iter().filter(|line| matches!(line, LeftOut::Added(_))).count();
        (added, left.len() - added)
    }

    #[test]
    fn a_side_that_is_not_taken_is_left_out_line_by_line() {
        let (base, ours, theirs) = (b"a\nb\n", b"a\nblue\n", b"a\ngrey\nfox\n");
        let of = |chosen: &[u8]| left_out(base, [ours, theirs], chosen).map(|left| counted(&left));
        assert_eq!(of(ours), [(0, 0), (2, 0)]);
        assert_eq!(of(theirs), [(1, 0), (0, 0)]);
        assert_eq!(of(b"a\nblue\ngrey\nfox\n"), [(0, 0), (0, 0)]);
        assert_eq!(of(base), [(1, 1), (2, 0)], "a line that both removed is back once");
        assert_eq!(of(b""), [(1, 0), (2, 0)]);
    }

    #[test]
    fn a_deletion_that_is_not_taken_brings_lines_back() {
        let [ours, theirs] = left_out(b"a\nb\n", [b"a\nb\nc\n", b""], b"a\nb\nc\n");
        assert_eq!((ours, theirs), (vec![], vec![LeftOut::Removed(vec![0]), LeftOut::Removed(vec![1])]));
        let [ours, theirs] = left_out(b"a\nb\n", [b"a\nb\nc\n", b""], b"");
        assert_eq!((ours, theirs), (vec![LeftOut::Added(2)], vec![]));
    }
}
