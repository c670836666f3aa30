//! Refs that many machines compete for: listed in one round trip, moved by compare-and-swap on the remote.

use super::super::{Error, PushAnswer, Repository};
use super::intake::{Intake, Limits};
use super::place::Side;
use super::push::{never_began, pushed_lines};
use super::trouble::{self, Trouble};
use crate::model::ObjectId;
use bstr::ByteSlice;
use std::collections::BTreeMap;
use std::time::Duration;

/// How much a fetch of claims and heartbeats may bring: each is one small commit.
const MAX_INCOMING: u64 = 16 << 20;
/// How much a fetch of people's files may bring.
const WORK: Limits = Limits { incoming: super::quarantine::MAX_INCOMING, records: false };
/// What git says when a ref that it is to fetch is not there.
pub(super) const LACKS: &str = "couldn't find remote ref";
/// The most refs that one listing may hold: more is no queue but a flood.
const MAX_LISTED: usize = 200_000;

/// One ref that is moved on a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedSpec {
    /// The full name on the remote.
    pub name: String,
    /// Where it goes; `None` deletes it.
    pub new: Option<ObjectId>,
    /// Where it must be for that.
    pub lease: Lease,
}

/// What a remote's ref must be for a move to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// It must not exist.
    Absent,
    /// It must point exactly there.
    At(ObjectId),
    /// It may only go forward.
    Forward,
}

/// How refs are moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SwapOptions<'a> {
    /// All of the refs or none.
    pub atomic: bool,
    /// An option for the hooks of the remote.
    pub option: Option<&'a str>,
}

impl Repository {
    /// Every ref of a remote whose full name starts with `prefix` (which ends with `/`). One round trip; nothing is
    /// fetched. The names are the remote's: whoever uses them checks them first.
    pub fn list_remote(
        &self,
        remote: &str,
        prefix: &str,
        deadline: Duration,
    ) -> Result<BTreeMap<String, ObjectId>, Error> {
        let pattern = format!("{prefix}*");
        let command = self.listing(&self.address(remote, Side::Pushed)?).args([pattern.as_str()]);
        let output =
            command.output_within(deadline).map_err(|error| trouble::of_command(remote, error, deadline))?;
        if !output.status.success() {
            return Err(trouble::of_words(remote, &command, &output));
        }
        let mut refs = BTreeMap::new();
        for line in output.stdout.lines() {
            // Names that are no UTF-8 are none of ours.
            let Some((id, name)) = line.to_str().ok().and_then(|line| line.split_once('\t')) else {
                continue;
            };
            // The pattern matches the ends of names too.
            if let (true, Ok(id)) = (name.starts_with(prefix), id.parse()) {
                refs.insert(name.to_owned(), id);
            }
            if refs.len() > MAX_LISTED {
                let detail = format!("more than {MAX_LISTED} refs under {prefix}");
                return Err(Error::Output { command: "ls-remote", detail });
            }
        }
        Ok(refs)
    }

    /// Brings what the named refs of a remote hold into the object database, and moves no ref. One connection.
    ///
    /// # Errors
    /// [`Error::RemoteLacks`] if one of them is not there; also if what came is not sound, or more than claims and
    /// heartbeats ever are.
    pub fn fetch_objects(&self, remote: &str, names: &[&str], deadline: Duration) -> Result<(), Error> {
        let limits = Limits { incoming: MAX_INCOMING, records: true };
        self.fetch_into(remote, Side::Pushed, names, deadline, limits)
    }

    /// The same for refs that hold people's files.
    pub fn fetch_work(&self, remote: &str, names: &[&str], deadline: Duration) -> Result<(), Error> {
        self.fetch_into(remote, Side::Pushed, names, deadline, WORK)
    }

    /// The same of what is fetched from a remote, wherever it is pushed to.
    pub fn fetch_upstream(&self, remote: &str, names: &[&str], deadline: Duration) -> Result<(), Error> {
        self.fetch_into(remote, Side::Fetched, names, deadline, WORK)
    }

    fn fetch_into(
        &self,
        remote: &str,
        side: Side,
        names: &[&str],
        deadline: Duration,
        limits: Limits,
    ) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let names = names.iter().map(|name| (*name).to_owned());
        let Intake { command, output, quarantine } =
            self.intake((remote, side), &["--quiet"], names, limits, deadline)?;
        if output.stderr.contains_str(LACKS) {
            return Err(Error::RemoteLacks { remote: remote.to_owned() });
        }
        if !output.status.success() {
            return Err(trouble::of_words(remote, &command, &output));
        }
        quarantine.let_in()
    }

    /// Moves refs of a remote, each only from where its lease says; all or none if `atomic`, where the remote can do
    /// that. One answer for each of `specs`, in their order: [`PushAnswer::Behind`] says that a lease did not hold.
    ///
    /// # Errors
    /// Only if the remote was told nothing; [`Error::SeveralPlaces`] if it is more than one. A connection that broke later
    /// makes [`PushAnswer::Unknown`].
    pub fn push_leased(
        &self,
        remote: &str,
        specs: &[LeasedSpec],
        atomic: bool,
        deadline: Duration,
    ) -> Result<Vec<PushAnswer>, Error> {
        let unknown = |words: String| vec![PushAnswer::Unknown(words); specs.len()];
        match self.swap(remote, specs, SwapOptions { atomic, option: None }, deadline) {
            Ok(Some(answers)) => Ok(answers),
            Ok(None) if atomic => self.push_leased(remote, specs, false, deadline),
            Ok(None) => Ok(unknown("not supported".to_owned())),
            Err(Error::Remote { trouble: Trouble::Silent, words, .. }) => Ok(unknown(words)),
            Err(error) => Err(error),
        }
    }

    /// One push of refs by compare-and-swap: an answer for each, in their order; `None` if the remote does not know
    /// what `options` ask for.
    ///
    /// # Errors
    /// If the remote was told nothing, or did not answer in time.
    pub fn swap(
        &self,
        remote: &str,
        specs: &[LeasedSpec],
        options: SwapOptions<'_>,
        deadline: Duration,
    ) -> Result<Option<Vec<PushAnswer>>, Error> {
        if specs.is_empty() {
            return Ok(Some(Vec::new()));
        }
        self.require_one_place(remote)?;
        let mut args: Vec<String> = Vec::new();
        args.extend(options.atomic.then(|| "--atomic".to_owned()));
        args.extend(options.option.map(|option| format!("--push-option={option}")));
        for LeasedSpec { name, lease, .. } in specs {
            match lease {
                Lease::Absent => args.push(format!("--force-with-lease={name}:")),
                Lease::At(id) => args.push(format!("--force-with-lease={name}:{id}")),
                Lease::Forward => {}
            }
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let refspec =
            |spec: &LeasedSpec| format!("{}:{}", spec.new.as_ref().map_or("", ObjectId::as_str), spec.name);
        let command = self.push_command(remote, &args).args(specs.iter().map(refspec));
        let moved = specs.iter().map(|spec| (spec.name.as_str(), spec.new.as_ref()));
        let output = self
            .run_push(&command, remote, moved, deadline)
            .map_err(|error| trouble::of_command(remote, error, deadline))?;
        let found = pushed_lines(&output);
        if found.is_empty() && !output.status.success() {
            // The other side is too old, or set up without it.
            let lacks = |what: &str| output.stderr.contains_str(what);
            if options.atomic && lacks("does not support --atomic")
                || options.option.is_some() && lacks("does not support push options")
            {
                return Ok(None);
            }
            if never_began(&output) {
                return Err(trouble::of_words(remote, &command, &output));
            }
        }
        let words = output.stderr.trim().to_str_lossy().into_owned();
        let unknown = || PushAnswer::Unknown(words.clone());
        Ok(Some(specs.iter().map(|spec| found.get(&spec.name).cloned().unwrap_or_else(unknown)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;

    const DEADLINE: Duration = Duration::from_secs(60);

    #[test]
    fn a_ref_moves_only_from_where_its_lease_says() {
        let sandbox = Sandbox::new(&[]);
        let remote = sandbox.path().join("remote.git");
        sandbox.git(&["init", "-q", "--bare", remote.to_str().unwrap()]);
        sandbox.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
        sandbox.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
        let id = |name: &str| -> ObjectId { sandbox.git(&["rev-parse", name]).parse().unwrap() };
        let one = id("HEAD");
        sandbox.git(&["commit", "-q", "--amend", "--allow-empty", "-m", "two"]);
        let two = id("HEAD");
        let repo = sandbox.open();
        let push = |name: &str, new: Option<&ObjectId>, lease: Lease| {
            let spec = LeasedSpec { name: format!("refs/orchestra/claims/{name}"), new: new.cloned(), lease };
            repo.push_leased("origin", &[spec], false, DEADLINE).unwrap().remove(0)
        };
        assert_eq!(push("a", Some(&one), Lease::Absent), PushAnswer::Landed);
        assert_eq!(push("a", Some(&two), Lease::Absent), PushAnswer::Behind, "it exists");
        assert_eq!(push("a", Some(&one), Lease::Absent), PushAnswer::Same, "it is ours already");
        assert_eq!(push("a", Some(&two), Lease::At(two.clone())), PushAnswer::Behind);
        assert_eq!(push("a", Some(&two), Lease::Forward), PushAnswer::Behind);
        assert_eq!(push("a", Some(&two), Lease::At(one.clone())), PushAnswer::Landed);
        assert_eq!(push("a", None, Lease::At(one.clone())), PushAnswer::Behind);
        let listed = repo.list_remote("origin", "refs/orchestra/claims/", DEADLINE).unwrap();
        assert_eq!(listed, BTreeMap::from([("refs/orchestra/claims/a".to_owned(), two.clone())]));

        // One of two leases does not hold: with `atomic` neither moves.
        let specs = [("a", Lease::At(one.clone())), ("b", Lease::Absent)].map(|(name, lease)| LeasedSpec {
            name: format!("refs/orchestra/claims/{name}"),
            new: Some(one.clone()),
            lease,
        });
        let answers = repo.push_leased("origin", &specs, true, DEADLINE).unwrap();
        assert_eq!(answers, [PushAnswer::Behind, PushAnswer::Behind]);
        let answers = repo.push_leased("origin", &specs, false, DEADLINE).unwrap();
        assert_eq!(answers, [PushAnswer::Behind, PushAnswer::Landed]);
        assert_eq!(push("a", None, Lease::At(two)), PushAnswer::Landed, "deleted");
        let left = repo.list_remote("origin", "refs/orchestra/claims/", DEADLINE).unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
