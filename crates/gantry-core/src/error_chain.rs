//! The causes of errors: one after the other, and as people read them, on one line.

use std::error::Error;
use std::io;

/// Causes that are looked at. A cause that names itself as its cause must not hang us.
const DEPTH: usize = 16;

/// An error and everything that caused it, the error itself first. An [`io::Error`] leaves the
/// error that it holds out of its own chain; here it is in it.
pub fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(held) => Some(held as &(dyn Error + 'static)),
        None => (*error).source(),
    })
    .take(DEPTH)
}

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
    use super::*;

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

    #[test]
    fn causes_inside_of_io_errors_are_found() {
        let error =
            io::Error::other(Layer { text: "outer", source: Some(Box::new(Layer { text: "inner", source: None })) });
        let texts: Vec<String> = causes(&error).skip(1).map(ToString::to_string).collect();
        assert_eq!(texts, ["outer", "inner"]);
    }
}
