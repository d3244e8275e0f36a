//! Artifacts up and down, each in a child process of its own (see `archive/`).

use std::io::{Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use gantry_core::{Ending, Secret};
use gantry_wire::plan::{Action, ArtifactDownload, ArtifactUpload, PodPlan};
use gantry_wire::shim::SecretText;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::StageContext;
use crate::agent::script_environment::variables;
use crate::archive::job::{Direction, MoverJob};
use crate::process::script::pass_environment;

pub(super) async fn download(context: &StageContext, downloads: &[ArtifactDownload]) -> Result<(), Ending> {
    for download in downloads {
        let notice = format!("Downloading artifacts for {} ({})...", download.job_name, download.job_id);
        context.outlet.notice(&notice).await;
        move_in_child(context, download.job_id, &download.token, Direction::Download).await?;
    }
    Ok(())
}

pub(super) async fn upload(context: &StageContext, artifacts: &[ArtifactUpload]) -> Result<(), Ending> {
    for artifact in artifacts {
        context.outlet.notice("Uploading artifacts...").await;
        let plan = &context.plan;
        move_in_child(context, plan.job_id, &plan.job_token, Direction::Upload(artifact.clone())).await?;
    }
    Ok(())
}

async fn move_in_child(
    context: &StageContext,
    job_id: i64,
    token: &Secret,
    direction: Direction,
) -> Result<(), Ending> {
    let plan = &context.plan;
    let job = MoverJob {
        coordinator: plan.coordinator.clone(),
        builds_dir: plan.paths.builds_dir.clone(),
        project_dir: plan.paths.project_dir.clone(),
        object_format: object_format(plan).to_owned(),
        tool_path: std::env::var("PATH").unwrap_or_default(),
        scratch_dir: context.layout.agent_dir().to_string_lossy().into_owned(),
        job_id,
        token: SecretText(token.clone()),
        direction,
    };
    let input = description(&job).map_err(|error| context.trouble("cannot describe the work", &error))?;
    let mut command = Command::new("/proc/self/exe");
    // Not in the project's directory, which may be gone.
    command.arg0("gantry-helper").arg("move").current_dir(context.layout.agent_dir()).stdin(input);
    // Names of artifacts may hold variables, and the job may have set a proxy.
    pass_environment(&mut command, &variables(plan, context.status));
    let exit = context.tool(command).await.map_err(|error| context.trouble("cannot start", &error))?;
    let message = match (exit.code, exit.signal) {
        (0, _) => return Ok(()),
        (_, Some(9)) => {
            "moving the artifacts was ended by the kernel, most likely for want of memory: raise the memory limit of the helper container"
                .to_owned()
        }
        (code, _) => format!("moving the artifacts ended with exit code {code}; the reason is above"),
    };
    Err(Ending::StageFailed { stage: context.name().to_owned(), message, exit_code: exit.code })
}

fn object_format(plan: &PodPlan) -> &str {
    let sources = plan.stages.iter().find_map(|stage| match &stage.action {
        Action::Sources(sources) => Some(sources),
        _ => None,
    });
    sources.map_or("", |sources| &sources.object_format)
}

/// The work as the child's standard input: in memory, since it holds a token.
fn description(job: &MoverJob) -> std::io::Result<Stdio> {
    let mut memory = std::fs::File::from(memfd_create(c"move", MFdFlags::MFD_CLOEXEC)?);
    memory.write_all(&serde_json::to_vec(job)?)?;
    memory.rewind()?;
    Ok(Stdio::from(OwnedFd::from(memory)))
}
