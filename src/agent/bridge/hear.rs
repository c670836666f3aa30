//! The program's side of its input.

use super::Wish;
use crate::process::LineSplitter;
use std::io::Read;
use tokio::sync::mpsc;

/// The longest wish: a message, with a prompt's room.
const MAX_WISH: usize = 16 << 20;

/// The wishes that `input` holds, as they come; the channel ends with it. A thread reads, as nothing can wait for a
/// standard input that may be a file. What is no wish is left out: who writes there is of the same build.
pub fn hear(mut input: impl Read + Send + 'static) -> mpsc::Receiver<Wish> {
    let (sender, wishes) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut splitter = LineSplitter::new(MAX_WISH);
        let mut buffer = vec![0; 64 << 10];
        let mut lines = Vec::new();
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => splitter.push(&buffer[..count], &mut lines),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
            for line in lines.drain(..) {
                if let Ok(wish) = Wish::decode(&line.bytes)
                    && sender.blocking_send(wish).is_err()
                {
                    return;
                }
            }
        }
    });
    wishes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_heard_in_order_whatever_stands_between_them() {
        let mut input = Wish::Message { text: "one".into() }.encode();
        input.extend(b"no wish\n\n");
        input.extend(Wish::Interrupt.encode());
        // Cut short by the end, it was never said whole.
        input.extend(b"{\"wish\":\"interr");
        let mut wishes = hear(std::io::Cursor::new(input));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let heard = runtime.block_on(async {
            let mut heard = Vec::new();
            while let Some(wish) = wishes.recv().await {
                heard.push(wish);
            }
            heard
        });
        assert_eq!(heard, [Wish::Message { text: "one".into() }, Wish::Interrupt]);
    }
}
