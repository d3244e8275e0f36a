//! The way from the API server to kubelet, for logs and remote commands: when kubelet is not there,
//! this is where it shows, in the words of a real API server.

use std::time::Duration;

use super::status::ApiError;
use crate::{cluster::Cluster, faults::Kubelet};

/// How long a real API server tries to connect.
const DIAL_LIMIT: Duration = Duration::from_secs(30);
/// Kubelet's port, for messages.
const PORT: u16 = 10_250;

/// Succeeds when kubelet can be reached.
pub(crate) async fn reach(cluster: &Cluster) -> Result<(), ApiError> {
    dial(cluster).await.map_err(|why| ApiError::plain(format!("error dialing backend: {why}")))
}

/// Why kubelet could not be reached. A lost node does not answer, so this takes its time.
pub(crate) async fn dial(cluster: &Cluster) -> Result<(), String> {
    let address = format!("{}:{PORT}", cluster.config.advertised_ip(cluster.address));
    if cluster.faults.kubelet() == Kubelet::Lost {
        let back = cluster.faults.kubelet_is(|state| state != Kubelet::Lost);
        if tokio::time::timeout(DIAL_LIMIT, back).await.is_err() {
            return Err(format!("dial tcp {address}: i/o timeout"));
        }
    }
    if cluster.faults.kubelet() == Kubelet::Restarting {
        return Err(format!("dial tcp {address}: connect: connection refused"));
    }
    Ok(())
}
