//! What jobs and configs may ask for and this version does not do. Whatever would run with less protection, or would not be the job that
//! was written, is refused.

use gantry_core::job::JobSpec;

use crate::PlanError;

/// Refuses what cannot be done without.
///
/// # Errors
/// Says what is not supported and what to do instead.
pub(crate) fn refuse(job: &JobSpec) -> Result<(), PlanError> {
    if job.id <= 0 {
        return Err(PlanError::InvalidJob(format!("its id is {}, which is not a positive number", job.id)));
    }
    let native_steps = job.run.as_deref().map(str::trim).unwrap_or_default();
    if !matches!(native_steps, "" | "[]" | "null") {
        let message = "the job uses `run`, whose steps this runner cannot carry out: use `script` instead";
        return Err(PlanError::Configuration(message.to_owned()));
    }
    Ok(())
}
