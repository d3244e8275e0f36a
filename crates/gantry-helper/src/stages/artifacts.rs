//! Artifacts up and down, each in a child process of its own (see `archive/`).

use gantry_core::{Ending, Secret};
use gantry_wire::plan::{ArtifactDownload, ArtifactUpload};
use gantry_wire::shim::SecretText;

use super::StageContext;
use super::movers::{Work, object_format, run};
use crate::archive::job::{Direction, MoverJob};

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
    run(context, &Work { command: "move", what: "the artifacts", description: &job }).await
}
