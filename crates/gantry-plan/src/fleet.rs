//! Fleets: managers that go on with each other's jobs. A pod says by a label which fleet may take
//! it over.

use sha2::{Digest as _, Sha256};

/// Label with the hash of the fleet's name: the name itself may hold characters that labels cannot.
pub const LABEL_FLEET: &str = "gantry.dev/fleet";

/// Bytes of the hash in the label: 16 characters. It only selects; that a pod is of our fleet is
/// proven by its ticket or its agent.
const LABEL_BYTES: usize = 8;

/// A fleet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fleet {
    name: String,
}

impl Fleet {
    /// The fleet of a runner: as configured (`[gantry] fleet`), else all managers that serve the
    /// same GitLab from the same namespace.
    pub fn of(configured: Option<&str>, gitlab_url: &str, namespace: &str) -> Self {
        let name = match configured.filter(|name| !name.is_empty()) {
            Some(name) => name.to_owned(),
            None => format!("{} {namespace}", gitlab_url.trim_end_matches('/')),
        };
        Self { name }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of [`LABEL_FLEET`].
    pub fn label(&self) -> String {
        let digest = Sha256::digest(format!("gantry.dev/fleet {}", self.name));
        let first = digest.first_chunk::<LABEL_BYTES>().copied().unwrap_or_default();
        format!("{:016x}", u64::from_be_bytes(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_a_gitlab_and_a_namespace_unless_it_has_a_name() {
        let of = |configured, url| Fleet::of(configured, url, "ci").label();
        assert_eq!(of(None, "https://gitlab.example.com"), of(Some(""), "https://gitlab.example.com/"));
        assert_ne!(of(None, "https://gitlab.example.com"), of(None, "https://gitlab.example.org"));
        assert_eq!(of(Some("team a"), "https://a"), of(Some("team a"), "https://b"));
        assert_ne!(Fleet::of(None, "u", "a").label(), Fleet::of(None, "u", "b").label());
    }

    #[test]
    fn labels_are_short_and_stay_the_same() {
        assert_eq!(Fleet::of(Some("Ünïcode/…"), "", "").label().len(), 16);
        assert_eq!(Fleet::of(None, "https://gitlab.example.com", "ci").label(), "50b8d4c1cc20faff");
    }
}
