//! Programs of our own between the supervisor and something that is no program with lines: an agent behind a protocol,
//! a model behind an interface. Each is a hidden command of this executable, started and watched like any program.
//!
//! Such a program prints [events](crate::model::Event), one a line of JSON ([`event_line`]), and is told [wishes](Wish)
//! on its standard input, one a line: first [`Wish::Begin`] with all that it is started with, so that nothing of it
//! stands on a command line. The end of its input means that nobody wants more of it: it breaks off and ends. What it
//! says of success counts as little as that of other programs.

mod decode;
mod hear;
mod speech;
mod wish;

pub use decode::BridgeDecoder;
pub use hear::hear;
pub use speech::Speech;
pub use wish::{Begin, Wish, launch};

pub use super::partial::Voice;

use crate::model::Event;

/// `event` as a line of such a program, with its newline.
pub fn event_line(event: &Event) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("events are plain data with string keys");
    line.push(b'\n');
    line
}
