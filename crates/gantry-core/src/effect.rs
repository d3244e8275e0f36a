//! Whether what can be set does anything: the same few answers for keys of the configuration,
//! feature flags and job variables.

/// What setting something leads to. Sentences say what is done in spite of it, or what to use
/// instead, as a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What its description says.
    Acts,
    /// Nothing.
    Never(&'static str),
    /// It is always on: turning it off does nothing.
    AlwaysOn(&'static str),
    /// It belongs to another executor than that for Kubernetes.
    OtherExecutor,
}

/// What is said of everything that belongs to other executors.
const OTHER_EXECUTOR: &str = "it is for another executor";

impl Effect {
    /// Whether it acts, in one of its values at least.
    pub fn acts(self) -> bool {
        self == Self::Acts
    }

    /// Why it does nothing and what to do instead; `None` where it acts.
    pub fn instead(self) -> Option<&'static str> {
        match self {
            Self::Acts => None,
            Self::Never(instead) | Self::AlwaysOn(instead) => Some(instead),
            Self::OtherExecutor => Some(OTHER_EXECUTOR),
        }
    }

    /// What to say to whoever sets it; `None` where it acts.
    pub fn remark(self) -> Option<String> {
        Some(format!("accepted, has no effect: {}", self.instead()?))
    }
}
