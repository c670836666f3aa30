//! Findings: what was noticed.

use super::{Id, ObjectId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Something that an agent or a person noticed and others should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its identity.
    pub id: Id,
    /// What was noticed.
    pub message: String,
    /// How much it matters.
    #[serde(default)]
    pub severity: Severity,
    /// Open until somebody resolves it.
    #[serde(default)]
    pub status: FindingStatus,
    /// Where in the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Anchor>,
    /// The commit it speaks of, whose note shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<ObjectId>,
    /// The agent that noticed it; absent for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Id>,
    /// Who noticed it, as `Name <email>` or the agent's name.
    #[serde(default)]
    pub author: String,
    /// The task that it was noticed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Id>,
    /// The agents whose work it is about, if it is about how their work fits together.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub between: BTreeSet<Id>,
    /// What became of it, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<String>,
    /// When it was noticed.
    #[serde(default)]
    pub created: Timestamp,
}

impl Finding {
    /// An open one, of nobody's work in particular.
    pub fn open(
        id: Id,
        severity: Severity,
        message: String,
        author: impl Into<String>,
        created: Timestamp,
    ) -> Self {
        Self {
            id,
            message,
            severity,
            status: FindingStatus::Open,
            anchor: None,
            commit: None,
            agent: None,
            author: author.into(),
            task: None,
            between: BTreeSet::new(),
            resolution: None,
            created,
        }
    }

    /// The lines of its commit's note that show it: that it was noticed, and that it is dealt with.
    pub fn note_lines(&self) -> Vec<String> {
        let place = self.anchor.as_ref().map(|anchor| format!(" {anchor}")).unwrap_or_default();
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (id, severity, message) = (&self.id.as_str()[..6], self.severity.word(), one_line(&self.message));
        let mut lines = vec![format!("finding {id} {severity}{place}: {message} ({})", self.author)];
        if self.status == FindingStatus::Resolved {
            let words = one_line(self.resolution.as_deref().unwrap_or_default());
            let how = if words.is_empty() { String::new() } else { format!(": {words}") };
            lines.push(format!("finding {id} resolved{how}"));
        }
        lines
    }
}

/// Where in the code a finding points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Relative to the repository's root, with `/`.
    pub path: String,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

impl std::fmt::Display for Anchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

/// How much a finding matters, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    #[default]
    Info,
    /// Will annoy.
    Low,
    /// Will hurt.
    Medium,
    /// Must be seen before work goes on.
    High,
    /// Must be mended before anything lands.
    Critical,
}

impl Severity {
    /// All, least first.
    pub const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word that listings and JSON show.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// Where a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingStatus {
    /// Still true as far as anybody knows.
    #[default]
    Open,
    /// Dealt with.
    Resolved,
}
