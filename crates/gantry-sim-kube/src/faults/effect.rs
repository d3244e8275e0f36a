//! What a fault does and to whom, as its JSON says. Only values and whether they fit; nothing here
//! happens.

use serde::{Deserialize, Serialize};

use crate::{auth::attributes::Attributes, pattern::matches};

/// One kind of fault with its choices. Every text that chooses something may have `*` for anything;
/// absent means any.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(crate) enum Effect {
    /// The pull of an image fails.
    ImagePullError { image: String, reason: Option<String>, message: Option<String> },
    /// The pull of an image takes longer: that many seconds, or as long as the fault is there.
    SlowPull { image: String, delay: Option<f64> },
    /// The scheduler finds no node.
    Unschedulable { namespace: Option<String>, pod: Option<String>, message: Option<String> },
    /// A quota is used up: new pods are forbidden.
    Quota { namespace: Option<String>, quota: Option<String>, resource: Option<String> },
    /// Kubelet evicts a pod, once it has run for `after` seconds.
    Evict {
        namespace: Option<String>,
        pod: Option<String>,
        after: Option<f64>,
        reason: Option<String>,
        message: Option<String>,
    },
    /// The kernel kills a container for want of memory, once it has run for `after` seconds.
    OomKill { namespace: Option<String>, pod: Option<String>, container: Option<String>, after: Option<f64> },
    /// The node cannot be reached. Its containers go on, unless it has crashed.
    NodeLoss {
        /// Seconds until the control plane takes notice.
        detect: Option<f64>,
        /// Every container dies.
        #[serde(default)]
        crash: bool,
    },
    /// Kubelet is not there; containers go on, open streams are cut.
    KubeletRestart {},
    /// The API server closes every connection and takes no new one.
    ApiRestart {
        /// Forget the history, so that watches cannot be resumed.
        #[serde(default)]
        compact: bool,
    },
    /// Open watches end.
    WatchClose {
        resource: Option<String>,
        namespace: Option<String>,
        /// Say `410 Gone` first.
        #[serde(default)]
        gone: bool,
    },
    /// An `exec` or `attach` stream breaks after so many bytes of output, or of input.
    StreamCut(Stream),
    /// The same, but it only stops: no byte goes either way, and nobody hangs up.
    StreamStall(Stream),
    /// A request is refused.
    Refuse {
        #[serde(flatten)]
        what: Requests,
        status: u16,
        retry_after: Option<u64>,
        reason: Option<String>,
        message: Option<String>,
        /// What is answered instead of a `Status`, as a proxy would; an empty text is an empty
        /// body.
        body: Option<String>,
        /// The type of that body.
        content_type: Option<String>,
    },
    /// A request waits that many seconds before it is looked at.
    Delay {
        #[serde(flatten)]
        what: Requests,
        delay: f64,
    },
    /// A request is carried out, and the connection breaks before the answer.
    LoseAnswer {
        #[serde(flatten)]
        what: Requests,
    },
}

/// Which streams.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stream {
    pub(crate) namespace: Option<String>,
    pub(crate) pod: Option<String>,
    pub(crate) container: Option<String>,
    /// `exec` or `attach`.
    pub(crate) subresource: Option<String>,
    /// Bytes of output until it happens.
    pub(crate) after: Option<u64>,
    /// Bytes of input until it happens.
    pub(crate) after_input: Option<u64>,
}

/// Which requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Requests {
    pub(crate) verb: Option<String>,
    /// `pods`, or with a sub-resource `pods/exec`.
    pub(crate) resource: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
}

/// Whether a text fits a choice.
pub(super) fn fits(choice: Option<&String>, text: &str) -> bool {
    choice.is_none_or(|pattern| matches(pattern, text))
}

impl Requests {
    pub(super) fn fit(&self, wish: &Attributes) -> bool {
        fits(self.verb.as_ref(), &wish.verb)
            && fits(self.resource.as_ref(), &wish.full_resource())
            && fits(self.namespace.as_ref(), &wish.namespace)
            && fits(self.name.as_ref(), &wish.name)
    }
}

impl Stream {
    pub(super) fn fits(&self, subresource: &str, namespace: &str, pod: &str, container: &str) -> bool {
        fits(self.subresource.as_ref(), subresource)
            && fits(self.namespace.as_ref(), namespace)
            && fits(self.pod.as_ref(), pod)
            && fits(self.container.as_ref(), container)
    }
}

impl Effect {
    /// Faults that are over as soon as they have happened.
    pub(super) fn is_momentary(&self) -> bool {
        matches!(self, Self::WatchClose { .. })
    }

    /// How often it happens where the request does not say: accidents to one pod once, everything
    /// else without end.
    pub(super) fn default_count(&self) -> Option<u64> {
        matches!(self, Self::Evict { .. } | Self::OomKill { .. } | Self::LoseAnswer { .. }).then_some(1)
    }

    /// How many seconds it lasts where the request does not say.
    pub(super) fn default_seconds(&self) -> Option<f64> {
        matches!(self, Self::KubeletRestart {} | Self::ApiRestart { .. }).then_some(2.0)
    }
}
