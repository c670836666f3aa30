//! What a remote takes: tried with refs that are thrown away again, never guessed from its name.

use super::Error;
use super::sync::Remote;
use crate::git::{Identity, Lease, LeasedSpec, NewCommit, PushAnswer, SwapOptions};
use crate::model::ObjectId;
use crate::store::Store;

/// Where state lives on hosts that take only branches, unless the user wants it elsewhere.
pub const BRANCH_PREFIX: &str = "refs/heads/orchestra-state/";

/// Something that a remote does or does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ability {
    /// What it is.
    pub what: Capability,
    /// Why not, in the remote's words; `None` if it does.
    pub refused: Option<String>,
}

/// What is asked of a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Refs under `refs/orchestra/`.
    OwnRefs,
    /// Refs under `refs/notes/`.
    Notes,
    /// Branches.
    Branches,
    /// Deleting a ref.
    Deletion,
    /// Moving a ref from exactly where it was, wherever that is.
    CompareAndSwap,
    /// Several refs, all or none.
    Atomic,
    /// Options for its hooks.
    PushOptions,
}

/// What a remote takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// One for each thing that could be tried.
    pub abilities: Vec<Ability>,
    /// Refs of ours that it would not let us remove again.
    pub left: Vec<String>,
}

impl Probed {
    /// Whether it does this.
    pub fn can(&self, what: Capability) -> bool {
        self.abilities.iter().any(|one| one.what == what && one.refused.is_none())
    }

    /// The prefix that state needs there, if any; `None` too if it takes nothing at all.
    pub fn prefix_needed(&self) -> Option<&'static str> {
        let own = self.can(Capability::OwnRefs) && self.can(Capability::Notes);
        (!own && self.can(Capability::Branches)).then_some(BRANCH_PREFIX)
    }
}

/// Tries what a remote takes. Everything that it makes there it removes again, also when something fails on the way.
///
/// # Errors
/// If the remote cannot be reached or does not let us in at all.
pub fn probe(store: &Store, remote: &Remote) -> Result<Probed, Error> {
    let nonce = store.new_id()?;
    let one = throwaway(store, &format!("{nonce} one"))?;
    let two = throwaway(store, &format!("{nonce} two"))?;
    let prefix = remote.prefix.as_deref().unwrap_or(BRANCH_PREFIX);
    let mut stage = Stage { store, remote, there: Vec::new() };
    let result = stage.play(&format!("{prefix}probe-{nonce}"), nonce.as_str(), &one, &two);
    let (removed, left) = stage.clear();
    let mut abilities = result?;
    let at = abilities.len().min(3);
    abilities.splice(at..at, removed);
    Ok(Probed { abilities, left })
}

/// What is there of ours now.
struct Stage<'s> {
    store: &'s Store,
    remote: &'s Remote,
    there: Vec<(String, ObjectId)>,
}

impl Stage<'_> {
    fn play(
        &mut self,
        branch: &str,
        nonce: &str,
        one: &ObjectId,
        two: &ObjectId,
    ) -> Result<Vec<Ability>, Error> {
        let own = format!("refs/orchestra/probe/{nonce}");
        let notes = format!("refs/notes/orchestra/probe-{nonce}");
        let mut abilities = Vec::new();
        let places = [
            (Capability::OwnRefs, own.as_str()),
            (Capability::Notes, notes.as_str()),
            (Capability::Branches, branch),
        ];
        let trials = places.map(|(_, name)| create(name, one));
        let mut refused = self.push(&trials, SwapOptions::default())?;
        for (trial, refused) in trials.iter().zip(&mut refused) {
            // Some hosts judge a push as a whole.
            if refused.is_some() {
                *refused = self.push(std::slice::from_ref(trial), SwapOptions::default())?.swap_remove(0);
            }
        }
        let takes = |at: usize| refused[at].is_none();
        let place = match (takes(0) && takes(1), takes(2)) {
            (true, _) => Some(own.as_str()),
            (false, true) => Some(branch),
            _ => None,
        };
        abilities.extend(
            places.iter().zip(&refused).map(|((what, _), why)| Ability { what: *what, refused: why.clone() }),
        );
        let Some(place) = place else { return Ok(abilities) };

        // From one history to another, as a claim that changes hands.
        let (lease, new) = (Lease::At(one.clone()), Some(two.clone()));
        let swap = LeasedSpec { name: place.to_owned(), new, lease };
        let why = self.push(&[swap], SwapOptions::default())?.swap_remove(0);
        abilities.push(Ability { what: Capability::CompareAndSwap, refused: why });

        let pair = [create(&format!("{place}-2"), one), create(&format!("{place}-3"), one)];
        let atomic = SwapOptions { atomic: true, ..SwapOptions::default() };
        let why = self.push(&pair, atomic)?.into_iter().flatten().next();
        abilities.push(Ability { what: Capability::Atomic, refused: why });

        let optional = [create(&format!("{place}-4"), one)];
        let option = SwapOptions { option: Some("orchestra-probe"), ..SwapOptions::default() };
        let why = self.push(&optional, option)?.swap_remove(0);
        abilities.push(Ability { what: Capability::PushOptions, refused: why });
        Ok(abilities)
    }

    /// Why each was not taken; remembers what is there.
    fn push(
        &mut self,
        trials: &[LeasedSpec],
        options: SwapOptions<'_>,
    ) -> Result<Vec<Option<String>>, Error> {
        let (repo, deadline) = (self.store.repo(), self.remote.deadline);
        let answers = repo.swap(&self.remote.name, trials, options, deadline);
        if answers.is_err() {
            // They may be there all the same.
            self.there.extend(trials.iter().filter_map(|t| Some((t.name.clone(), t.new.clone()?))));
        }
        let mut refused = Vec::new();
        let unsupported = || vec![PushAnswer::Refused("not supported".to_owned()); trials.len()];
        for (trial, answer) in trials.iter().zip(answers?.unwrap_or_else(unsupported)) {
            let why = match answer {
                PushAnswer::Landed | PushAnswer::Same => None,
                PushAnswer::Behind => Some("it was moved by somebody else".to_owned()),
                PushAnswer::Refused(why) => Some(why),
                PushAnswer::Unknown(words) => Some(format!("it did not answer ({words})")),
            };
            if why.is_none() {
                self.there.retain(|(name, _)| *name != trial.name);
                self.there.extend(trial.new.clone().map(|new| (trial.name.clone(), new)));
            }
            refused.push(why);
        }
        Ok(refused)
    }

    /// Removes everything again. Tells whether it could, if there was anything, and what is left.
    fn clear(&mut self) -> (Option<Ability>, Vec<String>) {
        let all = std::mem::take(&mut self.there);
        if all.is_empty() {
            return (None, Vec::new());
        }
        let trials: Vec<LeasedSpec> = all
            .into_iter()
            .map(|(name, old)| LeasedSpec { name, new: None, lease: Lease::At(old) })
            .collect();
        let refused = match self.push(&trials, SwapOptions::default()) {
            Ok(refused) => refused,
            Err(error) => vec![Some(error.to_string()); trials.len()],
        };
        let left = trials.iter().zip(&refused).filter(|(_, why)| why.is_some());
        let left = left.map(|(trial, _)| trial.name.clone()).collect();
        let refused = refused.into_iter().flatten().next();
        (Some(Ability { what: Capability::Deletion, refused }), left)
    }
}

fn create(name: &str, new: &ObjectId) -> LeasedSpec {
    LeasedSpec { name: name.to_owned(), new: Some(new.clone()), lease: Lease::Absent }
}

/// A commit of nothing that nobody has.
fn throwaway(store: &Store, nonce: &str) -> Result<ObjectId, Error> {
    let repo = store.repo();
    let (tree, _) = repo.edit_tree::<&str>(None, &[])?;
    let identity = Identity::new("git-orchestra", "probe@orchestra.invalid");
    let message = format!("orchestra: what does this host take? [skip ci]\n\n{nonce}\n");
    let (author, committer) = (&identity, &identity);
    let at = crate::model::Timestamp(0);
    Ok(repo.write_commit(&NewCommit {
        tree: &tree,
        parents: &[],
        author,
        committer,
        at,
        message: &message,
    })?)
}
