//! The configuration of a trial's managers: the cluster and the pods of the operator's own entry,
//! and nothing else of it.

use std::path::Path;

use anyhow::{Context as _, bail};
use gantry_config::RunnerSettings;
use gantry_config::edit::{Editor, Value};

use crate::commands::runner_file::{self, env};

/// An entry of nobody: the cluster of the kubeconfig, or that which this process runs in.
const PLAIN: &str = "[[runners]]\n  executor = \"kubernetes\"\n  [runners.kubernetes]\n";

/// What the trial's managers have in common.
pub(super) struct Configuration {
    /// The file of each.
    pub(super) text: String,
    /// Where their pods are.
    pub(super) namespace: String,
    /// Whose their pods are.
    pub(super) fleet: String,
}

impl Configuration {
    /// With the cluster of the entry `runner` in the file at `source`, if it names one.
    ///
    /// # Errors
    /// There is no such entry.
    pub(super) fn make(source: &Path, runner: Option<&str>, namespace: &str, jobs: u32) -> anyhow::Result<Self> {
        let entry = match runner {
            Some(name) => runner_file::entry_of(source, name)?,
            None => PLAIN.to_owned(),
        };
        // Neither another trial nor a real fleet may have it.
        let [fleet, key] = ["chaos", "key"].map(|word| format!("{word}-{:016x}", gantry_core::chance::bits()));
        let mut made = Self { text: entry, namespace: namespace.to_owned(), fleet: fleet.clone() };
        let number = Value::Int(jobs.into());
        made.edit(|editor| {
            set(editor, &["concurrent"], &number)?;
            set(editor, &["check_interval"], &Value::Int(1))?;
            set(editor, &["gantry", "fleet"], &Value::Text(fleet))?;
            set(editor, &["gantry", "ticket_key"], &Value::Text(key))?;
            set_runner(editor, &["name"], "gantry chaos")?;
            editor.set_runner(0, &path(&["limit"]), &number)?;
            editor.set_runner(0, &path(&["request_concurrency"]), &number)?;
            set_runner(editor, &["kubernetes", "namespace"], namespace)?;
            set_runner(editor, &["kubernetes", "namespace_overwrite_allowed"], "")?;
            Ok(())
        })?;
        Ok(made)
    }

    /// From now on the managers take their jobs there.
    pub(super) fn gitlab(&mut self, url: &str, token: &str) {
        // A text that could be edited once can be again.
        let _ = self.edit(|editor| {
            set_runner(editor, &["url"], url)?;
            set_runner(editor, &["token"], token)
        });
    }

    /// Jobs have this image unless they, or the entry, name another.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub(super) fn default_image(&mut self, image: &str) -> anyhow::Result<()> {
        if self.settings()?.kubernetes.image.is_some() {
            return Ok(());
        }
        self.edit(|editor| set_runner(editor, &["kubernetes", "image"], image))
    }

    /// What it says, read as a manager reads it.
    ///
    /// # Errors
    /// It cannot be used; the message has all that is wrong with it.
    pub(super) fn settings(&self) -> anyhow::Result<RunnerSettings> {
        let loaded = gantry_config::load(&self.text, &env).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let problems: Vec<String> =
            loaded.unusable.iter().flat_map(|entry| &entry.errors).map(|problem| problem.message.clone()).collect();
        if !problems.is_empty() {
            bail!("the runner cannot be used: {}", problems.join("; "));
        }
        loaded.settings.runners.into_iter().next().context("there is no runner")
    }

    fn edit(&mut self, change: impl FnOnce(&mut Editor) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut editor = Editor::parse(&self.text)?;
        change(&mut editor)?;
        self.text = editor.text();
        Ok(())
    }
}

fn path(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

fn set(editor: &mut Editor, keys: &[&str], value: &Value) -> anyhow::Result<()> {
    Ok(editor.set(&path(keys), value)?)
}

fn set_runner(editor: &mut Editor, keys: &[&str], text: &str) -> anyhow::Result<()> {
    Ok(editor.set_runner(0, &path(keys), &Value::Text(text.to_owned()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_gives_its_cluster_and_keeps_its_jobs() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let text = "concurrent = 500\n[gantry]\nfleet = \"production\"\n\
            [[runners]]\nname = \"a\"\nurl = \"https://gitlab.example.com\"\ntoken = \"glrt-real\"\nexecutor = \"kubernetes\"\n\
            [runners.kubernetes]\nnamespace = \"ci\"\nnamespace_overwrite_allowed = \".*\"\nhost = \"https://k:6443\"\n\
            [[runners]]\nname = \"b\"\nurl = \"https://other.example.com\"\ntoken = \"t\"\nexecutor = \"kubernetes\"\n";
        std::fs::write(&file, text).unwrap();
        let mut made = Configuration::make(&file, Some("a"), "trial", 7).unwrap();
        made.gitlab("http://127.0.0.1:1", "glrt-simulated");
        for gone in ["glrt-real", "gitlab.example.com", "other.example.com", "production", "\"ci\""] {
            assert!(!made.text.contains(gone), "{gone} is left:\n{}", made.text);
        }
        let settings = made.settings().unwrap();
        assert_eq!(settings.kubernetes.host.as_deref(), Some("https://k:6443"));
        assert_eq!(gantry_plan::namespace(&settings.kubernetes).name, "trial");
        let other = Configuration::make(&file, Some("a"), "trial", 7).unwrap();
        assert_ne!(made.fleet, other.fleet);
        assert!(Configuration::make(&file, Some("c"), "trial", 7).is_err());
        let mut plain = Configuration::make(&file, None, "trial", 7).unwrap();
        plain.gitlab("http://127.0.0.1:1", "t");
        plain.default_image("alpine:latest").unwrap();
        assert_eq!(plain.settings().unwrap().kubernetes.image.as_deref(), Some("alpine:latest"));
        plain.default_image("other").unwrap();
        assert_eq!(plain.settings().unwrap().kubernetes.image.as_deref(), Some("alpine:latest"));
    }
}
