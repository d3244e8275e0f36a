//! What a store needs of the process: connections, variables, a clock.

use std::fmt;
use std::sync::Arc;

use gantry_http::{SetupError, Transport};
use jiff::Timestamp;
use url::Url;

/// Makes connections to the server of a URL.
pub type Connect = Arc<dyn Fn(&Url) -> Result<Arc<dyn Transport>, SetupError> + Send + Sync>;

/// Looks up a variable of the environment.
pub type Lookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The process and its network.
#[derive(Clone)]
pub struct World {
    /// Makes connections.
    pub connect: Connect,
    /// A variable of the environment.
    pub variable: Lookup,
    /// The clock, for signatures.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Where Google's services are.
    pub google: Google,
}

/// Where Google's services are: they have no variable of their own.
#[derive(Clone, Debug)]
pub struct Google {
    /// The one that exchanges tokens.
    pub sts: String,
    /// The one that keeps secrets.
    pub secrets: String,
}

impl Default for Google {
    fn default() -> Self {
        Self {
            sts: "https://sts.googleapis.com".to_owned(),
            secrets: "https://secretmanager.googleapis.com".to_owned(),
        }
    }
}

impl World {
    /// A variable that says something.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}
