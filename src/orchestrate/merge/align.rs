//! Which line of one version of a file is which of another.

use similar::{Algorithm, DiffTag, capture_diff_slices};
use std::hash::Hash;

/// For each line of `to` the line of `from` that it is, as git's merge would have it.
pub(super) fn align<T: Hash + Ord>(from: &[T], to: &[T]) -> Vec<Option<usize>> {
    let mut aligned = vec![None; to.len()];
    for op in capture_diff_slices(Algorithm::Histogram, from, to) {
        if let (DiffTag::Equal, old, new) = op.as_tag_tuple() {
            for (old, new) in old.zip(new) {
                aligned[new] = Some(old);
            }
        }
    }
    aligned
}
