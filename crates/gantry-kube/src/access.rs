//! How to reach an API server: from the configuration, from inside a pod, or from a kubeconfig.
//! Reads files and runs a kubeconfig's plugin, sends nothing. Proxies are those of the environment,
//! by the rules that GitLab's client follows too, but a kubeconfig's own comes first.

use std::path::{Path, PathBuf};

use gantry_core::Secret;
use gantry_core::error_chain::chain;
use gantry_core::proxy::Proxies;
use gantry_http::roots;
use kube::{
    Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::{connector, target::Target};

/// Where the API server is and who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// As the keys `host`, `ca_file`, `bearer_token`, `cert_file` and `key_file` say.
    Remote(RemoteAccess),
    /// From inside a pod, with its service account. Token and CA are read again when they are
    /// renewed.
    InCluster,
    /// From a kubeconfig, plugins for credentials included.
    Kubeconfig {
        /// The file; otherwise `KUBECONFIG`, otherwise `~/.kube/config`.
        path: Option<PathBuf>,
        /// The context; otherwise the current one.
        context: Option<String>,
    },
}

/// An API server given by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteAccess {
    /// URL, or a bare `host[:port]`, which means https.
    pub host: String,
    /// The only authorities to trust, in PEM; read again when the file changes. Otherwise the
    /// system's and the bundled ones.
    pub ca_file: Option<PathBuf>,
    /// A bearer token.
    pub bearer_token: Option<Secret>,
    /// The client's certificate, in PEM; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The client's key, in PEM; needs `cert_file`.
    pub key_file: Option<PathBuf>,
}

/// Why there is no way to talk to an API server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// `host` is not an address.
    #[error("host {host:?} is not the URL of an API server (such as https://10.0.0.1:6443): {message}")]
    Host {
        /// As configured.
        host: String,
        /// What is wrong with it.
        message: String,
    },
    /// A file cannot be used.
    #[error("{key} {path:?} cannot be used: {message}", path = path.display())]
    File {
        /// The configuration key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not, and what it should hold.
        message: String,
    },
    /// One of two keys that belong together is missing.
    #[error("cert_file and key_file belong together, and {missing} is not set")]
    Pair {
        /// The missing one.
        missing: &'static str,
    },
    /// There is no service account here.
    #[error(
        "this process does not seem to run in a pod with a service account: {message} (set host in [runners.kubernetes], or give a \
         kubeconfig)"
    )]
    InCluster {
        /// What was looked for.
        message: String,
    },
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig {file} cannot be used: {message}")]
    Kubeconfig {
        /// Which one.
        file: String,
        /// Why not.
        message: String,
    },
    /// The pieces do not make a client.
    #[error("cannot set up the connection to the API server: {message}")]
    Client {
        /// Why not.
        message: String,
    },
}

/// Where Kubernetes puts a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The files that a client for `access` depends on.
pub(crate) fn files(access: &Access) -> Vec<PathBuf> {
    match access {
        Access::Remote(remote) => {
            [&remote.ca_file, &remote.cert_file, &remote.key_file].into_iter().flatten().cloned().collect()
        }
        Access::InCluster => ["ca.crt", "token"].map(|name| Path::new(SERVICE_ACCOUNT).join(name)).into(),
        Access::Kubeconfig { path, .. } => {
            let parsed = read_kubeconfig(path.as_deref()).unwrap_or_default();
            let clusters = parsed.clusters.iter().filter_map(|named| named.cluster.as_ref());
            let users = parsed.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
            let of_users = users.flat_map(|user| [&user.client_certificate, &user.client_key, &user.token_file]);
            let named = clusters.map(|cluster| &cluster.certificate_authority).chain(of_users);
            kubeconfig_files(path.as_deref()).into_iter().chain(named.flatten().map(PathBuf::from)).collect()
        }
    }
}

/// Where an access leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTarget {
    /// The API server: scheme, host and port.
    pub server: String,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The namespace of the context, or of this pod.
    pub namespace: String,
}

/// Where `access` leads. Asks nobody but files.
///
/// # Errors
/// The files cannot be used.
pub async fn place(access: &Access) -> Result<AccessTarget, ConnectError> {
    let config = config(access).await?;
    let url = &config.cluster_url;
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    Ok(AccessTarget { server: address(url), host, port, namespace: config.default_namespace })
}

async fn config(access: &Access) -> Result<Config, ConnectError> {
    match access {
        Access::Remote(remote) => remote_config(remote.clone()).await,
        Access::InCluster => in_cluster_config(),
        Access::Kubeconfig { path, context } => kubeconfig(path.clone(), context.clone()).await,
    }
}

/// A client for `access`, and what to say when it does not work.
pub(crate) async fn client(access: &Access) -> Result<(Client, Target), ConnectError> {
    install_crypto();
    let mut target = target(access);
    let mut config = config(access).await?;
    target.url = address(&config.cluster_url);
    config.root_cert = match config.root_cert.take() {
        // Nothing is verified by them.
        _ if config.accept_invalid_certs => None,
        configured => configured.map(|configured| usable(configured, &target)).transpose()?,
    };
    let client = connector::client(config).await.map_err(|error| ConnectError::Client { message: chain(&error) })?;
    Ok((client, target))
}

/// Authorities without those that are damaged: one of them would make the library refuse all.
fn usable(mut configured: Vec<Vec<u8>>, target: &Target) -> Result<Vec<Vec<u8>>, ConnectError> {
    let all = configured.len();
    configured.retain(|der| roots::is_usable(&CertificateDer::from(der.as_slice())));
    let Target { ca_from, ca_advice, .. } = target;
    let remark = roots_damaged(all - configured.len(), all);
    if configured.is_empty() {
        let message = if all == 0 { "there is no certificate".to_owned() } else { remark };
        return Err(ConnectError::Client { message: format!("{ca_from}: {message}: {ca_advice}") });
    }
    if configured.len() < all {
        tracing::warn!("{ca_from}: {remark}");
    }
    Ok(configured)
}

fn roots_damaged(damaged: usize, all: usize) -> String {
    format!("{damaged} of {all} certificates cannot be used")
}

/// Where the pieces of an access come from.
fn target(access: &Access) -> Target {
    match access {
        Access::Remote(remote) => match &remote.ca_file {
            None => Target::default(),
            Some(path) => Target {
                ca_from: format!("the authorities in ca_file {}", path.display()),
                ca_advice: "put the CA certificate of the cluster there".to_owned(),
                ..Target::default()
            },
        },
        Access::InCluster => Target {
            host_from: "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT of this pod".to_owned(),
            ca_from: "the authorities of this pod's service account".to_owned(),
            ca_advice: "set host and ca_file in [runners.kubernetes]".to_owned(),
            ..Target::default()
        },
        Access::Kubeconfig { path, .. } => {
            let file = path
                .as_ref()
                .map_or_else(|| "the kubeconfig".to_owned(), |path| format!("the kubeconfig {}", path.display()));
            Target {
                host_from: format!("the cluster's server in {file}"),
                ca_from: format!("the authorities in {file}"),
                ca_advice: "set certificate-authority-data of the cluster there".to_owned(),
                cert_from: format!("the user's client certificate in {file}"),
                ..Target::default()
            }
        }
    }
}

/// Scheme, host and port: what an error may show of a URL.
fn address(url: &http::Uri) -> String {
    let scheme = url.scheme_str().unwrap_or("https");
    let port = url.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{}{port}", url.host().unwrap_or_default())
}

/// rustls asks for one process-wide provider; whoever comes first sets the only one we ship.
fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

async fn remote_config(remote: RemoteAccess) -> Result<Config, ConnectError> {
    let bad_host = |message: String| ConnectError::Host { host: remote.host.clone(), message };
    let url = if remote.host.contains("://") { remote.host.clone() } else { format!("https://{}", remote.host) };
    let url: http::Uri = url.parse().map_err(|error| bad_host(format!("{error}")))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
        return Err(bad_host("it needs a host and the scheme https or http".to_owned()));
    }
    let mut config = Config::new(url);
    config.proxy_url = proxy(&config.cluster_url)?;
    if let Some(path) = remote.ca_file {
        config.root_cert = Some(authorities("ca_file", &path).await?);
    }
    config.auth_info = AuthInfo {
        token: remote.bearer_token.filter(|token| !token.is_empty()).map(|token| token.expose().to_owned().into()),
        ..AuthInfo::default()
    };
    match (remote.cert_file, remote.key_file) {
        (None, None) => {}
        (Some(_), None) => return Err(ConnectError::Pair { missing: "key_file" }),
        (None, Some(_)) => return Err(ConnectError::Pair { missing: "cert_file" }),
        (Some(cert), Some(key)) => {
            check_certificates("cert_file", &cert).await?;
            read("key_file", &key).await?;
            config.auth_info.client_certificate = Some(utf8("cert_file", cert)?);
            config.auth_info.client_key = Some(utf8("key_file", key)?);
        }
    }
    Ok(config)
}

fn utf8(key: &'static str, path: PathBuf) -> Result<String, ConnectError> {
    path.into_os_string().into_string().map_err(|path| ConnectError::File {
        key,
        path: path.into(),
        message: "its name is not UTF-8".to_owned(),
    })
}

async fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    tokio::fs::read(path).await.map_err(|error| ConnectError::File {
        key,
        path: path.to_owned(),
        message: error.to_string(),
    })
}

async fn check_certificates(key: &'static str, path: &Path) -> Result<(), ConnectError> {
    let pem = read(key, path).await?;
    let problem = match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => "it holds no certificate in PEM form".to_owned(),
        Ok(_) => return Ok(()),
        Err(error) => format!("it is not a list of certificates in PEM form: {error}"),
    };
    Err(ConnectError::File { key, path: path.to_owned(), message: problem })
}

/// The certificates of a file that can verify others; what is damaged in it is said.
async fn authorities(key: &'static str, path: &Path) -> Result<Vec<Vec<u8>>, ConnectError> {
    let pem = read(key, path).await?;
    let (found, damaged) = roots::of_pem(&pem);
    let remark = roots_damaged(damaged, found.len() + damaged);
    if found.is_empty() {
        let message = if damaged == 0 { "it holds no certificate in PEM form".to_owned() } else { remark };
        return Err(ConnectError::File { key, path: path.to_owned(), message });
    }
    if damaged > 0 {
        tracing::warn!("{key} {}: {remark}", path.display());
    }
    Ok(found.iter().map(|certificate| certificate.to_vec()).collect())
}

fn in_cluster_config() -> Result<Config, ConnectError> {
    let mut config = Config::incluster().map_err(|error| ConnectError::InCluster { message: chain(&error) })?;
    config.proxy_url = proxy(&config.cluster_url)?;
    // A client is made anew when the file changes (`renewal.rs`); the library would read it by
    // itself, and refuse all of it for one damaged certificate.
    config.root_cert_file = None;
    Ok(config)
}

/// The environment's proxy for the API server, if there is one.
fn proxy(server: &http::Uri) -> Result<Option<http::Uri>, ConnectError> {
    let proxies = Proxies::from_environment(&|name| std::env::var(name).ok());
    proxy_of(&proxies, server)
}

fn proxy_of(proxies: &Proxies, server: &http::Uri) -> Result<Option<http::Uri>, ConnectError> {
    let scheme = server.scheme_str().unwrap_or("https");
    let port = server.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
    let Some(proxy) = proxies.of(scheme, server.host().unwrap_or_default(), port) else { return Ok(None) };
    // Its text can hold a password.
    let unusable = |_| ConnectError::Client {
        message: format!("the proxy of the environment for {scheme} is not a URL; write http://host:port"),
    };
    proxy.expose().parse().map(Some).map_err(unusable)
}

async fn kubeconfig(path: Option<PathBuf>, context: Option<String>) -> Result<Config, ConnectError> {
    let file =
        path.as_ref().map_or_else(|| "(KUBECONFIG or ~/.kube/config)".to_owned(), |path| path.display().to_string());
    let failed = |error: &KubeconfigError| ConnectError::Kubeconfig { file: file.clone(), message: chain(error) };
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let parsed = without_empty_authorities(read_kubeconfig(path.as_deref()).map_err(|error| failed(&error))?);
    let own = own_proxy(&parsed, options.context.as_deref());
    let mut config = Config::from_custom_kubeconfig(parsed, &options).await.map_err(|error| failed(&error))?;
    config.proxy_url = match own {
        Some(own) => {
            let message = "its proxy-url is not a URL".to_owned();
            Some(own.parse().map_err(|_| ConnectError::Kubeconfig { file: file.clone(), message })?)
        }
        None => proxy(&config.cluster_url)?,
    };
    Ok(config)
}

fn read_kubeconfig(path: Option<&Path>) -> Result<Kubeconfig, KubeconfigError> {
    match path {
        Some(path) => Kubeconfig::read_from(path),
        None => merged(kubeconfig_files(None)),
    }
}

/// Authorities that a generator has left empty are not set, as with kubectl; the library would
/// trust nobody.
fn without_empty_authorities(mut parsed: Kubeconfig) -> Kubeconfig {
    for cluster in parsed.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        cluster.certificate_authority_data.take_if(|data| data.is_empty());
    }
    parsed
}

/// What several files say together. As with kubectl, one that does not exist says nothing, unless
/// there is no other.
fn merged(mut paths: Vec<PathBuf>) -> Result<Kubeconfig, KubeconfigError> {
    let first = paths.first().cloned();
    // What exists and cannot be looked at is an error when it is read.
    paths.retain(|path| path.try_exists().unwrap_or(true));
    if paths.is_empty() {
        paths.push(first.ok_or(KubeconfigError::FindPath)?);
    }
    let mut all = Kubeconfig::default();
    for path in paths {
        all = all.merge(Kubeconfig::read_from(path)?)?;
    }
    Ok(all)
}

/// The variable that names kubeconfigs, and where one is in the home of a user without it.
pub const KUBECONFIG: &str = "KUBECONFIG";
/// See [`KUBECONFIG`].
pub const USUAL_KUBECONFIG: &str = ".kube/config";

/// Where a kubeconfig is read from: several files may be merged.
fn kubeconfig_files(path: Option<&Path>) -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    match (path, variable(KUBECONFIG), variable("HOME")) {
        (Some(path), ..) => vec![path.to_owned()],
        (None, Some(list), _) => std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect(),
        (None, None, Some(home)) => vec![Path::new(&home).join(USUAL_KUBECONFIG)],
        (None, None, None) => Vec::new(),
    }
}

/// The proxy that a kubeconfig names for the cluster of `context`, or of its current one.
fn own_proxy(parsed: &Kubeconfig, context: Option<&str>) -> Option<String> {
    let wanted = context.or(parsed.current_context.as_deref())?;
    let context = parsed.contexts.iter().find(|named| named.name == wanted)?.context.as_ref()?;
    let cluster = parsed.clusters.iter().find(|named| named.name == context.cluster)?.cluster.as_ref()?;
    cluster.proxy_url.clone().filter(|url| !url.is_empty())
}

#[cfg(test)]
mod tests;
