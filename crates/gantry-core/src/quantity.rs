//! Kubernetes quantities (`500m`, `1.5Gi`, `2e3`): read by the rules of the Kubernetes API and
//! compared exactly, never by floating point.

use std::cmp::Ordering;
use std::fmt;

/// A quantity as written, together with its value.
#[derive(Clone, Debug)]
pub struct Quantity {
    text: String,
    nanos: i128,
}

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number with a known suffix.
    #[error("not a quantity such as 500m, 2, 512Mi or 1.5Gi")]
    Malformed,
    /// Beyond what Kubernetes can hold (2^63 - 1).
    #[error("too large for a quantity")]
    TooLarge,
}

const NANO: i128 = 1_000_000_000;

impl Quantity {
    /// Reads `text`. Values finer than one billionth are rounded up, as Kubernetes does.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let nanos = scaled(number, scale(suffix)?)?;
        Ok(Self { text: text.to_owned(), nanos: if negative { -nanos } else { nanos } })
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// As a whole number, rounded up; nothing is below zero.
    pub fn whole(&self) -> u64 {
        u64::try_from((self.nanos + NANO - 1) / NANO).unwrap_or(0)
    }

    /// Its value in billionths.
    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A factor as `value × 10^exponent`.
#[derive(Clone, Copy)]
struct Scale {
    value: i128,
    exponent: i32,
}

fn scale(suffix: &str) -> Result<Scale, QuantityError> {
    let power = |exponent| Ok(Scale { value: 1, exponent });
    let binary = |shift: u32| Ok(Scale { value: 1 << shift, exponent: 0 });
    match suffix {
        "n" => power(-9),
        "u" => power(-6),
        "m" => power(-3),
        "" => power(0),
        "k" => power(3),
        "M" => power(6),
        "G" => power(9),
        "T" => power(12),
        "P" => power(15),
        "E" => power(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let digits = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Malformed)?;
            let exponent: i32 = digits.parse().map_err(|_| QuantityError::Malformed)?;
            power(exponent.clamp(-64, 64))
        }
    }
}

/// `number × scale` in billionths, rounded up.
fn scaled(number: &str, scale: Scale) -> Result<i128, QuantityError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(QuantityError::Malformed);
    }
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    let value: i128 = digits.parse().map_err(|_| QuantityError::TooLarge)?;
    let value = value.checked_mul(scale.value).ok_or(QuantityError::TooLarge)?;
    let places = i32::try_from(fraction.len()).map_err(|_| QuantityError::TooLarge)?;
    let exponent = 9 + scale.exponent - places;
    let nanos = if exponent >= 0 {
        let factor = 10_i128.checked_pow(exponent.unsigned_abs()).ok_or(QuantityError::TooLarge)?;
        value.checked_mul(factor).ok_or(QuantityError::TooLarge)?
    } else {
        // A divisor beyond i128 leaves a tiny positive value, which rounds up to one.
        10_i128.checked_pow(exponent.unsigned_abs()).map_or(1, |divisor| (value + divisor - 1) / divisor)
    };
    if nanos > i128::from(i64::MAX) * NANO { Err(QuantityError::TooLarge) } else { Ok(nanos) }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By value: `1000m` equals `1`.
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::{Quantity, QuantityError};

    #[test]
    fn equal_values_in_different_words() {
        for (left, right) in [
            ("1", "1000m"),
            ("1Gi", "1024Mi"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1k"),
            ("1E3", "1000"),
            (".5", "500m"),
            ("1.", "1"),
            ("+2", "2"),
            ("0", "0Gi"),
            ("2E", "2e18"),
            ("0.0000000001", "1n"),
            ("5e-2", "50m"),
        ] {
            assert_eq!(Quantity::parse(left), Quantity::parse(right), "{left} {right}");
            assert!(Quantity::parse(left).is_ok(), "{left}");
        }
        assert!(Quantity::parse("999m").unwrap() < Quantity::parse("1").unwrap());
        assert!(Quantity::parse("-1").unwrap() < Quantity::parse("0").unwrap());
        assert_eq!(Quantity::parse("512Mi").unwrap().to_string(), "512Mi");
    }

    #[test]
    fn refuses_what_kubernetes_refuses() {
        for text in ["", ".", "m", "1x", "1 Gi", "1KB", "1.2.3", "one", "1ki", "0x10", "1e", "1Gi ", "--1", "1eé"] {
            assert_eq!(Quantity::parse(text), Err(QuantityError::Malformed), "{text}");
        }
        for text in ["10E", "9223372036854775808", "1e40", "99999999999999999999999999999999999999999999"] {
            assert_eq!(Quantity::parse(text), Err(QuantityError::TooLarge), "{text}");
        }
    }
}
