//! JSON read without assumptions: the decoders' field types, which accept any value where one kind is expected.
//!
//! A program's next release may turn a string into an object. With these types such a field reads as absent and
//! the rest of the line still counts; only text that is no JSON at all fails. Nothing here allocates for strings
//! that need no unescaping.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor, value};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// A line as text. Looked at as a whole first: what repairs texts looks at each character.
pub(super) fn text(line: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(line).map_or_else(|_| String::from_utf8_lossy(line), Cow::Borrowed)
}

/// A JSON scalar; arrays and objects read as absent.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Scalar<'a> {
    /// Missing, null, an array or an object.
    #[default]
    Absent,
    Bool(bool),
    Int(u64),
    Real(f64),
    Text(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    /// The text, or nothing.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    /// The text if there is one that is not empty.
    pub(super) fn some_text(&self) -> Option<&str> {
        Some(self.text()).filter(|text| !text.is_empty())
    }

    /// The text as an owned string if there is one that is not empty.
    pub(super) fn owned(&self) -> Option<String> {
        self.some_text().map(str::to_owned)
    }

    /// The text, taken out.
    pub(super) fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text,
            _ => Cow::Borrowed(""),
        }
    }

    /// The number, rounded; 0 for anything else.
    pub(super) fn int(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates, NaN is 0"
        )]
        match *self {
            Self::Int(number) => number,
            Self::Real(number) => number.round() as u64,
            _ => 0,
        }
    }

    /// The number, if it is one.
    pub(super) fn real(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "money and milliseconds are far below 2^53")]
        match *self {
            Self::Int(number) => Some(number as f64),
            Self::Real(number) => Some(number),
            _ => None,
        }
    }

    /// Whether it is `true`.
    pub(super) fn is_true(&self) -> bool {
        matches!(self, Self::Bool(true))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Int(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(value).map_or(Scalar::Absent, Scalar::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Real(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        drain_seq(seq)?;
        Ok(Scalar::Absent)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        drain_map(map)?;
        Ok(Scalar::Absent)
    }
}

fn drain_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn drain_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// An object read as `T`; anything else reads as `None`.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor::<T>(PhantomData)).map(|shape| match shape {
            Shape::Object(object) => Self(Some(object)),
            Shape::List(_) | Shape::Text(_) | Shape::Other => Self(None),
        })
    }
}

/// A text, a list of objects, or neither: what both `content` fields of messages may be.
#[derive(Debug, Default)]
pub(super) enum Shape<'a, T> {
    Text(Cow<'a, str>),
    List(Vec<T>),
    Object(T),
    #[default]
    Other,
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Shape<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor::<T>(PhantomData))
    }
}

struct ShapeVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ShapeVisitor<T> {
    type Value = Shape<'de, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Shape::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Shape::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Shape::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Shape::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Shape::Other)
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Shape::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Shape::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Object(element)) = seq.next_element::<Object<T>>()? {
            list.extend(element);
        }
        Ok(Shape::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(value::MapAccessDeserializer::new(map)).map(Shape::Object)
    }
}

/// The start of a JSON string: at most about `max` bytes of it are unescaped, however long it is.
///
/// `raw` is the string as it stands in the line, quotes included; anything else gives nothing.
pub(super) fn string_start(raw: &RawValue, max: usize) -> String {
    let raw = raw.get();
    let bytes = raw.as_bytes();
    if bytes.first() != Some(&b'"') {
        return String::new();
    }
    let mut end = 1;
    while end < bytes.len() - 1 && end <= max {
        // An escape is never cut, nor a pair of surrogates (`\ud83d\ude00`).
        end += match bytes[end] {
            b'\\' if bytes[end + 1] == b'u' => match &bytes[end..] {
                [_, _, b'd' | b'D', b'8'..=b'9' | b'a'..=b'b' | b'A'..=b'B', _, _, b'\\', b'u', ..] => 12,
                _ => 6,
            },
            b'\\' => 2,
            _ => 1,
        };
    }
    let mut end = end.min(bytes.len() - 1);
    while !raw.is_char_boundary(end) {
        end += 1;
    }
    if end == bytes.len() - 1 {
        return read_string(raw);
    }
    let mut cut = String::with_capacity(end + 1);
    cut.push_str(&raw[..end]);
    cut.push('"');
    read_string(&cut)
}

fn read_string(quoted: &str) -> String {
    serde_json::from_str(quoted)
        .or_else(|_| serde_json::from_str(&without_lone_surrogates(quoted)))
        .unwrap_or_default()
}

/// `json` with every lone surrogate escape made a replacement character: JavaScript programs that cut a text in
/// the middle of an emoji print them, and no Rust string can hold them.
pub(super) fn without_lone_surrogates(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let unit = surrogate(rest);
        let taken = match unit {
            None => rest.char_indices().nth(2).map_or(rest.len(), |(end, _)| end),
            Some(true) if surrogate(&rest[6..]) == Some(false) => 12,
            Some(_) => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out.push_str(rest);
    out
}

/// Whether `text` starts with the escape of a surrogate, and whether that is a leading one.
fn surrogate(text: &str) -> Option<bool> {
    let hex = text.strip_prefix("\\u")?.get(..4)?;
    match u16::from_str_radix(hex, 16).ok()? {
        0xd800..=0xdbff => Some(true),
        0xdc00..=0xdfff => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn a_field_of_another_kind_reads_as_absent() {
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct Line<'a> {
            #[serde(borrow)]
            name: Scalar<'a>,
            count: Scalar<'a>,
            inner: Object<Inner<'a>>,
        }
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct Inner<'a> {
            #[serde(borrow)]
            word: Scalar<'a>,
        }
        let json = r#"{"name":{"a":[1]},"count":"7","inner":[{"word":1}],"more":null}"#;
        let line: Line<'_> = serde_json::from_str(json).unwrap();
        assert_eq!((line.name.text(), line.count.int(), line.inner.0.is_none()), ("", 0, true));
        let line: Line<'_> =
            serde_json::from_str(r#"{"name":"a","count":7.4,"inner":{"word":"w"}}"#).unwrap();
        assert_eq!((line.name.text(), line.count.int()), ("a", 7));
        assert!(matches!(line.inner.0.unwrap().word, Scalar::Text(Cow::Borrowed("w"))));
    }

    #[test]
    fn the_start_of_a_string_never_cuts_an_escape() {
        let json = r#""ab\n\ud83d\ude00é\"end""#;
        let whole: String = serde_json::from_str(json).unwrap();
        for max in 0..json.len() + 2 {
            let start = string_start(&raw(json), max);
            assert!(whole.starts_with(&start), "{max}: {start}");
        }
        assert_eq!(string_start(&raw(json), 1000), whole);
        assert_eq!(string_start(&raw("[1]"), 10), "");
    }

    #[test]
    fn a_lone_surrogate_becomes_a_replacement_character() {
        assert_eq!(string_start(&raw(r#""cut \ud83d""#), 100), "cut \u{fffd}");
        assert_eq!(string_start(&raw(r#""\ude00 \\ud83d \ud83d\ude00""#), 100), "\u{fffd} \\ud83d 😀");
    }

    proptest! {
        #[test]
        fn the_start_is_a_prefix_of_any_string(text in ".{0,60}", max in 0_usize..80) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert!(text.starts_with(&string_start(&raw(&json), max)));
        }

        #[test]
        fn repairing_leaves_valid_json_alone(text in ".{0,60}") {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(without_lone_surrogates(&json), json);
        }
    }
}
