//! What holds of any bytes that a remote or a disk may hold: for the fuzzers, and for the tests. Each function fails by a
//! panic.

use super::merge::merge;
use super::{Entity, Field, Record, journal};
use crate::model::{Agent, Decision, Finding, Merge, Pipeline, Task};

/// A record that can be read is written and read again as the same bytes, and two of them become one whoever merges them,
/// once.
pub fn record(data: &[u8]) {
    let (a, b) = split(data);
    let Ok(a) = Record::parse(a) else { return };
    let bytes = a.to_bytes();
    let again = Record::parse(&bytes).expect("what we wrote can be read");
    assert_eq!(again.to_bytes(), bytes);
    entities(&a);
    let Ok(b) = Record::parse(b) else { return };
    for known in
        [Agent::FIELDS, Task::FIELDS, Finding::FIELDS, Decision::FIELDS, Merge::FIELDS, Pipeline::FIELDS]
    {
        one_of_two(known, &a, &b);
    }
}

fn one_of_two(known: &[Field], a: &Record, b: &Record) {
    let merged = merge(known, a, b);
    assert_eq!(merged.to_bytes(), merge(known, b, a).to_bytes(), "in either order");
    assert_eq!(merge(known, &merged, b).to_bytes(), merge(known, &merged, &merged).to_bytes(), "once");
    entities(&merged);
}

fn entities(record: &Record) {
    let _ = record.entity::<Agent>();
    let _ = record.entity::<Task>();
    let _ = record.entity::<Finding>();
    let _ = record.entity::<Decision>();
    let _ = record.entity::<Merge>();
    let _ = record.entity::<Pipeline>();
    record.deleted();
}

/// A journal is whole up to where it is torn, and its segments are all of it.
pub fn journal(data: &[u8]) {
    let whole = journal::whole(data);
    assert!(data.starts_with(whole));
    assert_eq!(journal::whole(whole), whole);
    assert_eq!(journal::parse(whole).count(), whole.split(|&byte| byte == b'\n').count() - 1);
    assert_eq!(journal::segments(data).flatten().flatten().collect::<Vec<_>>(), data);
}

fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    (&data[..at], data.get(at + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::OnceLock;

    /// Every record that was written by any build.
    fn written() -> &'static [Vec<u8>] {
        static FOUND: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
        FOUND.get_or_init(|| {
            let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/records/v1");
            let mut found: Vec<_> = std::fs::read_dir(dir)
                .unwrap()
                .map(|file| std::fs::read(file.unwrap().path()).unwrap())
                .collect();
            found.sort();
            found
        })
    }

    /// A record, perhaps with a word taken out, put elsewhere or replaced.
    fn bent() -> impl Strategy<Value = Vec<u8>> {
        let index = any::<prop::sample::Index>;
        (index(), index(), index(), 0_usize..40, any::<bool>()).prop_map(|(which, from, to, len, bends)| {
            let mut record = which.get(written()).clone();
            if bends {
                let from = from.index(record.len());
                let piece = record[from..(from + len).min(record.len())].to_vec();
                let to = to.index(record.len());
                let end = (to + len / 2).min(record.len());
                record.splice(to..end, piece);
            }
            record
        })
    }

    #[test]
    fn stamps_of_parts_of_a_whole_do_not_depend_on_the_order() {
        let stamp = "1795000000001-0-g3mvk8";
        record(
            format!(
                "{{\"_s\":{{\"{stamp}\":[\"title\",\"priority:a\"]}},\"title\":\"t\"}}\0{{\"_s\":{{\"{stamp}\":[\"title\"]}},\"title\":\"t\"}}"
            )
            .as_bytes(),
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn records_of_anybody_are_merged_or_refused(a in bent(), b in bent()) {
            let mut data = a.clone();
            data.push(0);
            data.extend(b);
            record(&data);
            journal(&data);
        }
    }
}
