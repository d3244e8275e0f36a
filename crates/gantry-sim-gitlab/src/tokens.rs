//! Random tokens in GitLab's forms.

use rand::RngExt as _;
use rand::distr::Alphanumeric;

/// `count` random letters and digits after `prefix`.
fn random(prefix: &str, count: usize) -> String {
    let tail = rand::rng().sample_iter(Alphanumeric).take(count).map(char::from);
    prefix.chars().chain(tail).collect()
}

/// A token of a runner made in the user interface.
pub(crate) fn runner() -> String {
    random("glrt-", 20)
}

/// A token of a runner made with a registration token; only `glrt-` marks the other kind.
pub(crate) fn registered_runner() -> String {
    random("glrtr-", 20)
}

/// A job token.
pub(crate) fn job() -> String {
    random("glcbt-", 24)
}

/// The id of a request, as long as GitLab's.
pub(crate) fn request() -> String {
    random("", 26)
}

/// Distinguishes the queue values of two runs of the simulator.
pub(crate) fn salt() -> String {
    random("", 8)
}
