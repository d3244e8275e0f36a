//! A namespace that admits restricted pods only, and a job that needs no more.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Need, World};
use reqwest::Method;
use serde_json::json;

use crate::causes::with;

const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("restricted: a job in a namespace with the strictest level of Pod Security", job)
            .needs(Need::PodSecurity),
    ]
}

/// Nothing is configured but the user, as an image with one would say.
async fn job(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with(&world, "restricted-jobs", "").await?;
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let path = format!("/api/v1/namespaces/{}", runner.namespace);
    let (status, answer) = world.kube.ask(Method::PATCH, &path, Some(&json!({"metadata": {"labels": labels}}))).await?;
    ensure!(status.is_success(), "{answer}");
    let mut job = script(&[
        "echo user $(id -u)",
        "cat number.txt && echo more >> number.txt && mkdir made && rm number.txt && echo changed",
        "echo others: $(find . \\( -type f -o -type d \\) -perm -o+w | wc -l)",
    ]);
    job["repo"] = json!("group/project");
    job["image"] = json!({"name": "debian:12", "executor_opts": {"kubernetes": {"user": "1000"}}});
    let (ended, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(ended.status == "success", "{ended:?}\n{log}");
    ensure!(!log.contains("WARNING"), "{log}");
    for text in ["This namespace admits restricted pods only", "\nuser 1000", "\nchanged", "\nothers: 0"] {
        ensure!(log.contains(text), "the log lacks {text:?}:\n{log}");
    }
    Ok(())
}
