//! What a program does not tell of money, from what its profile says: the price of tokens, and the model.

use super::{Adapter, Decoder, LaunchRequest};
use crate::agent::price::Price;
use crate::model::{Event, EventKind, Measure, Timestamp, Usage};

/// The decoder of a program, with the price and the model of a request where the program itself tells neither.
pub fn decoder(adapter: &dyn Adapter, request: &LaunchRequest) -> Box<dyn Decoder> {
    let decoder = adapter.decoder(request);
    if request.price.is_none() && request.model.is_none() {
        return decoder;
    }
    Box::new(Priced { decoder, price: request.price, model: request.model.clone() })
}

struct Priced {
    decoder: Box<dyn Decoder>,
    price: Option<Price>,
    model: Option<String>,
}

impl Priced {
    fn price(&self, usage: &mut Usage) {
        if usage.cost.is_none() && usage.total() > 0 {
            usage.cost = self.price.map(|price| price.of(usage));
        }
    }

    fn complete(&self, events: &mut [Event]) {
        for event in events {
            match &mut event.kind {
                EventKind::Usage { usage, .. } | EventKind::Result { usage, .. } => self.price(usage),
                EventKind::Ready { model: model @ None, .. } => model.clone_from(&self.model),
                _ => {}
            }
        }
    }
}

impl Decoder for Priced {
    fn line(&mut self, line: &[u8], at: Timestamp, events: &mut Vec<Event>) {
        let before = events.len();
        self.decoder.line(line, at, events);
        self.complete(&mut events[before..]);
    }

    fn error_line(&mut self, line: &[u8], at: Timestamp, events: &mut Vec<Event>) {
        let before = events.len();
        self.decoder.error_line(line, at, events);
        self.complete(&mut events[before..]);
    }

    fn end(&mut self, at: Timestamp, events: &mut Vec<Event>) {
        let before = events.len();
        self.decoder.end(at, events);
        self.complete(&mut events[before..]);
    }

    fn was_piece(&self) -> bool {
        self.decoder.was_piece()
    }

    fn usage(&self) -> Usage {
        let mut usage = self.decoder.usage();
        self.price(&mut usage);
        usage
    }

    fn is_idle(&self) -> bool {
        self.decoder.is_idle()
    }

    fn reported_failure(&self) -> Option<String> {
        self.decoder.reported_failure()
    }

    fn limit(&self) -> Option<Measure> {
        self.decoder.limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::find_adapter;
    use crate::model::{Cost, CostSource};

    /// Thread, turn and figures as `codex exec --json` prints them.
    const CODEX: [&str; 3] = [
        r#"{"type":"thread.started","thread_id":"t"}"#,
        r#"{"type":"turn.started"}"#,
        r#"{"type":"turn.completed","usage":{"input_tokens":1000,"cached_input_tokens":600,"output_tokens":50}}"#,
    ];
    const PRICE: Price = Price { input: 2_000_000, cached: 200_000, output: 10_000_000 };

    fn decoded(program: &str, lines: &[&str], request: &LaunchRequest) -> (Vec<Event>, Usage) {
        let mut decoder = decoder(&*find_adapter(program).unwrap(), request);
        let mut events = Vec::new();
        for line in lines {
            decoder.line(line.as_bytes(), Timestamp(1), &mut events);
        }
        (events, decoder.usage())
    }

    #[test]
    fn what_a_program_does_not_tell_its_profile_does() {
        let request =
            LaunchRequest { price: Some(PRICE), model: Some("m".into()), ..LaunchRequest::default() };
        let (events, usage) = decoded("codex", &CODEX, &request);
        // 400 × 2 + 600 × 0.2 + 50 × 10 millionths.
        let cost = Some(Cost { micro_usd: 1420, source: CostSource::Computed });
        assert_eq!(usage.cost, cost);
        let told = events.iter().filter_map(|event| match &event.kind {
            EventKind::Usage { usage, .. } | EventKind::Result { usage, .. } => Some(usage.cost),
            EventKind::Ready { model, .. } => {
                assert_eq!(model.as_deref(), Some("m"));
                None
            }
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), [cost, cost]);
        let (_, free) = decoded("codex", &CODEX[..2], &request);
        assert_eq!(free.cost, None, "nothing was used yet");
        let (_, unpriced) = decoded("codex", &CODEX, &LaunchRequest { price: None, ..request });
        assert_eq!(unpriced.cost, None);
    }

    #[test]
    fn what_a_program_tells_itself_stands() {
        let line = r#"{"type":"result","subtype":"success","total_cost_usd":0.5,"usage":{"input_tokens":9},"modelUsage":{"m":{"inputTokens":9}}}"#;
        let request = LaunchRequest { price: Some(PRICE), ..LaunchRequest::default() };
        let (_, usage) = decoded("claude", &[line], &request);
        assert_eq!(usage.cost, Some(Cost { micro_usd: 500_000, source: CostSource::Reported }));
    }
}
