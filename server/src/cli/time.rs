//! Times as people write them.
//!
//! Owns the calendar and its text. Everything is UTC unless the text says otherwise.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;

const DAY_MS: i64 = 86_400_000;
/// Numbers below it are seconds, others milliseconds: as seconds it is the year 5138, as milliseconds March 1973.
const SECONDS_MAX: i64 = 100_000_000_000;

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// `2026-11-21T10:00:00.000Z`.
pub fn shown(ms: i64) -> String {
    let (day, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = civil(day);
    let (hour, minute, second, milli) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// `1h 5m`, in its two largest units.
pub fn duration(ms: i64) -> String {
    let units = [("d", DAY_MS), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut left = ms.max(0);
    let mut parts = Vec::new();
    for (name, size) in units {
        if left >= size {
            parts.push(format!("{}{name}", left / size));
            left %= size;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0ms".to_owned() } else { parts.join(" ") }
}

/// Milliseconds since 1970 of `now`, `-90s` (ago; also m, h, d), `2026-11-21`, `2026-11-21T10:00[:00[.000]][Z|+01:00]`, or a number of
/// seconds or milliseconds since 1970.
pub fn parse(text: &str, now_ms: i64) -> anyhow::Result<i64> {
    let how = || {
        format!(
            "'{text}' is no time: now, -90s, -15m, -1h, -7d, 2026-11-21, 2026-11-21T10:00:00Z or milliseconds since 1970 are"
        )
    };
    if text == "now" {
        return Ok(now_ms);
    }
    if let Some(ago) = text.strip_prefix('-') {
        return Ok(now_ms.saturating_sub(span(ago).with_context(how)?));
    }
    if let Ok(number) = text.parse::<i64>() {
        return Ok(if number < SECONDS_MAX { number.saturating_mul(1000) } else { number });
    }
    date(text).with_context(how)
}

/// Milliseconds of `90s`, `15m`, `1h`, `7d`, `250ms`.
fn span(text: &str) -> Option<i64> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => DAY_MS,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}

fn date(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let valid = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let days = days_from_civil(year, month, day);
    if !valid || civil(days) != (year, month, day) {
        return None;
    }
    let (time, shift) = zone(time)?;
    let mut parts = time.splitn(3, ':');
    let (hour, minute) = (parts.next()?.parse::<i64>().ok()?, parts.next()?.parse::<i64>().ok()?);
    let second = parts.next().map_or(Some(0.0), |second| second.parse::<f64>().ok())?;
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..61.0).contains(&second) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 61,000")]
    let millis = (second * 1000.0).round() as i64;
    Some(days * DAY_MS + hour * 3_600_000 + minute * 60_000 + millis - shift)
}

/// The time of day without its zone, and the zone's distance from UTC in milliseconds.
fn zone(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(at) = time.rfind(['+', '-']) else { return Some((time, 0)) };
    let (time, zone) = time.split_at_checked(at)?;
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let shift = hours.parse::<i64>().ok()? * 3_600_000 + minutes.parse::<i64>().ok()? * 60_000;
    Some((time, if zone.starts_with('-') { -shift } else { shift }))
}

/// Year, month and day of a day since 1970, in the Gregorian calendar; years begin in March here, so that leap days are last.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_255_200_000;

    #[test]
    fn times_are_read_and_shown() {
        for (text, ms) in [
            ("1970-01-01", 0),
            ("2024-02-29T12:30", 1_709_209_800_000),
            ("2026-11-21T10:00:00Z", NOW),
            ("2026-11-21T11:00:00+01:00", NOW),
            ("2026-11-21 10:00:00.250", NOW + 250),
            ("1795255200", NOW),
            ("1795255200000", NOW),
            ("now", NOW),
            ("-90s", NOW - 90_000),
            ("-7d", NOW - 7 * DAY_MS),
        ] {
            assert_eq!(parse(text, NOW).expect(text), ms, "{text}");
        }
        assert_eq!(shown(NOW + 7), "2026-11-21T10:00:00.007Z");
        assert_eq!(shown(1_709_209_800_000), "2024-02-29T12:30:00.000Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "yesterday", "2026-02-30", "2026-13-01", "-1w", "-h", "2026-11-21T25:00", "2026-11-21T10:00+1"]
        {
            assert!(parse(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_shown_in_their_two_largest_units() {
        assert_eq!(duration(0), "0ms");
        assert_eq!(duration(3_900_000), "1h 5m");
        assert_eq!(duration(90_061_001), "1d 1h");
    }
}
