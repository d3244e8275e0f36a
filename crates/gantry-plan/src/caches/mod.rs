//! The caches of a job: which are restored and saved, under which keys, and where they are kept
//! (GitLab Runner 19.4, `shells/abstract.go`).

mod key;
mod links;
mod place;

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_config::RunnerSettings;
use gantry_core::job::{Cache, JobSpec};
use gantry_core::variables::Variables;
use gantry_wire::cache::{
    CacheObject, CachePlace, CacheRemark, CacheRestore, CacheSave, CacheSource, CacheTransfer, RestoreCaches,
    SaveCaches,
};

use crate::PlanError;
use crate::job_settings::{Flags, JobSettings};
use key::{Key, Made, Name};
use place::{Directory, object_name};

pub use links::{Access, CacheRenewal, Links, ObjectWant, Wants};

/// Keys of one job that are looked up. GitLab allows 4 caches with 5 fallback keys each.
const MAX_KEYS: usize = 200;

/// What the caches of a job are made from.
pub(crate) struct CacheArgs<'a> {
    pub(crate) job: &'a JobSpec,
    pub(crate) runner: &'a RunnerSettings,
    pub(crate) settings: &'a JobSettings,
    pub(crate) flags: &'a Flags,
    pub(crate) variables: &'a Variables,
}

/// The caches of a job.
pub(crate) struct Caches<'a> {
    args: CacheArgs<'a>,
    entries: Vec<Entry<'a>>,
    directory: Option<Directory>,
}

/// One cache of a job.
struct Entry<'a> {
    spec: &'a Cache,
    /// Absent if it is empty, or nothing is left of it.
    key: Option<Key>,
    fallbacks: Vec<Key>,
    policy: Policy,
    when: When,
    warnings: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    PullPush,
    Pull,
    Push,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    OnSuccess,
    OnFailure,
    Always,
}

impl<'a> Caches<'a> {
    /// Reads the job's caches. Entries without files are none.
    ///
    /// # Errors
    /// A policy or a condition that does not exist.
    pub(crate) fn read(args: CacheArgs<'a>) -> Result<Self, PlanError> {
        let job = args.job;
        let used = job.cache.iter().filter(|cache| !cache.paths.is_empty() || cache.untracked);
        let entries: Vec<Entry<'_>> = used.map(|cache| entry(&args, cache)).collect::<Result<_, _>>()?;
        let keys: usize = entries.iter().map(|entry| 1 + entry.fallbacks.len()).sum();
        if keys > MAX_KEYS {
            return Err(PlanError::InvalidJob(format!("its caches have {keys} keys; {MAX_KEYS} are possible")));
        }
        let directory = if entries.is_empty() { None } else { Directory::find(args.job, args.runner, args.variables)? };
        Ok(Self { args, entries, directory })
    }

    /// What is needed of the store.
    pub(crate) fn wants(&self, valid_for: Duration) -> Wants {
        let mut objects = Vec::new();
        if self.has_store() {
            for entry in &self.entries {
                let keys = entry.key.iter().chain(&entry.fallbacks);
                if entry.policy != Policy::Push && entry.key.is_some() {
                    objects.extend(keys.flat_map(|key| self.reads(key)));
                }
                if entry.policy != Policy::Pull {
                    objects.extend(entry.key.iter().flat_map(|key| [self.write(key), self.read_of(key, &key.name)]));
                }
            }
        }
        objects.sort();
        objects.dedup();
        Wants { objects, valid_for }
    }

    /// The stage that restores, unless there is nothing to do.
    pub(crate) fn restore(&self, links: &Links) -> Option<RestoreCaches> {
        let caches: Vec<_> = self.kept()?.map(|entry| self.restore_one(entry, links)).collect();
        (!caches.is_empty()).then(|| RestoreCaches { caches, transfer: self.transfer(links) })
    }

    /// The stage that saves, unless there is nothing to do.
    pub(crate) fn save(&self, on_success: bool, links: &Links) -> Option<SaveCaches> {
        let wanted = |entry: &&Entry<'_>| match entry.when {
            When::OnSuccess => on_success,
            When::OnFailure => !on_success,
            When::Always => true,
        };
        let caches: Vec<_> = self.kept()?.filter(wanted).map(|entry| self.save_one(entry, links)).collect();
        (!caches.is_empty()).then(|| SaveCaches { on_success, caches, transfer: self.transfer(links) })
    }

    /// What has to be signed again while the job runs, because the keys of the store end before the
    /// job has to: what it saves. What it restores is fetched as soon as it starts.
    pub(crate) fn renewal(&self, links: &Links, valid_for: Duration) -> Option<CacheRenewal> {
        let life = links.life?;
        let saved = self.entries.iter().filter(|entry| entry.policy != Policy::Pull);
        let keys: BTreeMap<String, String> =
            saved.filter_map(|entry| entry.key.as_ref()).map(|key| (self.write(key).name, key.shown.clone())).collect();
        let objects: Vec<_> = keys.into_iter().map(|(name, key)| CacheObject { name, key }).collect();
        (!objects.is_empty()).then_some(CacheRenewal { objects, life, valid_for })
    }

    /// What the head of the log says.
    pub(crate) fn warning(&self) -> Option<String> {
        (!self.entries.is_empty() && self.kept().is_none()).then(|| {
            format!(
                "`cache` of this job is not kept: this runner has no place for caches. Its operator can set Type in [runners.cache], or mount \
                 a claim or a host path at {}",
                self.args.runner.cache_dir
            )
        })
    }

    fn has_store(&self) -> bool {
        self.args.runner.cache.kind.is_some()
    }

    /// The entries, if there is any place for them.
    fn kept(&self) -> Option<impl Iterator<Item = &Entry<'a>>> {
        (self.has_store() || self.directory.is_some()).then(|| self.entries.iter())
    }

    fn reads(&self, key: &Key) -> Vec<ObjectWant> {
        let names = [Some(&key.name), key.other_name.as_ref()];
        names.into_iter().flatten().map(|name| self.read_of(key, name)).collect()
    }

    fn read_of(&self, key: &Key, name: &Name) -> ObjectWant {
        let CacheArgs { job, runner, .. } = &self.args;
        ObjectWant { name: object_name(job, runner, name), access: Access::Read, key: key.shown.clone() }
    }

    fn write(&self, key: &Key) -> ObjectWant {
        let CacheArgs { job, runner, .. } = &self.args;
        ObjectWant { name: object_name(job, runner, &key.name), access: Access::Write, key: key.shown.clone() }
    }

    fn restore_one(&self, entry: &Entry<'_>, links: &Links) -> CacheRestore {
        let mut remarks = remarks(entry, links);
        let mut sources = Vec::new();
        match &entry.key {
            None => remarks.push(notice("Skipping cache extraction due to empty cache key")),
            Some(key) if entry.policy == Policy::Push => {
                remarks.push(notice(&format!("Not downloading cache {} due to policy", key.shown)));
            }
            Some(key) => {
                sources = [key].into_iter().chain(&entry.fallbacks).map(|key| self.source(key, links)).collect();
            }
        }
        let Cache { paths, untracked, .. } = entry.spec;
        CacheRestore { remarks, sources, paths: paths.clone(), untracked: *untracked }
    }

    fn source(&self, key: &Key, links: &Links) -> CacheSource {
        let requests = self.reads(key).into_iter().filter_map(|want| links.requests.get(&want).cloned());
        let mut places: Vec<CachePlace> = requests.map(CachePlace::Store).collect();
        if let Some(directory) = &self.directory {
            let names = [Some(&key.name), key.other_name.as_ref()].into_iter().flatten();
            places.extend(names.map(|name| CachePlace::File(directory.file(name))));
        }
        CacheSource { key: key.shown.clone(), places }
    }

    fn save_one(&self, entry: &Entry<'_>, links: &Links) -> CacheSave {
        let mut remarks = remarks(entry, links);
        let (mut places, mut now, mut object) = (Vec::new(), None, None);
        match &entry.key {
            None => remarks.push(notice("Skipping cache archiving due to empty cache key")),
            Some(key) if entry.policy == Policy::Pull => {
                remarks.push(notice(&format!("Not uploading cache {} due to policy", key.shown)));
            }
            Some(key) => {
                let write = self.write(key);
                places.extend(links.requests.get(&write).cloned().map(CachePlace::Store));
                object = links.life.map(|_| write.name);
                now = links.requests.get(&self.read_of(key, &key.name)).cloned();
                places.extend(self.directory.as_ref().map(|directory| CachePlace::File(directory.file(&key.name))));
            }
        }
        let Cache { paths, untracked, .. } = entry.spec;
        let key = entry.key.as_ref().map(|key| key.shown.clone()).unwrap_or_default();
        CacheSave { remarks, key, places, now, object, paths: paths.clone(), untracked: *untracked }
    }

    fn transfer(&self, links: &Links) -> CacheTransfer {
        let CacheArgs { runner, settings, flags, .. } = &self.args;
        CacheTransfer {
            store: links.store.clone(),
            timeout_ms: u64::try_from(settings.cache_request_timeout.as_millis()).unwrap_or(u64::MAX),
            ca_pem: links.ca_pem.clone(),
            max_bytes: runner.cache.max_archive_size,
            clean_up: flags.is_on("FF_CLEAN_UP_FAILED_CACHE_EXTRACT"),
        }
    }
}

fn remarks(entry: &Entry<'_>, links: &Links) -> Vec<CacheRemark> {
    let mut remarks: Vec<_> = entry.warnings.iter().cloned().map(CacheRemark::Warning).collect();
    if let Some(problem) = &links.problem {
        remarks.push(CacheRemark::Warning(format!("the runner's cache store cannot be used: {problem}")));
    }
    remarks
}

fn notice(text: &str) -> CacheRemark {
    CacheRemark::Notice(text.to_owned())
}

fn entry<'a>(args: &CacheArgs<'_>, spec: &'a Cache) -> Result<Entry<'a>, PlanError> {
    let CacheArgs { job, flags, variables, .. } = args;
    let hashed = flags.is_on("FF_HASH_CACHE_KEYS");
    let mut warnings = Vec::new();
    let raw = match variables.expand(&spec.key) {
        key if key.is_empty() => key::default_key(&job.job_info.name, &job.git_info.git_ref),
        key => key,
    };
    let mut make = |raw: &str| {
        let Made { key, warning } = key::key(raw, hashed);
        warnings.extend(warning);
        key
    };
    let key = make(&raw);
    let mut fallbacks: Vec<Key> = spec.fallback_keys.iter().filter_map(|key| make(&variables.expand(key))).collect();
    let global = variables.find("CACHE_FALLBACK_KEY").map(|variable| variables.value_of(variable));
    match global.as_ref().map(gantry_core::Secret::expose).filter(|key| !key.is_empty()) {
        Some(key) if key::is_protected(key) => {
            warnings.push(format!("CACHE_FALLBACK_KEY {key:?} not allowed to end in \"-protected\""));
        }
        Some(raw) => fallbacks.extend(make(raw)),
        None => {}
    }
    fallbacks.retain(|fallback| Some(&fallback.name) != key.as_ref().map(|key| &key.name));
    let shown = key.as_ref().map_or(raw.as_str(), |key| key.shown.as_str());
    let policy = match variables.expand(&spec.policy).as_str() {
        "" | "pull-push" => Policy::PullPush,
        "pull" => Policy::Pull,
        "push" => Policy::Push,
        other => {
            let message = format!("unknown cache policy {other} for {shown}: use pull-push, pull or push");
            return Err(PlanError::JobVariable(message));
        }
    };
    let when = match spec.when.as_str() {
        "" | "on_success" => When::OnSuccess,
        "on_failure" => When::OnFailure,
        "always" => When::Always,
        other => {
            let message = format!("cache.when is {other:?}, not on_success, on_failure or always");
            return Err(PlanError::InvalidJob(message));
        }
    };
    Ok(Entry { spec, key, fallbacks, policy, when, warnings })
}
