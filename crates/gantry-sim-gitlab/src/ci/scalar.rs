//! What an unquoted scalar means to Psych, the YAML 1.1 reader that GitLab uses: `yes` is a
//! boolean, `0644` is octal, `12:30` is a number to base 60. Dates stay text: GitLab refuses them,
//! and no keyword takes them.

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
