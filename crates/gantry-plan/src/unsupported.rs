//! What jobs and configs may ask for and this version does not do. Whatever would run with less protection, or would not be the job that
//! was written, is refused; everything else is a warning in the job log.

use gantry_core::job::JobSpec;

use crate::PlanError;
use crate::environment::list;

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

/// What the job asks for in vain otherwise than by variables.
pub(crate) fn warnings(job: &JobSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    if !job.inputs.is_empty() {
        let names: Vec<&str> = job.inputs.iter().map(|input| input.key.as_str()).collect();
        warnings.push(format!(
            "inputs are not supported by this version; ${{{{ job.inputs }}}} is left as it is: {}",
            list(&names)
        ));
    }
    warnings
}
