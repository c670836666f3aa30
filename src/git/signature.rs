//! Words that a person signs, and the check of such a signature: by git, with whatever the person signs commits with.
//!
//! A signature is a signed commit without files whose message the words are. git makes and checks it in a repository of its
//! own that is thrown away, so that no configuration of the user's repository, which agents and setup scripts can write to, names
//! a program or says whom to believe: that comes from the user's own and the system's configuration alone.

use super::run::with_settings;
use super::{Error, Identity, Repository};
use crate::process::Command;
use bstr::ByteSlice;
use std::fs;
use std::path::Path;

/// What is known of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// Made over other words or in another's name, or broken.
    Bad,
    /// It cannot be checked here: the key is not known, or no program for it is there.
    Unknown {
        /// The setting of the user's that it cannot be checked without.
        missing: Option<&'static str>,
    },
    /// Good, by a key that the user trusts or not.
    Good {
        /// Whom the key belongs to, as the user's keys say.
        signer: String,
        /// The key.
        key: String,
        /// Whether the user has said that it belongs to that person.
        trusted: bool,
    },
}

/// Which key and kind of key is the repository's to say: it is data.
const SAID_BY_REPOSITORY: [&str; 2] = ["user.signingKey", "gpg.format"];
/// The tree without entries: git knows it without having it.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
/// Which file says whose keys of SSH are whose: only the user's own configuration is asked.
const SIGNERS: &str = "gpg.ssh.allowedSignersFile";
/// What a signature of SSH begins with.
const SSH: &str = "-----BEGIN SSH SIGNATURE-----";
/// Nobody's signature is longer.
const LONGEST: usize = 64 << 10;

impl Repository {
    /// Whether the user signs commits.
    pub fn signs_commits(&self) -> bool {
        let yes = |value: String| matches!(value.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "1");
        self.config("commit.gpgSign").is_some_and(yes)
    }

    /// Signs words in the name of `by`, as the user signs commits.
    ///
    /// # Errors
    /// [`Error::Command`] with what git and the signing program said.
    pub fn sign(&self, words: &str, by: &Identity) -> Result<String, Error> {
        let aside = Aside::new()?;
        let said = SAID_BY_REPOSITORY.iter().filter_map(|key| Some((key, self.config(key)?)));
        let mut command =
            with_settings(self.aside(&aside, ["commit-tree", "-S", EMPTY_TREE, "-F", "-"]), said);
        for who in ["AUTHOR", "COMMITTER"] {
            command =
                command.env(format!("GIT_{who}_NAME"), &by.name).env(format!("GIT_{who}_EMAIL"), &by.email);
        }
        let id = command.stdin(words).read()?;
        let commit = self.aside(&aside, ["cat-file", "commit", id.to_str_lossy().trim()]).read()?;
        String::from_utf8(commit).map_err(|error| Error::unexpected("cat-file", error.as_bytes()))
    }

    /// Checks that `signature` is one of `by` over `words`.
    pub fn check_signature(&self, signature: &str, words: &str, by: &str) -> Result<Signature, Error> {
        let Some((header, said)) = signature.split_once("\n\n").filter(|_| signature.len() <= LONGEST) else {
            return Ok(Signature::Bad);
        };
        let author = header.lines().find_map(|line| line.strip_prefix("author "));
        if said != words || author.and_then(|line| line.rsplitn(3, ' ').nth(2)) != Some(by) {
            return Ok(Signature::Bad);
        }
        let aside = Aside::new()?;
        let id =
            self.aside(&aside, ["hash-object", "-t", "commit", "-w", "--stdin"]).stdin(signature).output()?;
        if !id.status.success() {
            return Ok(Signature::Bad);
        }
        let id = id.stdout.to_str_lossy();
        // git checks no signature of SSH's for a user who has not said where those are whom he believes: nobody, then.
        let is_ssh = header.contains(SSH);
        let named = self.aside(&aside, ["config", "--get", SIGNERS]).output()?;
        let missing = (is_ssh && !named.status.success()).then_some(SIGNERS);
        let checked = self.aside(&aside, ["log", "-1", "--format=%G?%x00%GS%x00%GK%x00", id.trim()]);
        let out = with_settings(checked, missing.map(|key| (key, "/dev/null"))).output()?;
        let fields: Vec<&str> = std::str::from_utf8(&out.stdout).unwrap_or_default().split('\0').collect();
        let [verdict, signer, key, ..] = fields[..] else { return Ok(Signature::Unknown { missing }) };
        Ok(match verdict {
            "G" | "U" if missing.is_some() => Signature::Unknown { missing },
            "G" | "U" => {
                Signature::Good { signer: signer.to_owned(), key: key.to_owned(), trusted: verdict == "G" }
            }
            "E" => Signature::Unknown { missing },
            // Broken, of an expired or a revoked key, or none at all.
            _ => Signature::Bad,
        })
    }

    /// git in a repository of its own.
    fn aside<const N: usize>(&self, aside: &Aside, args: [&str; N]) -> Command {
        let dir = aside.0.path();
        let mut command = self.git_at(dir, None, args).env("GIT_COMMON_DIR", dir);
        command = command.env("GIT_OBJECT_DIRECTORY", dir.join("objects"));
        // Where keys are, and where a pass phrase is asked for.
        for key in ["GNUPGHOME", "GPG_TTY", "XDG_RUNTIME_DIR"] {
            if let Some(value) = self.env(key) {
                command = command.env(key, value);
            }
        }
        command
    }
}

/// A bare repository with nothing in it, for as long as it is held.
struct Aside(tempfile::TempDir);

impl Aside {
    fn new() -> Result<Self, Error> {
        let dir = tempfile::tempdir().map_err(|e| Error::file("create", std::env::temp_dir(), e))?;
        let make = |path: &Path| fs::create_dir_all(path).map_err(|e| Error::file("create", path, e));
        make(&dir.path().join("objects"))?;
        make(&dir.path().join("refs"))?;
        for (name, text) in [
            ("HEAD", "ref: refs/heads/none\n"),
            ("config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, text).map_err(|e| Error::file("write", &path, e))?;
        }
        Ok(Self(dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;
    use std::os::unix::fs::PermissionsExt as _;

    /// A repository whose user signs with an SSH key that the user's own configuration says whose it is.
    fn signing() -> (Sandbox, Identity) {
        let sandbox = Sandbox::new(&[]);
        let home = sandbox.dir.path().join("home");
        let key = home.join("key");
        let file = key.to_str().unwrap();
        let keygen = Command::new("/usr/bin/env").args([
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "",
            "-f",
            file,
        ]);
        keygen.env("PATH", "/usr/local/bin:/usr/bin:/bin").read().unwrap();
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        let known = home.join("known");
        fs::write(&known, format!("ada@example.org {public}")).unwrap();
        for (key, value) in [("gpg.format", "ssh"), ("user.signingKey", file), ("commit.gpgSign", "true")] {
            sandbox.git(&["config", key, value]);
        }
        sandbox.git(&["config", "--global", "gpg.ssh.allowedSignersFile", known.to_str().unwrap()]);
        (sandbox, Identity::new("Ada", "ada@example.org"))
    }

    #[test]
    fn what_was_signed_is_known_and_nothing_else() {
        let (sandbox, ada) = signing();
        let repo = sandbox.open();
        assert!(repo.signs_commits());
        let (by, before) = (ada.to_string(), sandbox.git(&["count-objects"]));
        let signature = repo.sign("theirs\n", &ada).unwrap();
        let good = repo.check_signature(&signature, "theirs\n", &by).unwrap();
        let Signature::Good { signer, key, trusted: true } = good else { panic!("{good:?}") };
        assert_eq!(signer, "ada@example.org");
        assert!(key.starts_with("SHA256:"), "{key}");
        for (signature, words, by) in [
            (signature.as_str(), "ours\n", by.as_str()),
            (&signature, "theirs\n", "Bob <bob@example.org>"),
            (&signature.replace("theirs", "ours"), "ours\n", &by),
            (&signature.replace("Ada", "Bob"), "theirs\n", "Bob <ada@example.org>"),
            ("no signature", "theirs\n", &by),
            ("", "", ""),
        ] {
            assert_eq!(repo.check_signature(signature, words, by).unwrap(), Signature::Bad, "{signature}");
        }
        assert_eq!(sandbox.git(&["count-objects"]), before, "nothing is left in the repository");
    }

    #[test]
    fn a_good_signature_is_not_known_where_nobody_says_whose_keys_are_whose() {
        let (sandbox, ada) = signing();
        let signature = sandbox.open().sign("x\n", &ada).unwrap();
        sandbox.git(&["config", "--global", "--unset", SIGNERS]);
        let repo = sandbox.open();
        let checked = repo.check_signature(&signature, "x\n", &ada.to_string()).unwrap();
        assert_eq!(checked, Signature::Unknown { missing: Some(SIGNERS) });
        // What is broken is broken all the same: another byte in the middle of it.
        let line = signature.lines().filter(|line| line.starts_with(' ')).nth(2).unwrap();
        let turned: String = line.trim().chars().rev().collect();
        let broken = signature.replace(line.trim(), &turned);
        let checked = repo.check_signature(&broken, "x\n", &ada.to_string()).unwrap();
        assert_eq!(checked, Signature::Bad);
    }

    #[test]
    fn the_repository_names_no_program_and_nobody_to_believe() {
        let (sandbox, ada) = signing();
        let home = sandbox.dir.path().join("home");
        let (canary, script) = (home.join("canary"), home.join("script"));
        fs::write(&script, format!("#!/bin/sh\ntouch {}\n", canary.display())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        for key in ["gpg.ssh.program", "gpg.program", "gpg.openpgp.program", "gpg.ssh.defaultKeyCommand"] {
            sandbox.git(&["config", key, script.to_str().unwrap()]);
        }
        let signature = sandbox.open().sign("x\n", &ada).unwrap();
        let trusting = home.join("nobody");
        fs::write(&trusting, "").unwrap();
        sandbox.git(&["config", "gpg.ssh.allowedSignersFile", trusting.to_str().unwrap()]);
        let checked = sandbox.open().check_signature(&signature, "x\n", &ada.to_string()).unwrap();
        assert!(matches!(checked, Signature::Good { trusted: true, .. }), "{checked:?}");
        assert!(!canary.exists());
    }
}
