//! Any bytes as what GitLab answers to a request for a job.

/// The target.
pub fn target(bytes: &[u8]) {
    if let Ok(job) = gantry_gitlab::read_job(bytes) {
        // What is logged about a job that is understood.
        let _ = format!("{job:?}");
    }
}
