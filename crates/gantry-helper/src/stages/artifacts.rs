//! stub
use super::StageContext;
use gantry_core::Ending;
use gantry_wire::plan::{ArtifactDownload, ArtifactUpload};
pub(super) async fn download(_: &StageContext, _: &[ArtifactDownload]) -> Result<(), Ending> {
    Ok(())
}
pub(super) async fn upload(_: &StageContext, _: &[ArtifactUpload]) -> Result<(), Ending> {
    Ok(())
}
