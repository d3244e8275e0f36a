//! Paths as they mean the same without detours.

/// An absolute path without `.`, `..` and empty parts; `None` if it is relative or leaves the root.
pub(crate) fn clean(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.strip_prefix('/')?.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn cleaning() {
        for (path, result) in [
            ("/a//b/./c/", Some("/a/b/c")),
            ("/a/../b", Some("/b")),
            ("/..", None),
            ("a", None),
            ("", None),
            ("/", Some("/")),
            ("/a/b/../../..", None),
        ] {
            assert_eq!(clean(path).as_deref(), result, "{path}");
        }
    }
}
