//! What a person wants meanwhile: heard at any time, taken when it fits.

use crate::agent::PermissionReply;
use crate::agent::bridge::Wish;
use crate::model::Measure;
use std::collections::{HashMap, VecDeque};
use tokio::sync::mpsc;

/// Why a turn does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// A person broke it off.
    Interrupted,
    /// Nobody listens any more.
    Gone,
    /// The API is not to be had, and another program can do the work: the words.
    Absent(String),
    /// It may not ask its model again.
    Limit(Measure),
    /// It cannot go on: the words.
    Failed(String),
}

/// Wishes that came and are not taken yet.
#[derive(Debug)]
pub(super) struct Inbox {
    wishes: mpsc::Receiver<Wish>,
    messages: VecDeque<String>,
    replies: HashMap<String, PermissionReply>,
}

impl Inbox {
    pub(super) fn new(wishes: mpsc::Receiver<Wish>) -> Self {
        Self { wishes, messages: VecDeque::new(), replies: HashMap::new() }
    }

    /// The next message; `None` when there will be none.
    pub(super) async fn message(&mut self) -> Option<String> {
        loop {
            if let Some(text) = self.messages.pop_front() {
                return Some(text);
            }
            // There is nothing to interrupt.
            let wish = self.wishes.recv().await?;
            self.keep(wish);
        }
    }

    /// What was said since somebody asked last.
    pub(super) fn said(&mut self) -> Vec<String> {
        while let Ok(wish) = self.wishes.try_recv() {
            self.keep(wish);
        }
        self.messages.drain(..).collect()
    }

    /// What is still to come.
    pub(super) fn rest(self) -> mpsc::Receiver<Wish> {
        self.wishes
    }

    /// Waits until the turn is to end. Safe to cancel: what else comes is kept.
    pub(super) async fn stop(&mut self) -> Stop {
        loop {
            match self.wishes.recv().await {
                None => return Stop::Gone,
                Some(Wish::Interrupt) => return Stop::Interrupted,
                Some(wish) => self.keep(wish),
            }
        }
    }

    /// Waits for the answer to a question.
    pub(super) async fn reply(&mut self, request: &str) -> Result<PermissionReply, Stop> {
        loop {
            if let Some(reply) = self.replies.remove(request) {
                return Ok(reply);
            }
            match self.wishes.recv().await {
                None => return Err(Stop::Gone),
                Some(Wish::Interrupt) => return Err(Stop::Interrupted),
                Some(wish) => self.keep(wish),
            }
        }
    }

    fn keep(&mut self, wish: Wish) {
        match wish {
            Wish::Message { text } => self.messages.push_back(text),
            Wish::Reply { request, reply } => drop(self.replies.insert(request, reply)),
            Wish::Begin(_) | Wish::Interrupt => {}
        }
    }
}
