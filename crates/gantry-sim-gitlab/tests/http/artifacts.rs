//! Artifacts up and down.

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::json;

use crate::harness::{Sim, Taken};

async fn upload(sim: &Sim, job: &Taken, query: &str, name: &str, bytes: &[u8]) -> u16 {
    let part = Part::bytes(bytes.to_vec()).file_name(name.to_owned());
    let form = Form::new().part("file", part);
    let call = sim.call(Method::POST, &format!("/api/v4/jobs/{}/artifacts?{query}", job.id));
    call.header("JOB-TOKEN", &job.token).multipart(form).send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn uploads_are_stored_by_type_and_fetched_by_dependents() {
    let sim = Sim::start().await;
    let (_, maker) = sim.post("/sim/jobs", &json!({})).await;
    let job = sim.take().await;
    assert_eq!(upload(&sim, &job, "", "a.zip", b"early").await, 403);
    assert_eq!(sim.put(&job, &json!({"state": "running"})).await.0, 200);
    let zip = vec![7_u8; 6 * 1024 * 1024];
    assert_eq!(upload(&sim, &job, "artifact_format=zip&artifact_type=archive&expire_in=7d", "a.zip", &zip).await, 201);
    assert_eq!(upload(&sim, &job, "", "a.zip", &zip).await, 201, "the same file again");
    assert_eq!(upload(&sim, &job, "", "b.zip", b"other").await, 400, "another archive");
    assert_eq!(upload(&sim, &job, "artifact_format=gzip&artifact_type=junit", "../junit.xml.gz", b"gz").await, 201);
    assert_eq!(upload(&sim, &job, "artifact_format=zip&artifact_type=junit", "junit.zip", b"zip").await, 400);
    sim.finish(&job, "success").await;
    assert_eq!(upload(&sim, &job, "", "late.zip", b"late").await, 403);

    let list = sim.get(&format!("/sim/jobs/{}/artifacts", job.id)).await;
    assert_eq!(
        list[0],
        json!({"type": "archive", "format": "zip", "filename": "a.zip", "size": zip.len(), "expire_in": "7d"})
    );
    assert_eq!(list[1]["filename"], "junit.xml.gz");
    assert_eq!(list.as_array().map(Vec::len), Some(2));
    let shown = sim.call(Method::GET, &format!("/sim/jobs/{}/artifacts/junit.xml.gz", job.id)).send().await;
    assert_eq!(shown.expect("an answer").bytes().await.expect("bytes").as_ref(), b"gz");

    sim.post("/sim/jobs", &json!({"dependencies": [{"id": maker["id"]}]})).await;
    let user = sim.run_next().await;
    let dependency = &user.payload["dependencies"][0];
    assert_eq!(dependency["artifacts_file"], json!({"filename": "a.zip", "size": zip.len()}));
    let token = dependency["token"].as_str().expect("a token");
    let path = format!("/api/v4/jobs/{}/artifacts", job.id);
    let fetch = |path: String, token: &str| sim.call(Method::GET, &path).header("JOB-TOKEN", token).send();
    let got = fetch(format!("{path}?direct_download=true"), token).await.expect("an answer");
    assert_eq!(got.status(), 200);
    assert_eq!(got.bytes().await.expect("bytes").as_ref(), zip);
    assert_eq!(fetch(path.clone(), "glcbt-unknown").await.expect("an answer").status(), 401);

    sim.post("/sim/jobs", &json!({})).await;
    let stranger = sim.run_next().await;
    assert_eq!(fetch(path, &stranger.token).await.expect("an answer").status(), 403);
    let own = format!("/api/v4/jobs/{}/artifacts", stranger.id);
    assert_eq!(fetch(own, &stranger.token).await.expect("an answer").status(), 404);
    sim.stop().await;
}

#[tokio::test]
async fn a_download_that_a_cancel_overtakes_is_refused_but_no_fault() {
    let sim = Sim::start().await;
    let (_, maker) = sim.post("/sim/jobs", &json!({})).await;
    let job = sim.run_next().await;
    assert_eq!(upload(&sim, &job, "", "a.zip", b"zip").await, 201);
    sim.finish(&job, "success").await;
    let path = format!("/api/v4/jobs/{}/artifacts", job.id);
    let fetch = async |token: &str| {
        let answer = sim.call(Method::GET, &path).header("JOB-TOKEN", token).send().await;
        answer.expect("an answer").status().as_u16()
    };

    sim.post("/sim/jobs", &json!({"dependencies": [{"id": maker["id"]}]})).await;
    let canceled = sim.run_next().await;
    sim.post(&format!("/sim/jobs/{}/cancel?force=true", canceled.id), &json!({})).await;
    assert_eq!(fetch(&canceled.token).await, 401);
    assert_eq!(sim.broken().await, [""; 0], "a runner cannot know of a cancel");

    sim.post("/sim/jobs", &json!({"dependencies": [{"id": maker["id"]}]})).await;
    let ended = sim.run_next().await;
    sim.finish(&ended, "success").await;
    assert_eq!(fetch(&ended.token).await, 401);
    assert_eq!(sim.broken().await, ["job authentication"], "after its own verdict a runner knows");
    sim.stop().await;
}

/// Every type that a runner uploads, by the one format that GitLab takes for it (protocol of GitLab
/// Runner 19.4).
const TYPES: [(&str, &str); 3] = [
    ("zip", "archive lsif scip"),
    (
        "gzip",
        "junit metrics dotenv cobertura jacoco cyclonedx annotations repository_xray cluster_applications \
         metrics_referee network_referee",
    ),
    (
        "raw",
        "sast secret_detection dependency_scanning container_scanning cluster_image_scanning dast license_scanning \
         accessibility codequality performance browser_performance load_performance terraform requirements \
         requirements_v2 coverage_fuzzing api_fuzzing sarif",
    ),
];

#[tokio::test]
async fn every_type_has_its_format() {
    let sim = Sim::start().await;
    sim.post("/sim/jobs", &json!({})).await;
    let job = sim.run_next().await;
    let mut dotenv = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut dotenv, b"KEY=value\n").expect("memory");
    let dotenv = dotenv.finish().expect("memory");
    let mut stored = 0;
    for (format, types) in TYPES {
        for kind in types.split_whitespace() {
            let bytes = if kind == "dotenv" { dotenv.as_slice() } else { b"some bytes" };
            for other in ["zip", "gzip", "raw", "zipzstd", "tarzstd"].into_iter().filter(|other| *other != format) {
                let query = format!("artifact_type={kind}&artifact_format={other}");
                assert_eq!(upload(&sim, &job, &query, "file", bytes).await, 400, "{query}");
            }
            let query = format!("artifact_type={kind}&artifact_format={format}");
            assert_eq!(upload(&sim, &job, &query, kind, bytes).await, 201, "{query}");
            stored += 1;
        }
    }
    for server_only in ["metadata", "trace", "wishes"] {
        let query = format!("artifact_type={server_only}&artifact_format=raw");
        assert_eq!(upload(&sim, &job, &query, "file", b"x").await, 400, "{query}");
    }
    let list = sim.get(&format!("/sim/jobs/{}/artifacts", job.id)).await;
    assert_eq!((stored, list.as_array().map(Vec::len)), (32, Some(32)));
    sim.stop().await;
}
