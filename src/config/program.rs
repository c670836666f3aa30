//! Finding agent programs: never inside the repository, where whoever writes it, agents included, could have put
//! one.

use super::Error;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where programs are looked for, and where they must not be.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// The directories of `PATH`, in order. Relative ones are skipped.
    pub path: Vec<PathBuf>,
    /// Directories that belong to the repository: its worktrees and its git directory.
    pub forbidden: Vec<PathBuf>,
}

impl Search {
    /// The file of `name`: a path is taken as it is, a bare name is looked for in `PATH`. Links are followed before
    /// the place is judged.
    pub fn find(&self, name: &str) -> Result<PathBuf, Error> {
        let error = |reason: String| Error::NoProgram { name: name.to_owned(), reason };
        if name.contains('/') {
            let path = Path::new(name);
            if !path.is_absolute() {
                return Err(error(": a path to a program must be absolute".to_owned()));
            }
            if !is_executable(path) {
                return Err(error(": there is no such executable file".to_owned()));
            }
            if self.is_forbidden(path) {
                return Err(error(": it is inside the repository, where agents could change it".to_owned()));
            }
            return Ok(path.to_owned());
        }
        let mut skipped = None;
        for dir in self.path.iter().filter(|dir| dir.is_absolute()) {
            let file = dir.join(name);
            if !is_executable(&file) {
                continue;
            }
            if !self.is_forbidden(&file) {
                return Ok(file);
            }
            skipped = Some(file);
        }
        Err(error(skipped.map_or_else(
            || " in PATH".to_owned(),
            |file| format!(" in PATH outside the repository (`{}` is inside)", file.display()),
        )))
    }

    fn is_forbidden(&self, file: &Path) -> bool {
        // Both the name and what it leads to must lie outside.
        let real = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        self.forbidden.iter().any(|dir| {
            let canonical = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.clone());
            [file, &real].iter().any(|path| path.starts_with(dir) || path.starts_with(&canonical))
        })
    }
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(dir: &Path) -> PathBuf {
        std::fs::create_dir_all(dir).unwrap();
        let file = dir.join("claude");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    #[test]
    fn programs_of_the_repository_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let (repo, bin, links) =
            (root.path().join("repo"), root.path().join("bin"), root.path().join("links"));
        let inside = program(&repo.join("bin"));
        std::fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink(&inside, links.join("claude")).unwrap();
        let mut search = Search {
            path: vec!["bin".into(), repo.join("bin"), links.clone(), bin.clone()],
            forbidden: vec![repo.clone()],
        };
        let message = search.find("claude").unwrap_err().to_string();
        assert!(message.contains("outside the repository"), "{message}");
        let outside = program(&bin);
        assert_eq!(search.find("claude").unwrap(), outside);
        assert_eq!(search.find(outside.to_str().unwrap()).unwrap(), outside);
        assert!(search.find(inside.to_str().unwrap()).is_err());
        assert!(search.find(links.join("claude").to_str().unwrap()).is_err());
        assert!(search.find("./claude").is_err());
        search.path.clear();
        assert_eq!(search.find("claude").unwrap_err().to_string(), "find the program `claude` in PATH");
    }
}
