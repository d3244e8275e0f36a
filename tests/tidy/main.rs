//! Rules about the project itself: which crate may know which, what a source file must and must not
//! have, and that what README and architecture page promise is still there. A rule that no longer
//! helps is changed here, with its reason, and nowhere else.

mod circles;
mod documents;
mod keys;
mod layers;
mod notices;
mod operations;
mod project;
mod references;
mod sbom;
mod sources;
mod static_helper;
mod words;

/// Fails with all problems at once, one per line.
fn assert_none(rule: &str, problems: &[String]) {
    assert!(problems.is_empty(), "{rule}\n  {}\n", problems.join("\n  "));
}
