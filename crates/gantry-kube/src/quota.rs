//! What the API server says when a `ResourceQuota` refuses a pod: the one refusal that only its
//! words tell from a missing right, because code and reason are the same and there are no details
//! (Kubernetes API, admission plugin `ResourceQuota`).

use std::collections::BTreeMap;

use gantry_core::quantity::Quantity;

/// Before the quota's name, the parts that follow are `requested: `, `used: ` and `limited: `, each
/// a list such as `pods=1,requests.cpu=500m`.
const EXCEEDED: &str = "exceeded quota: ";

/// How a quota refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quota {
    /// There is room when other pods have gone.
    UsedUp,
    /// The pod asks for more than all of it.
    TooSmall,
}

impl Quota {
    /// Whether a quota speaks.
    pub(crate) fn read(message: &str) -> Option<Self> {
        let (_, said) = message.split_once(EXCEEDED)?;
        let (requested, limited) = (amounts(said, "requested: "), amounts(said, "limited: "));
        let too_much = |(name, amount): (&str, Quantity)| limited.get(name).is_some_and(|limit| amount > *limit);
        Some(if requested.into_iter().any(too_much) { Self::TooSmall } else { Self::UsedUp })
    }
}

/// The amounts of one part; those that are not understood are left out.
fn amounts<'m>(said: &'m str, part: &str) -> BTreeMap<&'m str, Quantity> {
    let list = said.split_once(part).map_or("", |(_, rest)| rest.split(", ").next().unwrap_or_default());
    list.split(',')
        .filter_map(|amount| amount.split_once('='))
        .filter_map(|(name, text)| Some((name, Quantity::parse(text).ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_that_is_used_up_and_one_that_is_too_small() {
        let read = |parts: &str| Quota::read(&format!("pods \"x\" is forbidden: exceeded quota: q, {parts}"));
        assert_eq!(read("requested: pods=1, used: pods=3, limited: pods=3"), Some(Quota::UsedUp));
        let two =
            "requested: limits.memory=1Gi,pods=1, used: limits.memory=1Gi,pods=2, limited: limits.memory=1536Mi,pods=9";
        assert_eq!(read(two), Some(Quota::UsedUp));
        let much = "requested: requests.cpu=2500m, used: requests.cpu=0, limited: requests.cpu=2";
        assert_eq!(read(much), Some(Quota::TooSmall));
        let exact = "requested: requests.storage=9007199254740993, limited: requests.storage=9007199254740992";
        for much in ["requested: pods=1, limited: pods=0", "requested: count/pods=2e3, limited: count/pods=1e3", exact]
        {
            assert_eq!(read(much), Some(Quota::TooSmall), "{much}");
        }
        assert_eq!(read("requested: pods=many, limited: pods=1"), Some(Quota::UsedUp));
        assert_eq!(Quota::read("exceeded quota: "), Some(Quota::UsedUp));
        for other in ["", "pods \"x\" is forbidden: User \"u\" cannot create resource \"pods\"", "quota exceeded"] {
            assert_eq!(Quota::read(other), None, "{other}");
        }
    }
}
