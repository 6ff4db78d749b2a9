//! Moments and spans as the stock tool takes them.

use crate::failure::Failure;

const DAY_MS: i64 = 86_400_000;

/// `YYYY-MM-DDThh:mm:ss.sss`, with `Z`, `+hh`, `+hhmm` or `+hh:mm` behind it, or else in UTC (Kafka
/// method `Utils.getDateTime`).
pub(super) fn datetime(text: &str) -> Result<i64, Failure> {
    let refuse = || {
        Failure::new(format!(
            "Unparseable date: \"{text}\"; it looks like YYYY-MM-DDThh:mm:ss.sss"
        ))
    };
    let (date, rest) = text.split_once('T').ok_or_else(refuse)?;
    let zone_at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone_at);
    let numbers = |text: &str, by: char| -> Option<Vec<i64>> {
        text.split(by).map(|part| part.parse().ok()).collect()
    };
    let [year, month, day] = numbers(date, '-').ok_or_else(refuse)?[..] else {
        return Err(refuse());
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':').ok_or_else(refuse)?[..] else {
        return Err(refuse());
    };
    let ms: i64 = format!("{fraction:0<3}")[..3]
        .parse()
        .map_err(|_| refuse())?;
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..61).contains(&second);
    if !in_range {
        return Err(refuse());
    }
    let clock_ms = ((hour * 60 + minute) * 60 + second) * 1000 + ms;
    Ok(days(year, month, day) * DAY_MS + clock_ms - offset_ms(zone).ok_or_else(refuse)?)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; years are counted from March on, so
/// that the day of a leap year is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn offset_ms(zone: &str) -> Option<i64> {
    let sign = match zone.chars().next() {
        None | Some('Z') => return Some(0),
        Some('-') => -1,
        Some(_) => 1,
    };
    let digits: String = zone[1..].chars().filter(|char| *char != ':').collect();
    let hours: i64 = digits.get(..2)?.parse().ok()?;
    let minutes: i64 = match digits.get(2..) {
        None | Some("") => 0,
        Some(minutes) => minutes.parse().ok()?,
    };
    Some(sign * (hours * 60 + minutes) * 60_000)
}

/// `PnDTnHnMnS` in milliseconds (Java's `Duration.parse`).
pub(super) fn duration_ms(text: &str) -> Result<i64, Failure> {
    let refuse = || Failure::new(format!("Text cannot be parsed to a Duration: {text}"));
    let rest = text.strip_prefix(['P', 'p']).ok_or_else(refuse)?;
    let (mut ms, mut number, mut in_time, mut found) = (0.0_f64, String::new(), false, false);
    for char in rest.chars() {
        let unit = match (char.to_ascii_uppercase(), in_time) {
            ('T', false) if number.is_empty() => {
                in_time = true;
                continue;
            }
            ('D', false) => DAY_MS,
            ('H', true) => 3_600_000,
            ('M', true) => 60_000,
            ('S', true) => 1000,
            _ => {
                number.push(char);
                continue;
            }
        };
        let value: f64 = number.parse().map_err(|_| refuse())?;
        ms += value * unit as f64;
        number.clear();
        found = true;
    }
    match found && number.is_empty() {
        true => Ok(ms as i64),
        false => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_and_without_zones() {
        for (text, expected) in [
            ("1970-01-01T00:00:00.000", 0),
            ("2000-02-29T12:00:00.5", 951_825_600_500),
            ("2026-11-21T19:21:09.123Z", 1_795_288_869_123),
            ("2026-11-21T20:21:09.123+01:00", 1_795_288_869_123),
            ("2026-11-21T14:21:09.123-0500", 1_795_288_869_123),
            ("1969-12-31T23:59:59.000", -1000),
        ] {
            assert_eq!(datetime(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "2026-11-21", "2026-13-01T00:00:00", "2026-11-21Tx"] {
            assert!(datetime(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_read_as_java_does() {
        for (text, expected) in [
            ("P1D", DAY_MS),
            ("PT1H2M3.5S", 3_723_500),
            ("P2DT30M", 2 * DAY_MS + 1_800_000),
            ("pt-5s", -5000),
        ] {
            assert_eq!(duration_ms(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "1D", "P", "PT", "P1H", "PT5", "PTxS"] {
            assert!(duration_ms(bad).is_err(), "{bad}");
        }
    }
}
