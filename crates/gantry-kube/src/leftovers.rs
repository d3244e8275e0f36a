//! Pods that may exist although nobody wants them: their creation or deletion was asked for, and no
//! answer came before it was given up.

use gantry_core::error_chain::chain;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, sleep};

use crate::{
    ApiError, Cluster, limits,
    pods::{self, DeleteError, PodRef},
    retry,
};

/// A pod that should not be there.
#[derive(Debug)]
pub enum LeftoverPod {
    /// It was asked for in vain, and may have come or still come.
    Requested(Box<Pod>),
    /// Its deletion was given up.
    NotDeleted(PodRef),
}

impl Cluster {
    /// Removes a pod that should not be there, for as long as it may be or come: an API server that
    /// was away for minutes is back some time. Looks every [`limits::LEFTOVER_PERIOD`], and gives
    /// up after [`limits::LEFTOVER_DEADLINE`].
    ///
    /// # Errors
    /// The deletion is refused, or was not possible in all that time.
    pub async fn remove_leftover(&self, leftover: &LeftoverPod) -> Result<(), DeleteError> {
        let begun = Instant::now();
        loop {
            match self.try_to_remove(leftover).await {
                Ok(true) => return Ok(()),
                Ok(false) if begun.elapsed() >= limits::LATE_CREATION => return Ok(()),
                Ok(false) => {}
                Err(error) if !error.fault.is_transient() || begun.elapsed() >= limits::LEFTOVER_DEADLINE => {
                    return Err(pods::delete_error(leftover.name(), error));
                }
                Err(error) => {
                    let (pod, error) = (leftover.name(), chain(&error));
                    tracing::debug!(pod, error, "a pod that should not be there cannot be removed yet");
                }
            }
            sleep(limits::LEFTOVER_PERIOD).await;
        }
    }

    /// Whether the pod was there, and so was removed.
    async fn try_to_remove(&self, leftover: &LeftoverPod) -> Result<bool, ApiError> {
        let found = match leftover {
            LeftoverPod::NotDeleted(pod) => Some(pod.clone()),
            LeftoverPod::Requested(wanted) => {
                let found = retry::once(self.pods().get_opt(leftover.name())).await?;
                found.filter(|found| pods::same_marks(wanted, found)).and_then(|found| PodRef::of(&found))
            }
        };
        let Some(pod) = found else { return Ok(false) };
        self.delete_once(&pod, None).await?;
        Ok(true)
    }
}

impl LeftoverPod {
    fn name(&self) -> &str {
        match self {
            Self::Requested(pod) => pod.metadata.name.as_deref().unwrap_or_default(),
            Self::NotDeleted(pod) => &pod.name,
        }
    }
}
