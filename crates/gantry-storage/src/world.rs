//! What is asked of the process and the network, so that tests can answer in their place.

use std::sync::Arc;
use std::time::Duration;

use gantry_http::{SetupError, Transport};
use url::Url;

/// Makes connections to the server of a URL.
pub type Connect = Arc<dyn Fn(&Url, Route) -> Result<Arc<dyn Transport>, SetupError> + Send + Sync>;

/// Gives the value of a variable.
pub type Variable = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Through the proxies of this process.
    Usual,
    /// Past them: it is on this machine, or beside it.
    Direct,
}

/// What happens about roles that are assumed for objects (`RoleARN`), for whoever counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleEvent {
    /// What a role has brought was used again.
    Reused,
    /// A role is asked for, after this wait for its turn. [`RoleEvent::Over`] follows.
    Asked {
        /// How long that took.
        waited: Duration,
    },
    /// The answer has come, or none will.
    Over {
        /// Since it was asked for.
        took: Duration,
        /// Whether it was granted.
        granted: bool,
    },
    /// So many more, or fewer, are kept to be used again.
    Kept(i64),
}

/// Hears of roles.
pub type RoleObserver = Arc<dyn Fn(RoleEvent) + Send + Sync>;

/// The world as a store sees it.
#[derive(Clone)]
pub struct World {
    /// Variables of this process.
    pub variable: Variable,
    /// Connections.
    pub connect: Connect,
    /// Who counts roles, if anybody does.
    pub on_role: Option<RoleObserver>,
}

impl World {
    /// A variable that says something.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    pub(crate) fn role(&self, event: RoleEvent) {
        if let Some(observer) = &self.on_role {
            observer(event);
        }
    }
}
