//! Durations in the notation of Go (`1h30m`, `1.5s`, `300ms`), which config files, job variables
//! and annotations of GitLab Runner use.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// Nothing, or something that is not a number followed by a unit.
    #[error("not a duration such as 300ms, 90s, 10m or 1h30m")]
    Malformed,
    /// A duration below zero, which no setting of a runner can mean.
    #[error("is negative")]
    Negative,
    /// More than about 292 years, the largest duration of Go.
    #[error("is too large")]
    TooLarge,
}

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration as Go's `time.ParseDuration` does; negative ones are refused.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse(text: &str) -> Result<Duration, ParseError> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(ParseError::Malformed);
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (part, tail) = one_part(rest)?;
        nanos = nanos.checked_add(part).ok_or(ParseError::TooLarge)?;
        rest = tail;
    }
    if negative && nanos > 0 {
        return Err(ParseError::Negative);
    }
    let nanos = u64::try_from(nanos).ok().filter(|nanos| i64::try_from(*nanos).is_ok()).ok_or(ParseError::TooLarge)?;
    Ok(Duration::from_nanos(nanos))
}

/// One number with its unit in nanoseconds, and what follows it.
fn one_part(text: &str) -> Result<(u128, &str), ParseError> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(ParseError::Malformed)?;
    let (number, rest) = text.split_at(digits_end);
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(unit_end);
    let scale = UNITS.iter().find(|(name, _)| *name == unit).ok_or(ParseError::Malformed)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(ParseError::Malformed);
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| ParseError::TooLarge)? };
    let mut nanos = whole.checked_mul(scale).ok_or(ParseError::TooLarge)?;
    let mut place = scale;
    for digit in fraction.bytes() {
        place /= 10;
        nanos += u128::from(digit - b'0') * place;
    }
    Ok((nanos, tail))
}

/// Writes a duration as Go's `Duration.String` does: `1h0m0s`, `1.5s`, `250ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (scale, unit) = if nanos < 1_000 {
            (1, "ns")
        } else if nanos < 1_000_000 {
            (1_000, "µs")
        } else {
            (1_000_000, "ms")
        };
        return format!("{}{unit}", decimal(nanos, scale));
    }
    let seconds = nanos / 1_000_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = decimal(nanos % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

fn decimal(value: u128, scale: u128) -> String {
    let fraction = value % scale;
    if fraction == 0 {
        return (value / scale).to_string();
    }
    let width = scale.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    format!("{}.{}", value / scale, digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, millis) in [
            ("0", 0),
            ("300ms", 300),
            ("1.5s", 1500),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1h0m0s", 3_600_000),
            (".5s", 500),
            ("+2s", 2000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "10", "1x", "1.2.3s", ".s", "1h-3m", "ten minutes"] {
            assert_eq!(parse(text), Err(ParseError::Malformed), "{text}");
        }
        assert_eq!(parse("-1s"), Err(ParseError::Negative));
        assert_eq!(parse("99999999999h"), Err(ParseError::TooLarge));
        assert_eq!(parse("99999999999999999999999999999999999999999999h"), Err(ParseError::TooLarge));
    }

    #[test]
    fn writes_what_go_writes() {
        for text in ["0s", "1ns", "1.5µs", "250ms", "1.5s", "59s", "1m0s", "1h0m0s", "2h0m1.25s", "100h0m0s"] {
            assert_eq!(format(parse(text).expect(text)), text);
        }
    }
}
