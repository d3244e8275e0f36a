//! What the kubelet's words about a failed pull mean: nobody offers anything better than words.

use super::FailureReason;

/// Words about a registry that could not be talked to.
const NETWORK: [&str; 8] = [
    "dial tcp",
    "connection refused",
    "no such host",
    "i/o timeout",
    "tls handshake",
    "client.timeout exceeded",
    "request canceled",
    "connection reset",
];

/// Words about an image or a right that is not there.
const CONFIGURATION: [&str; 8] = [
    "not found",
    "manifest unknown",
    "pull access denied",
    "access to the resource is denied",
    "no basic auth credentials",
    "repository does not exist or may require",
    "unauthorized",
    "authentication required",
];

/// More words that another try does not change: containerd's and the Docker engine's.
const FINAL: [&str; 6] = [
    "connection refused",
    "no such host",
    "403 forbidden",
    "denied: ",
    "no match for platform",
    "server gave http response to https client",
];

/// Words of what passes, whatever else is said: a registry that is busy or restarts, a network that
/// is slow.
const TRANSIENT: [&str; 11] = [
    "i/o timeout",
    "tls handshake timeout",
    "client.timeout exceeded",
    "deadline exceeded",
    "connection reset",
    "unexpected eof",
    "toomanyrequests",
    "too many requests",
    "500 internal server error",
    "502 bad gateway",
    "503 service unavailable",
];

fn has(message: &str, words: &[&str]) -> bool {
    words.iter().any(|word| message.contains(word))
}

/// Sorts them (GitLab Runner 19.4, `executors/kubernetes`).
pub(super) fn classify(message: &str) -> FailureReason {
    let message = message.to_lowercase();
    if has(&message, &NETWORK) {
        FailureReason::RunnerExternalDependencyFailure
    } else if has(&message, &CONFIGURATION) {
        FailureReason::RunnerConfigurationError
    } else {
        FailureReason::ImagePullFailure
    }
}

/// Whether a registry has given its last word on a pull that failed with `message`: there is no
/// such image, no right to it, or nobody listens at the registry's address. The kubelet would try
/// again all the same.
pub fn pull_is_final(message: &str) -> bool {
    let message = message.to_lowercase();
    !has(&message, &TRANSIENT) && (has(&message, &CONFIGURATION) || has(&message, &FINAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_are_sorted_by_the_words_of_the_kubelet() {
        for (message, reason) in [
            ("dial tcp: lookup x: no such host", FailureReason::RunnerExternalDependencyFailure),
            ("manifest unknown", FailureReason::RunnerConfigurationError),
            ("pull access denied for x", FailureReason::RunnerConfigurationError),
            ("disk full", FailureReason::ImagePullFailure),
        ] {
            assert_eq!(classify(message), reason, "{message}");
        }
    }

    #[test]
    fn a_registrys_last_word_is_known() {
        for message in [
            "rpc error: code = NotFound desc = failed to pull and unpack image \"docker.io/library/x:1\": not found",
            "dial tcp 10.0.0.1:5000: connect: connection refused",
            "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized",
            "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope",
        ] {
            assert!(pull_is_final(message), "{message}");
        }
        for message in [
            "dial tcp 10.0.0.1:5000: i/o timeout",
            "unexpected status from HEAD request to https://r/v2/not found: 503 Service Unavailable",
            "toomanyrequests: You have reached your pull rate limit",
            "failed to register layer: no space left on device",
            "Back-off pulling image \"x\"",
        ] {
            assert!(!pull_is_final(message), "{message}");
        }
    }
}
