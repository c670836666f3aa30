//! What each kind of entity looks like to the store.

use crate::model::{Agent, Decision, Finding, Id, Kind, Merge, Pipeline, Task};
use serde::{Serialize, de::DeserializeOwned};

/// A field of an entity, and how two writes to it merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// One value: the newest write wins.
    Scalar(&'static str),
    /// An array of strings: the newest write of each element wins.
    Set(&'static str),
    /// An object: the newest write of each key wins. A counter is one whose keys are machines, each of which counts
    /// for itself: its value is the sum.
    Map(&'static str),
}

impl Field {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar(name) | Self::Set(name) | Self::Map(name) => name,
        }
    }
}

/// Something that the state keeps under an id.
pub trait Entity: Serialize + DeserializeOwned {
    /// Its kind.
    const KIND: Kind;
    /// Every field that this build knows. Fields of newer builds survive untouched.
    const FIELDS: &'static [Field];
    /// The fields that hold people's or agents' own words.
    const TEXTS: &'static [&'static str] = &[];

    /// Its identity.
    fn id(&self) -> Id;
}

use Field::{Map, Scalar, Set};

impl Entity for Task {
    const KIND: Kind = Kind::Task;
    const TEXTS: &'static [&'static str] = &["title", "body", "result"];
    const FIELDS: &'static [Field] = &[
        Scalar("id"),
        Scalar("title"),
        Scalar("body"),
        Scalar("status"),
        Scalar("priority"),
        Set("after"),
        Set("touches"),
        Set("labels"),
        Scalar("zone"),
        Scalar("assignee"),
        Scalar("holder"),
        Scalar("fence"),
        Scalar("result"),
        Scalar("created"),
        Scalar("changed"),
    ];

    fn id(&self) -> Id {
        self.id
    }
}

impl Entity for Agent {
    const KIND: Kind = Kind::Agent;
    const TEXTS: &'static [&'static str] = &["prompt"];
    const FIELDS: &'static [Field] = &[
        Scalar("id"),
        Scalar("name"),
        Scalar("profile"),
        Scalar("program"),
        Scalar("task"),
        Scalar("step"),
        Scalar("prompt"),
        Scalar("branch"),
        Scalar("base"),
        Scalar("target"),
        Scalar("machine"),
        Scalar("taken"),
        Scalar("session"),
        Scalar("budget"),
        Map("runs"),
        Scalar("removed"),
        Scalar("merged"),
        Scalar("created"),
    ];

    fn id(&self) -> Id {
        self.id
    }
}

impl Entity for Finding {
    const KIND: Kind = Kind::Finding;
    const TEXTS: &'static [&'static str] = &["message", "resolution"];
    const FIELDS: &'static [Field] = &[
        Scalar("id"),
        Scalar("message"),
        Scalar("severity"),
        Scalar("status"),
        Scalar("anchor"),
        Scalar("commit"),
        Scalar("agent"),
        Scalar("author"),
        Scalar("task"),
        Set("between"),
        Scalar("resolution"),
        Scalar("created"),
    ];

    fn id(&self) -> Id {
        self.id
    }
}

impl Entity for Decision {
    const KIND: Kind = Kind::Decision;
    const TEXTS: &'static [&'static str] = &["question", "detail"];
    const FIELDS: &'static [Field] = &[
        Scalar("id"),
        Scalar("kind"),
        Scalar("status"),
        Scalar("question"),
        Scalar("detail"),
        Scalar("choices"),
        Scalar("merge"),
        Scalar("agent"),
        Scalar("subject"),
        Scalar("paths"),
        Scalar("clashes"),
        Scalar("sides"),
        Map("answers"),
        Map("places"),
        Scalar("answer"),
        Map("remembers"),
        Scalar("told"),
        Scalar("created"),
    ];

    fn id(&self) -> Id {
        self.id
    }
}

impl Entity for Merge {
    const KIND: Kind = Kind::Merge;
    const FIELDS: &'static [Field] = &[
        Scalar("id"),
        Scalar("target"),
        Scalar("target_tip"),
        Scalar("status"),
        Scalar("steps"),
        Scalar("score"),
        Scalar("head"),
        Scalar("landed"),
        Scalar("follows"),
        Scalar("gates"),
        Scalar("mends"),
        Scalar("receipt"),
        Scalar("created"),
    ];

    fn id(&self) -> Id {
        self.id
    }
}

impl Entity for Pipeline {
    const KIND: Kind = Kind::Pipeline;
    const TEXTS: &'static [&'static str] = &["result"];
    const FIELDS: &'static [Field] = &[
        Scalar("id"),
        Scalar("name"),
        Scalar("status"),
        Scalar("tasks"),
        Scalar("profile"),
        Scalar("team"),
        Scalar("target"),
        Scalar("push"),
        Set("settled"),
        Scalar("merge"),
        Scalar("result"),
        Scalar("created"),
    ];

    fn id(&self) -> Id {
        self.id
    }
}
