//! Secrets that are written in another way: escaped as in JSON, percent-encoded, in base 64, in hexadecimal.
//!
//! Two such layers are undone, and what comes out of each is looked through as it is and as it is shown; a third is not.
//! Base 64 and hexadecimal are looked for in runs of at least 16 and 24 characters; what does not decode to at least 8 bytes
//! of plain text in a row is passed over: of what hides in that, only control characters of ASCII are seen through. A run is
//! decoded from each place at which it may begin up to 64 KiB; longer ones (pictures) from their own beginning. Lines of one
//! length, at least 40 characters, are one run, as `base64`, `openssl` and `xxd` write it.

use super::finder::Span;
use crate::agent::sanitise::{Shown, is_hidden};
use memchr::memchr2;

/// The shortest runs that are decoded.
const BASE64: usize = 16;
const HEX: usize = 24;
const SHORTEST: usize = if BASE64 < HEX { BASE64 } else { HEX };
/// The shortest piece of plain text that is looked at.
const PIECE: usize = 8;
/// The shortest one that is looked at with what hides in it: pictures are full of shorter ones.
const HIDING: usize = 13;
/// Up to so long a run is decoded from each place at which it may begin.
const WHOLE: usize = 64 << 10;
/// How much plain text around an escape belongs to it.
const AROUND: usize = 96;
/// How much of a word around it does.
const WORD: usize = 2 << 10;
/// The shortest lines that are taken for one run.
const LINE: usize = 40;
/// How many layers are undone.
const LAYERS: u8 = 2;

/// What looks through plain text and adds what it finds.
type Look<'l, 'r> = &'l dyn Fn(&str, &mut Vec<Span<'r>>);

/// Adds what is found by `look` in encoded parts of `text`.
pub(super) fn find<'r>(text: &str, look: Look<'_, 'r>, found: &mut Vec<Span<'r>>) {
    Layers { look, left: LAYERS }.find(text, found);
}

/// How what is undone is looked through.
#[derive(Clone, Copy)]
struct Layers<'l, 'r> {
    look: Look<'l, 'r>,
    left: u8,
}

impl<'r> Layers<'_, 'r> {
    fn find(self, text: &str, found: &mut Vec<Span<'r>>) {
        let bytes = text.as_bytes();
        let mut escapes = Escapes::default();
        // Where to look for the next escape, and where the text between two of them begins.
        let (mut at, mut from) = (0, 0);
        while let Some(next) = memchr2(b'\\', b'%', &bytes[at..]) {
            at += next;
            if let Some((_, length)) = escape(&bytes[at..]) {
                escapes.note(self, text, at, at + length, found);
                at += length;
                // A letter behind a backslash may also be where a run begins.
                if !is_letter(&bytes[at - length..at]) {
                    self.runs(bytes, from, at - length, found);
                    from = at;
                }
            } else {
                // What no escape ends behind several backslashes, none ends behind the last of them.
                at += slashes(&bytes[at..]).max(1);
            }
        }
        self.runs(bytes, from, bytes.len(), found);
        escapes.end(self, text, found);
        self.lines(bytes, found);
    }

    /// Looks through what was undone, as it is and as it is shown.
    fn through(self, plain: &str) -> Vec<Span<'r>> {
        let mut found = self.deeper(plain);
        if let Some(shown) = Shown::new(plain) {
            found.extend(self.deeper(&shown.text).into_iter().map(|span| {
                let (start, end) = shown.span(plain, span.start, span.end);
                Span { start, end, ..span }
            }));
        }
        found
    }

    /// Looks through what was undone, and through the next layer of it.
    fn deeper(self, plain: &str) -> Vec<Span<'r>> {
        let mut found = Vec::new();
        (self.look)(plain, &mut found);
        if self.left > 1 && plain.len() >= SHORTEST {
            Self { left: self.left - 1, ..self }.find(plain, &mut found);
        }
        found
    }

    /// Looks through runs that go on from line to line: an end of line, or the escape of one, behind each of several runs of
    /// one length, of which the last may be shorter.
    fn lines(self, bytes: &[u8], found: &mut Vec<Span<'r>>) {
        let mut at = 0;
        while let Some(next) = memchr2(b'\n', b'\\', &bytes[at..]) {
            let end = at + next;
            let Some(gap) = line_end(&bytes[end..]) else {
                // What no end of a line follows behind several backslashes, none follows behind the last of them.
                at = end + slashes(&bytes[end..]);
                continue;
            };
            let end = if end > at && bytes[end - 1] == b'\r' { end - 1 } else { end };
            let width = bytes[at..end].iter().rev().take_while(|&&byte| is_digit(byte)).count();
            if width < LINE {
                at += next + gap;
                continue;
            }
            let (mut joined, mut places) = (bytes[end - width..end].to_vec(), Vec::new());
            places.extend(end - width..end);
            at += next + gap;
            // The lines that follow.
            loop {
                let digits = bytes[at..].iter().take(width);
                let length = digits.take_while(|&&byte| is_digit(byte)).count();
                joined.extend_from_slice(&bytes[at..at + length]);
                places.extend(at..at + length);
                at += length;
                if length < width {
                    break;
                }
                let carriage = usize::from(bytes[at..].starts_with(b"\r"));
                match line_end(&bytes[at + carriage..]) {
                    Some(gap) => at += carriage + gap,
                    None => break,
                }
            }
            if joined.len() > width {
                let mut inner = Vec::new();
                self.run(&joined, 0, &mut inner);
                found.extend(inner.into_iter().map(|span| Span {
                    start: places[span.start],
                    end: places[span.end - 1] + 1,
                    ..span
                }));
            }
        }
    }

    /// Looks through the long runs of digits in `bytes[from..to]`.
    fn runs(self, bytes: &[u8], from: usize, to: usize, found: &mut Vec<Span<'r>>) {
        let is_digit = |at: usize| is_digit(bytes[at]);
        let mut from = from;
        // A run that is long enough and begins here or later has its last digit here or later.
        let mut last = from + SHORTEST - 1;
        while last < to {
            if !is_digit(last) {
                from = last + 1;
                last = from + SHORTEST - 1;
                continue;
            }
            let start = (from..last).rev().find(|&at| !is_digit(at)).map_or(from, |at| at + 1);
            let end = (last + 1..to).find(|&at| !is_digit(at)).unwrap_or(to);
            if end - start >= SHORTEST {
                self.run(&bytes[..end], start, found);
            }
            from = end + 1;
            last = from + SHORTEST - 1;
        }
    }

    /// Looks through a run from `start` to the end.
    fn run(self, bytes: &[u8], start: usize, found: &mut Vec<Span<'r>>) {
        let digits = &bytes[start..];
        if digits.len() >= HEX && digits.iter().all(|&byte| CLASS[usize::from(byte)] & HEX_DIGIT != 0) {
            for begin in start..=start + 1 {
                self.pieces(bytes, begin, (2, 1), unhex, found);
            }
        }
        if digits.len() >= BASE64 {
            let begins = if digits.len() <= WHOLE { 4 } else { 1 };
            for (begin, _) in (start..).zip(plain_begins(digits)).take(begins).filter(|(_, plain)| *plain) {
                self.pieces(bytes, begin, (4, 3), unbase64, found);
            }
        }
    }

    /// Decodes from `begin`, `take` characters to `give` bytes at a time, and looks through each piece of plain text.
    fn pieces(
        self,
        bytes: &[u8],
        begin: usize,
        (take, give): (usize, usize),
        decode: impl Fn(&[u8]) -> ([u8; 3], usize),
        found: &mut Vec<Span<'r>>,
    ) {
        let mut piece = String::new();
        // Where the group stands that the piece's first byte is of, and which byte of it that is.
        let (mut group, mut offset) = (begin, 0);
        let mut look = |piece: &mut String, group: usize, offset: usize| {
            let is_long = piece.len() >= HIDING || !piece.bytes().any(is_control);
            for (from, piece) in parts(piece, is_long).filter(|(_, part)| part.len() >= PIECE) {
                for span in self.through(piece) {
                    let (first, last) = (offset + from + span.start, offset + from + span.end - 1);
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
                if is_text(byte) || is_control(byte) {
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
}

/// Whether a byte may be part of a run.
fn is_digit(byte: u8) -> bool {
    CLASS[usize::from(byte)] != 0
}

/// How many backslashes `bytes` begin with.
fn slashes(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|&&byte| byte == b'\\').count()
}

/// How long the end of a line at the beginning of `bytes` is, written out or as JSON escapes it, carriage return or not.
fn line_end(bytes: &[u8]) -> Option<usize> {
    // Which letter is escaped at a place, by any number of backslashes, and how long that is.
    let escaped = |at: usize| -> Option<(u8, usize)> {
        let slashes = slashes(&bytes[at..]);
        let letter = bytes.get(at + slashes).filter(|_| slashes > 0)?;
        Some((*letter, at + slashes + 1))
    };
    match (bytes.first()?, escaped(0)) {
        (b'\n', _) => Some(1),
        (_, Some((b'n', end))) => Some(end),
        (_, Some((b'r', end))) => escaped(end).filter(|(letter, _)| *letter == b'n').map(|(_, end)| end),
        _ => None,
    }
}

/// From which of the first four places on a run of base 64 may hold a piece of plain text: one of eight bytes has two
/// whole groups in a row.
fn plain_begins(digits: &[u8]) -> [bool; 4] {
    let mut begins = [false; 4];
    for at in 0..(digits.len() + 1).saturating_sub(8) {
        let (one, other) = (&digits[at..at + 4], &digits[at + 4..at + 8]);
        if FIRST[usize::from(one[0])] && FIRST[usize::from(other[0])] && is_plain(one) && is_plain(other) {
            begins[at % 4] = true;
        }
    }
    begins
}

/// Whether a whole group of base 64 is plain text.
fn is_plain(group: &[u8]) -> bool {
    unbase64(group).0.iter().all(|&byte| is_text(byte))
}

const fn is_text(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t')
}

/// A piece as a whole, or what is between control characters in it, each with where it begins.
fn parts(piece: &str, whole: bool) -> impl Iterator<Item = (usize, &str)> {
    let mut from = 0;
    piece.split(move |c: char| !whole && u8::try_from(c).is_ok_and(is_control)).map(move |part| {
        let at = from;
        from += part.len() + 1;
        (at, part)
    })
}

/// Whether a byte of a piece may hide in plain text. Others are what pictures are full of.
const fn is_control(byte: u8) -> bool {
    matches!(byte, b'\0' | b'\x07' | b'\x08' | b'\x1b' | b'\x7f')
}

/// Whether a group of base 64 that begins with a byte may begin with plain text.
static FIRST: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        let mut low = 0;
        while low < 4 {
            table[byte as usize] |= CLASS[byte as usize] != 0 && is_text(six(byte) << 2 | low);
            low += 1;
        }
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

const DIGIT: u8 = 1;
const HEX_DIGIT: u8 = 2;

/// What a byte may be part of.
static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = match byte {
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => DIGIT | HEX_DIGIT,
            b'g'..=b'z' | b'G'..=b'Z' | b'+' | b'/' | b'-' | b'_' => DIGIT,
            _ => 0,
        };
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

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

/// Whether an escape is one letter behind backslashes.
const fn is_letter(escape: &[u8]) -> bool {
    matches!(escape, [.., b'\\', b'b' | b'f'])
}

/// What stands for half of a character that is hidden.
const HALF: char = '\u{200b}';

/// Which character an escape at the beginning of `bytes` stands for, and how long it is: `%41`, `\u0041` behind any
/// number of backslashes, `\/`, `\b`, `\f`.
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
            let slashes = slashes(bytes);
            match &bytes[slashes..] {
                [b'u', a, b, c, d, rest @ ..] => {
                    let code = number(&[*a, *b, *c, *d])?;
                    // `ESC \`, which ends a control string: the backslash is escaped as often.
                    if code == 0x1b && self::slashes(rest) >= 2 * slashes {
                        return Some(('\u{9c}', slashes * 3 + 5));
                    }
                    (code, slashes + 5)
                }
                [b'/', ..] => (u32::from('/'), slashes + 1),
                [b'b', ..] => (8, slashes + 1),
                [b'f', ..] => (12, slashes + 1),
                _ => return None,
            }
        }
        _ => return None,
    };
    let plain = match code {
        0..0x80 => char::from_u32(code),
        _ if bytes[0] == b'%' => return Some(percent(bytes).unwrap_or(('\u{fffd}', length))),
        // Halves of those beyond the first plane that have no shape, and the other half of any.
        0xd82f | 0xd834 | 0xdb40..=0xdb43 | 0xdc00..=0xdfff => Some(HALF),
        _ => char::from_u32(code).filter(|c| is_hidden(*c)),
    };
    // What is no ASCII is part of no secret, but for what is hidden within one.
    Some((plain.unwrap_or('\u{fffd}'), length))
}

/// A hidden character beyond ASCII that is percent-encoded byte by byte.
fn percent(bytes: &[u8]) -> Option<(char, usize)> {
    let byte = |of: &[u8]| match of {
        [b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => Some(hex(*a) << 4 | hex(*b)),
        _ => None,
    };
    let decoded: Vec<u8> = bytes.chunks(3).take(4).map_while(byte).collect();
    let c = decoded.utf8_chunks().next()?.valid().chars().next()?;
    is_hidden(c).then_some((c, c.len_utf8() * 3))
}

/// Whether a byte ends a word.
const fn is_gap(byte: u8) -> bool {
    matches!(byte, b'\0'..=b' ' | b'"')
}

/// Escapes that stand near each other, as one text.
#[derive(Default)]
struct Escapes {
    first: Option<usize>,
    last: usize,
}

impl Escapes {
    fn note<'r>(
        &mut self,
        layers: Layers<'_, 'r>,
        text: &str,
        start: usize,
        end: usize,
        found: &mut Vec<Span<'r>>,
    ) {
        // The whole of a word is looked through at once, however far the escapes in it are from each other.
        let between = text.as_bytes().get(self.last..start).unwrap_or_default();
        let is_near =
            between.len() <= AROUND || between.len() <= WORD && !between.iter().any(|&byte| is_gap(byte));
        if self.first.is_some() && !is_near {
            self.end(layers, text, found);
        }
        self.first.get_or_insert(start);
        self.last = end;
    }

    /// Looks through those that were noted, undone, with what stands around them.
    fn end<'r>(&mut self, layers: Layers<'_, 'r>, text: &str, found: &mut Vec<Span<'r>>) {
        let Some(first) = self.first.take() else { return };
        let (before, behind) = text.as_bytes().split_at(self.last);
        let before = before[..first].iter().rev().take(WORD).take_while(|&&byte| !is_gap(byte)).count();
        let behind = behind.iter().take(WORD).take_while(|&&byte| !is_gap(byte)).count();
        let mut from = first.saturating_sub(before.max(AROUND));
        let mut to = (self.last + behind.max(AROUND)).min(text.len());
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
        let inner = layers.through(&plain);
        // One that runs to the end of what was undone may go on: it is taken as far as it was seen.
        found.extend(inner.into_iter().map(|span| Span {
            start: places[span.start],
            end: places[span.end],
            ..span
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::finder::FINDER;
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Layers<'static, 'static> =
        Layers { look: &|text, found| FINDER.find(text, found), left: LAYERS };

    /// The same byte by byte, each run decoded from each place.
    fn find_plainly(text: &str) -> Vec<Span<'static>> {
        let (bytes, mut found) = (text.as_bytes(), Vec::new());
        let (mut escapes, mut at) = (Escapes::default(), 0);
        while at < bytes.len() {
            if let Some((_, length)) = escape(&bytes[at..]) {
                escapes.note(PLAIN, text, at, at + length, &mut found);
                at += length - usize::from(is_letter(&bytes[at..at + length]));
                continue;
            }
            let of = |class: u8| {
                bytes[at..].iter().take_while(move |&&byte| CLASS[usize::from(byte)] & class != 0)
            };
            let (digits, hex) = (of(DIGIT).count(), of(HEX_DIGIT).count());
            let run = &bytes[..at + digits];
            if hex == digits && digits >= HEX {
                (at..at + 2).for_each(|begin| PLAIN.pieces(run, begin, (2, 1), unhex, &mut found));
            }
            if digits >= BASE64 {
                let begins = if digits <= WHOLE { 4 } else { 1 };
                (at..at + begins).for_each(|begin| PLAIN.pieces(run, begin, (4, 3), unbase64, &mut found));
            }
            at += digits.max(1);
        }
        escapes.end(PLAIN, text, &mut found);
        PLAIN.lines(bytes, &mut found);
        found
    }

    fn sorted(mut spans: Vec<Span<'static>>) -> Vec<(usize, usize, &'static str)> {
        spans.sort_by_key(|span| (span.start, span.end, span.family));
        spans.iter().map(|span| (span.start, span.end, span.family)).collect()
    }

    fn check(text: &str) -> usize {
        let mut found = Vec::new();
        PLAIN.find(text, &mut found);
        let plainly = find_plainly(text);
        assert_eq!(sorted(found.clone()), sorted(plainly), "{text}");
        found.len()
    }

    #[test]
    fn long_runs_and_many_backslashes_are_looked_through_once() {
        let token = format!("gh{}_{}", "p", "a1B2c3D4e5F6g7H8i9J0");
        let encoded = crate::agent::redact::base64_core(format!("{token}\n\n\n").as_bytes(), 0, *b"+/");
        assert!(check(&format!("{encoded} {}", "A".repeat(WHOLE))) > 0);
        let many = "\\".repeat(4 << 20);
        let mut found = Vec::new();
        PLAIN.find(&many, &mut found);
        PLAIN.find(&format!("{many}u0041 and \\u0042{many}"), &mut found);
        PLAIN.find(&"\\r".repeat(1 << 20), &mut found);
        PLAIN.find(&"\\n".repeat(1 << 20), &mut found);
        // Looked through again from each of them it would take a quarter of an hour.
        assert!(found.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_is_there_looked_at_byte_by_byte(
            before in r"([ -~é]|\\u00[0-9a-f]{2}|%[0-9A-F]{2}|\\\\/|\\[bf]|[A-Za-z0-9+/]{14,18}){0,12}",
            after in r"([ -~]|\\u00[0-9a-f]{2}|%[0-9A-F]{2}|[0-9a-f]{22,26}){0,12}",
            way in 0_usize..6, index in any::<prop::sample::Index>(), seed in any::<u32>(),
        ) {
            let mut state = u64::from(seed);
            let mut random = |below: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(state >> 33).unwrap() % below
            };
            let examples = crate::agent::Redactor::examples(&mut random);
            let (_, _, example) = &examples[index.index(examples.len())];
            let each = |write: &dyn Fn(u8) -> String| example.bytes().map(write).collect::<String>();
            let base64 = |offset| crate::agent::redact::base64_core(example.as_bytes(), offset, *b"+/");
            let middle = match way {
                0 => each(&|byte| format!("\\u{byte:04x}")),
                1 => each(&|byte| format!("%{byte:02X}")),
                2 => each(&|byte| format!("{byte:02x}")),
                way => base64(way - 3),
            };
            check(&format!("{before}{middle}{after}"));
        }
    }
}
