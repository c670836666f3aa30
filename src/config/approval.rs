//! What the user has approved of a repository's own settings.
//!
//! An approval is a file in the user's data directory, `git-orchestra/approved/<hash>.json`: outside every
//! repository and every agent's worktree, so that nothing which an agent may edit, commit or merge can contain or
//! forge one. The hash covers the repository's place (the path of its common git directory) and every restricted
//! setting that it names, in canonical form: a changed word, or the same words in another repository, ask again.

use super::{Error, Setting, Settings, Value};
use crate::model::Timestamp;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// What a repository asks to be approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Keys and values, in order.
    pub wants: Vec<(String, Value)>,
    repository: String,
    hash: String,
}

impl Request {
    /// What the settings of the repository at `common_dir` ask for; `None` if they ask for nothing.
    pub fn of(settings: &Settings, common_dir: &Path) -> Option<Self> {
        Self::about(settings.restricted(), None, common_dir)
    }

    /// What each of the repository's files of agents asks for, by the name of its profile.
    pub fn of_files(settings: &Settings, common_dir: &Path) -> Vec<(String, Self)> {
        let files = settings.agent_files().into_iter();
        let request = |(name, said): (&str, Vec<&Setting>)| {
            let request = Self::about(said.into_iter(), Some(name), common_dir)?;
            Some((name.to_owned(), request))
        };
        files.filter_map(request).collect()
    }

    fn about<'a>(
        said: impl Iterator<Item = &'a Setting>,
        file: Option<&str>,
        common_dir: &Path,
    ) -> Option<Self> {
        let wants: Vec<(String, Value)> =
            said.map(|setting| (setting.key.clone(), setting.value.clone())).collect();
        if wants.is_empty() {
            return None;
        }
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            // Length first, so that no two different lists of fields are the same bytes.
            hash.update(u64::try_from(bytes.len()).expect("lengths fit").to_be_bytes());
            hash.update(bytes);
        };
        field(common_dir.as_os_str().as_encoded_bytes());
        if let Some(file) = file {
            // What one file says is never what `orchestra.toml` says, nor another file.
            field(b"agent-file");
            field(file.as_bytes());
        }
        for (key, value) in &wants {
            field(key.as_bytes());
            match value {
                Value::List(items) => {
                    field(items.len().to_string().as_bytes());
                    for item in items {
                        field(item.as_bytes());
                    }
                }
                value => field(value.to_string().as_bytes()),
            }
        }
        let hash = format!("{:x}", hash.finalize());
        Some(Self { wants, repository: common_dir.to_string_lossy().into_owned(), hash })
    }

    /// The hash of what is asked for.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    fn path(&self, data_home: &Path) -> PathBuf {
        data_home.join("git-orchestra/approved").join(format!("{}.json", self.hash))
    }

    /// Whether the user has approved exactly this.
    pub fn is_approved(&self, data_home: &Path) -> bool {
        self.path(data_home).is_file()
    }

    /// Keeps the user's approval. The file says what was approved, for whoever wants to look.
    pub fn approve(&self, data_home: &Path, now: Timestamp) -> Result<PathBuf, Error> {
        let path = self.path(data_home);
        let text = serde_json::json!({
            "repository": self.repository,
            "approved": now.to_string(),
            "wants": self.wants.iter().map(|(key, value)| (key.clone(), value.to_string().into()))
                .collect::<serde_json::Map<_, _>>(),
        });
        let write = || {
            let dir = path.parent().expect("the path has a directory");
            std::fs::create_dir_all(dir)?;
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            std::io::Write::write_all(&mut file, format!("{text:#}\n").as_bytes())?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| Error::Approval { path: path.clone(), source })?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sources;
    use super::*;

    fn settings(text: &str) -> Settings {
        let file = Some(("orchestra.toml".to_owned(), text.to_owned()));
        Settings::load(&Sources { repository_file: file, ..Sources::default() }).unwrap()
    }

    #[test]
    fn an_approval_is_for_one_content_in_one_repository() {
        let data = tempfile::tempdir().unwrap();
        let one = settings("jobs = 2\n[profile.x]\ncommand = ['a', 'b']");
        let request = Request::of(&one, Path::new("/r/.git")).unwrap();
        assert!(!request.is_approved(data.path()));
        request.approve(data.path(), Timestamp(0)).unwrap();
        assert!(request.is_approved(data.path()));
        let same = settings("jobs = 9 # not restricted\n[profile.x]\nmodel = 'm'\ncommand = ['a', 'b']");
        assert_eq!(Request::of(&same, Path::new("/r/.git")), Some(request));
        for (text, dir) in [
            ("[profile.x]\ncommand = ['a', 'c']", "/r/.git"),
            ("[profile.x]\ncommand = ['a b']", "/r/.git"),
            ("[profile.x]\ncommand = ['a', 'b']\nargs = ['b']", "/r/.git"),
            ("[profile.x]\ncommand = ['a', 'b']", "/other/.git"),
        ] {
            assert!(
                !Request::of(&settings(text), Path::new(dir)).unwrap().is_approved(data.path()),
                "{text}"
            );
        }
        assert_eq!(Request::of(&settings("jobs = 2"), Path::new("/r/.git")), None);
    }
}
