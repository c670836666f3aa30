//! Claims for agents that a person spawns: of tasks that others can see, before anything is started here.
//!
//! Such a claim has a time to live as long as the agent runs (`orchestrate::pulse` keeps it alive); then none, as one that
//! a person makes: it lasts until the task is closed or given back.

use super::attempt::Purpose;
use super::{Claimed, Queue, Terms};
use crate::model::{Id, Task};
use crate::orchestrate::Error;
use crate::store::STATE_REF;

/// What became of the wish to claim tasks for agents.
#[derive(Debug, Default)]
pub struct Reserved {
    /// Claimed just now.
    pub held: Vec<Id>,
    /// Held by somebody else, or not to be had, and why.
    pub taken: Vec<(Id, String)>,
    /// The remote lets this clone make no claims: its words.
    pub refused: Option<String>,
}

impl Queue {
    /// Those of `ids` that others may want too: the remote's state was seen to have them, or they are claimed there
    /// by this clone. Asks nobody.
    pub fn shared(&self, ids: &[Id]) -> Result<Vec<Id>, Error> {
        let Some(remote) = &self.remote else { return Ok(Vec::new()) };
        let Some(there) = self.store.repo().find_ref(&remote.tracking(STATE_REF))? else {
            return Ok(Vec::new());
        };
        let (there, held) = (self.store.state_at(&there)?, self.held()?);
        let mut shared = Vec::new();
        for id in ids {
            if held.iter().any(|(of, _)| of == id) || there.get::<Task>(id)?.is_some() {
                shared.push(*id);
            }
        }
        Ok(shared)
    }

    /// Claims tasks for agents that are about to be spawned.
    ///
    /// # Errors
    /// If the remote cannot be reached, or does not tell what became of it: then the next claim finds out.
    pub fn reserve(&self, ids: &[Id], force: bool) -> Result<Reserved, Error> {
        self.reserve_on(ids, &Terms { force, ..self.terms_for(Purpose::Spawn) })
    }

    /// Claims the tasks of agents that are about to go on: again where that was over, and what silent machines hold.
    ///
    /// # Errors
    /// As [`Queue::reserve`].
    pub fn reserve_again(&self, ids: &[Id]) -> Result<Reserved, Error> {
        self.reserve_on(ids, &self.terms_for(Purpose::Resume))
    }

    fn terms_for(&self, purpose: Purpose) -> Terms {
        Terms { ttl: Some(self.ttl), purpose, ..Terms::default() }
    }

    fn reserve_on(&self, ids: &[Id], terms: &Terms) -> Result<Reserved, Error> {
        let mut reserved = Reserved::default();
        for (id, answer) in self.claim(ids, terms)? {
            match answer {
                Claimed::Held { .. } => reserved.held.push(id),
                Claimed::Ours => {}
                Claimed::Taken { by } => reserved.taken.push((id, format!("{by} holds it"))),
                Claimed::Unready { why } => reserved.taken.push((id, why)),
                Claimed::Refused { why } => reserved.refused = Some(why),
            }
        }
        Ok(reserved)
    }
}
