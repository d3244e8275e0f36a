//! `--list` and `--dry-run`: the plan of a pipeline, on the terminal. Pure.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::style::Style;

const BOLD: &str = "\x1b[1m";
const YELLOW: &str = "\x1b[33m";
const DIM: &str = "\x1b[2m";

/// A plan as the admin API shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Plan {
    name: Option<String>,
    stages: Vec<String>,
    jobs: Vec<PlannedJob>,
    left_out: Vec<LeftOut>,
}

#[derive(Debug, Deserialize)]
struct PlannedJob {
    name: String,
    stage: String,
    when: String,
    start_in_seconds: Option<u64>,
    needs: Option<Vec<Need>>,
    dependencies: Option<Vec<String>>,
    not_here: Option<String>,
    allow_failure: bool,
    image: Option<String>,
    #[serde(default)]
    services: Vec<Service>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    variables: Vec<(String, String)>,
    environment: Option<Environment>,
    resource_group: Option<String>,
    release: Option<String>,
    manual_confirmation: Option<String>,
    trigger: Option<Trigger>,
    #[serde(default)]
    before_script: Vec<String>,
    #[serde(default)]
    script: Vec<String>,
    #[serde(default)]
    after_script: Vec<String>,
    timeout_seconds: Option<u64>,
    #[serde(default)]
    retries: u32,
    #[serde(default)]
    caches: Vec<Cache>,
    #[serde(default)]
    artifacts: Vec<Artifact>,
    place: String,
}

#[derive(Debug, Deserialize)]
struct Need {
    job: String,
    #[serde(default)]
    artifacts: bool,
}

/// A service as the file has it.
#[derive(Debug, Deserialize)]
pub(super) struct Service {
    pub(super) name: String,
    #[serde(default)]
    pub(super) alias: Option<String>,
    #[serde(default)]
    pub(super) entrypoint: Vec<String>,
    #[serde(default)]
    pub(super) command: Vec<String>,
}

impl Service {
    /// The program that its container runs, unless that is what an image has.
    pub(super) fn program(&self) -> Option<&str> {
        self.entrypoint.first().or(self.command.first()).map(String::as_str)
    }
}

/// The pipeline that a job starts.
#[derive(Debug, Deserialize)]
struct Trigger {
    include: serde_json::Value,
    depends: bool,
    #[serde(default)]
    inputs: Vec<(String, String)>,
    forwards_yaml_variables: bool,
    forwards_pipeline_variables: bool,
}

impl Trigger {
    /// What the child is made of, and whether the job waits for it.
    fn summary(&self) -> String {
        let files = match &self.include {
            serde_json::Value::Array(files) => files.iter().map(source).collect::<Vec<_>>().join(", "),
            one => source(one),
        };
        format!("{files} ({})", if self.depends { "the job ends as it does" } else { "nobody waits for it" })
    }
}

/// A file that a child is made of. Its names are the keywords of `trigger:include`.
fn source(file: &serde_json::Value) -> String {
    let text = |key: &str| file[key].as_str();
    let at_ref = text("ref").map(|git_ref| format!(" at {git_ref}")).unwrap_or_default();
    match (text("artifact"), text("job"), text("project"), &file["file"]) {
        (Some(path), Some(job), ..) => format!("{path} of the artifacts of {job}"),
        (_, _, Some(project), path) => {
            let paths = path.as_array().map_or_else(|| vec![path], |paths| paths.iter().collect());
            let paths: Vec<&str> = paths.into_iter().filter_map(|path| path.as_str()).collect();
            format!("{} of {project}{at_ref}", paths.join(", "))
        }
        _ => {
            let named = ["local", "remote", "template", "component"].into_iter().find_map(text);
            file.as_str().or(named).map_or_else(|| file.to_string(), str::to_owned)
        }
    }
}

#[derive(Debug, Deserialize)]
struct Environment {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Cache {
    key: String,
    paths: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Artifact {
    #[serde(rename = "type")]
    kind: String,
    paths: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct LeftOut {
    name: String,
    stage: String,
    why: String,
}

/// One line per job, and why others are left out.
pub(super) fn list(plan: &Plan, style: Style) -> String {
    let mut text = title(plan);
    let rows: Vec<[String; 4]> = ordered(plan)
        .map(|job| {
            [job.name.clone(), job.stage.clone(), when(job), needs(job).unwrap_or_else(|| "earlier stages".to_owned())]
        })
        .collect();
    let widths: Vec<usize> = (0..3)
        .map(|column| {
            let title = ["job", "stage", "when"][column].len();
            rows.iter().map(|row| row[column].chars().count()).chain([title]).max().unwrap_or(title)
        })
        .collect();
    let line = |row: [&str; 4]| {
        let [job, stage, when, needs] = row;
        format!("{job:<0$}  {stage:<1$}  {when:<2$}  {needs}", widths[0], widths[1], widths[2]).trim_end().to_owned()
    };
    let _ = writeln!(text, "{}", style.paint(BOLD, &line(["job", "stage", "when", "needs"])));
    for ([name, stage, when, needs], job) in rows.iter().zip(ordered(plan)) {
        let row = line([name, stage, when, needs]);
        let _ = writeln!(text, "{}", if job.not_here.is_some() { style.paint(YELLOW, &row) } else { row });
    }
    let not_here: Vec<String> =
        ordered(plan).filter_map(|job| Some(format!("{}: {}", job.name, job.not_here.as_ref()?))).collect();
    section(&mut text, "Not run here:", &not_here);
    let children: Vec<String> =
        ordered(plan).filter_map(|job| Some(format!("{}: {}", job.name, job.trigger.as_ref()?.summary()))).collect();
    section(&mut text, "Child pipelines:", &children);
    let services: Vec<String> = ordered(plan)
        .filter(|job| !job.services.is_empty())
        .map(|job| format!("{}: {}", job.name, job.services.iter().map(service).collect::<Vec<_>>().join(", ")))
        .collect();
    section(&mut text, "Services:", &services);
    let left_out: Vec<String> =
        plan.left_out.iter().map(|job| format!("{} ({}): {}", job.name, job.stage, job.why)).collect();
    section(&mut text, "Left out of this pipeline:", &left_out);
    text
}

/// A service and the name under which jobs reach it.
fn service(service: &Service) -> String {
    match &service.alias {
        Some(alias) => format!("{} as {alias}", service.name),
        None => service.name.clone(),
    }
}

/// Everything about each job.
pub(super) fn dry_run(plan: &Plan, style: Style) -> String {
    let mut text = title(plan);
    for job in ordered(plan) {
        let _ = writeln!(text, "{} {}", style.paint(BOLD, &job.name), style.paint(DIM, &format!("({})", job.place)));
        for (key, value) in facts(job) {
            let _ = writeln!(text, "  {key:<13} {value}");
        }
        for (key, lines) in
            [("before_script", &job.before_script), ("script", &job.script), ("after_script", &job.after_script)]
        {
            for (index, line) in lines.iter().flat_map(|line| line.trim_end().lines()).enumerate() {
                let key = if index == 0 { key } else { "" };
                let _ = writeln!(text, "  {key:<13} {} {line}", style.paint(DIM, "$"));
            }
        }
        text.push('\n');
    }
    let left_out: Vec<String> =
        plan.left_out.iter().map(|job| format!("{} ({}): {}", job.name, job.stage, job.why)).collect();
    section(&mut text, "Left out of this pipeline:", &left_out);
    text
}

fn title(plan: &Plan) -> String {
    plan.name.as_ref().map_or_else(String::new, |name| format!("Pipeline: {name}\n\n"))
}

/// The jobs by stage; inside of one as in the file.
fn ordered(plan: &Plan) -> impl Iterator<Item = &PlannedJob> {
    let known = plan.stages.iter().flat_map(|stage| plan.jobs.iter().filter(move |job| job.stage == *stage));
    known.chain(plan.jobs.iter().filter(|job| !plan.stages.contains(&job.stage)))
}

fn when(job: &PlannedJob) -> String {
    let when = match (job.when.as_str(), job.start_in_seconds) {
        (_, _) if job.not_here.is_some() => "not here".to_owned(),
        ("delayed", Some(seconds)) => format!("after {seconds} s"),
        (when, _) => when.to_owned(),
    };
    if job.allow_failure && job.when != "manual" { format!("{when}, may fail") } else { when }
}

fn needs(job: &PlannedJob) -> Option<String> {
    let needs = job.needs.as_ref()?;
    let name = |need: &Need| if need.artifacts { need.job.clone() } else { format!("{} (no artifacts)", need.job) };
    Some(if needs.is_empty() { "nothing".to_owned() } else { needs.iter().map(name).collect::<Vec<_>>().join(", ") })
}

fn facts(job: &PlannedJob) -> Vec<(&'static str, String)> {
    let list = |list: &[String]| (!list.is_empty()).then(|| list.join(", "));
    let mut facts = vec![("stage", job.stage.clone()), ("when", when(job))];
    let more = [
        ("not here", job.not_here.clone()),
        ("needs", Some(needs(job).unwrap_or_else(|| "earlier stages".to_owned()))),
        ("dependencies", job.dependencies.as_ref().map(|names| names.join(", "))),
        ("image", job.image.clone()),
        ("tags", list(&job.tags)),
        ("environment", job.environment.as_ref().map(|environment| environment.name.clone())),
        ("group", job.resource_group.clone()),
        ("release of", job.release.clone()),
        ("asks", job.manual_confirmation.clone()),
        ("child", job.trigger.as_ref().map(Trigger::summary)),
        ("timeout", job.timeout_seconds.map(|seconds| format!("{seconds} s"))),
        ("retries", (job.retries > 0).then(|| job.retries.to_string())),
    ];
    facts.extend(more.into_iter().filter_map(|(key, value)| Some((key, value?))));
    for one in &job.services {
        facts.push(("service", service(one)));
        let words = |words: &[String]| (!words.is_empty()).then(|| words.join(" "));
        let more = [("entrypoint", words(&one.entrypoint)), ("command", words(&one.command))];
        facts.extend(more.into_iter().filter_map(|(key, value)| Some((key, format!("{} (of the service)", value?)))));
    }
    if let Some(trigger) = &job.trigger {
        facts.extend(trigger.inputs.iter().map(|(key, value)| ("input", format!("{key}={value}"))));
        let given = [
            (trigger.forwards_yaml_variables, "those of the job"),
            (trigger.forwards_pipeline_variables, "those of the pipeline"),
        ];
        let given: Vec<&str> = given.into_iter().filter_map(|(is_given, what)| is_given.then_some(what)).collect();
        facts.push(("variables", if given.is_empty() { "none are given".to_owned() } else { given.join(", ") }));
    }
    facts.extend(job.caches.iter().map(|cache| ("cache", format!("{}: {}", cache.key, cache.paths.join(", ")))));
    facts.extend(job.artifacts.iter().map(|one| ("artifacts", format!("{}: {}", one.kind, one.paths.join(", ")))));
    facts.extend(job.variables.iter().map(|(key, value)| ("variable", format!("{key}={value}"))));
    facts
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let job = |name: &str, stage: &str| {
            serde_json::json!({
                "name": name, "stage": stage, "when": "on_success", "allow_failure": false, "place": "f:1",
                "script": ["one", "two\nthree"], "variables": [["A", "b"]],
            })
        };
        let mut test = job("test", "test");
        test["needs"] = serde_json::json!([{"job": "build", "artifacts": false}]);
        let mut far = job("far", "test");
        far["not_here"] = "why".into();
        far["when"] = "manual".into();
        let mut down = job("down", "test");
        down["trigger"] = serde_json::json!({
            "include": [{"artifact": "child.yml", "job": "build"}, {"local": "more.yml"}], "depends": true,
            "inputs": [["of", "x"]], "forwards_yaml_variables": true, "forwards_pipeline_variables": false,
        });
        let mut build = job("build", "build");
        build["services"] = serde_json::json!([
            {"name": "postgres:16", "alias": "db", "entrypoint": [], "command": ["postgres", "-p", "1"]},
            {"name": "redis:7", "alias": null, "entrypoint": [], "command": []},
        ]);
        serde_json::from_value(serde_json::json!({
            "name": "Of main", "stages": ["build", "test"], "jobs": [test, far, down, build],
            "left_out": [{"name": "docs", "stage": "test", "why": "none of its rules holds (f:9)"}],
        }))
        .unwrap()
    }

    #[test]
    fn a_list_says_what_runs_and_what_does_not() {
        let expected = "\
Pipeline: Of main

job    stage  when        needs
build  build  on_success  earlier stages
test   test   on_success  build (no artifacts)
far    test   not here    earlier stages
down   test   on_success  earlier stages

Not run here:
  far: why

Child pipelines:
  down: child.yml of the artifacts of build, more.yml (the job ends as it does)

Services:
  build: postgres:16 as db, redis:7

Left out of this pipeline:
  docs (test): none of its rules holds (f:9)
";
        assert_eq!(list(&plan(), Style::Plain), expected);
    }

    #[test]
    fn a_dry_run_shows_the_scripts() {
        let shown = dry_run(&plan(), Style::Plain);
        assert!(shown.contains("  script        $ one\n                $ two\n                $ three\n"), "{shown}");
        for line in [
            "child         child.yml of the artifacts of build, more.yml (the job ends as it does)",
            "input         of=x",
            "variables     those of the job",
            "service       postgres:16 as db",
            "command       postgres -p 1 (of the service)",
        ] {
            assert!(shown.lines().any(|shown| shown.trim() == line), "{line} is not in {shown}");
        }
        assert!(shown.contains("  variable      A=b\n") && !shown.contains('\x1b'), "{shown}");
    }

    #[test]
    fn the_files_of_a_child_are_named_as_in_the_file() {
        for (include, shown) in [
            (serde_json::json!("child.yml"), "child.yml"),
            (serde_json::json!({"local": "child.yml"}), "child.yml"),
            (
                serde_json::json!({"project": "a/b", "file": ["x.yml", "y.yml"], "ref": "v1"}),
                "x.yml, y.yml of a/b at v1",
            ),
            (serde_json::json!({"template": "T.gitlab-ci.yml"}), "T.gitlab-ci.yml"),
            (serde_json::json!({"odd": 1}), "{\"odd\":1}"),
        ] {
            assert_eq!(source(&include), shown);
        }
    }
}
