//! What an unquoted scalar means, by the YAML 1.1 rules that GitLab's own parser follows (`yes` is a boolean, `0644`
//! is octal). Dates and sexagesimal numbers stay text: no keyword takes them.

use std::rc::Rc;

use super::yaml::Value;

/// The value of an unquoted scalar.
pub(super) fn resolve(text: &str) -> Value {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    if let Some(flag) = boolean(text) {
        return Value::Bool(flag);
    }
    if let Some(number) = integer(text) {
        return Value::Int(number);
    }
    if let Some(number) = float(text) {
        return Value::Float(Rc::from(format!("{number:?}")), Rc::from(text));
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

fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, digits.get(2..)?),
        Some("0b" | "0B") => (2, digits.get(2..)?),
        Some("0o") => (8, digits.get(2..)?),
        Some(_) if digits.starts_with('0') => (8, digits),
        _ => (10, digits),
    };
    if digits.starts_with('_') || digits.ends_with('_') {
        return None;
    }
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    if !plain.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let number = i64::from_str_radix(&plain, radix).ok()?;
    Some(if negative { -number } else { number })
}

fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let looks_numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains('.')
        && unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'))
        && unsigned.chars().any(|c| c.is_ascii_digit());
    if looks_numeric { text.parse().ok().filter(|number: &f64| number.is_finite()) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match resolve(text) {
            Value::Null => "null".to_owned(),
            Value::Bool(flag) => format!("bool {flag}"),
            Value::Int(number) => format!("int {number}"),
            Value::Float(printed, _) => format!("float {printed}"),
            Value::Text(text) => format!("text {text}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn unquoted_scalars_follow_yaml_1_1() {
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
            ("12:30", "text 12:30"),
            ("99999999999999999999", "text 99999999999999999999"),
            ("-", "text -"),
            ("a", "text a"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
