use gantry_core::Secret;
use proptest::prelude::*;

use super::*;
use crate::plan::{Coordinator, Paths, Script, TracePlan};

fn script() -> Script {
    Script { text: Secret::new("true") }
}

fn stage(name: &str, attempts: u32, action: Action) -> StagePlan {
    StagePlan { name: name.into(), title: name.into(), attempts, action }
}

/// A plan with every kind of stage.
fn plan() -> PodPlan {
    let upload = |on_success| Action::UploadArtifacts { on_success, artifacts: Vec::new() };
    PodPlan {
        job_id: 1,
        job_token: Secret::default(),
        project_id: 0,
        coordinator: Coordinator {
            url: String::new(),
            ca_pem: None,
            identity: None,
            proxies: None,
            upload_timeout_ms: 0,
            response_header_timeout_ms: 0,
        },
        manager_host: String::new(),
        timeout_seconds: 3600,
        remaining_ms: 3_600_000,
        acknowledged: false,
        script_timeout_ms: None,
        after_script_timeout_ms: 1,
        after_script_ignore_errors: true,
        script_grace_ms: 5000,
        keep_umask: false,
        paths: Paths {
            builds_dir: String::new(),
            project_dir: String::new(),
            temp_dir: String::new(),
            temp_volume: None,
        },
        environment: Vec::new(),
        trace: TracePlan {
            head: String::new(),
            masks: Vec::new(),
            token_prefixes: Vec::new(),
            timestamps: true,
            sections: true,
            limit_bytes: 1,
            debug_trace: false,
        },
        stages: vec![
            stage("prepare_script", 1, Action::Prepare),
            stage("download_artifacts", 3, Action::DownloadArtifacts(Vec::new())),
            stage("step_script", 1, Action::Script(script())),
            stage("step_release", 1, Action::Script(script())),
            stage("after_script", 1, Action::AfterScript(script())),
            stage("upload_artifacts_on_success", 1, upload(true)),
            stage("upload_artifacts_on_failure", 1, upload(false)),
            stage("cleanup_file_variables", 1, Action::Cleanup),
        ],
        wait_for_services: false,
        failure_reasons: Vec::new(),
        alone: crate::plan::Alone::default(),
        start: None,
        build_memory_limit: None,
        build_resources: crate::usage::ResourcePlan::default(),
        services: crate::services::ServicesPlan::default(),
        get_sources_timeout_ms: None,
        posix_shell: false,
        keep_failed: None,
    }
}

/// Runs a plan to its end; `outcome` says how each try of a stage ends and what else happens then.
fn run(plan: &PodPlan, mut outcome: impl FnMut(&str, u32, &mut History) -> Ending) -> (Vec<String>, Ending) {
    let mut history = History::default();
    let mut ran = Vec::new();
    loop {
        match next_stage(plan, &history) {
            Next::End(ending) => return (ran, ending),
            Next::Run { stage, attempt, status, .. } => {
                let name = &plan.stages[stage].name;
                ran.push(format!("{name}/{}", status.as_str()));
                let ending = outcome(name, attempt, &mut history);
                history.tries.push(Try { stage, ending });
            }
        }
    }
}

#[test]
fn a_good_job() {
    let (ran, ending) = run(&plan(), |_, _, _| Ending::Succeeded);
    assert_eq!(ending, Ending::Succeeded);
    assert_eq!(
        ran,
        [
            "prepare_script/running",
            "download_artifacts/running",
            "step_script/running",
            "step_release/running",
            "after_script/success",
            "upload_artifacts_on_success/success",
            "cleanup_file_variables/success"
        ]
    );
}

#[test]
fn a_failing_script() {
    let failed = Ending::ScriptFailed { exit_code: 3 };
    let (ran, ending) =
        run(&plan(), |name, _, _| if name == "step_script" { failed.clone() } else { Ending::Succeeded });
    assert_eq!(ending, failed);
    assert_eq!(
        ran[3..],
        ["after_script/failed", "upload_artifacts_on_failure/failed", "cleanup_file_variables/failed"]
    );
}

#[test]
fn artifacts_that_cannot_be_downloaded_are_tried_again_and_then_skip_the_scripts() {
    let failed = Ending::StageFailed { stage: "download_artifacts".into(), message: "x".into(), exit_code: 1 };
    let mut attempts = Vec::new();
    let (ran, ending) = run(&plan(), |name, attempt, _| {
        if name != "download_artifacts" {
            return Ending::Succeeded;
        }
        attempts.push(attempt);
        failed.clone()
    });
    assert_eq!((ending, attempts), (failed, vec![1, 2, 3]));
    assert_eq!(ran[4..], ["upload_artifacts_on_failure/failed", "cleanup_file_variables/failed"]);
}

#[test]
fn an_upload_that_fails_does_not_bring_the_other_one() {
    let failed = Ending::StageFailed { stage: "upload_artifacts".into(), message: "x".into(), exit_code: 1 };
    let (ran, ending) =
        run(&plan(), |name, _, _| if name.starts_with("upload") { failed.clone() } else { Ending::Succeeded });
    assert_eq!(ending, failed);
    assert_eq!(ran[5..], ["upload_artifacts_on_success/success", "cleanup_file_variables/failed"]);
    // Nor does one for a failed job change what the job failed of.
    let script = Ending::ScriptFailed { exit_code: 3 };
    let (ran, ending) = run(&plan(), |name, _, _| match name {
        "step_script" => script.clone(),
        name if name.starts_with("upload") => failed.clone(),
        _ => Ending::Succeeded,
    });
    assert_eq!(ending, script);
    assert_eq!(ran[4..], ["upload_artifacts_on_failure/failed", "cleanup_file_variables/failed"]);
}

#[test]
fn a_second_try_can_save_the_job() {
    let failed = Ending::StageFailed { stage: "download_artifacts".into(), message: "x".into(), exit_code: 1 };
    let (_, ending) =
        run(
            &plan(),
            |name, attempt, _| {
                if name == "download_artifacts" && attempt == 1 { failed.clone() } else { Ending::Succeeded }
            },
        );
    assert_eq!(ending, Ending::Succeeded);
}

#[test]
fn a_cancel_during_the_script_leaves_after_script_to_run() {
    let (ran, ending) = run(&plan(), |name, _, history| {
        if name != "step_script" {
            return Ending::Succeeded;
        }
        history.canceled = true;
        Ending::Canceled
    });
    assert_eq!(ending, Ending::Canceled);
    assert_eq!(
        ran[3..],
        ["after_script/canceled", "upload_artifacts_on_failure/canceled", "cleanup_file_variables/canceled"]
    );
}

#[test]
fn a_cancel_before_the_script_ends_the_job() {
    let (ran, ending) = run(&plan(), |name, _, history| {
        history.canceled = name == "download_artifacts";
        Ending::Succeeded
    });
    assert_eq!((ran.len(), ending), (2, Ending::Canceled));
}

#[test]
fn a_cancel_between_two_scripts_skips_the_second() {
    let (ran, ending) = run(&plan(), |name, _, history| {
        history.canceled |= name == "step_script";
        Ending::Succeeded
    });
    assert_eq!(ending, Ending::Canceled);
    assert_eq!(ran[3], "after_script/canceled");
}

#[test]
fn a_cancel_after_the_last_script_changes_nothing() {
    let (_, ending) = run(&plan(), |name, _, history| {
        history.canceled |= name == "after_script";
        Ending::Succeeded
    });
    assert_eq!(ending, Ending::Succeeded);
}

#[test]
fn after_script_counts_only_when_told_so() {
    let failed = Ending::ScriptFailed { exit_code: 1 };
    let outcome = |name: &str, _: u32, _: &mut History| {
        if name == "after_script" { failed.clone() } else { Ending::Succeeded }
    };
    assert_eq!(run(&plan(), outcome).1, Ending::Succeeded);
    let strict = PodPlan { after_script_ignore_errors: false, ..plan() };
    assert_eq!(run(&strict, outcome).1, failed);
}

#[test]
fn failing_preparation_ends_everything() {
    let failed = Ending::Runner { message: "x".into() };
    let (ran, ending) = run(&plan(), |_, _, _| failed.clone());
    assert_eq!((ran.len(), ending), (1, failed));
}

proptest! {
    /// Whatever happens, a job ends, no stage runs more often than it may, order is kept, and
    /// success means that every stage succeeded.
    #[test]
    fn every_history_ends(outcomes in proptest::collection::vec(0_u8..6, 40)) {
        let plan = plan();
        let mut outcomes = outcomes.into_iter();
        let mut failed = false;
        let (ran, ending) = run(&plan, |name, _, history| {
            match outcomes.next().unwrap_or(0) {
                1 => { failed |= name != "cleanup_file_variables" && name != "after_script"; Ending::ScriptFailed { exit_code: 1 } }
                2 => { history.canceled = true; Ending::Succeeded }
                3 if name.starts_with("step") => { history.canceled = true; failed = true; Ending::Canceled }
                4 => { history.stopped = Some(Ending::TimedOut { seconds: 1 }); failed = true; Ending::Succeeded }
                _ => Ending::Succeeded,
            }
        });
        prop_assert!(ran.len() <= plan.stages.len() + 2);
        let order = |text: &String| plan.stages.iter().position(|stage| text.starts_with(&stage.name)).unwrap();
        prop_assert!(ran.is_sorted_by_key(order));
        if !failed {
            prop_assert!(matches!(ending, Ending::Succeeded | Ending::Canceled), "{ending:?}");
        }
    }
}

/// The same plan with caches.
fn plan_with_caches() -> PodPlan {
    use crate::cache::{CacheTransfer, RestoreCaches};
    let transfer =
        CacheTransfer { store: String::new(), timeout_ms: 1, ca_pem: None, max_bytes: None, clean_up: false };
    let save =
        |on_success| Action::SaveCache(SaveCaches { on_success, caches: Vec::new(), transfer: transfer.clone() });
    let restore = Action::RestoreCache(RestoreCaches { caches: Vec::new(), transfer: transfer.clone() });
    let mut plan = plan();
    let at = plan.stages.iter().position(|stage| stage.name == "upload_artifacts_on_success").unwrap();
    plan.stages.insert(at, stage("archive_cache_on_failure", 1, save(false)));
    plan.stages.insert(at, stage("archive_cache", 1, save(true)));
    plan.stages.insert(1, stage("restore_cache", 1, restore));
    plan
}

#[test]
fn caches_are_restored_first_and_saved_before_artifacts_are_uploaded() {
    let (ran, ending) = run(&plan_with_caches(), |_, _, _| Ending::Succeeded);
    assert_eq!(ending, Ending::Succeeded);
    let expected = ["restore_cache/running", "archive_cache/success", "upload_artifacts_on_success/success"];
    assert_eq!(ran.iter().filter(|name| expected.contains(&name.as_str())).collect::<Vec<_>>(), expected);
    assert_eq!(ran[1], "restore_cache/running");
    assert!(!ran.iter().any(|name| name.starts_with("archive_cache_on_failure")));
}

#[test]
fn a_cache_that_cannot_be_saved_fails_no_job() {
    let failed = || Ending::StageFailed { stage: "archive_cache".into(), message: "no".into(), exit_code: 1 };
    let (ran, ending) = run(&plan_with_caches(), |name, _, _| match name {
        "archive_cache" => failed(),
        _ => Ending::Succeeded,
    });
    assert_eq!(ending, Ending::Succeeded);
    assert!(ran.contains(&"upload_artifacts_on_success/success".to_owned()), "{ran:?}");
}

#[test]
fn a_failed_job_saves_what_is_for_failed_jobs() {
    let failed = || Ending::StageFailed { stage: "step_script".into(), message: "no".into(), exit_code: 1 };
    let (ran, ending) = run(&plan_with_caches(), |name, _, _| match name {
        "step_script" => failed(),
        _ => Ending::Succeeded,
    });
    assert_eq!(ending, failed());
    assert!(ran.contains(&"archive_cache_on_failure/failed".to_owned()), "{ran:?}");
    assert!(!ran.iter().any(|name| name.starts_with("archive_cache/")), "{ran:?}");
}
