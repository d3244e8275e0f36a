//! What an unquoted scalar means to Psych, the YAML 1.1 reader that GitLab uses: `yes` is a
//! boolean, `0644` is octal, `12:30` is a number to base 60. Dates and times
//! stay text here, and whoever reads them refuses them as GitLab does.

use std::rc::Rc;

use super::node::Value;

/// The value of an unquoted scalar.
pub(super) fn resolve(text: &str) -> Value {
    if matches!(text, "" | "~") || text.eq_ignore_ascii_case("null") {
        return Value::Null;
    }
    if let Some(flag) = boolean(text) {
        return Value::Bool(flag, Rc::from(text));
    }
    if let Some(number) = integer(text).or_else(|| sexagesimal(text)) {
        return Value::Int(number, Rc::from(text));
    }
    if let Some(number) = float(text) {
        return Value::Float(Rc::from(printed(number)), Rc::from(text));
    }
    Value::Text(Rc::from(text))
}

/// The class of Ruby that Psych makes of a date or a time, which GitLab does not let it load.
pub(super) fn refused_class(text: &str) -> Option<&'static str> {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(end) => (text.get(..end)?, Some(text.get(end + 1..)?)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let mut number = |least: usize, most: usize| {
        let part = parts.next().filter(|part| (least..=most).contains(&part.len()))?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<i16>().ok())?
    };
    let (year, month, day) = (number(4, 4)?, number(1, 2)?, number(1, 2)?);
    if parts.next().is_some() {
        return None;
    }
    let Some(time) = time else {
        let is_day = jiff::civil::Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).is_ok();
        return is_day.then_some("Date");
    };
    is_time(time.trim_start()).then_some("Time")
}

/// `1:30:00`, with a fraction and a zone or without.
fn is_time(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = text.splitn(3, ':');
    let (Some(hour), Some(minute), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let Some((second, rest)) = rest.split_at_checked(2) else { return false };
    if !(is_digits(hour) && hour.len() <= 2 && is_digits(minute) && minute.len() == 2 && is_digits(second)) {
        return false;
    }
    let rest = rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    match rest.trim_start() {
        "" | "Z" => true,
        zone => zone.strip_prefix(['+', '-']).is_some_and(|zone| {
            let digits = zone.replacen(':', "", 1);
            is_digits(&digits) && digits.len() <= 4
        }),
    }
}

fn boolean(text: &str) -> Option<bool> {
    const TRUE: [&str; 3] = ["true", "yes", "on"];
    const FALSE: [&str; 3] = ["false", "no", "off"];
    if TRUE.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        Some(true)
    } else if FALSE.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        Some(false)
    } else {
        None
    }
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = sign(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, digits.get(2..)?),
        Some("0b") => (2, digits.get(2..)?),
        Some(_) if digits.starts_with('0') => (8, digits),
        _ => (10, digits),
    };
    if digits.starts_with(['_', ',']) || digits.ends_with(['_', ',']) {
        return None;
    }
    let plain: String = digits.chars().filter(|c| !matches!(c, '_' | ',')).collect();
    if !plain.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let number = i64::from_str_radix(&plain, radix).ok()?;
    Some(if negative { -number } else { number })
}

/// `12:30` and `1:30:00`. The first part always counts for 3600, also where it looks like minutes:
/// so it is in Psych.
fn sexagesimal(text: &str) -> Option<i64> {
    let (negative, digits) = sign(text);
    let mut parts = digits.split(':');
    let first = parts.next().filter(|part| part.starts_with(|c: char| c.is_ascii_digit()))?;
    let first: i64 = first.replace('_', "").parse().ok()?;
    let mut sum = first.checked_mul(3600)?;
    let rest: Vec<&str> = parts.collect();
    if rest.is_empty() || rest.len() > 2 {
        return None;
    }
    for (part, weight) in rest.into_iter().zip([60, 1]) {
        let is_right = matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
        let part: i64 = part.parse().ok().filter(|_| is_right)?;
        sum = sum.checked_add(part * weight)?;
    }
    Some(if negative { -sum } else { sum })
}

/// A number with a point; an exponent needs a sign.
fn float(text: &str) -> Option<f64> {
    let (_, unsigned) = sign(text);
    let (whole, rest) = unsigned.split_once('.')?;
    let (fraction, exponent) = match rest.split_once(['e', 'E']) {
        Some((fraction, exponent)) => (fraction, Some(exponent)),
        None => (rest, None),
    };
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let whole_is_right =
        whole.chars().all(|c| c.is_ascii_digit() || matches!(c, '_' | ',')) && !whole.starts_with(['_', ',']);
    let exponent_is_right = exponent
        .is_none_or(|exponent| exponent.strip_prefix(['+', '-']).is_some_and(|rest| !rest.is_empty() && digits(rest)));
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    if !(whole_is_right && digits(fraction) && exponent_is_right && has_digits) {
        return None;
    }
    text.replace(['_', ','], "").parse().ok().filter(|number: &f64| number.is_finite())
}

/// A number as Ruby prints it, which differs from here only in when and how it writes exponents.
fn printed(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-4..1e16).contains(&size) {
        return format!("{number:?}");
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let point = if digits.contains('.') { "" } else { ".0" };
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |exponent| ("-", exponent));
    format!("{digits}{point}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match resolve(text) {
            Value::Null => "null".to_owned(),
            Value::Bool(flag, _) => format!("bool {flag}"),
            Value::Int(number, _) => format!("int {number}"),
            Value::Float(printed, _) => format!("float {printed}"),
            Value::Text(text) => format!("text {text}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn dates_and_times_are_told_from_other_text() {
        for (text, class) in [
            ("2024-01-02", Some("Date")),
            ("2024-1-2", Some("Date")),
            ("2024-02-31", None),
            ("2024-01", None),
            ("2024-01-02-3", None),
            ("24-01-02", None),
            ("2024-01-02 10:00:00", Some("Time")),
            ("2024-01-02T10:00:00Z", Some("Time")),
            ("2024-01-02t1:00:00.5 +01:00", Some("Time")),
            ("2024-01-02 10:00", None),
            ("2024-01-02 and more", None),
            ("2024-01-02T10:00:00Zulu", None),
            ("2024-01-02 é:00:00", None),
            ("1.2.3", None),
        ] {
            assert_eq!(refused_class(text), class, "{text}");
        }
    }

    #[test]
    fn unquoted_scalars_mean_what_they_mean_to_psych() {
        let cases = [
            ("~", "null"),
            ("Yes", "bool true"),
            ("off", "bool false"),
            ("y", "text y"),
            ("10", "int 10"),
            ("-1_000", "int -1000"),
            ("0644", "int 420"),
            ("0x1f", "int 31"),
            ("089", "text 089"),
            ("1.10", "float 1.1"),
            ("1.2.3", "text 1.2.3"),
            (".", "text ."),
            ("1e3", "text 1e3"),
            ("1.5e+3", "float 1500.0"),
            ("1.5e3", "text 1.5e3"),
            ("1.0e+20", "float 1.0e+20"),
            ("0.00001", "float 1.0e-05"),
            (".5", "float 0.5"),
            ("1.", "float 1.0"),
            ("12:30", "int 45000"),
            ("1:02:03", "int 3723"),
            ("12:60", "text 12:60"),
            ("1:2:3:4", "text 1:2:3:4"),
            ("1,000", "int 1000"),
            ("0755", "int 493"),
            ("-0755", "int -493"),
            ("0o17", "text 0o17"),
            ("0b101", "int 5"),
            ("nULL", "null"),
            ("99999999999999999999", "text 99999999999999999999"),
            ("-", "text -"),
            ("a", "text a"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
