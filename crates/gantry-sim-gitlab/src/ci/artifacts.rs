//! `artifacts`: the archive and the reports, each an entry of its own in the job payload.

use super::durations;
use super::field::Field;
use super::model::CiArtifact;
use super::node::Value;
use super::problem::Report;

const KEYS: &[&str] =
    &["access", "exclude", "expire_in", "expose_as", "name", "paths", "public", "reports", "untracked", "when"];

/// When something is uploaded or saved.
pub(super) const WHEN: &[&str] = &["on_success", "on_failure", "always"];

/// Report types, their format and the name of the uploaded file (GitLab's job payload, as GitLab
/// Runner 19.4 knows it).
const REPORTS: &[(&str, &str, &str)] = &[
    ("accessibility", "raw", "gl-accessibility.json"),
    ("annotations", "gzip", "gl-annotations.json"),
    ("api_fuzzing", "raw", "gl-api-fuzzing-report.json"),
    ("browser_performance", "raw", "browser-performance.json"),
    ("cluster_image_scanning", "raw", "gl-cluster-image-scanning-report.json"),
    ("codequality", "raw", "gl-code-quality-report.json"),
    ("container_scanning", "raw", "gl-container-scanning-report.json"),
    ("coverage_fuzzing", "raw", "gl-coverage-fuzzing.json"),
    ("cyclonedx", "gzip", "gl-sbom.cdx.json"),
    ("dast", "raw", "gl-dast-report.json"),
    ("dependency_scanning", "raw", "gl-dependency-scanning-report.json"),
    ("dotenv", "gzip", ".env"),
    ("junit", "gzip", "junit.xml"),
    ("license_scanning", "raw", "gl-license-scanning-report.json"),
    ("load_performance", "raw", "load-performance.json"),
    ("lsif", "zip", "lsif.json"),
    ("metrics", "gzip", "metrics.txt"),
    ("performance", "raw", "performance.json"),
    ("repository_xray", "gzip", "gl-repository-xray.json"),
    ("requirements", "raw", "requirements.json"),
    ("requirements_v2", "raw", "requirements_v2.json"),
    ("sarif", "raw", "gl-sarif.json"),
    ("sast", "raw", "gl-sast-report.json"),
    ("scip", "zip", "index.scip"),
    ("secret_detection", "raw", "gl-secret-detection-report.json"),
    ("terraform", "raw", "tfplan.json"),
];

/// `coverage_report:coverage_format`, and the names of the uploaded file.
const COVERAGE: &[(&str, &str)] = &[("cobertura", "cobertura-coverage.xml"), ("jacoco", "jacoco-coverage.xml")];

/// A report that GitLab has taken out, and what it has instead.
const FORMER: (&str, &str) = ("cobertura", "write `coverage_report`, with `coverage_format: cobertura` and `path`");

/// Reads `artifacts`.
pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Vec<CiArtifact> {
    if field.map_of(report, KEYS).is_none() {
        return Vec::new();
    }
    for key in ["access", "expose_as", "public"] {
        if let Some(ignored) = field.get(key) {
            ignored.warning(report, "has no effect here");
        }
    }
    let expire_in = field.get("expire_in").and_then(|expire| expire_in(&expire, report));
    let texts = |key: &str, report: &mut Report| field.get(key).and_then(|list| list.texts(report)).unwrap_or_default();
    let paths = texts("paths", report);
    let exclude = texts("exclude", report);
    let untracked = field.get("untracked").and_then(|flag| flag.flag(report)).unwrap_or(false);
    let name = field.get("name").and_then(|name| name.text(report));
    let when = field.get("when").and_then(|when| when.one_of(report, WHEN)).unwrap_or_else(|| "on_success".to_owned());
    let mut artifacts = Vec::new();
    if !paths.is_empty() || untracked {
        artifacts.push(CiArtifact {
            artifact_type: "archive".to_owned(),
            format: "zip".to_owned(),
            name,
            paths,
            exclude,
            untracked,
            when,
            expire_in: expire_in.clone(),
        });
    }
    if let Some(reports) = field.get("reports") {
        read_reports(&reports, expire_in.as_deref(), &mut artifacts, report);
    }
    artifacts
}

fn read_reports(field: &Field<'_>, expire_in: Option<&str>, artifacts: &mut Vec<CiArtifact>, report: &mut Report) {
    let mut known: Vec<&str> = REPORTS.iter().map(|(name, ..)| *name).collect();
    known.push("coverage_report");
    let (former, instead) = FORMER;
    known.push(former);
    let Some(map) = field.map_of(report, &known) else { return };
    if let Some(entry) = map.get(former) {
        report.problem(&entry.at, &field.path, &format!("config contains unknown keys: {former}; {instead}"));
    }
    for key in map.keys() {
        let Some(field) = field.get(key) else { continue };
        let entry = if key == "coverage_report" {
            coverage(&field, report)
        } else {
            let kind = REPORTS.iter().find(|(name, ..)| name == key);
            kind.and_then(|(name, format, file)| Some((*name, *format, *file, field.text_or_texts(report)?)))
        };
        if let Some((artifact_type, format, name, paths)) = entry {
            artifacts.push(CiArtifact {
                artifact_type: artifact_type.to_owned(),
                format: format.to_owned(),
                name: Some(name.to_owned()),
                paths,
                exclude: Vec::new(),
                untracked: false,
                when: "always".to_owned(),
                expire_in: expire_in.map(str::to_owned),
            });
        }
    }
}

type Entry = (&'static str, &'static str, &'static str, Vec<String>);

fn coverage(field: &Field<'_>, report: &mut Report) -> Option<Entry> {
    field.map_of(report, &["coverage_format", "path"])?;
    let formats: Vec<&str> = COVERAGE.iter().map(|(name, _)| *name).collect();
    let format = field.get("coverage_format").and_then(|format| format.one_of(report, &formats));
    let path = field.get("path").and_then(|path| path.text(report));
    for key in ["coverage_format", "path"] {
        if !field.has(key) {
            field.problem(report, &format!("config should have `{key}`"));
        }
    }
    let (name, file) = COVERAGE.iter().find(|(name, _)| Some(*name) == format.as_deref())?;
    Some((name, "gzip", file, vec![path?]))
}

fn expire_in(field: &Field<'_>, report: &mut Report) -> Option<String> {
    if let Value::Int(seconds, _) = field.node.value {
        return Some(seconds.to_string());
    }
    let text = field.text(report)?;
    if text != "never" && durations::parse(&text).is_none() {
        field.problem(report, &format!("config should be a duration or `never`; `{text}` is neither"));
    }
    Some(text)
}
