//! Records: one entity as canonical JSON with a stamp for each field.

use super::archive::ARCHIVED;
use super::stamp::MAX_AT;
use super::{Entity, Field, Stamp};
use crate::model::Timestamp;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The key under which a record keeps its stamps.
const STAMPS: &str = "_s";
/// The key for texts that lost against a newer one which its writer wrote without having seen them.
const LOSING: &str = "_l";
/// The key for the stamps of texts that were seen, by somebody who wrote another one, and are gone.
const SEEN: &str = "_v";
/// The key of a record that was deleted: a field with a stamp like any other, so that deleting and bringing back
/// merge as writes do. Everything else stays in the record.
pub(super) const DELETED: &str = "_d";
/// Fields whose text is work: of two that were written apart, none is thrown away.
const TEXTS: &[&str] = &["title", "body", "message", "resolution", "prompt", "result"];

/// What is remembered of a text field beside its value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rivals {
    /// Losing texts by their stamps: at most one a machine, because a machine has seen what it wrote itself.
    pub(super) losing: BTreeMap<Stamp, Value>,
    /// The newest stamp of each machine that is known to be superseded.
    pub(super) seen: BTreeSet<Stamp>,
}

/// Who deleted an entity, and when.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Deleted {
    /// Who, as `Name <email>` or the agent's name.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// The operation that did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

/// One entity as the state stores it: fields, and the stamp of each field's last write.
///
/// Unknown fields survive a round trip. Stored as `{…fields…, "_s": {"<stamp>": ["field", "set:element"]}}`: fields
/// written together share one stamp, which keeps a record small. Two more keys appear where machines wrote the same
/// text apart: `"_l": {"title": {"<stamp>": "the losing text"}}` and `"_v": {"title": ["<stamp seen>"]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    pub(super) fields: Map<String, Value>,
    pub(super) stamps: BTreeMap<String, Stamp>,
    pub(super) rivals: BTreeMap<String, Rivals>,
}

impl Record {
    /// Parses a stored record. What a clock after the year 2100 wrote counts as of then, on every machine alike: so it can be
    /// outdone, and nothing that was written with it is left out. The record itself says so when it is written next.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut record = Self::parse_as_written(bytes)?;
        record.bring_into_time();
        Ok(record)
    }

    /// The same with the stamps that are there.
    pub(super) fn parse_as_written(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut fields: Map<String, Value> = serde_json::from_slice(bytes)?;
        let grouped: BTreeMap<Stamp, Vec<String>> =
            fields.remove(STAMPS).map(serde_json::from_value).transpose()?.unwrap_or_default();
        let stamps = grouped
            .into_iter()
            .flat_map(|(stamp, keys)| keys.into_iter().map(move |key| (key, stamp.clone())));
        let stamps = stamps.collect();
        let mut rivals = BTreeMap::<String, Rivals>::new();
        let losing: BTreeMap<String, BTreeMap<Stamp, Value>> =
            fields.remove(LOSING).map(serde_json::from_value).transpose()?.unwrap_or_default();
        for (field, losing) in losing {
            rivals.entry(field).or_default().losing = losing;
        }
        let seen: BTreeMap<String, BTreeSet<Stamp>> =
            fields.remove(SEEN).map(serde_json::from_value).transpose()?.unwrap_or_default();
        for (field, seen) in seen {
            rivals.entry(field).or_default().seen = seen;
        }
        Ok(Self { fields, stamps, rivals })
    }

    /// The canonical bytes: sorted keys, two spaces, one final newline. Equal records are equal blobs.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut grouped = BTreeMap::<String, Vec<&str>>::new();
        for (key, stamp) in &self.stamps {
            grouped.entry(stamp.to_string()).or_default().push(key);
        }
        let mut fields = self.fields.clone();
        fields.insert(STAMPS.to_owned(), serde_json::to_value(grouped).expect("strings serialise"));
        let losing: BTreeMap<_, _> =
            self.rivals.iter().filter(|(_, r)| !r.losing.is_empty()).map(|(f, r)| (f, &r.losing)).collect();
        let seen: BTreeMap<_, _> =
            self.rivals.iter().filter(|(_, r)| !r.seen.is_empty()).map(|(f, r)| (f, &r.seen)).collect();
        if !losing.is_empty() {
            fields.insert(LOSING.to_owned(), serde_json::to_value(losing).expect("strings serialise"));
        }
        if !seen.is_empty() {
            fields.insert(SEEN.to_owned(), serde_json::to_value(seen).expect("strings serialise"));
        }
        let mut bytes = serde_json::to_vec_pretty(&fields).expect("JSON values serialise");
        bytes.push(b'\n');
        bytes
    }

    /// The entity in it.
    pub fn entity<T: Entity>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.fields)
    }

    /// Whether the entity was deleted: listings leave it out, and nothing finds it but `show`.
    pub fn is_deleted(&self) -> bool {
        self.fields.contains_key(DELETED)
    }

    /// Who deleted the entity, if somebody did.
    pub fn deleted(&self) -> Option<Deleted> {
        let value = self.fields.get(DELETED)?.clone();
        let unknown = Deleted { by: "somebody".to_owned(), at: Timestamp(0), operation: None };
        Some(serde_json::from_value(value).unwrap_or(unknown))
    }

    /// The value of a field, as it is stored.
    pub fn value(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }

    /// The stamp of a field (`title`), a set's element (`labels:ui`) or a map's key (`runs:1`).
    pub fn stamp(&self, key: &str) -> Option<&Stamp> {
        self.stamps.get(key)
    }

    /// Texts of a field that lost against a newer one whose writer had not seen them, newest first.
    pub fn losing(&self, field: &str) -> Vec<(&Stamp, &str)> {
        let shown = self.fields.get(field).and_then(Value::as_str);
        let losing = self.rivals.get(field).into_iter().flat_map(|rivals| rivals.losing.iter().rev());
        let mut texts: Vec<(&Stamp, &str)> = Vec::new();
        for (stamp, text) in losing.filter_map(|(stamp, text)| Some((stamp, text.as_str()?))) {
            if Some(text) != shown && texts.iter().all(|(_, other)| *other != text) {
                texts.push((stamp, text));
            }
        }
        texts
    }

    /// The fields that have losing texts.
    pub fn contested(&self) -> impl Iterator<Item = &str> {
        self.rivals.keys().map(String::as_str).filter(|field| !self.losing(field).is_empty())
    }

    /// Lets every stamp be as it counts ([`Stamp::in_time`]).
    fn bring_into_time(&mut self) {
        if self.every_stamp().all(|stamp| stamp.at <= MAX_AT) {
            return;
        }
        for stamp in self.stamps.values_mut() {
            *stamp = stamp.in_time();
        }
        for rivals in self.rivals.values_mut() {
            let losing = std::mem::take(&mut rivals.losing);
            rivals.losing = losing.into_iter().map(|(stamp, text)| (stamp.in_time(), text)).collect();
            rivals.seen = rivals.seen.iter().map(Stamp::in_time).collect();
        }
    }

    /// The record without the texts that lost in it: what whoever writes it now has to answer for.
    pub(super) fn without_losing(&self) -> Self {
        let mut record = self.clone();
        for rivals in record.rivals.values_mut() {
            rivals.losing.clear();
        }
        record
    }

    /// The stamps of all writes that it remembers.
    pub(super) fn every_stamp(&self) -> impl Iterator<Item = &Stamp> {
        let rivals = self.rivals.values().flat_map(|rivals| rivals.losing.keys().chain(&rivals.seen));
        self.stamps.values().chain(rivals)
    }

    pub(super) fn is_text(field: &str) -> bool {
        TEXTS.contains(&field)
    }

    /// Takes over what changed in `entity`, stamping exactly that. Returns the names of the fields that changed,
    /// empty if none did.
    pub fn update<T: Entity>(&mut self, entity: &T, now: Timestamp, actor: &str) -> Vec<&'static str> {
        let Value::Object(mut new) = serde_json::to_value(entity).expect("entities are plain data") else {
            unreachable!("entities are structs");
        };
        let mut changed = Vec::new();
        for &field in T::FIELDS {
            let name = field.name();
            let (old, new) = (self.fields.get(name).cloned(), new.remove(name));
            if old == new {
                continue;
            }
            match field {
                Field::Scalar(_) => {
                    if Self::is_text(name) {
                        self.supersede(name, actor);
                    }
                    self.touch(name.to_owned(), now, actor);
                }
                Field::Set(_) => {
                    let (old, new) = (elements(old.as_ref()), elements(new.as_ref()));
                    for element in old.symmetric_difference(&new) {
                        self.touch(format!("{name}:{element}"), now, actor);
                    }
                }
                Field::Map(_) => {
                    let empty = Map::new();
                    let map = |value: &Option<Value>| value.as_ref().and_then(Value::as_object).cloned();
                    let (old, new) = (map(&old).unwrap_or_default(), map(&new).unwrap_or(empty));
                    for key in old.keys().chain(new.keys()) {
                        if old.get(key) != new.get(key) {
                            self.touch(format!("{name}:{key}"), now, actor);
                        }
                    }
                }
            }
            match new {
                Some(value) => self.fields.insert(name.to_owned(), value),
                None => self.fields.remove(name),
            };
            changed.push(name);
        }
        debug_assert!(new.is_empty(), "{} has fields that FIELDS does not name: {new:?}", T::KIND);
        changed
    }

    /// Every value by the key of its stamp: a field, an element of a set (`labels:ui`, which is `true`), a key of a map.
    pub(super) fn values(&self, known: &[Field]) -> BTreeMap<String, Value> {
        let mut values = BTreeMap::new();
        for (name, value) in &self.fields {
            match known.iter().find(|field| field.name() == name) {
                Some(Field::Set(_)) => {
                    let elements = elements(Some(value)).into_iter();
                    values.extend(elements.map(|element| (format!("{name}:{element}"), Value::Bool(true))));
                }
                Some(Field::Map(_)) => {
                    let keys = value.as_object().into_iter().flatten();
                    values.extend(keys.map(|(key, value)| (format!("{name}:{key}"), value.clone())));
                }
                // What newer builds added is taken whole.
                Some(Field::Scalar(_)) | None => drop(values.insert(name.clone(), value.clone())),
            }
        }
        values
    }

    /// Writes one of [`Record::values`], or takes it out, with a new stamp. Returns the name of its field.
    pub(super) fn write(
        &mut self,
        known: &[Field],
        key: &str,
        value: Option<Value>,
        now: Timestamp,
        actor: &str,
    ) -> &'static str {
        let part = key.split_once(':');
        let field = known.iter().find(|field| field.name() == part.map_or(key, |(name, _)| name)).copied();
        let name = match (field, part) {
            (Some(Field::Set(name)), Some((_, element))) => {
                let mut set = elements(self.fields.get(name));
                if value.is_some() {
                    set.insert(element.to_owned())
                } else {
                    set.remove(element)
                };
                let set: Vec<Value> = set.into_iter().map(Value::String).collect();
                self.put_back(name, (!set.is_empty()).then_some(Value::Array(set)));
                name
            }
            (Some(Field::Map(name)), Some((_, inner))) => {
                let mut map = self.fields.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
                match value {
                    Some(value) => map.insert(inner.to_owned(), value),
                    None => map.remove(inner),
                };
                self.put_back(name, (!map.is_empty()).then_some(Value::Object(map)));
                name
            }
            _ => {
                if Self::is_text(key) {
                    self.supersede(key, actor);
                }
                self.put_back(key, value);
                match key {
                    DELETED => "deleted",
                    ARCHIVED => "archived",
                    _ => field.map_or("other", Field::name),
                }
            }
        };
        self.touch(key.to_owned(), now, actor);
        name
    }

    fn put_back(&mut self, name: &str, value: Option<Value>) {
        match value {
            Some(value) => self.fields.insert(name.to_owned(), value),
            None => self.fields.remove(name),
        };
    }

    /// Whoever writes a text has seen the one that was there, and those that had lost against it.
    fn supersede(&mut self, field: &str, actor: &str) {
        let mut rivals = self.rivals.remove(field).unwrap_or_default();
        rivals.seen.extend(std::mem::take(&mut rivals.losing).into_keys());
        rivals.seen.extend(self.stamps.get(field).cloned());
        // The new stamp, which is greater, says the same of this machine.
        rivals.seen = newest_of_each(rivals.seen);
        rivals.seen.retain(|stamp| stamp.actor != actor);
        if !rivals.seen.is_empty() {
            self.rivals.insert(field.to_owned(), rivals);
        }
    }

    fn touch(&mut self, key: String, now: Timestamp, actor: &str) {
        let stamp = Stamp::after(now, actor, self.stamps.get(&key));
        self.stamps.insert(key, stamp);
    }
}

/// The greatest stamp of each machine.
pub(super) fn newest_of_each(stamps: impl IntoIterator<Item = Stamp>) -> BTreeSet<Stamp> {
    let mut newest = BTreeMap::<String, Stamp>::new();
    for stamp in stamps {
        match newest.get(&stamp.actor) {
            Some(other) if *other >= stamp => {}
            _ => drop(newest.insert(stamp.actor.clone(), stamp)),
        }
    }
    newest.into_values().collect()
}

pub(super) fn elements(value: Option<&Value>) -> BTreeSet<String> {
    let array = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    array.iter().filter_map(|element| element.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Task, TaskStatus};

    fn task() -> Task {
        let json = r#"{"id": "k3v8w0000000000z", "title": "Parse headers", "touches": ["src/**"]}"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn exactly_what_changed_is_stamped() {
        let mut record = Record::default();
        record.update(&task(), Timestamp(10), "m1");
        let first = record.stamp("title").unwrap().clone();

        let mut changed = task();
        changed.status = TaskStatus::Started;
        changed.touches.insert("tests/**".to_owned());
        assert_eq!(record.update(&changed, Timestamp(20), "m2"), ["status", "touches"]);
        assert_eq!(record.stamp("title"), Some(&first));
        assert_eq!(record.stamp("status").unwrap().to_string(), "20-0-m2");
        assert_eq!(record.stamp("touches:src/**").unwrap().to_string(), "10-0-m1");
        assert_eq!(record.stamp("touches:tests/**").unwrap().to_string(), "20-0-m2");

        changed.touches.clear();
        record.update(&changed, Timestamp(15), "m1");
        assert_eq!(
            record.stamp("touches:tests/**").unwrap().to_string(),
            "20-1-m1",
            "removal is stamped, and newer"
        );
        assert_eq!(record.entity::<Task>().unwrap(), changed);
        assert_eq!(record.update(&changed, Timestamp(30), "m1"), [""; 0]);
    }

    #[test]
    fn unknown_fields_and_stamps_survive() {
        let mut record = Record::default();
        record.update(&task(), Timestamp(10), "m1");
        let mut value: Value = serde_json::from_slice(&record.to_bytes()).unwrap();
        value["from_the_future"] = serde_json::json!({"a": [1, 2]});
        value["_s"]["11-0-m9"] = serde_json::json!(["from_the_future"]);
        let mut record = Record::parse(&serde_json::to_vec(&value).unwrap()).unwrap();
        let mut changed: Task = record.entity().unwrap();
        changed.title = "Parse trailers".into();
        record.update(&changed, Timestamp(20), "m1");
        let text = String::from_utf8(record.to_bytes()).unwrap();
        assert!(text.contains("from_the_future") && text.contains("11-0-m9"), "{text}");
        assert_eq!(Record::parse(text.as_bytes()).unwrap().to_bytes(), text.as_bytes());
    }
}
