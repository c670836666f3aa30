//! What agents say, merged: fair, so that one that floods hides nobody, and bounded.
//!
//! Each agent has a credit of lines that grows with time. Of one that has used it up lines are counted, not shown,
//! until it has some again; the last ones it said come then. Pure: the time is handed in.

use crate::model::Id;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

/// How many lines wait to be shown, and how many while it is paused.
const WAITING: usize = 500;
/// The last lines of a stretch that was folded, which are shown all the same.
const TAIL: usize = 3;
/// The last lines of each agent that are kept for whoever looks at it alone.
const RECENT: usize = 40;

/// How many lines one agent may say at once, and how many a second.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    burst: f64,
    rate: f64,
    /// From which credit on one that had none is shown again.
    again: f64,
}

/// Of several agents.
const SHARED: Allowance = Allowance { burst: 40.0, rate: 5.0, again: 10.0 };
/// Of one that is looked at alone.
const ALONE: Allowance = Allowance { burst: 1_000.0, rate: 100.0, again: 100.0 };

/// One thing to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A line of an agent, or of nobody.
    Line(Option<Id>, String),
    /// So many lines of an agent (or of several) are left out here.
    Folded(Option<Id>, u64),
}

/// The feed.
#[derive(Debug, Default)]
pub(super) struct Feed {
    sources: HashMap<Option<Id>, Source>,
    /// How many of them are agents.
    agents: usize,
    waiting: VecDeque<Item>,
    /// How many lines were dropped because too many wait.
    dropped: u64,
    focus: Option<Id>,
    paused: bool,
}

#[derive(Debug)]
struct Source {
    credit: f64,
    at: Instant,
    shut: bool,
    folded: u64,
    tail: VecDeque<String>,
    recent: VecDeque<String>,
}

impl Source {
    fn new(now: Instant, allowance: Allowance) -> Self {
        let (tail, recent) = (VecDeque::new(), VecDeque::new());
        Self { credit: allowance.burst, at: now, shut: false, folded: 0, tail, recent }
    }

    fn earn(&mut self, now: Instant, allowance: Allowance) {
        let time = now.saturating_duration_since(self.at);
        self.credit = (self.credit + time.as_secs_f64() * allowance.rate).min(allowance.burst);
        self.at = now;
    }
}

impl Feed {
    fn allowance(&self) -> Allowance {
        if self.focus.is_some() || self.agents < 2 { ALONE } else { SHARED }
    }

    /// What is known of an agent, or of nobody.
    fn source(&mut self, agent: Option<Id>, now: Instant) -> &mut Source {
        self.sources.entry(agent).or_insert_with(|| {
            self.agents += usize::from(agent.is_some());
            Source::new(now, SHARED)
        })
    }

    /// Takes a line; a `free` one costs nothing: there are few of its kind, and all matter.
    pub(super) fn push(&mut self, agent: Option<Id>, line: String, free: bool, now: Instant) {
        self.source(agent, now);
        let allowance = self.allowance();
        let elsewhere = self.focus.is_some() && agent.is_some() && agent != self.focus;
        let source = self.source(agent, now);
        source.recent.push_back(line.clone());
        if source.recent.len() > RECENT {
            source.recent.pop_front();
        }
        if elsewhere {
            return;
        }
        source.earn(now, allowance);
        if source.shut && (free || source.credit >= allowance.again) {
            self.open(agent);
        }
        let source = self.source(agent, now);
        if !free && (source.shut || source.credit < 1.0) {
            source.shut = true;
            source.tail.push_back(line);
            if source.tail.len() > TAIL {
                source.tail.pop_front();
                source.folded += 1;
            }
            return;
        }
        if !free {
            source.credit -= 1.0;
        }
        self.wait(Item::Line(agent, line));
    }

    /// Counts lines of an agent that nobody will see.
    pub(super) fn skip(&mut self, agent: Id, lines: u64, now: Instant) {
        if lines > 0 && self.focus.is_none_or(|focus| focus == agent) {
            let source = self.source(Some(agent), now);
            source.folded += lines;
            source.shut = true;
        }
    }

    fn wait(&mut self, item: Item) {
        self.waiting.push_back(item);
        if self.waiting.len() > WAITING {
            let dropped = self.waiting.pop_front();
            self.dropped += match dropped {
                Some(Item::Folded(_, lines)) => lines,
                _ => 1,
            };
        }
    }

    /// Shows what was folded of an agent: how much, and the last of it.
    fn open(&mut self, agent: Option<Id>) {
        let Some(source) = self.sources.get_mut(&agent) else { return };
        source.shut = false;
        let (folded, tail) = (std::mem::take(&mut source.folded), std::mem::take(&mut source.tail));
        source.credit -= f64::from(u32::try_from(tail.len()).unwrap_or(0));
        if folded > 0 {
            self.wait(Item::Folded(agent, folded));
        }
        for line in tail {
            self.wait(Item::Line(agent, line));
        }
    }

    /// What there is to show now.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Item> {
        if self.paused {
            return Vec::new();
        }
        let allowance = self.allowance();
        let mut ready = Vec::new();
        for (agent, source) in &mut self.sources {
            source.earn(now, allowance);
            let looked_at = self.focus.is_none() || *agent == self.focus;
            if source.shut && looked_at && source.credit >= allowance.again {
                ready.push(*agent);
            }
        }
        ready.sort_unstable();
        for agent in ready {
            self.open(agent);
        }
        self.waiting()
    }

    /// Everything, without waiting for anything: it is over.
    pub(super) fn rest(&mut self) -> Vec<Item> {
        let mut shut: Vec<Option<Id>> =
            self.sources.iter().filter(|(_, source)| source.shut).map(|(agent, _)| *agent).collect();
        shut.sort_unstable();
        for agent in shut {
            self.open(agent);
        }
        self.waiting()
    }

    fn waiting(&mut self) -> Vec<Item> {
        let dropped = std::mem::take(&mut self.dropped);
        let first = (dropped > 0).then_some(Item::Folded(None, dropped));
        first.into_iter().chain(self.waiting.drain(..)).collect()
    }

    /// Whether nothing is shown until it goes on.
    pub(super) const fn is_paused(&self) -> bool {
        self.paused
    }

    /// How many lines wait to be shown.
    pub(super) fn held(&self) -> u64 {
        self.dropped + u64::try_from(self.waiting.len()).unwrap_or(u64::MAX)
    }

    /// Pauses it, or lets it go on.
    pub(super) const fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Whose lines alone are shown, if that is so.
    pub(super) const fn focus(&self) -> Option<Id> {
        self.focus
    }

    /// Shows the lines of one agent alone, or of all, and returns the last ones that it said.
    pub(super) fn look_at(&mut self, agent: Option<Id>, now: Instant) -> Vec<String> {
        self.focus = agent;
        let allowance = self.allowance();
        for source in self.sources.values_mut() {
            source.at = now;
            source.credit = allowance.burst;
        }
        let Some(source) = agent.and_then(|agent| self.sources.get_mut(&Some(agent))) else {
            return Vec::new();
        };
        // They are among the last ones.
        (source.shut, source.folded) = (false, 0);
        source.tail.clear();
        source.recent.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[expect(clippy::unnecessary_wraps, reason = "as the feed names who says something")]
    fn agent(number: u128) -> Option<Id> {
        Some(Id::from_random(number))
    }

    fn lines(items: &[Item], word: &str) -> usize {
        items.iter().filter(|item| matches!(item, Item::Line(_, line) if line.contains(word))).count()
    }

    #[test]
    fn one_that_floods_is_folded_and_hides_nobody() {
        let (mut feed, start) = (Feed::default(), Instant::now());
        let (mut shown, mut longest) = (Vec::new(), 0);
        feed.push(agent(1), "calm 0".to_owned(), false, start);
        feed.push(agent(2), "flood".to_owned(), false, start);
        // Ten seconds: a flood of 10,000 lines a second, and somebody who says one a second.
        for frame in 0..120_u32 {
            let now = start + Duration::from_millis(83) * frame;
            for _ in 0..830 {
                feed.push(agent(2), "flood".to_owned(), false, now);
            }
            if frame % 12 == 0 {
                feed.push(agent(1), "calm".to_owned(), false, now);
            }
            longest = longest.max(feed.waiting.len());
            shown.extend(feed.take(now));
        }
        shown.extend(feed.rest());
        assert_eq!(lines(&shown, "calm"), 11, "all of the calm one");
        let flood = lines(&shown, "flood");
        assert!((50..150).contains(&flood), "{flood}");
        let folded: u64 = shown
            .iter()
            .map(|item| match item {
                Item::Folded(who, lines) if *who == agent(2) => *lines,
                _ => 0,
            })
            .sum();
        assert_eq!(folded + u64::try_from(flood).unwrap(), 99_601, "every line is shown or counted");
        assert!(longest < WAITING);
    }

    #[test]
    fn the_last_words_of_a_flood_are_shown() {
        let (mut feed, start) = (Feed::default(), Instant::now());
        feed.push(agent(2), "other".to_owned(), false, start);
        for number in 0..1_000 {
            feed.push(agent(1), format!("line {number}"), false, start);
        }
        assert_eq!(lines(&feed.take(start), "line"), 40);
        let later = feed.take(start + Duration::from_secs(3));
        let last = ["line 997", "line 998", "line 999"].map(|line| Item::Line(agent(1), line.to_owned()));
        assert_eq!(later[0], Item::Folded(agent(1), 957));
        assert_eq!(later[1..], last);
        // What matters comes at once, behind what was before it.
        for number in 0..100 {
            feed.push(agent(1), format!("line {number}"), false, start + Duration::from_secs(3));
        }
        feed.push(agent(1), "done".to_owned(), true, start + Duration::from_secs(3));
        let shown = feed.take(start + Duration::from_secs(3));
        assert_eq!(shown.last(), Some(&Item::Line(agent(1), "done".to_owned())));
        assert!(matches!(shown[shown.len() - 5], Item::Folded(..)), "{shown:?}");
    }

    #[test]
    fn a_pause_holds_a_bounded_number_of_lines() {
        let (mut feed, start) = (Feed::default(), Instant::now());
        feed.pause(true);
        for number in 0..10_000 {
            feed.push(agent(number % 50), "line".to_owned(), true, start);
        }
        assert_eq!((feed.take(start), feed.held()), (Vec::new(), 10_000));
        feed.pause(false);
        let shown = feed.take(start);
        assert_eq!((shown.len(), &shown[0]), (501, &Item::Folded(None, 9_500)));
    }

    #[test]
    fn one_can_be_looked_at_alone_with_what_it_said_last() {
        let (mut feed, start) = (Feed::default(), Instant::now());
        for number in 0..60 {
            feed.push(agent(1), format!("one {number}"), false, start);
            feed.push(agent(2), format!("two {number}"), false, start);
        }
        feed.take(start);
        let recent = feed.look_at(agent(1), start);
        assert_eq!((recent.len(), recent[0].as_str(), recent[39].as_str()), (40, "one 20", "one 59"));
        for number in 60..400 {
            feed.push(agent(1), format!("one {number}"), false, start);
            feed.push(agent(2), format!("two {number}"), false, start);
        }
        feed.push(None, "for all".to_owned(), true, start);
        let shown = feed.take(start);
        assert_eq!((lines(&shown, "one"), lines(&shown, "two"), lines(&shown, "for all")), (340, 0, 1));
        assert_eq!(feed.look_at(None, start), Vec::<String>::new());
        feed.push(agent(2), "two".to_owned(), false, start);
        // With the end of what was folded before.
        assert_eq!(lines(&feed.take(start), "two"), 4);
    }
}
