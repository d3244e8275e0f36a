//! User names and passwords in URLs, taken out of text that people and log collectors read.

use std::borrow::Cow;

use crate::secret::MASKED;

/// What ends the part of a URL that can hold a user name: the parts that follow it, and whatever a
/// URL is quoted or followed by in a text.
const ENDS: [char; 12] = ['/', '?', '#', '"', '\'', '`', '<', '>', '(', ')', '\\', ','];

/// `text` with `[MASKED]` in place of user name and password of every URL in it. A user name alone
/// can be a token; `git@` stays, which stands in addresses of SSH and is none.
pub fn mask(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let authority = after.split(|c: char| c.is_whitespace() || ENDS.contains(&c)).next().unwrap_or_default();
        out.push_str(before);
        out.push_str("://");
        rest = after;
        if let Some((user_info, host)) = authority.rsplit_once('@')
            && user_info != "git"
        {
            out.push_str(MASKED);
            out.push('@');
            out.push_str(host);
            rest = after.get(authority.len()..).unwrap_or_default();
        }
    }
    if out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_who_they_are_for() {
        for (text, shown) in [
            ("https://user:pass@gitlab.example.com/a", "https://[MASKED]@gitlab.example.com/a"),
            (
                "fatal: 'https://token@h:8080/x.git' and http://u:p@w@h",
                "fatal: 'https://[MASKED]@h:8080/x.git' and http://[MASKED]@h",
            ),
            ("https://[MASKED]@h", "https://[MASKED]@h"),
            ("ssh://git@h/a.git", "ssh://git@h/a.git"),
            ("ssh://git:pass@h", "ssh://[MASKED]@h"),
            ("https://registry/@scope/package a@b.c", "https://registry/@scope/package a@b.c"),
            ("socks5://u:p@h", "socks5://[MASKED]@h"),
            ("nothing: // here @ all", "nothing: // here @ all"),
            ("://", "://"),
            ("a://ü:ö@h/ä", "a://[MASKED]@h/ä"),
        ] {
            assert_eq!(mask(text), shown, "{text}");
        }
    }
}
