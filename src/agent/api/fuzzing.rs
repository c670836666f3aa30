//! What holds of any bytes that an endpoint may send.

use super::http::next_event;
use super::wire::Answer;
use std::io::BufReader;

/// A stream is the same events whichever pieces it comes in, and whatever they say an answer takes them or refuses.
pub fn stream(data: &[u8]) {
    let events = read(data, 1 << 16);
    assert_eq!(events, read(data, 7));
    let mut answer = Answer::default();
    for event in &events {
        if answer.take(event).is_err() {
            break;
        }
    }
    answer.words();
}

fn read(data: &[u8], piece: usize) -> Vec<String> {
    let mut reader = BufReader::with_capacity(piece, data);
    std::iter::from_fn(|| next_event(&mut reader).ok().flatten()).collect()
}
