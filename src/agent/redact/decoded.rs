//! Secrets that are written in another way: escaped as in JSON, percent-encoded, in base 64, in hexadecimal.
//!
//! One such layer is undone, and what comes out is looked through; two layers are not. Base 64 and hexadecimal are
//! looked for in runs of at least 16 and 24 characters; what does not decode to at least 8 bytes of plain text in a row is
//! passed over. A run is decoded from each place at which it may begin up to 64 KiB; longer ones (pictures) from their own
//! beginning.

use super::finder::{FINDER, Span};

/// The shortest runs that are decoded.
const BASE64: usize = 16;
const HEX: usize = 24;
/// The shortest piece of plain text that is looked at.
const PIECE: usize = 8;
/// Up to so long a run is decoded from each place at which it may begin.
const WHOLE: usize = 64 << 10;
/// How much plain text around an escape belongs to it.
const AROUND: usize = 96;

/// Adds what is found in encoded parts of `text`.
pub(super) fn find(text: &str, found: &mut Vec<Span>) {
    let bytes = text.as_bytes();
    let mut escapes = Escapes::default();
    let mut at = 0;
    while at < bytes.len() {
        match CLASS[usize::from(bytes[at])] {
            0 => at += 1,
            ESCAPE => {
                if let Some((_, length)) = escape(&bytes[at..]) {
                    escapes.note(text, at, at + length, found);
                    at += length;
                } else {
                    at += 1;
                }
            }
            _ => {
                let start = at;
                let mut kinds = HEX_DIGIT;
                while at < bytes.len() && CLASS[usize::from(bytes[at])] & DIGIT != 0 {
                    kinds &= CLASS[usize::from(bytes[at])];
                    at += 1;
                }
                if kinds & HEX_DIGIT != 0 && at - start >= HEX {
                    for begin in start..=start + 1 {
                        pieces(&bytes[..at], begin, 2, 1, unhex, found);
                    }
                }
                if at - start >= BASE64 {
                    let begins = if at - start <= WHOLE { 4 } else { 1 };
                    for begin in start..start + begins {
                        pieces(&bytes[..at], begin, 4, 3, unbase64, found);
                    }
                }
            }
        }
    }
    escapes.end(text, found);
}

const DIGIT: u8 = 1;
const HEX_DIGIT: u8 = 2;
const ESCAPE: u8 = 4;

/// What a byte may be part of.
static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = match byte {
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => DIGIT | HEX_DIGIT,
            b'g'..=b'z' | b'G'..=b'Z' | b'+' | b'/' | b'-' | b'_' => DIGIT,
            b'\\' | b'%' => ESCAPE,
            _ => 0,
        };
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// Decodes from `begin`, `take` characters to `give` bytes at a time, and looks through each piece of plain text.
fn pieces(
    bytes: &[u8],
    begin: usize,
    take: usize,
    give: usize,
    decode: impl Fn(&[u8]) -> ([u8; 3], usize),
    found: &mut Vec<Span>,
) {
    let mut piece = String::new();
    // Where the group stands that the piece's first byte is of, and which byte of it that is.
    let (mut group, mut offset) = (begin, 0);
    let mut look = |piece: &mut String, group: usize, offset: usize| {
        if piece.len() >= PIECE {
            let mut inner = Vec::new();
            FINDER.find(piece, &mut inner);
            for span in inner {
                let (first, last) = (offset + span.start, offset + span.end - 1);
                let start = group + first / give * take;
                let end = (group + last / give * take + take).min(bytes.len());
                found.push(Span { start, end, ..span });
            }
        }
        piece.clear();
    };
    for at in (begin..bytes.len()).step_by(take) {
        let (decoded, length) = decode(&bytes[at..bytes.len().min(at + take)]);
        for (n, &byte) in decoded[..length].iter().enumerate() {
            if matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t') {
                if piece.is_empty() {
                    (group, offset) = (at, n);
                }
                piece.push(char::from(byte));
            } else if !piece.is_empty() {
                look(&mut piece, group, offset);
            }
        }
    }
    look(&mut piece, group, offset);
}

fn unhex(pair: &[u8]) -> ([u8; 3], usize) {
    match pair {
        [high, low] => ([hex(*high) << 4 | hex(*low), 0, 0], 1),
        _ => ([0; 3], 0),
    }
}

const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10) & 15,
    }
}

/// Both alphabets; of a last group that is cut, what is whole.
fn unbase64(group: &[u8]) -> ([u8; 3], usize) {
    let mut bits = 0_u32;
    for at in 0..4 {
        bits = bits << 6 | group.get(at).map_or(0, |&byte| u32::from(six(byte)));
    }
    let [_, a, b, c] = bits.to_be_bytes();
    ([a, b, c], group.len().saturating_sub(1))
}

const fn six(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        _ => 63,
    }
}

/// Which character an escape at the beginning of `bytes` stands for, and how long it is: `%41`, `\u0041` behind any
/// number of backslashes, `\/`.
fn escape(bytes: &[u8]) -> Option<(char, usize)> {
    let number = |digits: &[u8]| -> Option<u32> {
        digits
            .iter()
            .all(u8::is_ascii_hexdigit)
            .then(|| digits.iter().fold(0, |number, &digit| number << 4 | u32::from(hex(digit))))
    };
    let (code, length) = match bytes {
        [b'%', a, b, ..] => (number(&[*a, *b])?, 3),
        [b'\\', ..] => {
            let slashes = bytes.iter().take_while(|&&byte| byte == b'\\').count();
            match &bytes[slashes..] {
                [b'u', a, b, c, d, ..] => (number(&[*a, *b, *c, *d])?, slashes + 5),
                [b'/', ..] => (u32::from('/'), slashes + 1),
                _ => return None,
            }
        }
        _ => return None,
    };
    // What is no ASCII is part of no secret.
    let plain = u8::try_from(code).ok().filter(u8::is_ascii).map_or('\u{fffd}', char::from);
    Some((plain, length))
}

/// Escapes that stand near each other, as one text.
#[derive(Default)]
struct Escapes {
    first: Option<usize>,
    last: usize,
}

impl Escapes {
    fn note(&mut self, text: &str, start: usize, end: usize, found: &mut Vec<Span>) {
        if self.first.is_some() && start - self.last > AROUND {
            self.end(text, found);
        }
        self.first.get_or_insert(start);
        self.last = end;
    }

    /// Looks through those that were noted, undone, with what stands around them.
    fn end(&mut self, text: &str, found: &mut Vec<Span>) {
        let Some(first) = self.first.take() else { return };
        let (mut from, mut to) = (first.saturating_sub(AROUND), (self.last + AROUND).min(text.len()));
        while !text.is_char_boundary(from) {
            from -= 1;
        }
        while !text.is_char_boundary(to) {
            to += 1;
        }
        let (mut plain, mut places) = (String::with_capacity(to - from), Vec::with_capacity(to - from));
        let mut at = from;
        while at < to {
            let (c, length) = match text.as_bytes()[at] {
                b'\\' | b'%' => escape(&text.as_bytes()[at..to]),
                _ => None,
            }
            .unwrap_or_else(|| {
                let c = text[at..].chars().next().unwrap_or(' ');
                (c, c.len_utf8())
            });
            plain.push(c);
            places.resize(plain.len(), at);
            at += length;
        }
        places.push(to);
        let mut inner = Vec::new();
        FINDER.find(&plain, &mut inner);
        // One that runs to the end of what was undone may go on: it is taken as far as it was seen.
        found.extend(inner.into_iter().map(|span| Span {
            start: places[span.start],
            end: places[span.end],
            ..span
        }));
    }
}
