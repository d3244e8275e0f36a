//! Durations as people write them in GitLab: `1h 30m`, `90 minutes`, `1 day and 2 hours`,
//! `1:30:00`, `3600`.

/// Days of a month in GitLab's durations.
const MONTH_DAYS: f64 = 30.0;

/// Days of a year in GitLab's durations.
const YEAR_DAYS: f64 = 365.25;

/// The longest duration that is read at all, in seconds (about 30,000 years): keeps the sum exact.
const MAX_SECONDS: f64 = 1e12;

/// The duration in whole seconds, or `None` if the text is none. A number without a unit counts
/// seconds.
pub(super) fn parse(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    if let Some(seconds) = clock(&text) {
        return Some(seconds);
    }
    let mut rest = text.as_str();
    let mut total = 0.0_f64;
    let mut parts = 0_usize;
    loop {
        rest = skip_joiners(rest);
        if rest.is_empty() {
            break;
        }
        let (number, after) = split_while(rest, |c| c.is_ascii_digit() || c == '.');
        let number: f64 = number.parse().ok()?;
        let (unit, after) = split_while(after.trim_start(), |c| c.is_ascii_alphabetic());
        total += number * unit_seconds(unit)?;
        if !(0.0..=MAX_SECONDS).contains(&total) {
            return None;
        }
        parts += 1;
        rest = after;
    }
    if parts == 0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in 0..=1e12 above")]
    Some(total.round() as u64)
}

/// `m:s`, `h:m:s` or `d:h:m:s`.
fn clock(text: &str) -> Option<u64> {
    const UNITS: [u64; 4] = [1, 60, 3600, 86_400];
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() < 2 || parts.len() > UNITS.len() {
        return None;
    }
    let mut total = 0_u64;
    for (part, unit) in parts.iter().rev().zip(UNITS) {
        let number: u32 = part.parse().ok()?;
        total += u64::from(number) * unit;
    }
    Some(total)
}

fn skip_joiners(text: &str) -> &str {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        let (word, after) = split_while(rest, |c| c.is_ascii_alphabetic());
        if matches!(word, "and" | "plus" | "with") {
            rest = after;
        } else {
            return rest;
        }
    }
}

fn split_while(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !keep(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn unit_seconds(unit: &str) -> Option<f64> {
    const DAY: f64 = 86_400.0;
    Some(match unit {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => DAY,
        "w" | "wk" | "wks" | "week" | "weeks" => 7.0 * DAY,
        "mo" | "mos" | "mon" | "month" | "months" => MONTH_DAYS * DAY,
        "y" | "yr" | "yrs" | "year" | "years" => YEAR_DAYS * DAY,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_written_by_people() {
        let cases = [
            ("3600", Some(3600)),
            ("1h 30m", Some(5400)),
            ("1h30m", Some(5400)),
            ("90 minutes", Some(5400)),
            ("1 day", Some(86_400)),
            ("1 day and 2 hours", Some(93_600)),
            ("1 week, 3 days", Some(864_000)),
            ("2.5 hrs", Some(9000)),
            ("1:30:00", Some(5400)),
            ("2 mos", Some(5_184_000)),
            ("", None),
            ("soon", None),
            ("1 parsec", None),
            ("-5 minutes", None),
            ("1..2h", None),
            ("99999999999999 years", None),
            ("and", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
