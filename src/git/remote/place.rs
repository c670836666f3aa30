//! Where a remote is: what git fetches from it, and where git pushes to it, may be two repositories, or more.

use super::super::{Error, Repository};

/// What the word for an address begins with: no address does.
const PUSHED: &str = "git-orchestra-pushed:";

/// Which of a remote's repositories is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that `git push` writes: what is ours there is ours alone. What is fetched may be a mirror of it, which would
    /// seem to have gone back.
    Pushed,
    /// The one that `git fetch` reads.
    Fetched,
}

/// How git is told which repository is meant.
#[derive(Debug)]
pub(super) struct Address {
    /// What stands in the remote's place on a command line.
    pub(super) name: String,
    /// The address that it is a word for, unless it is a remote.
    place: Option<String>,
}

impl Address {
    /// The setting that lets git take the word for the address. That has been rewritten once already; it would be once more if
    /// it was named itself.
    pub(super) fn rule(&self) -> Option<(String, String)> {
        self.place.as_ref().map(|place| (format!("url.{place}.insteadOf"), self.name.clone()))
    }
}

impl Repository {
    /// Refuses a remote that git pushes to several repositories: what only one of all machines may write must be in one.
    ///
    /// # Errors
    /// [`Error::SeveralPlaces`]
    pub fn require_one_place(&self, remote: &str) -> Result<(), Error> {
        self.address(remote, Side::Pushed).map(drop)
    }

    /// How one side of a remote is asked.
    ///
    /// # Errors
    /// [`Error::SeveralPlaces`] if there is more than one on that side.
    pub(super) fn address(&self, remote: &str, side: Side) -> Result<Address, Error> {
        let by_name = || Address { name: remote.to_owned(), place: None };
        if side == Side::Fetched || self.is_one_place(remote) {
            return Ok(by_name());
        }
        let mut pushed = self.pushed_to(remote)?;
        let fetched = self.read(["remote", "get-url", "--", remote])?;
        let place = pushed.pop().filter(|_| pushed.is_empty());
        let place = place.ok_or_else(|| Error::SeveralPlaces { remote: remote.to_owned() })?;
        if place == fetched.trim_end() {
            return Ok(by_name());
        }
        Ok(Address { name: format!("{PUSHED}{remote}"), place: Some(place) })
    }

    /// Every address that a push to a remote writes, as git has rewritten it.
    pub(super) fn pushed_to(&self, remote: &str) -> Result<Vec<String>, Error> {
        let all = self.read(["remote", "get-url", "--push", "--all", "--", remote])?;
        let mut all: Vec<String> = all.lines().map(str::to_owned).collect();
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Whether nothing in the configuration makes a push go elsewhere than a fetch. Asks no process.
    fn is_one_place(&self, remote: &str) -> bool {
        let own =
            |key: &str| key.strip_prefix(remote).and_then(|rest| rest.strip_prefix('.')).map(str::to_owned);
        let keys: Vec<String> =
            self.config_entries("remote").iter().filter_map(|entry| own(&entry.key)).collect();
        let count = |name: &str| keys.iter().filter(|key| *key == name).count();
        let rewritten =
            || self.config_entries("url").iter().any(|entry| entry.key.ends_with(".pushinsteadof"));
        count("url") <= 1 && count("pushurl") == 0 && !rewritten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::run::with_settings;
    use crate::git::testing::Sandbox;
    use crate::process::Command;

    #[test]
    fn a_push_goes_where_git_says_and_is_asked_about_there() {
        let sandbox = Sandbox::new(&[]);
        sandbox.git(&["remote", "add", "origin", "https://here/x"]);
        let pushed = || {
            let address = sandbox.open().address("origin", Side::Pushed);
            address.map(|address| address.place)
        };
        assert_eq!(pushed().unwrap(), None);
        // A fetch is rewritten back: that says nothing of a push.
        sandbox.git(&["config", "url.ssh://here/.pushInsteadOf", "https://here/"]);
        sandbox.git(&["config", "url.https://there/.insteadOf", "ssh://here/"]);
        assert_eq!(pushed().unwrap(), Some("ssh://here/x".to_owned()));
        sandbox.git(&["config", "remote.origin.pushurl", "https://own/x"]);
        assert_eq!(pushed().unwrap(), Some("https://own/x".to_owned()), "that is no matter of rules");
        let fetched = sandbox.open().address("origin", Side::Fetched).unwrap();
        assert_eq!((fetched.name.as_str(), fetched.place), ("origin", None));
        sandbox.git(&["config", "--add", "remote.origin.pushurl", "https://own/x"]);
        assert!(pushed().is_ok(), "twice the same");
        sandbox.git(&["config", "--add", "remote.origin.pushurl", "https://other/x"]);
        assert!(matches!(pushed(), Err(Error::SeveralPlaces { .. })));
        sandbox.git(&["config", "--unset-all", "remote.origin.pushurl"]);
        sandbox.git(&["config", "--remove-section", "url.ssh://here/"]);
        sandbox.git(&["config", "--add", "remote.origin.url", "https://second/x"]);
        assert!(matches!(pushed(), Err(Error::SeveralPlaces { .. })), "git pushes to each of them");
    }

    #[test]
    fn an_address_is_asked_as_it_stands() {
        let sandbox = Sandbox::new(&[]);
        let place = "https://here/x";
        let address = Address { name: format!("{PUSHED}origin"), place: Some(place.to_owned()) };
        sandbox.git(&["config", "url.https://there/.insteadOf", place]);
        let repo = sandbox.open();
        let shown = |command: Command| {
            let out = command.output().unwrap();
            String::from_utf8(out.stdout).unwrap().trim().to_owned()
        };
        let command = |name: &str| repo.git(["ls-remote", "--get-url", "--", name]);
        assert_eq!(shown(command(place)), "https://there/");
        assert_eq!(shown(with_settings(command(&address.name), address.rule())), place);
    }
}
