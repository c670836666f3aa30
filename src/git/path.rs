//! Paths of git as text: one spelling for each path, whatever bytes it has.
//!
//! Paths in a repository are bytes; the state, messages and arguments are text. A path that is valid UTF-8 and
//! does not start with `"` is its own text. Any other is written as git quotes it (`"caf\351"`), so that no two
//! paths share a text and each text leads back to its path.

use bstr::{BStr, BString, ByteSlice};
use std::fmt::Write as _;

/// How many paths are named of many.
const FEW: usize = 3;

/// The one text of `path`.
pub fn path_text(path: &BStr) -> String {
    match path.to_str() {
        Ok(text) if !text.starts_with('"') => text.to_owned(),
        _ => quote(path),
    }
}

/// The path whose text is `text`; a text that no path has (a broken quotation) is taken literally.
pub fn text_path(text: &str) -> BString {
    unquote(text).unwrap_or_else(|| text.into())
}

/// The first few of several texts of paths: `a, b, c and 2 more`.
pub fn few_paths<S: AsRef<str>>(paths: impl IntoIterator<Item = S>) -> String {
    let mut paths = paths.into_iter();
    let named: Vec<S> = paths.by_ref().take(FEW).collect();
    let named = named.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match paths.count() {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn quote(path: &BStr) -> String {
    let mut text = String::from("\"");
    for &byte in path.iter() {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => write!(text, "\\{byte:03o}").expect("a string takes everything"),
        }
    }
    text.push('"');
    text
}

fn unquote(text: &str) -> Option<BString> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut path = BString::default();
    let mut bytes = inner.bytes();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'\\' => match bytes.next()? {
                plain @ (b'"' | b'\\') => plain,
                high @ b'0'..=b'3' => {
                    let mut value = high - b'0';
                    for _ in 0..2 {
                        let digit = bytes.next().filter(|b| (b'0'..=b'7').contains(b))?;
                        value = value * 8 + (digit - b'0');
                    }
                    value
                }
                _ => return None,
            },
            b'"' => return None,
            _ => byte,
        });
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_one_text_and_every_text_leads_back() {
        let paths: [&[u8]; 7] =
            [b"src/a.rs", b"caf\xe9", b"\"quoted\"", b"a\nb", b"a\\b", b"\xff\"\\ \x01", "ä b".as_bytes()];
        for path in paths {
            assert_eq!(text_path(&path_text(path.as_bstr())), path.as_bstr());
        }
        assert_eq!(path_text(b"caf\xe9".as_bstr()), "\"caf\\351\"");
        assert_eq!(text_path("\"broken"), "\"broken");
    }

    #[test]
    fn of_many_paths_the_first_are_named() {
        let few = |count: u32| few_paths((0..count).map(|n| format!("f{n}")));
        assert_eq!((few(0), few(1), few(3)), (String::new(), "f0".to_owned(), "f0, f1, f2".to_owned()));
        assert_eq!(few(5), "f0, f1, f2 and 2 more");
    }
}
