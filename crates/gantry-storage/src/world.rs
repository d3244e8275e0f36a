//! What is asked of the process and the network, so that tests can answer in their place.

use std::sync::Arc;

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

/// The world as a store sees it.
#[derive(Clone)]
pub struct World {
    /// Variables of this process.
    pub variable: Variable,
    /// Connections.
    pub connect: Connect,
}

impl World {
    /// A variable that says something.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }
}
