//! What a setting's value is, and how it is written.

use std::fmt;
use std::time::Duration;

/// A value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Words.
    Text(String),
    /// A count.
    Integer(u64),
    /// Words in order: a command line.
    List(Vec<String>),
    /// A time span.
    Duration(Duration),
    /// Millionths of a US dollar.
    Money(u64),
    /// Bytes.
    Size(u64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => write!(f, "{number}"),
            Self::List(items) => write!(f, "{items:?}"),
            Self::Duration(span) => match span.as_secs() {
                0 => f.write_str("0s"),
                secs if secs % 3600 == 0 => write!(f, "{}h", secs / 3600),
                secs if secs % 60 == 0 => write!(f, "{}m", secs / 60),
                secs => write!(f, "{secs}s"),
            },
            Self::Size(bytes) => match bytes {
                0 => f.write_str("0"),
                bytes if bytes % (1 << 30) == 0 => write!(f, "{}G", bytes >> 30),
                bytes if bytes % (1 << 20) == 0 => write!(f, "{}M", bytes >> 20),
                bytes if bytes % (1 << 10) == 0 => write!(f, "{}K", bytes >> 10),
                bytes => write!(f, "{bytes}"),
            },
            Self::Money(micro) => {
                let part = format!("{:06}", micro % 1_000_000);
                // Cents, and what there is beyond them.
                let rest = part[2..].trim_end_matches('0');
                write!(f, "{}.{}{rest}", micro / 1_000_000, &part[..2])
            }
        }
    }
}

/// A time span: `90`, `90s`, `10m`, `2h`.
pub fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).map(Duration::from_secs)
}

/// Bytes: `4096`, `512M`, `2G`, powers of 1,024.
pub(super) fn size(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// A count from 1: `50`, `200k`, `2M`.
pub fn count(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" => 1,
        "k" | "K" => 1_000,
        "m" | "M" => 1_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|count| *count > 0)
}

/// Dollars with up to six decimals, as millionths.
pub fn money(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 6
        || !part.bytes().all(|b| b.is_ascii_digit())
        || !whole.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let micro: u64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micro)
}
