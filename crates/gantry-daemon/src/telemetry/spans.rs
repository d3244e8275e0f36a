//! What a trace consists of, in the JSON form of OTLP 1.x (`ExportTraceServiceRequest`). Pure but
//! for the ids of spans.

use std::time::Duration;

use gantry_core::chance;
use gantry_core::job::Tracing;
use gantry_core::{FailureReason, Verdict};
use gantry_gitlab::PROTOCOL_VERSION;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Attribute, Traced};
use crate::moments::{Moments, Part};

/// What makes the spans (GitLab Runner 19.4).
const SCOPE: &str = "gitlab-ci-runner";

/// The span of a whole job (GitLab Runner 19.4).
const JOB: &str = "job_execution";

/// `SPAN_KIND_INTERNAL`, `STATUS_CODE_OK` and `STATUS_CODE_ERROR` of OTLP.
const INTERNAL: u8 = 1;
const OK: u8 = 1;
const ERROR: u8 = 2;

/// The id of a trace, if it is one: for log lines.
pub(crate) fn trace_id(tracing: Option<&Tracing>) -> Option<&str> {
    tracing.map(|tracing| tracing.trace_id.as_str()).filter(|id| is_id(id, 32))
}

/// Whether a trace can be made under these ids.
pub(super) fn is_usable(tracing: &Tracing) -> bool {
    is_id(&tracing.trace_id, 32) && is_id(&tracing.span_parent_id, 16)
}

/// Hexadecimal digits, not all of them zero.
fn is_id(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text.bytes().all(|digit| digit.is_ascii_hexdigit())
        && text.bytes().any(|digit| digit != b'0')
}

/// The whole request.
pub(super) fn body(job: &Traced, verdict: Option<&Verdict>, moments: &Moments, ended: Instant) -> Value {
    let id = new_id();
    let whole = Part { name: JOB.to_owned(), from: job.taken, to: ended };
    let mut spans = vec![span(job, (&id, &job.tracing.span_parent_id), &whole)];
    let status = verdict.map_or("unknown", |verdict| if verdict.success { "success" } else { "failed" });
    if let Some(root) = spans.first_mut() {
        let own = job.attributes.iter().cloned().chain([("ci.job.status", Attribute::Text(status.to_owned()))]);
        root["attributes"] = own.map(|(key, value)| attribute(key, &value)).collect();
        root["status"] = match verdict {
            Some(verdict) if verdict.success => json!({"code": OK}),
            // What failed may quote the job: only the reason leaves the manager.
            Some(verdict) => json!({"code": ERROR, "message": verdict.reason.map(FailureReason::as_str)}),
            None => json!({}),
        };
    }
    let parts =
        moments.starting(job.taken).into_iter().map(|part| Part { name: format!("start_{}", part.name), ..part });
    spans.extend(parts.chain(moments.stages(ended)).map(|part| span(job, (&new_id(), &id), &part)));
    let of_process = [("service.name", "runner"), ("service.version", PROTOCOL_VERSION)];
    let resource: Value =
        of_process.iter().map(|(key, value)| attribute(key, &Attribute::Text((*value).to_owned()))).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": SCOPE}, "spans": spans}],
    }]})
}

fn span(job: &Traced, (id, parent): (&str, &str), part: &Part) -> Value {
    let at = |moment: Instant| {
        let since = moment.saturating_duration_since(job.taken);
        (Duration::from_millis(job.taken_unix_ms) + since).as_nanos().to_string()
    };
    json!({
        "traceId": job.tracing.trace_id,
        "spanId": id,
        "parentSpanId": parent,
        "name": part.name,
        "kind": INTERNAL,
        "startTimeUnixNano": at(part.from),
        "endTimeUnixNano": at(part.to),
    })
}

/// Numbers of 64 bits are texts in the JSON form of protocol buffers.
fn attribute(key: &str, value: &Attribute) -> Value {
    let value = match value {
        Attribute::Number(number) => json!({"intValue": number.to_string()}),
        Attribute::Text(text) => json!({"stringValue": text}),
    };
    json!({"key": key, "value": value})
}

fn new_id() -> String {
    // Zero is no id.
    format!("{:016x}", chance::bits().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_job_and_its_parts() {
        let taken = Instant::now();
        let spec = json!({"id": 7, "token": "t", "job_info": {"project_id": 3},
            "variables": [{"key": "CI_PIPELINE_ID", "value": "99"}],
            "features": {"tracing": {"trace_id": "0000000000000000000000000000ab0c", "span_parent_id": "00000000000000ff",
                "otel_endpoints": [{"url": "https://otel.test"}]}}});
        let spec: gantry_core::job::JobSpec = serde_json::from_value(spec).unwrap();
        let job = Traced::of(&spec, Some(5), taken, 1_000).unwrap();
        let mut moments = Moments::default();
        tokio::time::advance(Duration::from_secs(1)).await;
        moments.created = Some(Instant::now());
        moments.begin("step_script");
        tokio::time::advance(Duration::from_secs(2)).await;
        let verdict = gantry_core::Ending::Canceled.verdict();
        let body = body(&job, Some(&verdict), &moments, Instant::now());
        let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
        let shown: Vec<_> = spans
            .iter()
            .map(|span| {
                [&span["name"], &span["startTimeUnixNano"], &span["endTimeUnixNano"]].map(|it| it.as_str().unwrap())
            })
            .collect();
        assert_eq!(
            shown,
            [
                ["job_execution", "1000000000", "4000000000"],
                ["start_pod", "1000000000", "2000000000"],
                ["step_script", "2000000000", "4000000000"],
            ]
        );
        assert!(spans.iter().all(|span| span["traceId"] == "0000000000000000000000000000ab0c"));
        assert_eq!(spans[0]["parentSpanId"], "00000000000000ff");
        assert!(spans.iter().skip(1).all(|span| span["parentSpanId"] == spans[0]["spanId"]));
        assert_eq!(spans[0]["status"]["code"], 2);
        let attributes = spans[0]["attributes"].as_array().unwrap();
        assert!(attributes.contains(&json!({"key": "ci.job.id", "value": {"intValue": "7"}})), "{attributes:?}");
        assert!(
            attributes.contains(&json!({"key": "ci.pipeline.id", "value": {"stringValue": "99"}})),
            "{attributes:?}"
        );
    }

    #[test]
    fn ids() {
        let tracing = |trace: &str, parent: &str| Tracing {
            trace_id: trace.into(),
            span_parent_id: parent.into(),
            ..Tracing::default()
        };
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert!(is_usable(&tracing(trace, "00f067aa0ba902b7")));
        assert_eq!(trace_id(Some(&tracing(trace, ""))), Some(trace));
        for (trace, parent) in [("", ""), (trace, "0000000000000000"), ("x", "00f067aa0ba902b7"), (trace, "00f067aa")] {
            assert!(!is_usable(&tracing(trace, parent)), "{trace} {parent}");
        }
        assert_eq!(trace_id(Some(&tracing("line\nbreak", ""))), None);
    }
}
