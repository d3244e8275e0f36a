//! Making, looking at and removing one pod. A pod is always meant by name and uid, so that a
//! successor of the same name is never touched.

use std::{collections::BTreeMap, time::Duration};

use gantry_core::Ending;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Resource as _,
    api::{DeleteParams, PostParams, Preconditions},
    core::Request,
};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    Cluster,
    error::{ApiError, Fault},
    limits,
    observed::ObservedPod,
    pages,
    quota::Quota,
    retry,
    room::Making,
};

/// Labels and annotations of ours begin with this.
pub(crate) const OURS: &str = "gantry.dev/";

/// Those that change while the pod is there, and so do not say which pod it is.
const CHANGING: [&str; 2] = ["gantry.dev/owner", "gantry.dev/heartbeat"];

/// One pod, and no other of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

impl PodRef {
    /// Of an object that the API server returned; `None` if it lacks a name or a uid.
    pub fn of(pod: &ObservedPod) -> Option<Self> {
        Some(Self { name: pod.metadata.name.clone()?, uid: pod.metadata.uid.clone()? })
    }

    /// The owner of an object that goes with the pod.
    pub(crate) fn as_owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            ..OwnerReference::default()
        }
    }
}

/// What there is under a pod's name.
#[derive(Debug)]
pub enum PodNow {
    /// Nothing: proof that the pod is gone.
    Gone,
    /// Another pod of the same name: the same proof.
    Replaced,
    /// The pod.
    Present(Box<ObservedPod>),
    /// The question could not be answered.
    Unknown(ApiError),
}

/// What is wrong where it is the runner who asks.
const NOT_ACCEPTED: &str = "the runner's credentials for the cluster are not accepted: have they expired?";

/// Why there is no pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The API server, a quota or an admission plugin said no.
    #[error("the API server refused the pod: {message}")]
    Refused {
        /// Its words.
        message: String,
    },
    /// The API server does not know who asks.
    #[error("the API server refused the pod: {message}; {NOT_ACCEPTED}")]
    Unauthenticated {
        /// Its words.
        message: String,
    },
    /// A pod of that name exists and is not the one that was to be made.
    #[error(
        "a pod named {name:?} exists in namespace {namespace:?} and was not made for this job; delete it or retry the job"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Where.
        namespace: String,
    },
    /// The API server cannot be asked as it is configured.
    #[error("{message}")]
    Misconfigured {
        /// Why not, and which setting to look at.
        message: String,
    },
    /// The API server could not be asked, or could not do it, for as long as we tried.
    #[error("the pod could not be created within {seconds} s (see poll_timeout and prepare_timeout): {message}")]
    Unreachable {
        /// How long it was tried.
        seconds: u64,
        /// How the last try failed.
        message: String,
    },
}

impl CreateError {
    /// What this means for the job.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Refused { message } => Ending::PodRefused { message: message.clone() },
            Self::Unauthenticated { message } => Ending::PodRefused { message: format!("{message}; {NOT_ACCEPTED}") },
            Self::NameTaken { .. } => Ending::PodRefused { message: self.to_string() },
            Self::Misconfigured { .. } | Self::Unreachable { .. } => {
                Ending::ClusterUnreachable { message: self.to_string() }
            }
        }
    }
}

/// Why a pod is still there. Its `activeDeadlineSeconds` will end it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pod {name:?} could not be deleted: {message}")]
pub struct DeleteError {
    /// Its name.
    pub name: String,
    /// Which kind of failure the last try was.
    pub fault: Fault,
    /// The API server's words.
    pub message: String,
}

/// What a try to create came to.
enum Created {
    Here(PodRef),
    /// A pod of ours with that name is being deleted: wait for it to go.
    Leaving,
    Taken,
}

impl Cluster {
    /// Creates `pod`, once: if the name is taken by a pod with the same `gantry.dev/` labels and
    /// annotations, an earlier try has succeeded without our hearing of it. Failures that may pass
    /// are tried again until `deadline`; `tell` hears of each.
    pub async fn create_pod(
        &self,
        pod: &Pod,
        deadline: Instant,
        mut tell: impl FnMut(&ApiError),
    ) -> Result<PodRef, CreateError> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let limit = deadline.saturating_duration_since(Instant::now());
        let mut last = ApiError::timed_out(limit);
        let tell = |error: &ApiError| {
            last.clone_from(error);
            tell(error);
        };
        let made = timeout_at(deadline, self.create_in_turn(pod, &name, deadline, tell)).await;
        let created = match made {
            Ok(created) => created.map_err(|error| create_error(error, limit))?,
            Err(_) => return Err(create_error(last, limit)),
        };
        match created {
            Created::Here(pod) => Ok(pod),
            Created::Leaving | Created::Taken => {
                Err(CreateError::NameTaken { name, namespace: self.namespace().to_owned() })
            }
        }
    }

    /// Makes the pod once there is a place for it, and shows what it waits for meanwhile.
    async fn create_in_turn(
        &self,
        pod: &Pod,
        name: &str,
        deadline: Instant,
        mut tell: impl FnMut(&ApiError),
    ) -> Result<Created, ApiError> {
        let mut making = Making::begin(self.room());
        let labels = pod.metadata.labels.as_ref();
        if let Some(value) = labels.and_then(|labels| labels.get(limits::BOUNDED_LABEL)) {
            self.wait_for_place(&mut making, value, deadline, &mut tell).await?;
        }
        let mut tell = |error: &ApiError| {
            making.refused(error);
            tell(error);
        };
        let mut backoff = retry::backoff(limits::BACKOFF_MOST);
        let persistence = self.persistence();
        loop {
            match retry::until((persistence, deadline), &mut tell, || self.create_once(pod, name)).await? {
                Created::Leaving if Instant::now() < deadline => {
                    sleep_until(Instant::now() + backoff.next_spread_pause()).await;
                }
                created => return Ok(created),
            }
        }
    }

    async fn create_once(&self, pod: &Pod, name: &str) -> Result<Created, ApiError> {
        let error = match retry::once(self.post(pod)).await {
            Ok(made) => {
                self.registry().made(&made);
                return created(&made);
            }
            Err(error) => error,
        };
        if !error.is_already_exists() {
            return Err(passing(error));
        }
        let Some(found) = retry::once(self.pods().get_opt(name)).await? else {
            return Err(ApiError { fault: Fault::Server, ..error });
        };
        if !same_marks(pod, &found) {
            return Ok(Created::Taken);
        }
        if found.metadata.deletion_timestamp.is_some() { Ok(Created::Leaving) } else { created(&found) }
    }

    async fn post(&self, pod: &Pod) -> kube::Result<ObservedPod> {
        let body = serde_json::to_vec(pod).map_err(kube::Error::SerdeError)?;
        let request = Request::new(Pod::url_path(&(), Some(self.namespace())));
        let request = request.create(&PostParams::default(), body).map_err(kube::Error::BuildRequest)?;
        self.client().request(request).await
    }

    /// Deletes `pod` and nothing else; that it is gone already is success. `grace_seconds` replaces
    /// the pod's own grace period. Failures that may pass are tried again for
    /// [`crate::Persistence::removal`].
    pub async fn delete_pod(&self, pod: &PodRef, grace_seconds: Option<u32>) -> Result<(), DeleteError> {
        let deadline = Instant::now() + self.persistence().removal;
        let result =
            retry::until((self.persistence(), deadline), |_| {}, || self.delete_once(pod, grace_seconds)).await;
        result.map_err(|error| delete_error(&pod.name, error))
    }

    pub(crate) async fn delete_once(&self, pod: &PodRef, grace_seconds: Option<u32>) -> Result<(), ApiError> {
        let mut params = DeleteParams::background()
            .preconditions(Preconditions { uid: Some(pod.uid.clone()), resource_version: None });
        params.grace_period_seconds = grace_seconds;
        match retry::once(self.pods().delete(&pod.name, &params)).await {
            Ok(_) => Ok(()),
            Err(error) if error.fault == Fault::Gone => Ok(()),
            Err(error) if error.fault == Fault::Conflict => self.deleted_despite(pod, error).await,
            Err(error) => Err(error),
        }
    }

    /// All pods that match the label selector, straight from the API server: what adoption starts
    /// from. Tried once.
    pub async fn list_pods(&self, selector: &str) -> Result<Vec<ObservedPod>, ApiError> {
        Ok(list(self.pods(), selector).await?.0)
    }

    /// A conflict means that the uid is another's, so that ours is gone; or that somebody was
    /// changing the pod just then.
    async fn deleted_despite(&self, pod: &PodRef, conflict: ApiError) -> Result<(), ApiError> {
        match self.get_pod(pod).await {
            PodNow::Gone | PodNow::Replaced => Ok(()),
            PodNow::Present(_) => Err(ApiError { fault: Fault::Server, ..conflict }),
            PodNow::Unknown(error) => Err(error),
        }
    }

    /// Looks at `pod` once, by GET.
    pub async fn get_pod(&self, pod: &PodRef) -> PodNow {
        look(self.pods(), pod).await
    }
}

/// All pods of `selector`, and the version at which that was so.
pub(crate) async fn list(pods: &Api<ObservedPod>, selector: &str) -> Result<(Vec<ObservedPod>, String), ApiError> {
    let client = pods.clone().into_client();
    pages::all(&client, ("pods", pods.resource_url()), Request::list, selector).await
}

pub(crate) async fn look(pods: &Api<ObservedPod>, pod: &PodRef) -> PodNow {
    match retry::once(pods.get_opt(&pod.name)).await {
        Ok(None) => PodNow::Gone,
        Ok(Some(found)) if found.metadata.uid.as_ref() == Some(&pod.uid) => PodNow::Present(Box::new(found)),
        Ok(Some(_)) => PodNow::Replaced,
        Err(error) => PodNow::Unknown(error),
    }
}

/// What a refused creation is, seen by who can wait: a quota has room when other pods have gone,
/// and who says when to come again is to be asked again.
fn passing(error: ApiError) -> ApiError {
    if error.quota() == Some(Quota::UsedUp) {
        let retry_after = error.retry_after.or(Some(limits::QUOTA_RETRY));
        return ApiError { fault: Fault::Throttled, retry_after, ..error };
    }
    let fault = match error.fault {
        // A conflict that is not about the name is a quota that was being updated by somebody else
        // (Kubernetes API): it passes.
        Fault::Conflict => Fault::Server,
        Fault::Forbidden | Fault::Refused if error.retry_after.is_some() => Fault::Throttled,
        fault => fault,
    };
    ApiError { fault, ..error }
}

fn created(made: &ObservedPod) -> Result<Created, ApiError> {
    let pod = PodRef::of(made).ok_or_else(|| {
        ApiError::without_answer(Fault::Garbled, "the API server returned a pod without a uid".to_owned())
    })?;
    Ok(Created::Here(pod))
}

fn create_error(error: ApiError, limit: Duration) -> CreateError {
    let ApiError { fault, message, .. } = error;
    match fault {
        fault if fault.is_transient() => {
            CreateError::Unreachable { seconds: (limit + Duration::from_millis(500)).as_secs(), message }
        }
        Fault::Misconfigured => CreateError::Misconfigured { message },
        Fault::Unauthenticated => CreateError::Unauthenticated { message },
        _ => CreateError::Refused { message },
    }
}

pub(crate) fn delete_error(name: &str, error: ApiError) -> DeleteError {
    DeleteError { name: name.to_owned(), fault: error.fault, message: error.message }
}

/// Whether all our marks on `wanted` are on `found`, and there is at least one.
pub(crate) fn same_marks(wanted: &Pod, found: &ObservedPod) -> bool {
    let ours = |marks: &Option<BTreeMap<String, String>>| -> Vec<(String, String)> {
        let is_lasting = |key: &str| key.starts_with(OURS) && !CHANGING.contains(&key);
        let marks = marks.iter().flatten().filter(|(key, _)| is_lasting(key));
        marks.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let has = |marks: &Option<BTreeMap<String, String>>, (key, value): &(String, String)| {
        marks.as_ref().and_then(|marks| marks.get(key)) == Some(value)
    };
    let labels = ours(&wanted.metadata.labels);
    let annotations = ours(&wanted.metadata.annotations);
    !(labels.is_empty() && annotations.is_empty())
        && labels.iter().all(|mark| has(&found.metadata.labels, mark))
        && annotations.iter().all(|mark| has(&found.metadata.annotations, mark))
}
