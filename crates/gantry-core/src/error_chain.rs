//! Errors as people read them: what failed and why, on one line.

use std::error::Error;

/// Causes that are shown. A cause that names itself as its cause must not hang us.
const DEPTH: usize = 16;

/// An error with all its causes. Libraries repeat a cause's text in their own: what the text so far
/// contains is not said again.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    for _ in 0..DEPTH {
        let Some(error) = cause else { break };
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::chain;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        source: Option<Box<Layer>>,
    }

    #[test]
    fn causes_are_said_once() {
        let layer = |text, source: Option<Layer>| Layer { text, source: source.map(Box::new) };
        let error = layer("cannot read a: denied", Some(layer("denied", Some(layer("by policy", None)))));
        assert_eq!(chain(&error), "cannot read a: denied: by policy");
    }
}
