//! The part of a token that may be shown: in logs, metric labels, `CI_RUNNER_SHORT_TOKEN` and pod
//! names.

/// Characters of a token that are shown (GitLab Runner 19.4, `helpers/short_token.go`).
const SHOWN: usize = 9;

/// Shortens `token`: one type prefix is dropped, then the first nine bytes are kept.
///
/// The prefixes are those of GitLab's token kinds: `glrt-` with an optional `t1_`…`t3_`, a bare
/// `t1_`…`t3_`, `glrtr-`, `glcbt-`, and `GR` followed by seven hexadecimal digits.
pub fn short_token(token: &str) -> &str {
    let rest = strip_type(token);
    let mut end = rest.len().min(SHOWN);
    while !rest.is_char_boundary(end) {
        end -= 1;
    }
    &rest[..end]
}

fn strip_type(token: &str) -> &str {
    if let Some(rest) = token.strip_prefix("glrt-") {
        return strip_kind(rest).unwrap_or(rest);
    }
    if let Some(rest) =
        strip_kind(token).or_else(|| token.strip_prefix("glrtr-")).or_else(|| token.strip_prefix("glcbt-"))
    {
        return rest;
    }
    match token.strip_prefix("GR") {
        Some(rest) if rest.len() >= 7 && rest.bytes().take(7).all(|byte| byte.is_ascii_hexdigit()) => &rest[7..],
        _ => token,
    }
}

fn strip_kind(token: &str) -> Option<&str> {
    ["t1_", "t2_", "t3_"].iter().find_map(|kind| token.strip_prefix(kind))
}

#[cfg(test)]
mod tests {
    use super::short_token;

    #[test]
    fn drops_one_prefix_and_keeps_nine_bytes() {
        for (token, short) in [
            ("glrt-abcdefghijkl", "abcdefghi"),
            ("glrt-t1_abcdefghijkl", "abcdefghi"),
            ("t3_abcdefghijkl", "abcdefghi"),
            ("glrtr-abcdefghijkl", "abcdefghi"),
            ("glcbt-64_abcdefghijkl", "64_abcdef"),
            ("GR1348941abcdefghijkl", "abcdefghi"),
            ("GRxyz", "GRxyz"),
            ("ZyGTTTmNwshnAbCF8jm5", "ZyGTTTmNw"),
            ("short", "short"),
            ("", ""),
            ("ääääääää", "ääää"),
        ] {
            assert_eq!(short_token(token), short, "{token}");
        }
    }
}
