//! Resource quantities such as `500m`, `1Gi`, `2e3`, exact, and written as Kubernetes writes them.

use std::{cmp::Ordering, fmt};

/// One thousandth of a millionth: the finest step a quantity can have.
const NANOS: i128 = 1_000_000_000;

/// In which steps a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Form {
    #[default]
    Decimal,
    Binary,
}

/// A quantity. Only the amount counts in comparisons, not how it was written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quantity {
    nanos: i128,
    form: Form,
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

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Quantity {
    /// Reads a quantity; `None` when the text is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number_end = text
            .char_indices()
            .find(|(index, letter)| {
                !(letter.is_ascii_digit() || *letter == '.' || (*index == 0 && "+-".contains(*letter)))
            })
            .map_or(text.len(), |(index, _)| index);
        let (number, suffix) = text.split_at(number_end);
        let nanos = decimal_nanos(number)?;
        let (factor, divisor) = scale(suffix)?;
        let product = nanos.checked_mul(factor)?;
        // What is finer than a nano is rounded up, as Kubernetes does.
        let rounded = product.checked_add(if product > 0 { divisor - 1 } else { 0 })? / divisor;
        let form = if suffix.ends_with('i') { Form::Binary } else { Form::Decimal };
        Some(Self { nanos: rounded, form })
    }

    /// So many whole units.
    pub(crate) fn whole(units: u64) -> Self {
        Self { nanos: i128::from(units) * NANOS, form: Form::Decimal }
    }

    /// The sum, written like the first that is not zero.
    pub(crate) fn plus(self, other: Self) -> Self {
        let form = if self.is_zero() { other.form } else { self.form };
        Self { nanos: self.nanos.saturating_add(other.nanos), form }
    }

    /// The same amount, written in powers of 1,000.
    pub(crate) fn decimal(self) -> Self {
        Self { form: Form::Decimal, ..self }
    }

    /// The larger one.
    pub(crate) fn at_least(self, other: Self) -> Self {
        if other.nanos > self.nanos { other } else { self }
    }

    /// Reads a JSON value: text, or a bare number.
    pub(crate) fn of(value: &serde_json::Value) -> Option<Self> {
        match value {
            serde_json::Value::String(text) => Self::parse(text),
            serde_json::Value::Number(number) => Self::parse(&number.to_string()),
            _ => None,
        }
    }

    pub(crate) fn is_negative(self) -> bool {
        self.nanos < 0
    }

    pub(crate) fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// In whole units, rounded up (bytes for memory).
    pub(crate) fn units(self) -> u64 {
        u64::try_from(self.nanos.saturating_add(NANOS - 1).max(0) / NANOS).unwrap_or(u64::MAX)
    }

    /// In thousandths, rounded up (millicores for processors).
    pub(crate) fn millis(self) -> u64 {
        let milli = NANOS / 1_000;
        u64::try_from(self.nanos.saturating_add(milli - 1).max(0) / milli).unwrap_or(u64::MAX)
    }
}

/// Suffixes by powers of 1,000, from a thousand millionth on.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Suffixes by powers of 1,024.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, and the largest suffix that allows that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut amount, step, suffixes) = match self.form {
            // Below 1,024 and for fractions the binary form says nothing.
            Form::Binary if self.nanos % NANOS == 0 && self.nanos.abs() >= 1_024 * NANOS => {
                (self.nanos / NANOS, 1_024, &BINARY[..])
            }
            _ => (self.nanos, 1_000, &DECIMAL[..]),
        };
        if amount == 0 {
            return f.write_str("0");
        }
        let mut suffix = 0;
        while amount % step == 0 && suffix + 1 < suffixes.len() {
            amount /= step;
            suffix += 1;
        }
        write!(f, "{amount}{}", suffixes[suffix])
    }
}

fn decimal_nanos(number: &str) -> Option<i128> {
    let (negative, digits) = match number.as_bytes().first()? {
        b'-' => (true, &number[1..]),
        b'+' => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(NANOS)?;
    let mut step = NANOS;
    for digit in fraction.chars() {
        step /= 10;
        nanos = nanos.checked_add(i128::from(digit.to_digit(10)?) * step)?;
    }
    Some(if negative { -nanos } else { nanos })
}

/// The suffix as a factor and a divisor.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, NANOS),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs().min(19))?;
            if exponent >= 0 { (power, 1) } else { (1, power) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_canonically() {
        for (text, written) in [
            ("10Mi", "10Mi"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("2000", "2k"),
            ("1.5Gi", "1536Mi"),
            ("512", "512"),
            ("0", "0"),
            ("1e3", "1k"),
            ("100u", "100u"),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), written, "{text}");
        }
        let sum = Quantity::default().plus(Quantity::parse("10Mi").unwrap()).plus(Quantity::parse("10Mi").unwrap());
        assert_eq!(sum.to_string(), "20Mi");
        assert_eq!(Quantity::whole(3).plus(Quantity::whole(1)).to_string(), "4");
    }

    #[test]
    fn quantities_are_read() {
        let units = |text| Quantity::parse(text).map(Quantity::units);
        assert_eq!(units("1Gi"), Some(1 << 30));
        assert_eq!(units("1.5Ki"), Some(1_536));
        assert_eq!(units("2e3"), Some(2_000));
        assert_eq!(units("1E"), Some(1_000_000_000_000_000_000));
        assert_eq!(units("100m"), Some(1));
        assert_eq!(Quantity::parse("0.1").map(Quantity::millis), Some(100));
        assert_eq!(Quantity::parse("250m").map(Quantity::millis), Some(250));
        for bad in ["", "m", "1gb", "1 Gi", "1.2.3", "--1", "e3", "Gi"] {
            assert_eq!(Quantity::parse(bad), None, "{bad}");
        }
        assert_eq!(Quantity::parse("170141183460469231731687303715.9"), None);
        assert_eq!(units("170141183460469231731687303715"), Some(u64::MAX));
        assert!(Quantity::parse("-1").unwrap().is_negative());
    }
}
