//! What the settings say of work that collides while it is done.

use super::Settings;

/// What becomes of an edit that collides with what another agent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edits {
    /// Nobody looks.
    Unwatched,
    /// It is made, and the one that makes it is told.
    Told,
    /// It is not made.
    Denied,
}

impl Settings {
    /// Whether agents at work are forecast against each other.
    pub fn has_radar(&self) -> bool {
        self.text("radar.watch") != Some("off")
    }

    /// What becomes of edits that collide.
    pub fn edits(&self) -> Edits {
        match self.text("radar.edits") {
            Some("off") => Edits::Unwatched,
            Some("deny") => Edits::Denied,
            _ => Edits::Told,
        }
    }
}
