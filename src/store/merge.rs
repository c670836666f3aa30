//! Merging two versions of one record, field by field and without a merge base. Pure: it reads nothing.
//!
//! The result does not depend on the order or the number of merges: it is commutative, associative and idempotent,
//! because every field takes the greater of two values by an order that nobody disagrees about. What a newer build
//! added is merged by the shape of its stamps.

use super::record::{Rivals, elements, newest_of_each};
use super::{Field, Record, Stamp};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Counts the takeovers of a task's claim. Whoever holds the greater one decides the fields below, whatever the
/// clocks say, so that an ousted holder cannot overwrite its successor.
const FENCE: &str = "fence";
/// What the holder of a task's claim decides.
const FENCED: &[&str] = &["status", "assignee", "holder", "result"];

/// The merge of `a` and `b`, which are versions of one entity with these fields.
pub(super) fn merge(known: &[Field], a: &Record, b: &Record) -> Record {
    let mut merged = Record::default();
    let fence = fence(a).cmp(&fence(b));
    for name in names(a, b) {
        let field = known.iter().find(|field| field.name() == name).copied();
        match field.map_or_else(|| shape(&name, a, b), Shape::from) {
            Shape::Scalar if Record::is_text(&name) => text(&name, a, b, fence, &mut merged),
            Shape::Scalar => {
                let winner = match fence {
                    _ if name == FENCE => greater_fence(a, b),
                    std::cmp::Ordering::Greater if FENCED.contains(&name.as_str()) => a,
                    std::cmp::Ordering::Less if FENCED.contains(&name.as_str()) => b,
                    _ => {
                        greater(&name, a, b, |record| (record.stamp(&name), bytes(record.fields.get(&name))))
                    }
                };
                take(&name, winner, &mut merged);
            }
            Shape::Set => set(&name, a, b, &mut merged),
            Shape::Map => map(&name, a, b, &mut merged),
        }
    }
    merged
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Scalar,
    Set,
    Map,
}

impl From<Field> for Shape {
    fn from(field: Field) -> Self {
        match field {
            Field::Scalar(_) => Self::Scalar,
            Field::Set(_) => Self::Set,
            Field::Map(_) => Self::Map,
        }
    }
}

/// Every field of either, also those of which only a stamp is left.
fn names(a: &Record, b: &Record) -> BTreeSet<String> {
    let stamped = |record: &Record| {
        let base = |key: &String| key.split(':').next().unwrap_or_default().to_owned();
        record.stamps.keys().map(base).collect::<Vec<_>>()
    };
    let mut names: BTreeSet<String> = a.fields.keys().chain(b.fields.keys()).cloned().collect();
    names.extend(stamped(a));
    names.extend(stamped(b));
    names
}

/// How a field that this build does not know is merged: its writer stamped it as what it is.
fn shape(name: &str, a: &Record, b: &Record) -> Shape {
    let prefix = format!("{name}:");
    let mut records = [a, b].into_iter();
    let by_element =
        records.clone().any(|record| record.stamps.keys().any(|key| key.starts_with(prefix.as_str())));
    if !by_element || records.clone().any(|record| record.stamps.contains_key(name)) {
        return Shape::Scalar;
    }
    let is_strings = |value: &Value| value.as_array().is_some_and(|array| array.iter().all(Value::is_string));
    let fits =
        |fit: &dyn Fn(&Value) -> bool| records.clone().filter_map(|record| record.fields.get(name)).all(fit);
    if fits(&is_strings) {
        return Shape::Set;
    }
    if records.all(|record| record.fields.get(name).is_none_or(Value::is_object)) {
        return Shape::Map;
    }
    Shape::Scalar
}

fn fence(record: &Record) -> i64 {
    record.fields.get(FENCE).and_then(Value::as_i64).unwrap_or(0)
}

fn greater_fence<'r>(a: &'r Record, b: &'r Record) -> &'r Record {
    greater(FENCE, a, b, |record| (fence(record), record.stamp(FENCE), bytes(record.fields.get(FENCE))))
}

/// The record that `key` is greater of. If they are equal it matters only to what else [`take`] takes of the field, which
/// no build writes for one that is a whole: stamps of its parts, and texts that lost.
fn greater<'r, K: Ord>(
    name: &str,
    a: &'r Record,
    b: &'r Record,
    key: impl Fn(&'r Record) -> K,
) -> &'r Record {
    let prefix = format!("{name}:");
    let rest = |record: &Record| {
        let stamps = record.stamps.iter().filter(|(key, _)| key.starts_with(prefix.as_str()));
        let stamps: Vec<_> = stamps.map(|(key, stamp)| (key.clone(), stamp.clone())).collect();
        (stamps, record.rivals.get(name).map(|rivals| format!("{rivals:?}")))
    };
    if key(a).cmp(&key(b)).then_with(|| rest(a).cmp(&rest(b))).is_ge() { a } else { b }
}

/// A value as bytes, for an order that every machine agrees on. Absent is least.
fn bytes(value: Option<&Value>) -> Option<Vec<u8>> {
    value.map(|value| serde_json::to_vec(value).expect("JSON values serialise"))
}

/// Takes a whole field with all its stamps from one of the two.
fn take(name: &str, from: &Record, into: &mut Record) {
    if let Some(value) = from.fields.get(name) {
        into.fields.insert(name.to_owned(), value.clone());
    }
    let prefix = format!("{name}:");
    let stamps = from.stamps.iter().filter(|(key, _)| *key == name || key.starts_with(prefix.as_str()));
    into.stamps.extend(stamps.map(|(key, stamp)| (key.clone(), stamp.clone())));
    if let Some(rivals) = from.rivals.get(name) {
        into.rivals.insert(name.to_owned(), rivals.clone());
    }
}

/// The part behind `name:` of every stamp of a field.
fn stamped_parts(name: &str, record: &Record) -> Vec<String> {
    let prefix = format!("{name}:");
    record.stamps.keys().filter_map(|key| key.strip_prefix(prefix.as_str()).map(str::to_owned)).collect()
}

fn set(name: &str, a: &Record, b: &Record, merged: &mut Record) {
    let (in_a, in_b) = (elements(a.fields.get(name)), elements(b.fields.get(name)));
    let mut all: BTreeSet<String> = in_a.union(&in_b).cloned().collect();
    all.extend(stamped_parts(name, a));
    all.extend(stamped_parts(name, b));
    let mut left = Vec::new();
    for element in all {
        let key = format!("{name}:{element}");
        let (stamp, present) =
            (a.stamp(&key), in_a.contains(&element)).max((b.stamp(&key), in_b.contains(&element)));
        if let Some(stamp) = stamp {
            merged.stamps.insert(key, stamp.clone());
        }
        if present {
            left.push(Value::String(element));
        }
    }
    if !left.is_empty() {
        merged.fields.insert(name.to_owned(), Value::Array(left));
    }
}

fn map(name: &str, a: &Record, b: &Record, merged: &mut Record) {
    let empty = Map::new();
    let object = |record: &'_ Record| record.fields.get(name).and_then(Value::as_object).cloned();
    let (in_a, in_b) = (object(a).unwrap_or_else(|| empty.clone()), object(b).unwrap_or(empty));
    let mut all: BTreeSet<String> = in_a.keys().chain(in_b.keys()).cloned().collect();
    all.extend(stamped_parts(name, a));
    all.extend(stamped_parts(name, b));
    let mut left = Map::new();
    for part in all {
        let key = format!("{name}:{part}");
        let of_a = (a.stamp(&key), bytes(in_a.get(&part)), in_a.get(&part));
        let of_b = (b.stamp(&key), bytes(in_b.get(&part)), in_b.get(&part));
        let (stamp, _, value) = if (of_a.0, &of_a.1) >= (of_b.0, &of_b.1) { of_a } else { of_b };
        if let Some(stamp) = stamp {
            merged.stamps.insert(key, stamp.clone());
        }
        if let Some(value) = value {
            left.insert(part, value.clone());
        }
    }
    if !left.is_empty() {
        merged.fields.insert(name.to_owned(), Value::Object(left));
    }
}

/// A text that somebody wrote, with the stamp of that; unstamped ones are older than all others.
type Sibling = (Option<Stamp>, Option<Value>);

/// The newest text wins, or that of the greater fence where that decides. One that lost is kept unless whoever wrote a
/// newer one had seen it: only then was it replaced on purpose.
fn text(name: &str, a: &Record, b: &Record, fence: std::cmp::Ordering, merged: &mut Record) {
    let (of_a, of_b) = (siblings(name, a), siblings(name, b));
    let (known_a, known_b) = (known(name, a), known(name, b));
    let mut all: Vec<&Sibling> = of_a.iter().chain(&of_b).collect();
    all.sort_by_cached_key(|(stamp, value)| (stamp.clone(), bytes(value.as_ref())));
    let newest = all.last().copied().cloned();
    let is_fenced = FENCED.contains(&name);
    let winner = match fence {
        std::cmp::Ordering::Greater if is_fenced => Some(shown(name, a)),
        std::cmp::Ordering::Less if is_fenced => Some(shown(name, b)),
        // What an ousted holder wrote last lost already, however late that was.
        std::cmp::Ordering::Equal if is_fenced => [shown(name, a), shown(name, b)]
            .into_iter()
            .max_by_key(|(stamp, value)| (stamp.clone(), bytes(value.as_ref()))),
        _ => newest,
    };
    let Some((stamp, value)) = winner else { return };

    let mut losing = BTreeMap::<Stamp, Value>::new();
    for (at, text) in all {
        let (Some(at), Some(text)) = (at, text) else { continue };
        let survives = |siblings: &[Sibling], known: &BTreeMap<String, Stamp>| {
            siblings.iter().any(|(stamp, _)| stamp.as_ref() == Some(at))
                || known.get(&at.actor).is_none_or(|seen| seen < at)
        };
        if stamp.as_ref() != Some(at) && survives(&of_a, &known_a) && survives(&of_b, &known_b) {
            // In ascending order: of two texts with one stamp, which only a forger writes, the greater one stays.
            losing.insert(at.clone(), text.clone());
        }
    }
    // One that counts by its fence alone, though whoever wrote another one had seen it, is still known to be seen.
    let is_seen = |stamp: &Stamp, siblings: &[Sibling], known: &BTreeMap<String, Stamp>| {
        siblings.iter().all(|(at, _)| at.as_ref() != Some(stamp))
            && known.get(&stamp.actor).is_some_and(|seen| seen >= stamp)
    };
    let lives = stamp
        .as_ref()
        .filter(|stamp| !is_fenced || !is_seen(stamp, &of_a, &known_a) && !is_seen(stamp, &of_b, &known_b));
    let kept = newest_of_each(losing.keys().chain(lives).cloned());
    let mut seen = newest_of_each(known_a.into_values().chain(known_b.into_values()));
    seen.retain(|seen| !kept.iter().any(|kept| kept.actor == seen.actor && kept >= seen));

    if let Some(stamp) = stamp {
        merged.stamps.insert(name.to_owned(), stamp);
    }
    if let Some(value) = value {
        merged.fields.insert(name.to_owned(), value);
    }
    if !losing.is_empty() || !seen.is_empty() {
        merged.rivals.insert(name.to_owned(), Rivals { losing, seen });
    }
}

/// What a record shows.
fn shown(name: &str, record: &Record) -> Sibling {
    (record.stamp(name).cloned(), record.fields.get(name).cloned())
}

fn siblings(name: &str, record: &Record) -> Vec<Sibling> {
    let mut siblings = vec![shown(name, record)];
    // What is shown though it was seen and replaced is not there to be kept.
    let seen = record.rivals.get(name).map(|rivals| &rivals.seen).filter(|_| FENCED.contains(&name));
    siblings.retain(|(stamp, _)| {
        !stamp.as_ref().is_some_and(|stamp| {
            seen.is_some_and(|seen| seen.iter().any(|seen| seen.actor == stamp.actor && seen >= stamp))
        })
    });
    if let Some(rivals) = record.rivals.get(name) {
        siblings.extend(rivals.losing.iter().map(|(stamp, text)| (Some(stamp.clone()), Some(text.clone()))));
    }
    siblings
}

/// The newest write of each machine that a record knows of, whether its text is still there or not.
fn known(name: &str, record: &Record) -> BTreeMap<String, Stamp> {
    let rivals = record.rivals.get(name).cloned().unwrap_or_default();
    let stamps = rivals.seen.into_iter().chain(rivals.losing.into_keys()).chain(record.stamp(name).cloned());
    newest_of_each(stamps).into_iter().map(|stamp| (stamp.actor.clone(), stamp)).collect()
}
