//! The mirror of the project's repository that a node keeps for the jobs of the project
//! (`git_mirror`): what of a job's commit is there already does not come from GitLab again.
//!
//! A mirror outlives pods, and hooks of jobs run in the container that mounts it, so nothing in it
//! is trusted. It holds data only, packs of objects and names of commits: the repository that git
//! works with lies in the agent's own volume, where its settings are, and only its objects are in
//! the mirror. Those are never lent to the job (`--reference`, alternates): git takes an object of
//! its own store for what its name says. They are sent to the job's repository as by another
//! server, which names every object anew by its content, so that what was planted, cut or exchanged
//! is not what the commit asks for, and the fetch fails. After that the job fetches from GitLab as
//! it would without a mirror.

mod lock;
mod store;

use std::path::Path;

use gantry_core::Ending;
use gantry_wire::plan::Sources;
use tokio::time::{Instant, timeout, timeout_at};

use self::lock::Lock;
use self::store::{Rest, Store};
use super::git::Git;
use crate::limits::{MIRROR_PACKS, MIRROR_REST, MIRROR_TIME};
use crate::stages::StageContext;
use crate::tasks;

/// What holds the objects of the mirror in the job's repository until its own fetch does.
const SEED: &str = "refs/gantry/mirror";

/// Puts what the mirror has of the job's commit into the repository in the project's directory,
/// and what it lacks into the mirror first. Whether anything came of it: a mirror that cannot be
/// used is one line in the log.
pub(super) async fn seed(context: &StageContext, git: &Git<'_>, sources: &Sources) -> bool {
    let mirror = Mirror { context, git, sources, until: Instant::now() + MIRROR_TIME };
    let why = match timeout(MIRROR_TIME, mirror.seed()).await {
        Ok(Ok(())) => return true,
        Ok(Err(why)) => why,
        Err(_) => too_slow(),
    };
    let text =
        format!("The git mirror of this node is of no use to this job: {why}. Everything is fetched from GitLab");
    context.outlet.warning(text).await;
    false
}

fn too_slow() -> String {
    format!("it took more than {} minutes", MIRROR_TIME.as_secs() / 60)
}

/// Lets go of the mirror's objects once the job's own fetch has what it wants.
pub(super) async fn release(git: &Git<'_>) -> Result<(), Ending> {
    git.succeeds(&["update-ref", "-d", SEED]).await.map(drop)
}

struct Mirror<'a> {
    context: &'a StageContext,
    git: &'a Git<'a>,
    sources: &'a Sources,
    /// When the job gives it up.
    until: Instant,
}

impl Mirror<'_> {
    async fn seed(&self) -> Result<(), String> {
        let lock = Lock::shared(&self.context.layout.mirror_dir()).await?;
        let store = self.open().await?;
        let (lock, store) = if self.has_commit(&store).await {
            (lock, store)
        } else {
            self.look_for_rest(&store)?;
            // Others may read, and one may write, before this job does.
            drop(lock);
            let lock = Lock::exclusive(&self.context.layout.mirror_dir()).await?;
            let store = self.open().await?;
            if !self.has_commit(&store).await {
                self.look_for_rest(&store)?;
                let store = self.with_room(store).await?;
                self.update(&store).await?;
                return self.use_it(lock.into_shared().await?, store).await;
            }
            (lock.into_shared().await?, store)
        };
        self.use_it(lock, store).await
    }

    async fn use_it(&self, lock: Lock, store: Store) -> Result<(), String> {
        let Err(why) = self.send(&store).await else { return Ok(()) };
        drop(lock);
        self.renew(&store).await;
        Err(why)
    }

    /// What was too much for an earlier job is so for this one.
    fn look_for_rest(&self, store: &Store) -> Result<(), String> {
        let why = match store.rest() {
            None => return Ok(()),
            Some(Rest::Slow) => format!("fetching into it {}", too_slow().trim_start_matches("it ")),
            Some(Rest::Large) if self.sources.mirror_limit.is_none() => return Ok(()),
            Some(Rest::Large) => too_large(self.sources.mirror_limit),
        };
        Err(format!("{why}, within the last {} hours", MIRROR_REST.as_secs() / 3600))
    }

    /// A mirror that has become larger than it may begins anew.
    async fn with_room(&self, store: Store) -> Result<Store, String> {
        if self.sources.mirror_limit.is_none_or(|most| store.size() <= most) {
            return Ok(store);
        }
        store.clear();
        self.open().await
    }

    async fn open(&self) -> Result<Store, String> {
        let (mirror, agent) = (self.context.layout.mirror_dir(), self.context.layout.agent_dir());
        let format = self.sources.object_format.clone();
        let opened = tasks::blocking(move || Store::open(&mirror, &agent, &format)).await.and_then(|opened| opened);
        opened.map_err(|error| {
            format!("it cannot be opened, which takes a helper container that may write to it ({error})")
        })
    }

    async fn has_commit(&self, store: &Store) -> bool {
        let commit = format!("{}^{{commit}}", self.sources.sha);
        self.git.attempt(&[&store.git_dir(), "cat-file", "-e", &commit]).await.is_ok()
    }

    /// Fetches what the job wants into the mirror, with all that lies before it: only whole
    /// histories have something in common with those that come after them.
    async fn update(&self, store: &Store) -> Result<(), String> {
        self.context.outlet.notice("Fetching changes into the git mirror of this node...").await;
        let refspecs = refspecs(&self.sources.refspecs);
        let git_dir = store.git_dir();
        let mut fetch = vec![git_dir.as_str(), "fetch", "--quiet", "--no-tags", "--no-write-fetch-head"];
        fetch.push(&self.sources.url);
        fetch.extend(refspecs.iter().map(String::as_str));
        let (was_empty, began) = (store.packs() == 0, Instant::now());
        let Ok(fetched) = timeout_at(self.until, self.git.attempt(&fetch)).await else {
            // Where others took most of the time the next job may have enough.
            if began.elapsed() >= MIRROR_TIME / 2 {
                store.take_rest(Rest::Slow);
            }
            return Err(too_slow());
        };
        if was_empty && self.sources.mirror_limit.is_some_and(|most| store.size() > most) {
            store.clear();
            store.take_rest(Rest::Large);
            return Err(too_large(self.sources.mirror_limit));
        }
        if let Err(why) = fetched {
            // A network that breaks off is no reason to throw a mirror away.
            if self.git.attempt(&[&git_dir, "rev-list", "--objects", "--quiet", "--all"]).await.is_err() {
                store.clear();
            }
            return Err(why);
        }
        if !self.has_commit(store).await {
            return Err(format!("GitLab does not give it the commit {}", self.sources.sha));
        }
        let list = ["for-each-ref", "--sort=-creatordate", "--format=%(objectname)"];
        let listed = self.git.answer(&[&[git_dir.as_str()], &list[..]].concat()).await;
        let listed = listed.map_err(|ending| ending.verdict().message)?;
        store
            .keep_tips(&self.sources.sha, listed)
            .map_err(|error| format!("the names of its commits cannot be written ({error})"))?;
        if store.packs() > MIRROR_PACKS {
            // Whether it works or not, all objects are there; an older git does not know the flag.
            let _ = self.git.attempt(&[&git_dir, "repack", "--geometric=2", "-d", "--quiet"]).await;
        }
        Ok(())
    }

    /// Sends the commit from the mirror to the job's repository.
    async fn send(&self, store: &Store) -> Result<(), String> {
        let (url, wanted) = (store.url(), format!("+{}:{SEED}", self.sources.sha));
        let depth = self.sources.depth.to_string();
        let mut fetch = vec!["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"];
        if self.sources.depth > 0 {
            fetch.extend(["--depth", &depth]);
        }
        fetch.extend([url.as_str(), &wanted]);
        self.git.attempt(&fetch).await
    }

    /// A mirror that does not give what it has is made anew by the next job, unless that has
    /// happened meanwhile.
    async fn renew(&self, store: &Store) {
        let lock = Lock::exclusive(&self.context.layout.mirror_dir()).await;
        if lock.is_ok() && store.is_the_same() {
            store.clear();
        }
        drop(lock);
    }
}

fn too_large(limit: Option<u64>) -> String {
    format!("the history alone is larger than {} bytes (git_mirror_limit)", limit.unwrap_or_default())
}

/// What the mirror fetches: all that the job's own refspecs name, under the server's names.
fn refspecs(of_job: &[String]) -> Vec<String> {
    let sources = of_job.iter().filter_map(|refspec| {
        let source = refspec.trim_start_matches('+').split(':').next()?;
        let is_commit = matches!(source.len(), 40 | 64) && source.bytes().all(|byte| byte.is_ascii_hexdigit());
        match source {
            commit if is_commit => Some(format!("+{commit}:refs/gantry/{commit}")),
            name if name.starts_with("refs/") => Some(format!("+{name}:{name}")),
            _ => None,
        }
    });
    sources.collect()
}

/// Whether the job's repository begins with the mirror: where an earlier job has left one, that has
/// more in common, and a second try is for trouble that may come from the mirror.
pub(super) fn is_wanted(context: &StageContext, sources: &Sources, has_repository: bool) -> bool {
    sources.mirror && !has_repository && context.attempt == 1
}

/// The name of a directory with objects of one format.
fn format_name(object_format: &str) -> &str {
    if object_format.is_empty() { "sha1" } else { object_format }
}

/// A path as git's own transport takes it.
fn file_url(path: &Path) -> String {
    format!("file://{}", path.display())
}

#[cfg(test)]
mod tests {
    use super::refspecs;

    #[test]
    fn the_mirror_has_the_server_s_names() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let of_job = [
            "+refs/heads/main:refs/remotes/origin/main",
            "refs/tags/*:refs/tags/*",
            &format!("+{commit}:refs/pipelines/7"),
            "^refs/heads/x",
            "main",
        ];
        let commits = format!("+{commit}:refs/gantry/{commit}");
        let expected = ["+refs/heads/main:refs/heads/main", "+refs/tags/*:refs/tags/*", &commits];
        assert_eq!(refspecs(&of_job.map(str::to_owned)), expected);
    }
}
