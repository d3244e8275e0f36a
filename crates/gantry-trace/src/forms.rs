//! The forms in which tools print a value that they do not print as it is: with other line ends, as
//! a string of JSON, in the quotes of a shell's trace (`set -x`) or of its list of variables
//! (`export -p`). GitLab Runner 19.4 masks the value itself only.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Longest value that is looked for in all forms: each form takes some thirty bytes of memory for
/// each of its own, and GitLab's variables have at most 10,000 characters. Longer ones, such as
/// secrets from elsewhere, are looked for in those of text and JSON.
const LONGEST_QUOTED: usize = 64 * 1024;

/// Every text that stands for `value` in some tool's output, each once. A value without a character
/// that anybody would escape has one.
pub(crate) fn forms(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::from([value.to_owned()]);
    if value.bytes().all(is_plain) {
        return forms;
    }
    // Checkouts, editors and terminals change line ends, so each of the three may be what a tool
    // was given.
    let unix = value.replace("\r\n", "\n");
    let terminal = unix.replace('\n', "\r\n");
    for text in [value, &unix, &terminal] {
        forms.extend([text.to_owned(), json(text, |_| false)]);
        if value.len() > LONGEST_QUOTED {
            continue;
        }
        forms.extend([json(text, |c| !c.is_ascii()), json(text, is_html)]);
        forms.extend([ansi_c(text, false), ansi_c(text, true)]);
        // bash, and dash or busybox.
        forms.extend([text.replace('\'', r"'\''"), text.replace('\'', r#"'"'"'"#)]);
        forms.insert(in_double_quotes(text));
    }
    forms
}

/// Characters that are printed as they are by everybody.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" _-.,:;=+/@%#^*?!~()[]{}|".contains(&byte)
}

/// Go's encoder escapes what would matter inside of HTML.
fn is_html(c: char) -> bool {
    matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}')
}

/// The inside of a JSON string; characters for which `escaped` holds are written as `\uXXXX` too.
fn json(text: &str, escaped: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || escaped(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// The inside of bash's `$'…'`. In the locale `C` bash also escapes every byte that is not ASCII.
fn ansi_c(text: &str, ascii_only: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' => out.push_str("\\'"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\E"),
            c if c.is_control() || (ascii_only && !c.is_ascii()) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "\\{byte:03o}");
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// The inside of double quotes, as `export -p` of bash writes them.
fn in_double_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::forms;

    #[test]
    fn a_plain_value_has_one_form() {
        assert_eq!(forms("s3cr3t-V4lue/of+mine=").len(), 1);
    }

    #[test]
    fn a_very_long_value_has_few_forms() {
        assert_eq!(forms(&"it's\r\n".repeat(20_000)).len(), 4);
    }

    /// What bash 5.2, dash 0.5.12, jq, Python and Go print for these values.
    #[test]
    fn values_as_tools_print_them() {
        for (value, printed) in [
            ("one\r\ntwo", r"one\r\ntwo"),
            ("one\r\ntwo", r"one\ntwo"),
            ("one\r\ntwo", "one\ntwo"),
            ("one\ntwo", r"one\r\ntwo"),
            ("it's\r\nhere", r"it\'s\r\nhere"),
            ("it's here", r"it'\''s here"),
            ("it's here", r#"it'"'"'s here"#),
            ("a\"b\\c", r#"a\"b\\c"#),
            ("a$b`c", r"a\$b\`c"),
            ("tab\there\u{1b}\u{7f}", r"tab\there\E\177"),
            ("pä\nss", r"p\u00e4\nss"),
            ("pä\nss", r"p\303\244\nss"),
            ("pä\nss", r"pä\nss"),
            ("a&b<c", r"a\u0026b\u003cc"),
            ("🎉\n", r"\ud83c\udf89\n"),
        ] {
            assert!(forms(value).contains(printed), "{printed} is no form of {value:?}: {:?}", forms(value));
        }
    }
}
