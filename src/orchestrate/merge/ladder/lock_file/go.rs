//! `go.sum`: a set of lines `module version hash`, in Go's order.

use super::three_way;
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(super) fn merge(base: &str, ours: &str, theirs: &str) -> Option<String> {
    let (base, all) = (hashes(base)?, [hashes(ours)?, hashes(theirs)?]);
    let mut merged = BTreeMap::new();
    for &module in all.iter().flat_map(BTreeMap::keys) {
        let at = |side: &BTreeMap<_, &str>| side.get(&module).map(|hash| (*hash).to_owned());
        // Two hashes for one version are never settled by a rule.
        if let Some(hash) = three_way(at(&base), at(&all[0]), at(&all[1]))? {
            merged.insert(module, hash);
        }
    }
    // As written by Go: sorted by module, then by version.
    let mut keys: Vec<_> = merged.into_iter().collect();
    keys.sort_by(|((a, av), _), ((b, bv), _)| a.cmp(b).then_with(|| by_version(av, bv)));
    let mut text = String::new();
    for ((module, version), hash) in keys {
        writeln!(text, "{module} {version} {hash}").expect("a string takes everything");
    }
    Some(text)
}

type Hashes<'a> = BTreeMap<(&'a str, &'a str), &'a str>;

/// `None` for a file that is no `go.sum`.
fn hashes(text: &str) -> Option<Hashes<'_>> {
    let mut found = Hashes::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (module, version, hash) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || found.insert((module, version), hash).is_some_and(|other| other != hash)
        {
            return None;
        }
    }
    Some(found)
}

/// `v1.2.10` comes after `v1.2.9`, `v1.2.10-rc1` before it, and `…/go.mod` right after the version it belongs to.
fn by_version(a: &str, b: &str) -> std::cmp::Ordering {
    let parts = |text: &str| {
        let (version, of_mod) = text.strip_suffix("/go.mod").map_or((text, false), |version| (version, true));
        let version = version.trim_start_matches('v');
        let version = version.split_once('+').map_or(version, |(version, _)| version);
        let (numbers, pre) = version.split_once('-').unwrap_or((version, ""));
        let numbers: Vec<u64> = numbers.split('.').map(|number| number.parse().unwrap_or(0)).collect();
        let pre: Vec<(bool, u64, String)> = pre
            .split('.')
            .filter(|part| !part.is_empty())
            .map(|part| match part.parse() {
                Ok(number) => (false, number, String::new()),
                Err(_) => (true, 0, part.to_owned()),
            })
            .collect();
        // A release comes after what leads to it.
        (numbers, pre.is_empty(), pre, of_mod)
    };
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str =
        "a.org/x v1.2.9 h1:one=\na.org/x v1.2.9/go.mod h1:two=\nb.org/y v0.1.0/go.mod h1:three=\n";

    #[test]
    fn what_either_side_added_is_there_and_what_one_tidied_is_gone() {
        let ours = "a.org/x v1.2.9 h1:one=\na.org/x v1.2.9/go.mod h1:two=\na.org/x v1.2.10 h1:four=\n\
                    b.org/y v0.1.0/go.mod h1:three=\n";
        let theirs = "a.org/x v1.2.9 h1:one=\na.org/x v1.2.9/go.mod h1:two=\nc.org/z v1.0.0-rc.2 h1:five=\n\
                      c.org/z v1.0.0 h1:six=\n";
        let expected = "a.org/x v1.2.9 h1:one=\na.org/x v1.2.9/go.mod h1:two=\na.org/x v1.2.10 h1:four=\n\
                        c.org/z v1.0.0-rc.2 h1:five=\nc.org/z v1.0.0 h1:six=\n";
        assert_eq!(merge(BASE, ours, theirs).as_deref(), Some(expected));
        assert_eq!(merge(BASE, theirs, ours).as_deref(), Some(expected), "whichever landed first");
    }

    #[test]
    fn two_hashes_of_one_version_are_a_persons_business() {
        let (ours, theirs) = ("a.org/x v2.0.0 h1:good=\n", "a.org/x v2.0.0 h1:evil=\n");
        assert_eq!(merge("", ours, theirs), None);
        assert_eq!(merge("", "<<<<<<< HEAD\n", theirs), None, "no go.sum");
    }
}
