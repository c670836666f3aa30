//! When a limit passes, as programs write it for people: `resets 3:45pm (Europe/Berlin)`, `try again at Nov 23rd, 2026
//! 3:45 PM`.

use crate::model::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp as Moment, ToSpan as _};

/// What such a moment stands behind.
const PHRASES: [&str; 2] = ["resets ", "try again at "];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// A moment as it is written: a time of day, and what else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written<'w> {
    year: Option<i16>,
    /// Month and day.
    day: Option<(i8, i8)>,
    time: Time,
    /// What stands behind it in parentheses: mostly a zone.
    aside: Option<&'w str>,
}

/// The moment after `now` that `words` name; `None` if they name none. Without a zone it is that of this machine.
pub(super) fn moment(words: &str, now: Timestamp) -> Option<Timestamp> {
    moment_in(words, now, |name| match name {
        Some(name) => TimeZone::get(name).ok(),
        None => Some(TimeZone::system()),
    })
}

/// The same with what `zone` knows of zones; of none, that of this machine.
fn moment_in(
    words: &str,
    now: Timestamp,
    zone: impl Fn(Option<&str>) -> Option<TimeZone>,
) -> Option<Timestamp> {
    let lower = words.to_ascii_lowercase();
    let written = PHRASES.iter().find_map(|phrase| {
        lower.match_indices(phrase).find_map(|(at, phrase)| written(&words[at + phrase.len()..]))
    })?;
    let zone = match written.aside.map(|name| (name, zone(Some(name)))) {
        Some((_, Some(zone))) => zone,
        // Better no time than one of another place.
        Some((name, None)) if name.contains('/') => return None,
        _ => zone(None)?,
    };
    let now = Moment::from_millisecond(i64::try_from(now.0).ok()?).ok()?;
    let here = now.to_zoned(zone.clone()).date();
    let at = |date: Date| Some(date.to_datetime(written.time).to_zoned(zone.clone()).ok()?.timestamp());
    let found = if let Some((month, day)) = written.day {
        let first = at(Date::new(written.year.unwrap_or(here.year()), month, day).ok()?)?;
        let gone = first < now && written.year.is_none();
        if gone { at(Date::new(here.year() + 1, month, day).ok()?)? } else { first }
    } else {
        let today = at(here)?;
        match now.as_millisecond() - today.as_millisecond() {
            ..0 => today,
            // Seconds are not written: it is later in this minute.
            0..60_000 => today.checked_add(1.minute()).ok()?,
            _ => at(here.tomorrow().ok()?)?,
        }
    };
    (found > now).then(|| u64::try_from(found.as_millisecond()).ok().map(Timestamp)).flatten()
}

/// Reads `[Nov 23[rd][, 2026][,] [at] ]3[:45] pm [(aside)]`.
fn written(words: &str) -> Option<Written<'_>> {
    let mut rest = skip(words, &["at "]);
    let (mut day, mut year) = (None, None);
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    if let Some(name) = rest.get(..3).filter(|_| letters >= 3) {
        let month = MONTHS.iter().position(|month| name.eq_ignore_ascii_case(month))?;
        let (number, after) = number(rest[letters..].trim_start_matches(['.', ' ']))?;
        day = Some((i8::try_from(month + 1).ok()?, i8::try_from(number).ok()?));
        rest = skip(skip(after, &["st", "nd", "rd", "th"]).trim_start_matches([',', ' ']), &["at "]);
        if let Some((number, after)) = self::number(rest).filter(|(number, _)| *number > 31) {
            year = Some(number);
            rest = skip(after.trim_start_matches([',', ' ']), &["at "]);
        }
    }
    let (hour, after) = number(rest)?;
    let (minute, after) = match after.strip_prefix(':') {
        Some(after) => number(after).map(|(minute, after)| (Some(minute), after))?,
        None => (None, after),
    };
    let spaced = after.trim_start_matches(' ');
    let half = spaced.get(..2).map(str::to_ascii_lowercase);
    let (hour, after) = match half.as_deref() {
        Some("am" | "pm") if !(1..=12).contains(&hour) => return None,
        Some("am") => (hour % 12, &spaced[2..]),
        Some("pm") => (hour % 12 + 12, &spaced[2..]),
        // A number alone is no time.
        _ => minute.map(|_| (hour, after))?,
    };
    let time = Time::new(i8::try_from(hour).ok()?, i8::try_from(minute.unwrap_or(0)).ok()?, 0, 0).ok()?;
    let aside = after.trim_start_matches(' ').strip_prefix('(').and_then(|rest| rest.split_once(')'));
    Some(Written { year, day, time, aside: aside.map(|(aside, _)| aside.trim()) })
}

/// What follows one of `words` in whatever case, or all.
fn skip<'w>(text: &'w str, words: &[&str]) -> &'w str {
    let begins = |word: &&&str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    words.iter().find(begins).map_or(text, |word| &text[word.len()..])
}

/// The number that a text begins with, of four digits at most, and what follows.
fn number(text: &str) -> Option<(i16, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end <= 4).then(|| text[..end].parse().ok()).flatten().map(|number| (number, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a moment in UTC is called.
    fn utc(text: &str) -> Timestamp {
        let moment: Moment = format!("{text}Z").parse().unwrap();
        Timestamp(u64::try_from(moment.as_millisecond()).unwrap())
    }

    /// As in Berlin and New York; this machine is in Tokyo.
    fn zone(name: Option<&str>) -> Option<TimeZone> {
        let rule = match name {
            None => "JST-9",
            Some("Europe/Berlin") => "CET-1CEST,M3.5.0,M10.5.0/3",
            Some("America/New_York") => "EST5EDT,M3.2.0,M11.1.0",
            Some("UTC") => "UTC0",
            _ => return None,
        };
        Some(TimeZone::posix(rule).unwrap())
    }

    #[test]
    fn moments_are_read_as_programs_write_them() {
        let now = utc("2026-11-22T12:00:20");
        for (words, expected) in [
            ("You've hit your session limit · resets 3:45pm (Europe/Berlin)", Some("2026-11-22T14:45:00")),
            ("resets 12:30pm (Europe/Berlin)", Some("2026-11-23T11:30:00")),
            ("resets 9am (America/New_York)", Some("2026-11-22T14:00:00")),
            ("resets 12am (UTC)", Some("2026-11-23T00:00:00")),
            ("resets 12:00pm (UTC)", Some("2026-11-22T12:01:00")),
            ("resets 11:59am (UTC)", Some("2026-11-23T11:59:00")),
            ("Weekly limit reached · resets Nov 23, 3pm (Europe/Berlin)", Some("2026-11-23T14:00:00")),
            ("resets Nov 25 at 3pm (Europe/Berlin)", Some("2026-11-25T14:00:00")),
            ("resets Jan 2, 3pm (Europe/Berlin)", Some("2027-01-02T14:00:00")),
            // In summer it is another hour.
            ("resets Jul 2, 3pm (Europe/Berlin)", Some("2027-07-02T13:00:00")),
            ("resets 10pm", Some("2026-11-22T13:00:00")),
            ("resets 3pm", Some("2026-11-23T06:00:00")),
            ("resets at 22:15", Some("2026-11-22T13:15:00")),
            ("Resets 10 PM", Some("2026-11-22T13:00:00")),
            (
                "You've hit your usage limit. Upgrade to Pro or try again at 11:45 PM.",
                Some("2026-11-22T14:45:00"),
            ),
            ("or try again at Nov 23rd, 2026 3:45 PM.", Some("2026-11-23T06:45:00")),
            ("try again at December 1st, 2026, 3:45 PM (soon)", Some("2026-12-01T06:45:00")),
            // Gone, of an unknown place, or no moment at all.
            ("try again at Nov 21st, 2026 3:45 PM", None),
            ("resets 3pm (Mars/Olympus)", None),
            ("resets 13pm", None),
            ("resets 25:00", None),
            ("resets Feb 31, 3pm", None),
            ("resets 5", None),
            ("resets soon", None),
            ("resets ", None),
            ("the counter resets é and ü", None),
            ("resets in 5 minutes", None),
            ("try again at 99999999999999999999:00", None),
        ] {
            assert_eq!(moment_in(words, now, zone), expected.map(utc), "{words}");
        }
        assert_eq!(moment_in("resets 3pm", Timestamp(u64::MAX), zone), None);
    }

    #[test]
    fn zones_are_those_of_this_machine() {
        let now = utc("2026-11-22T12:00:20");
        assert_eq!(moment("resets 3pm (UTC)", now), Some(utc("2026-11-22T15:00:00")));
        let here = moment("resets 3pm", now).unwrap();
        assert!(here > now && here.since(now) <= std::time::Duration::from_secs(25 * 3600));
    }
}
