//! What merges a path: git by its lines, a program of the user's, or nobody.

use super::{Error, Repository};
use bstr::{BStr, BString};
use std::collections::{BTreeSet, HashMap};

/// What git merges the content of a path with, where both sides changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// git's merge of lines.
    Lines,
    /// A command that the configuration names.
    Program,
    /// Nothing: one of the two versions has to be taken.
    Nothing,
}

impl Repository {
    /// What git merges each of `paths` with, as the attribute `merge` and the configuration say.
    pub fn merge_drivers(&self, paths: &BTreeSet<&BStr>) -> Result<HashMap<BString, Driver>, Error> {
        if paths.is_empty() {
            return Ok(HashMap::new());
        }
        let mut input = Vec::new();
        for path in paths {
            input.extend_from_slice(path);
            input.push(0);
        }
        let called = |name: &str| match name {
            name if self.config(&format!("merge.{name}.driver")).is_some() => Driver::Program,
            "binary" => Driver::Nothing,
            // Of a name that nobody explains git takes no notice.
            _ => Driver::Lines,
        };
        let otherwise = self.config("merge.default").map_or(Driver::Lines, |name| called(&name));
        let out = self.git(["check-attr", "-z", "--stdin", "merge"]).stdin(input).read()?;
        let (mut fields, mut found) = (out.split(|&byte| byte == 0), HashMap::new());
        while let (Some(path), Some(_), Some(value)) = (fields.next(), fields.next(), fields.next()) {
            let driver = match value {
                b"unspecified" => otherwise,
                b"set" => Driver::Lines,
                b"unset" => Driver::Nothing,
                name => called(&String::from_utf8_lossy(name)),
            };
            found.insert(path.into(), driver);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;

    #[test]
    fn attributes_and_the_configuration_say_what_merges_a_path() {
        let sandbox = Sandbox::new(&[]);
        let attributes = "none -merge\nbin merge=binary\nraw binary\nown merge=mine\nany merge=unheard\n\
                          text merge=text\nset merge\n";
        std::fs::write(sandbox.path().join(".gitattributes"), attributes).unwrap();
        sandbox.git(&["config", "merge.mine.driver", "false"]);
        let of = |paths: &[&str]| -> Vec<Driver> {
            let asked = paths.iter().map(|path| BStr::new(*path)).collect();
            let found = sandbox.open().merge_drivers(&asked).unwrap();
            paths.iter().map(|path| found[BStr::new(*path)]).collect()
        };
        let (lines, nothing) = (Driver::Lines, Driver::Nothing);
        assert_eq!(of(&["none", "bin", "raw", "own"]), [nothing, nothing, nothing, Driver::Program]);
        assert_eq!(of(&["any", "text", "set", "else"]), [lines; 4]);
        sandbox.git(&["config", "merge.default", "mine"]);
        assert_eq!(of(&["else", "text", "none"]), [Driver::Program, lines, nothing]);
    }
}
