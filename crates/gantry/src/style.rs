//! Whether output has colours.

use std::ffi::OsStr;
use std::io::IsTerminal;

/// Whether output may have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Colours,
    Plain,
}

impl Style {
    /// What fits an output of this process.
    pub(crate) fn of(output: &impl IsTerminal) -> Self {
        let (no_color, term) = (std::env::var_os("NO_COLOR"), std::env::var_os("TERM"));
        Self::choose(output.is_terminal(), no_color.as_deref(), term.as_deref())
    }

    /// Colours are for terminals that know them and for people who want them
    /// (<https://no-color.org>).
    fn choose(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Self {
        let unwanted = no_color.is_some_and(|value| !value.is_empty());
        let unknown = term.is_none_or(|term| term.is_empty() || term == "dumb");
        if is_terminal && !unwanted && !unknown { Self::Colours } else { Self::Plain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let choose = |terminal, no_color: Option<&str>, term: Option<&str>| {
            Style::choose(terminal, no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert_eq!(choose(true, None, Some("xterm")), Style::Colours);
        assert_eq!(choose(true, Some(""), Some("xterm")), Style::Colours);
        for (terminal, no_color, term) in [
            (false, None, Some("xterm")),
            (true, Some("1"), Some("xterm")),
            (true, None, Some("dumb")),
            (true, None, None),
        ] {
            assert_eq!(choose(terminal, no_color, term), Style::Plain, "{terminal} {no_color:?} {term:?}");
        }
    }
}
