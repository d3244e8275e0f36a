//! Images with files of their own, from whoever can get them: a container engine of this machine.
//! Without a store every image is a name for the host's own tools.

use std::{fmt, path::PathBuf, sync::Arc};

use futures::future::BoxFuture;

/// What gets images.
pub trait ImageStore: fmt::Debug + Send + Sync + 'static {
    /// Looks whether an image is on this machine.
    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Found, ImageError>>;

    /// Gets an image from its registry, also where an older one of this name is here.
    fn pull<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Arc<Image>, ImageError>>;
}

/// Whether an image is on this machine.
#[derive(Debug)]
pub enum Found {
    /// The name stands for the host's tools.
    HostTools,
    /// It is here.
    Image(Arc<Image>),
    /// It is not here.
    Missing,
}

/// An image that has been unpacked, and what its author has said about its containers.
#[derive(Debug, Default)]
pub struct Image {
    /// The directory with its files. Containers do not change it.
    pub root: PathBuf,
    /// Its variables.
    pub env: Vec<(String, String)>,
    /// What its containers run unless their pod has a `command`.
    pub entrypoint: Vec<String>,
    /// What comes behind the entrypoint unless their pod has `args` or a `command`.
    pub command: Vec<String>,
    /// Their user, unless their pod names one.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
    /// Where they start, unless their pod says where.
    pub working_dir: Option<PathBuf>,
}

/// Why there is no image, in a sentence for the user.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ImageError(pub String);
