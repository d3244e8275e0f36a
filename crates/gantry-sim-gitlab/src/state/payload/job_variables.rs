//! The variables about a job itself.

use serde_json::json;

use crate::state::World;
use crate::state::job::Job;
use crate::state::runners::Runner;
use crate::variables::{JOB_USER, Variable, group_name, repository_url, slug};

/// About the job, its token and its runner.
pub(crate) fn job(world: &World, job: &Job, path: &str) -> Vec<Variable> {
    let url = &world.url;
    let runner = job.lease.as_ref().and_then(|lease| world.runners.by_id(lease.runner));
    let tags = runner.map(|runner: &Runner| json!(runner.tags).to_string()).unwrap_or_default();
    vec![
        Variable::public("CI_JOB_ID", job.id.to_string()),
        Variable::public("CI_JOB_NAME", job.new.name.as_str()),
        Variable::public("CI_JOB_NAME_SLUG", slug(&job.new.name)),
        Variable::public("CI_JOB_GROUP_NAME", group_name(&job.new.name)),
        Variable::public("CI_JOB_STAGE", job.new.stage.as_str()),
        Variable::public("CI_JOB_URL", format!("{url}/{path}/-/jobs/{}", job.id)),
        Variable::public("CI_JOB_STARTED_AT", world.now().wall.to_string()),
        Variable::masked("CI_JOB_TOKEN", job.token.as_str()),
        Variable::public("CI_REGISTRY_USER", JOB_USER),
        Variable::masked("CI_REGISTRY_PASSWORD", job.token.as_str()),
        Variable::public("CI_DEPENDENCY_PROXY_USER", JOB_USER),
        Variable::masked("CI_DEPENDENCY_PROXY_PASSWORD", job.token.as_str()),
        Variable::private("CI_REPOSITORY_URL", repository_url(url, path, &job.token)),
        Variable::public("CI_RUNNER_ID", runner.map(|runner| runner.id.to_string()).unwrap_or_default()),
        Variable::public("CI_RUNNER_DESCRIPTION", runner.map(|r| r.description.clone()).unwrap_or_default()),
        Variable::public("CI_RUNNER_TAGS", tags),
        Variable::public("CI_NODE_TOTAL", "1"),
    ]
}
