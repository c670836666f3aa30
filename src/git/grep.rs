//! Looking for words in a tree.

use super::{Error, Repository};
use crate::model::ObjectId;

impl Repository {
    /// Whether a line of a text file of `tree`, a tree or a commit, matches `pattern`, a POSIX extended regular expression.
    pub fn has_line(&self, tree: &ObjectId, pattern: &str) -> Result<bool, Error> {
        let command = self.git(["grep", "-q", "-I", "-E", "-e", pattern, tree.as_str()]);
        let output = command.output()?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(command.failed(&output).into()),
        }
    }
}
