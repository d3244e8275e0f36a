//! Inputs of a job's definition: `${{ job.inputs.name }}` in some of its texts becomes the value of
//! an input (GitLab Runner 19.4, `common/spec/inputs.go`). A job without inputs is left as it is,
//! whatever its texts look like.

mod expression;

use std::cell::Cell;
use std::collections::BTreeSet;

use gantry_config::RunnerSettings;
use gantry_core::feature_flags::{self, parse_bool};
use gantry_core::job::{Image, Input, JobSpec};
use serde_json::{Map, Value};

use self::expression::{Expression, cut};
use crate::PlanError;
use crate::environment::MAX_EXPANDED;

const FLAG: &str = "FF_ENABLE_JOB_INPUTS_INTERPOLATION";

/// What begins and ends an expression.
const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// Most bytes that inputs put into a job, in all of its texts together: what is larger could not be
/// sent to its pod, and a few kilobytes of expressions about one large input must not become
/// gigabytes in a manager that serves other jobs too.
const MOST_PUT: usize = MAX_EXPANDED;

/// Steps whose scripts hold expressions.
const STEPS: [&str; 2] = ["script", "after_script"];

/// What is wrong with an expression about inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputProblem {
    /// It cannot be read.
    Parse,
    /// It has no value.
    Evaluation,
    /// Its value must not be shown.
    Sensitive,
}

impl InputProblem {
    /// The reference's word for it, in its metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Evaluation => "evaluation",
            Self::Sensitive => "sensitive_unsupported",
        }
    }
}

/// A job with its inputs in place.
#[derive(Debug, PartialEq)]
pub(crate) struct Interpolated {
    pub(crate) job: JobSpec,
    /// How many of its texts had expressions.
    pub(crate) texts: u64,
}

/// The job with its inputs in place; nothing if there are none, or they are not wanted.
///
/// # Errors
/// An input is not what it says, an expression cannot be read or has no value, its value must not
/// be shown, or the job would become too large.
pub(crate) fn interpolate(job: &JobSpec, runner: &RunnerSettings) -> Result<Option<Interpolated>, PlanError> {
    if job.inputs.is_empty() || !is_wanted(job, runner) {
        return Ok(None);
    }
    let inputs = Inputs::read(&job.inputs)?;
    let (mut job, mut texts) = (job.clone(), 0);
    let mut put = |what: &str, text: &mut String| {
        texts += u64::from(inputs.put_into(what, text)?);
        Ok(())
    };
    for step in job.steps.iter_mut().filter(|step| STEPS.contains(&step.name.as_str())) {
        step.script.iter_mut().try_for_each(|line| put(&step.name, line))?;
    }
    image("image", &mut job.image, &mut put)?;
    for service in &mut job.services {
        image("services", service, &mut put)?;
    }
    for artifact in &mut job.artifacts {
        let texts = [&mut artifact.name, &mut artifact.when, &mut artifact.expire_in].into_iter();
        let mut texts = texts.chain(&mut artifact.paths).chain(&mut artifact.exclude);
        texts.try_for_each(|text| put("artifacts", text))?;
    }
    for cache in &mut job.cache {
        let texts = [&mut cache.key, &mut cache.policy, &mut cache.when].into_iter();
        let mut texts = texts.chain(&mut cache.paths).chain(&mut cache.fallback_keys);
        texts.try_for_each(|text| put("cache", text))?;
    }
    Ok(Some(Interpolated { job, texts }))
}

/// The flag decides before variables are expanded, because images are variables too.
fn is_wanted(job: &JobSpec, runner: &RunnerSettings) -> bool {
    let of_job = || {
        let variable = job.variables.iter().rfind(|variable| variable.key == FLAG)?;
        parse_bool(variable.value.expose())
    };
    let default = feature_flags::find(FLAG).is_none_or(|flag| flag.default);
    runner.feature_flags.get(FLAG).copied().or_else(of_job).unwrap_or(default)
}

fn image(
    what: &str,
    image: &mut Image,
    put: &mut impl FnMut(&str, &mut String) -> Result<(), PlanError>,
) -> Result<(), PlanError> {
    let user = image.executor_opts.kubernetes.user.as_mut().map(|user| &mut user.0);
    let texts = [&mut image.name].into_iter().chain(user);
    let mut texts = texts.chain(&mut image.command).chain(&mut image.entrypoint).chain(&mut image.pull_policy);
    texts.try_for_each(|text| put(what, text))
}

/// The inputs of a job by name.
struct Inputs {
    values: Map<String, Value>,
    sensitive: BTreeSet<String>,
    /// Bytes that they may still put into the job.
    room: Cell<usize>,
}

impl Inputs {
    fn read(list: &[Input]) -> Result<Self, PlanError> {
        let mut inputs = Self { values: Map::new(), sensitive: BTreeSet::new(), room: Cell::new(MOST_PUT) };
        for input in list {
            let (key, kind, content) = (&input.key, input.value.kind.as_str(), &input.value.content.0);
            let fits = match content {
                Value::String(_) => kind == "string",
                Value::Number(_) => kind == "number",
                Value::Bool(_) => kind == "boolean",
                Value::Array(_) => kind == "array",
                Value::Object(_) => kind == "struct",
                Value::Null => false,
            };
            if key.is_empty() || !fits {
                let (key, kind) = (cut(key), cut(kind));
                return Err(PlanError::InvalidJob(format!("its input {key:?} has a value that is no {kind:?}")));
            }
            if input.value.sensitive {
                inputs.sensitive.insert(key.clone());
            }
            inputs.values.insert(key.clone(), content.clone());
        }
        Ok(inputs)
    }

    /// Puts values in the place of the expressions of a text, and says whether it has any.
    /// `what` says where the text stands.
    fn put_into(&self, what: &str, text: &mut String) -> Result<bool, PlanError> {
        if !text.contains(OPEN) {
            return Ok(false);
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, behind)) = rest.split_once(OPEN) {
            out.push_str(before);
            let problem = |expression: &str, (problem, words): (InputProblem, String)| {
                let shown = cut(expression.trim());
                let message = format!("{what} of the job has {OPEN} {shown} {CLOSE}, and {words}");
                PlanError::Input { problem, message }
            };
            let Some(length) = expression::length(behind, CLOSE) else {
                let line = behind.lines().next().unwrap_or_default();
                return Err(problem(line, (InputProblem::Parse, format!("it does not end with {CLOSE}"))));
            };
            let (inside, after) = behind.split_at(length);
            let expression = Expression::read(inside).map_err(|words| (InputProblem::Parse, words));
            let value = expression.and_then(|expression| self.value(&expression));
            let value = value.map_err(|what| problem(inside, what))?;
            self.take_room(value.len())?;
            out.push_str(&value);
            rest = after.strip_prefix(CLOSE).unwrap_or(after);
        }
        out.push_str(rest);
        *text = out;
        Ok(true)
    }

    fn take_room(&self, size: usize) -> Result<(), PlanError> {
        let left = self.room.get().checked_sub(size).ok_or_else(|| {
            let most = MOST_PUT / 1024 / 1024;
            PlanError::InvalidJob(format!("its inputs would put more than {most} MiB into its scripts and settings"))
        })?;
        self.room.set(left);
        Ok(())
    }

    fn value(&self, expression: &Expression) -> Result<String, (InputProblem, String)> {
        let secret = self.sensitive.iter().find(|name| expression.touches(name));
        if let Some(name) = secret {
            let name = cut(name);
            let words = format!("input {name:?} is sensitive: its value may stand in no script or setting of the job");
            return Err((InputProblem::Sensitive, words));
        }
        expression.text(&self.values).map_err(|words| (InputProblem::Evaluation, words))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(extra: &Value) -> JobSpec {
        let mut job = json!({"inputs": [
            {"key": "age", "value": {"type": "number", "content": 41}},
            {"key": "name", "value": {"type": "string", "content": "a \"b\" $C"}},
            {"key": "fast", "value": {"type": "boolean", "content": true}},
            {"key": "list", "value": {"type": "array", "content": ["x", {"deep": 2.5}]}},
            {"key": "my-tag", "value": {"type": "string", "content": "v1"}},
            {"key": "token", "value": {"type": "string", "content": "hunter2", "sensitive": true}},
        ]});
        job.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(job).unwrap()
    }

    fn script(text: &str) -> Result<String, String> {
        let job = job(&json!({"steps": [{"name": "script", "script": [text]}]}));
        let done = interpolate(&job, &RunnerSettings::default()).map_err(|error| error.to_string())?.unwrap();
        Ok(done.job.steps[0].script[0].clone())
    }

    #[test]
    fn values_stand_in_the_place_of_expressions() {
        for (text, expected) in [
            ("no expression ${{", None),
            ("echo ${{ job.inputs.age }} ${{job.inputs.name}}!", Some("echo 41 a \"b\" $C!")),
            ("${{ job.inputs.fast }}${{ job.inputs.list[0] }}", Some("truex")),
            ("${{ job.inputs.list[1].deep }}", Some("2.5")),
            ("${{ str(job.inputs.age) }} ${{ job.inputs[\"my-tag\"] }}", Some("41 v1")),
            ("${{ job.inputs.my-tag }} ${{ \"}}\" }} ${{ 'it' }}", Some("v1 }} it")),
            ("${{ job.inputs.list }}", Some("[\"x\",{\"deep\":2.5}]")),
            ("$${{ job.inputs.age }} ${NAME} {{ x }}", Some("$41 ${NAME} {{ x }}")),
        ] {
            assert_eq!(script(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_has_no_value_fails_the_job_and_says_why() {
        for (text, words) in [
            ("${{ job.inputs.nobody }}", "there is no \"nobody\""),
            ("${{ job.inputs.list[7] }}", "there is no element 7"),
            ("${{ job.inputs.age.x }}", "a number has no \"x\""),
            ("${{ env.HOME }}", "only `job` is known"),
            ("${{ length(job.inputs.list) }}", "there is no function \"length\""),
            ("${{ job.inputs. }}", "a name is missing"),
            ("${{ job.inputs.age + 1 }}", "\"+ 1\" cannot be read"),
            ("${{ }}", "it is empty"),
            ("${{ job.inputs.age", "does not end with }}"),
            ("${{ job.inputs.token }}", "\"token\" is sensitive"),
            ("${{ job.inputs[\"token\"] }}", "\"token\" is sensitive"),
            ("${{ str(job.inputs) }}", "\"token\" is sensitive"),
        ] {
            let error = script(text).unwrap_err();
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn problems_have_the_reference_s_names() {
        for (text, label) in [
            ("${{ job.inputs. }}", "parse"),
            ("${{ job.inputs.age", "parse"),
            ("${{ job.inputs.nobody }}", "evaluation"),
            ("${{ job.inputs.token }}", "sensitive_unsupported"),
        ] {
            let job = job(&json!({"steps": [{"name": "script", "script": [text]}]}));
            match interpolate(&job, &RunnerSettings::default()) {
                Err(PlanError::Input { problem, .. }) => assert_eq!(problem.label(), label, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_inputs_put_in_is_limited_for_the_whole_job() {
        let large = "x".repeat(MOST_PUT / 4);
        let job = |script: Vec<&str>| -> JobSpec {
            serde_json::from_value(json!({
                "inputs": [{"key": "a", "value": {"type": "string", "content": large}}],
                "steps": [{"name": "script", "script": script}],
            }))
            .unwrap()
        };
        let interpolate = |script| interpolate(&job(script), &RunnerSettings::default());
        let twice = "${{job.inputs.a}}${{job.inputs.a}}";
        assert!(interpolate(vec![twice, twice]).is_ok());
        let Err(PlanError::InvalidJob(message)) = interpolate(vec![twice, twice, "${{job.inputs.a}}"]) else {
            panic!("more than a job may have")
        };
        assert_eq!(message, "its inputs would put more than 16 MiB into its scripts and settings");
    }

    #[test]
    fn errors_quote_no_more_than_the_beginning() {
        let long = "y".repeat(10_000);
        for text in [
            format!("${{{{ {long} }}}}"),
            format!("${{{{ {long}"),
            format!("${{{{ {long}( }}}}"),
            format!("${{{{ job.inputs.age + {long} }}}}"),
            format!("${{{{ job.inputs.{long} }}}}"),
            format!("${{{{ job.inputs.age.{long} }}}}"),
            format!("${{{{ job..{long} }}}}"),
            format!("${{{{ {} }}}}", "1".repeat(10_000) + "."),
        ] {
            let error = script(&text).unwrap_err();
            assert!(error.len() < 500 && error.contains('…'), "{error}");
        }
        let input = json!({"key": long, "value": {"type": long, "content": 1}});
        let job: JobSpec = serde_json::from_value(json!({"inputs": [input]})).unwrap();
        let error = interpolate(&job, &RunnerSettings::default()).unwrap_err().to_string();
        assert!(error.len() < 500, "{error}");
    }

    /// The fields of the reference, and no others.
    #[test]
    fn where_expressions_are_read() {
        let x = "${{ job.inputs.age }}";
        let image = json!({"name": x, "alias": x, "command": [x], "entrypoint": [x], "pull_policy": [x],
            "executor_opts": {"kubernetes": {"user": x}}, "variables": [{"key": "A", "value": x}]});
        let job = job(&json!({
            "steps": [{"name": "script", "script": [x]}, {"name": "release", "script": [x]}],
            "image": image, "services": [image], "variables": [{"key": "B", "value": x}],
            "artifacts": [{"name": x, "paths": [x], "exclude": [x], "when": x, "expire_in": x, "artifact_type": x}],
            "cache": [{"key": x, "policy": x, "paths": [x], "when": x, "fallback_keys": [x]}],
        }));
        let Interpolated { job: done, texts } = interpolate(&job, &RunnerSettings::default()).unwrap().unwrap();
        let (image, artifact, cache) = (&done.services[0], &done.artifacts[0], &done.cache[0]);
        assert_eq!(done.image, *image);
        let user = image.executor_opts.kubernetes.user.as_ref().unwrap();
        let expanded = [
            &done.steps[0].script[0],
            &image.name,
            &image.command[0],
            &image.entrypoint[0],
            &image.pull_policy[0],
            &user.0,
            &artifact.name,
            &artifact.paths[0],
            &artifact.exclude[0],
            &artifact.when,
            &artifact.expire_in,
            &cache.key,
            &cache.policy,
            &cache.paths[0],
            &cache.when,
            &cache.fallback_keys[0],
        ];
        assert!(expanded.iter().all(|text| *text == "41"), "{expanded:?}");
        // The image has five texts of its own.
        assert_eq!(texts, 16 + 5);
        let left = [
            &done.steps[1].script[0],
            &image.aliases,
            &artifact.artifact_type,
            &image.variables[0].value.expose().to_owned(),
            &done.variables[0].value.expose().to_owned(),
        ];
        assert!(left.iter().all(|text| *text == x), "{left:?}");
    }

    #[test]
    fn without_inputs_or_by_the_flag_nothing_is_touched() {
        let plain = JobSpec::default();
        assert_eq!(interpolate(&plain, &RunnerSettings::default()), Ok(None));
        let mut runner = RunnerSettings::default();
        runner.feature_flags.insert(FLAG.to_owned(), false);
        assert_eq!(interpolate(&job(&json!({})), &runner), Ok(None));
        let off = job(&json!({"variables": [{"key": FLAG, "value": "false"}]}));
        assert_eq!(interpolate(&off, &RunnerSettings::default()), Ok(None));
    }

    #[test]
    fn inputs_are_what_they_say() {
        for value in [
            json!({"type": "number", "content": "1"}),
            json!({"type": "string"}),
            json!({"type": "date", "content": "x"}),
        ] {
            let job: JobSpec = serde_json::from_value(json!({"inputs": [{"key": "a", "value": value}]})).unwrap();
            assert!(matches!(interpolate(&job, &RunnerSettings::default()), Err(PlanError::InvalidJob(_))), "{value}");
        }
    }
}
