use super::*;

/// See its first line.
const REFERENCE: &str = include_str!("reference.tsv");

fn rows() -> impl Iterator<Item = [&'static str; 4]> {
    REFERENCE.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut cells = line.split('\t');
        [(); 4].map(|()| cells.next().unwrap())
    })
}

#[test]
fn names_kinds_and_labels_are_those_of_the_reference() {
    let ours = metrics_reference();
    for [name, kind, labels, _] in rows() {
        let found = ours.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(found.kind, kind, "{name}");
        let sorted = |mut labels: Vec<String>| {
            labels.sort();
            labels
        };
        let wanted = labels.split_whitespace().map(str::to_owned).collect();
        assert_eq!(sorted(found.labels.clone()), sorted(wanted), "{name}");
    }
    let known: Vec<&str> = rows().map(|[name, ..]| name).collect();
    let invented: Vec<_> =
        ours.iter().filter(|ours| ours.name.starts_with("gitlab_") && !known.contains(&ours.name.as_str())).collect();
    assert!(invented.is_empty(), "under the reference's name, and not of it: {invented:?}");
}

#[test]
fn buckets_are_those_of_the_reference() {
    let metrics = Metrics::new().unwrap();
    for histogram in [&metrics.job_duration, &metrics.queue_duration, &metrics.stage_duration] {
        histogram.with_label_values(&["a", "b", "c", "d"]).observe(1.0);
    }
    metrics.api_durations.with_label_values(&["a", "b", "c", "d", "e"]).observe(1.0);
    let text = String::from_utf8(metrics.render().unwrap()).unwrap();
    let mut histograms = 0;
    for [name, kind, _, buckets] in rows().filter(|[_, kind, ..]| *kind == "histogram") {
        let lines = text.lines().filter(|line| line.starts_with(&format!("{name}_bucket{{")));
        let bounds: Vec<&str> =
            lines.filter_map(|line| line.split("le=\"").nth(1)?.split('"').next()).filter(|le| *le != "+Inf").collect();
        assert_eq!(bounds, buckets.split_whitespace().collect::<Vec<_>>(), "{name} ({kind})");
        histograms += 1;
    }
    assert_eq!(histograms, 6);
}

/// A dashboard must not have gaps where nothing has happened yet.
#[test]
fn a_runner_without_jobs_has_its_series() {
    let metrics = Metrics::new().unwrap();
    let labels = RunnerLabels { runner: "abc".into(), name: "n".into(), system_id: "s_1".into() };
    metrics.seed(&labels, 3, 2);
    metrics.set_version("19.4.0", "r", "2026-01-02T03:04:05Z");
    let text = String::from_utf8(metrics.render().unwrap()).unwrap();
    let of = "runner=\"abc\",runner_name=\"n\",system_id=\"s_1\"";
    for line in [
        "gitlab_runner_jobs{executor_stage=\"idle\",runner=\"abc\",runner_name=\"n\",stage=\"idle\",state=\"idle\",system_id=\"s_1\"} 0"
            .to_owned(),
        format!("gitlab_runner_jobs_total{{{of}}} 0"),
        format!("gitlab_runner_limit{{{of}}} 3"),
        format!("gitlab_runner_worker_feeds_total{{{of}}} 0"),
        format!("gitlab_runner_worker_feed_failures_total{{{of}}} 0"),
        format!("gitlab_runner_acceptable_job_queuing_duration_exceeded_total{{{of}}} 0"),
        format!("gitlab_runner_worker_processing_failures_total{{failure_type=\"no_free_executor\",{of}}} 0"),
        "gitlab_runner_errors_total{level=\"panic\"} 0".to_owned(),
        "gitlab_runner_job_router_fallbacks_total{reason=\"no_discovery\"} 0".to_owned(),
        "gitlab_runner_configuration_saving_error_total 0".to_owned(),
    ] {
        let level = line.contains("level=");
        let is_there = text.lines().any(|shown| if level { shown.starts_with(&line[..line.len() - 1]) } else { shown == line });
        assert!(is_there, "no {line} in:\n{text}");
    }
    assert!(text.contains("built_at=\"2026-01-02T03:04:05Z\""), "{text}");
}
