//! Rules about the project itself.
