//! Fetches and signs what a plan needs of the world: the one place between `gantry_plan::wants` and
//! `gantry_plan::plan`, with a clock and connections. Never decides what a job does.

mod settings;
mod trial;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use gantry_config::RunnerSettings;
use gantry_core::error_chain::chain;
use gantry_core::job::JobSpec;
use gantry_http::{HttpTransport, Options, TlsFiles, Transport};
use gantry_plan::{Access, Context, Links, ObjectWant, Wants};
use gantry_storage::{Link, ObjectRequest, Parts, RoleObserver, Route, Store, StoreError, World};
use gantry_wire::cache::{CacheObject, ObjectRequests, PartsStart, PartsUpload, S3Parts, SignedRequest};
use jiff::Timestamp;

use crate::notices::{CacheStoreUnusable, CachesNotKept, Notice as _};
use crate::redaction::{self, Guard};

pub use trial::{CacheFound, try_cache};

/// How long a store's keys may take before a job begins without its caches: shorter than GitLab
/// waits for a job to be acknowledged.
const TIMEOUT: Duration = Duration::from_secs(45);

/// Requests that are signed at once, where somebody else signs.
const AT_ONCE: usize = 8;

/// What was signed, and for how long it is good where that is shorter than was wanted.
struct Signed {
    requests: BTreeMap<ObjectWant, SignedRequest>,
    life: Option<Duration>,
}

/// What an entry of `[[runners]]` fetches for its jobs.
pub(crate) struct Preparation {
    /// The cache store, if there is one, or what is wrong with its settings.
    store: Option<Result<Store, String>>,
    certificate_directories: Vec<PathBuf>,
    most: Option<u64>,
    /// Keys of the store.
    _guard: Arc<Guard>,
}

impl Preparation {
    /// Asks nobody yet.
    pub(crate) fn new(
        runner: &RunnerSettings,
        certificate_directories: &[PathBuf],
        ca_pem: Option<String>,
        on_role: RoleObserver,
    ) -> Self {
        let world = world(certificate_directories.to_vec(), ca_pem, Some(on_role));
        let store = settings::of(&runner.cache).map(|settings| settings.map(|settings| Store::new(settings, world)));
        if let Some(Err(problem)) = &store {
            CachesNotKept { runner: &runner.name, problem }.say();
        }
        Self {
            store,
            certificate_directories: certificate_directories.to_vec(),
            most: runner.cache.max_archive_size,
            _guard: redaction::guard(None, settings::secrets(&runner.cache)),
        }
    }

    /// What the plan of a job needs. Trouble is no reason for a job to fail: it is told in its log.
    pub(crate) async fn links(&self, job: &JobSpec, runner: &RunnerSettings, context: &Context) -> Links {
        let wants = gantry_plan::wants(job, runner, context);
        let Some(store) = self.store.as_ref().filter(|_| !wants.objects.is_empty()) else { return Links::default() };
        let links = match store {
            Ok(store) => self.sign(store, &wants, context).await,
            Err(problem) => Err(problem.clone()),
        };
        links.unwrap_or_else(|problem| {
            CacheStoreUnusable { job: job.id, problem: &problem }.say();
            Links { problem: Some(problem), ..Links::default() }
        })
    }

    /// Signs anew what saves caches, while their job runs. Says for how long that is good, where it
    /// is not for `valid_for`.
    ///
    /// # Errors
    /// There is no store any more, or no keys for it.
    pub(crate) async fn renewed(
        &self,
        objects: &[CacheObject],
        valid_for: Duration,
    ) -> Result<(Vec<ObjectRequests>, Option<Duration>), String> {
        let store = self.store.as_ref().ok_or("the configuration names none (Type of [runners.cache])")?;
        let want = |object: &CacheObject, access| {
            let CacheObject { name, key } = object.clone();
            ObjectWant { name, access, key }
        };
        let both = objects.iter().flat_map(|object| [want(object, Access::Write), want(object, Access::Read)]);
        let wants = Wants { objects: both.collect(), valid_for };
        let Signed { mut requests, life } = self.signed(store.as_ref().map_err(Clone::clone)?, &wants).await?;
        let mut take = |object, access| requests.remove(&want(object, access)).unwrap_or_default();
        let renewed = objects.iter().map(|object| ObjectRequests {
            object: object.name.clone(),
            put: take(object, Access::Write),
            now: take(object, Access::Read),
        });
        Ok((renewed.collect(), life))
    }

    async fn sign(&self, store: &Store, wants: &Wants, context: &Context) -> Result<Links, String> {
        let Signed { requests, life } = self.signed(store, wants).await?;
        let ca_pem = self.roots(&store.host(), context);
        Ok(Links { store: store.describe(), ca_pem, requests, life, problem: None })
    }

    async fn signed(&self, store: &Store, wants: &Wants) -> Result<Signed, String> {
        let now = Timestamp::now();
        let sign = |want: &ObjectWant| {
            let request = self.request(want, wants.valid_for);
            let want = want.clone();
            async move { Ok::<_, StoreError>((want, store.sign(&request).await?)) }
        };
        let signing = stream::iter(wants.objects.iter().map(sign)).buffered(AT_ONCE).try_collect();
        let links: Vec<(ObjectWant, Link)> = tokio::time::timeout(TIMEOUT, signing)
            .await
            .map_err(|_| format!("its keys were not there within {} s", TIMEOUT.as_secs()))?
            .map_err(|error| chain(&error))?;
        let ends = links.iter().filter_map(|(_, link)| link.ends).min();
        let life = ends.map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default());
        let requests = links.into_iter().map(|(want, link)| (want, request_of(link))).collect();
        Ok(Signed { requests, life: life.filter(|life| *life < wants.valid_for) })
    }

    fn request(&self, want: &ObjectWant, valid_for: Duration) -> ObjectRequest {
        let access = match want.access {
            Access::Read => gantry_storage::Access::Read,
            Access::Write => gantry_storage::Access::Write,
        };
        ObjectRequest { name: want.name.clone(), access, valid_for, key: want.key.clone(), most: self.most }
    }

    /// What jobs trust beside the usual roots: what is configured for GitLab, and the file that is
    /// named after the store's host.
    fn roots(&self, host: &str, context: &Context) -> Option<String> {
        let files = self.certificate_directories.iter().map(|directory| directory.join(format!("{host}.crt")));
        let own = files.filter_map(|file| std::fs::read_to_string(file).ok());
        let all: Vec<String> = context.configured_ca_pem.iter().cloned().chain(own).collect();
        (!all.is_empty()).then(|| all.join("\n"))
    }
}

/// A link as a job gets it.
fn request_of(link: Link) -> SignedRequest {
    let parts = link.parts.map(|parts| match parts {
        Parts::S3(parts) => {
            let gantry_storage::S3Parts { before_number, after_number, signatures, complete, abort } = parts;
            PartsUpload::S3(S3Parts { before_number, after_number, signatures, complete, abort })
        }
        Parts::Gcs { url, headers } => PartsUpload::Gcs(PartsStart { url, headers }),
        Parts::Azure => PartsUpload::Azure,
    });
    SignedRequest { url: link.url, headers: link.headers, most_bytes: link.most, parts }
}

/// This process and its network.
fn world(directories: Vec<PathBuf>, ca_pem: Option<String>, on_role: Option<RoleObserver>) -> World {
    World {
        on_role,
        variable: Arc::new(|name| std::env::var(name).ok()),
        connect: Arc::new(move |url, way| {
            let files = TlsFiles { directories: directories.clone(), ..TlsFiles::default() };
            let options = Options { ca_pem: ca_pem.clone(), files, ..Options::default() };
            let options = match way {
                Route::Usual => options,
                Route::Direct => Options { proxy: gantry_http::ProxySettings::Direct, ..options },
            };
            Ok(Arc::new(HttpTransport::new(url, options)?) as Arc<dyn Transport>)
        }),
    }
}
