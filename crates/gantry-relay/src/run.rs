//! Performs what the machine decides: one request at a time, inputs in between.

use gantry_gitlab::Client;
use tokio::sync::mpsc;

use crate::report::{Input, RelayEnd, RelayJob, Report};

/// Relays `job` until its verdict is delivered or GitLab wants nothing more.
///
/// Everything that GitLab has not confirmed must stay with the caller: dropping this future stops the relay at once and loses nothing, which
/// is also the way to stop while GitLab is unreachable and the relay therefore reads no inputs. Reports never block the relay.
pub async fn run(
    _client: Client,
    _job: RelayJob,
    _inputs: mpsc::Receiver<Input>,
    _reports: mpsc::Sender<Report>,
) -> RelayEnd {
    todo!()
}
