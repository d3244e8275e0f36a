//! Images: which ones can be pulled, how long that takes, and what kubelet says when it does not
//! work. Every image that is not configured as missing exists; all stand for the host's own tools,
//! unless there is a store of others.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    config::{Config, Login, PrivateImage},
    image_store::{Image, ImageStore},
    pattern::matches,
};

/// The first and the longest wait after a failed pull; it doubles in between. As in kubelet.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// What has to be done before a container can use its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pull {
    /// It is there.
    Present,
    /// It will be there after this time.
    Takes(Duration),
    /// It has just been pulled, which took this time.
    Took(Duration),
    /// It cannot be had; a reason and a message as kubelet gives them.
    Fails {
        reason: String,
        message: String,
        /// How long the attempt takes.
        after: Duration,
    },
}

/// The images of the node.
#[derive(Debug)]
pub(crate) struct Images {
    delays: Vec<(String, Duration)>,
    missing: Vec<String>,
    private: Vec<PrivateImage>,
    pulled: Mutex<HashSet<String>>,
    store: Option<Arc<dyn ImageStore>>,
    /// What the store has given, by name.
    unpacked: Mutex<HashMap<String, Arc<Image>>>,
}

impl Images {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            delays: config.pull_delays.clone(),
            missing: config.missing_images.clone(),
            private: config.private_images.clone(),
            pulled: Mutex::default(),
            store: config.image_store.clone(),
            unpacked: Mutex::default(),
        }
    }

    /// What has images with files of their own.
    pub(crate) fn store(&self) -> Option<&Arc<dyn ImageStore>> {
        self.store.as_ref()
    }

    /// Remembers what containers of an image are made of from now on.
    pub(crate) fn keep(&self, name: &str, image: Arc<Image>) {
        self.unpacked().insert(name.to_owned(), image);
    }

    /// What containers of an image are made of, if not of the host's tools.
    pub(crate) fn of(&self, name: &str) -> Option<Arc<Image>> {
        self.unpacked().get(name).cloned()
    }

    fn unpacked(&self) -> MutexGuard<'_, HashMap<String, Arc<Image>>> {
        self.unpacked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What getting this image takes now, for somebody who can show these logins.
    pub(crate) fn look_up(&self, image: &str, policy: &str, logins: &[Login]) -> Pull {
        if let Some(why) = malformed(image) {
            let message = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format{why}"
            );
            return Pull::Fails { reason: "InvalidImageName".to_owned(), message, after: Duration::ZERO };
        }
        let missing = self.missing.iter().any(|pattern| matches(pattern, image));
        if missing && policy == "Never" {
            return never_pulled(image);
        }
        let delay = self.delays.iter().find(|(pattern, _)| matches(pattern, image)).map(|(_, delay)| *delay);
        if missing {
            let (reason, message) = not_found(image);
            return Pull::Fails { reason: reason.to_owned(), message, after: delay.unwrap_or_default() };
        }
        let private =
            self.private.iter().find(|private| matches(&private.pattern, image)).map(|private| &private.login);
        if policy != "Never" && private.is_some_and(|wanted| !logins.contains(wanted)) {
            let (reason, message) = not_allowed(image);
            return Pull::Fails { reason: reason.to_owned(), message, after: Duration::ZERO };
        }
        let present = self.pulled.lock().unwrap_or_else(PoisonError::into_inner).contains(image);
        match delay {
            Some(delay) if !present => Pull::Takes(delay),
            // A present image of policy `Always` is only compared with the registry, which is
            // quick.
            _ => Pull::Present,
        }
    }

    /// Remembers that an image is on the node.
    pub(crate) fn pulled(&self, image: &str) {
        self.pulled.lock().unwrap_or_else(PoisonError::into_inner).insert(image.to_owned());
    }
}

/// What comes of an image that is not here and must not be pulled.
pub(crate) fn never_pulled(image: &str) -> Pull {
    let message = format!("Container image {image:?} is not present with pull policy of Never");
    Pull::Fails { reason: "ErrImageNeverPull".to_owned(), message, after: Duration::ZERO }
}

/// Reason and message of a pull whose image is not in its registry.
pub(crate) fn not_found(image: &str) -> (&'static str, String) {
    let full = full_name(image);
    let message = format!(
        "rpc error: code = NotFound desc = failed to pull and unpack image {full:?}: failed to resolve reference \
         {full:?}: {full}: not found"
    );
    ("ErrImagePull", message)
}

/// Reason and message of a pull that its registry refuses, as containerd 1.6 has it.
fn not_allowed(image: &str) -> (&'static str, String) {
    let full = full_name(image);
    let (host, rest) = full.split_once('/').unwrap_or(("", &full));
    let tag = rest.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let message = format!(
        "failed to pull and unpack image {full:?}: failed to resolve reference {full:?}: pulling from host {host} failed with status code \
         [manifests {tag}]: 401 Unauthorized"
    );
    ("ErrImagePull", message)
}

/// How long to wait after the n-th failure (from 1).
pub(crate) fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(8);
    (FIRST_BACKOFF * 2_u32.pow(doublings)).min(LONGEST_BACKOFF)
}

/// The image with registry and tag spelled out, as containerd names it.
pub(crate) fn full_name(image: &str) -> String {
    let first = image.split('/').next().unwrap_or("");
    let has_registry = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let mut full = if has_registry {
        image.to_owned()
    } else if image.contains('/') {
        format!("docker.io/{image}")
    } else {
        format!("docker.io/library/{image}")
    };
    if !image.contains('@') && !full.rsplit('/').next().unwrap_or("").contains(':') {
        full.push_str(":latest");
    }
    full
}

/// What is wrong with an image reference, as the end of the sentence.
fn malformed(image: &str) -> Option<&'static str> {
    let name = image.split('@').next().unwrap_or("");
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    let registry_and_path = name.split_once('/');
    let path = match registry_and_path {
        Some((registry, path)) if registry.contains(['.', ':']) || registry == "localhost" => path,
        _ => name,
    };
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte);
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) && path.to_ascii_lowercase().bytes().all(legal) {
        return Some(": repository name must be lowercase");
    }
    let tag_good = tag.is_none_or(|tag| {
        !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    });
    let good =
        !path.is_empty() && path.bytes().all(legal) && !path.starts_with(['/', '-', '.']) && !path.contains("//");
    (!good || !tag_good).then_some("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_judged() {
        let mut config = Config::new(([127, 0, 0, 1], 0).into(), "x");
        config.missing_images = vec!["nope*".into()];
        config.pull_delays = vec![("slow".into(), Duration::from_secs(1))];
        let images = Images::new(&config);
        assert_eq!(images.look_up("ruby:3", "Always", &[]), Pull::Present);
        assert_eq!(images.look_up("slow", "Always", &[]), Pull::Takes(Duration::from_secs(1)));
        images.pulled("slow");
        assert_eq!(images.look_up("slow", "Always", &[]), Pull::Present);
        let reason = |image: &str, policy: &str| match images.look_up(image, policy, &[]) {
            Pull::Fails { reason, .. } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason("nope:1", "Always"), "ErrImagePull");
        assert_eq!(reason("nope:1", "Never"), "ErrImageNeverPull");
        assert_eq!(reason("Ruby:3", "Always"), "InvalidImageName");
        assert_eq!(reason("a b", "Always"), "InvalidImageName");
        let login = Login { user: "me".into(), password: "secret".into() };
        config.private_images = vec![PrivateImage { pattern: "r.io/p*".into(), login: login.clone() }];
        let private = Images::new(&config);
        assert_eq!(private.look_up("r.io/p:1", "Always", &[login]), Pull::Present);
        assert!(matches!(private.look_up("r.io/p:1", "Always", &[]), Pull::Fails { .. }));
        assert_eq!(full_name("ruby"), "docker.io/library/ruby:latest");
        assert_eq!(full_name("r.io:5/a/b:1"), "r.io:5/a/b:1");
        assert!(malformed("registry.gitlab.com/a/b:x86_64-v19.4.0").is_none());
        assert!(malformed("ruby@sha256:0123").is_none());
    }

    #[test]
    fn waits_double() {
        assert_eq!(backoff(1), Duration::from_secs(10));
        assert_eq!(backoff(3), Duration::from_secs(40));
        assert_eq!(backoff(30), Duration::from_secs(300));
    }
}
