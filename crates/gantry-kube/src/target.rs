//! The API server as it was configured, for errors: what to say when it cannot be talked to, and
//! which setting to look at.

use std::error::Error;
use std::io;

use gantry_core::error_chain::{causes, chain};
use rustls::{AlertDescription, CertificateError};

use crate::{
    error::{Fault, Unusable, shorten},
    limits,
};

/// Which API server is asked, and where that was said.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Scheme, host and port.
    pub(crate) url: String,
    /// What names the host.
    pub(crate) host_from: String,
    /// What holds the authorities that are trusted.
    pub(crate) ca_from: String,
    /// How to trust others.
    pub(crate) ca_advice: String,
    /// What holds our own certificate.
    pub(crate) cert_from: String,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            url: "the configured address".to_owned(),
            host_from: "host in [runners.kubernetes]".to_owned(),
            ca_from: "the system's and the bundled authorities".to_owned(),
            ca_advice: "set ca_file in [runners.kubernetes] to the CA certificate of the cluster".to_owned(),
            cert_from: "cert_file and key_file in [runners.kubernetes]".to_owned(),
        }
    }
}

impl Target {
    /// What to look at when an answer does not come from an API server.
    pub(crate) fn doubt(&self) -> String {
        let scheme = if self.url.starts_with("http://") { "; most API servers want https" } else { "" };
        format!(
            "an API server answers differently: is there a proxy before {}, or is {} wrong{scheme}?",
            self.url, self.host_from
        )
    }

    /// Says in our words why a request has failed; errors that are not about the connection stay as
    /// they are.
    pub(crate) fn explain(&self, error: kube::Error) -> kube::Error {
        if !matches!(error, kube::Error::HyperError(_) | kube::Error::Service(_)) {
            return error;
        }
        let final_word = |message| Unusable { fault: Fault::Misconfigured, message };
        let may_pass = |message| Unusable { fault: Fault::Broken, message };
        let url = &self.url;
        let unusable = if let Some(tls) = find::<rustls::Error>(&error) {
            self.about_tls(tls).map_or_else(
                || may_pass(format!("the TLS connection to the API server at {url} failed: {tls}")),
                final_word,
            )
        } else if find::<hyper::Error>(&error).is_some_and(hyper::Error::is_parse) {
            let other = if url.starts_with("http://") { "; most API servers want https" } else { "" };
            final_word(format!("what answers at {url} does not speak HTTP: check {}{other}", self.host_from))
        } else {
            may_pass(self.about_connection(&error))
        };
        unusable.into()
    }

    /// What no waiting changes: the certificates do not fit, or there is no TLS at all.
    fn about_tls(&self, error: &rustls::Error) -> Option<String> {
        use AlertDescription as Alert;
        let Self { url, host_from, ca_from, ca_advice, cert_from } = self;
        let server = format!("the certificate of the API server at {url}");
        let untrusted = || format!("{server} was not signed by any of {ca_from}: {ca_advice}");
        Some(match error {
            rustls::Error::InvalidCertificate(problem) => match problem {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => untrusted(),
                problem if gantry_http::is_own_authority(problem) => untrusted(),
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    format!("{server} is for other names ({problem}): set {host_from} to one of them")
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => {
                    format!(
                        "{server} is not valid now ({problem}): it must be renewed, or the clock of this machine is wrong"
                    )
                }
                CertificateError::Other(other) => {
                    format!("{server} cannot be accepted ({other}): the server needs another one")
                }
                _ => format!("{server} cannot be accepted ({problem}): {ca_advice}, or renew the server's"),
            },
            rustls::Error::InvalidMessage(_) => {
                format!(
                    "what answers at {url} does not speak TLS: check {host_from} and its port; http:// is without TLS"
                )
            }
            rustls::Error::AlertReceived(
                alert @ (Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::CertificateRequired
                | Alert::UnknownCA
                | Alert::AccessDenied),
            ) => format!("the API server at {url} does not accept our certificate ({alert:?}): check {cert_from}"),
            _ => return None,
        })
    }

    fn about_connection(&self, error: &kube::Error) -> String {
        let Self { url, host_from, .. } = self;
        let kinds = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        match kinds.last() {
            Some(io::ErrorKind::ConnectionRefused) => {
                format!("the API server at {url} refuses connections: is it running, and is {host_from} right?")
            }
            Some(io::ErrorKind::TimedOut) => {
                format!("the API server at {url} does not answer: is {host_from} right, and the way to it open?")
            }
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
                format!("there is no way to the API server at {url} ({}): is {host_from} right?", root(error))
            }
            _ if is_lookup(error) => {
                format!(
                    "no such host: the name of the API server at {url} cannot be resolved ({}): is {host_from} right?",
                    root(error)
                )
            }
            _ => format!("the connection to the API server at {url} failed: {}", root(error)),
        }
    }
}

/// Whether the name of a host could not be resolved: the library has no type for it that it shows,
/// but one word of its own.
fn is_lookup(error: &kube::Error) -> bool {
    causes(error).any(|cause| cause.to_string() == "dns error")
}

/// What all the rest came from.
fn root(error: &kube::Error) -> String {
    let last = causes(error).last();
    shorten(&last.map_or_else(|| chain(error), ToString::to_string), limits::MESSAGE)
}

fn find<T: Error + 'static>(error: &kube::Error) -> Option<&T> {
    causes(error).find_map(|cause| cause.downcast_ref::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        let ca_from = "the authorities in ca_file /ca.crt".to_owned();
        Target { url: "https://10.0.0.1:6443".to_owned(), ca_from, ..Target::default() }
    }

    fn about(inner: impl Into<Box<dyn Error + Send + Sync>>) -> (Fault, String) {
        // As the library has it: an `io::Error` around the one of TLS.
        let error = target().explain(kube::Error::Service(Box::new(io::Error::other(inner))));
        let error = crate::ApiError::from(error);
        (error.fault, error.message)
    }

    #[test]
    fn certificates_that_do_not_fit_are_final_and_name_the_setting() {
        let invalid = |problem| about(rustls::Error::InvalidCertificate(problem));
        let expired = "https://10.0.0.1:6443 is not valid now";
        let alert = about(rustls::Error::AlertReceived(AlertDescription::CertificateRequired));
        for ((fault, message), words) in [
            (invalid(CertificateError::UnknownIssuer), "was not signed by any of the authorities in ca_file /ca.crt: "),
            (
                // What the library has no name for: an old certificate, of version 1.
                invalid(CertificateError::Other(rustls::OtherError(std::sync::Arc::new(io::Error::other("x"))))),
                "cannot be accepted (x)",
            ),
            (invalid(CertificateError::NotValidForName), "set host in [runners.kubernetes] to one of them"),
            (invalid(CertificateError::Expired), expired),
            (invalid(CertificateError::Revoked), "cannot be accepted"),
            (alert, "check cert_file and key_file in [runners.kubernetes]"),
            (
                about(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)),
                "does not speak TLS: check host",
            ),
        ] {
            assert!(message.contains(words) && message.contains("https://10.0.0.1:6443"), "{message}");
            assert_eq!(fault, Fault::Misconfigured, "{message}");
            assert!(!fault.is_transient());
        }
        let (fault, message) = about(rustls::Error::AlertReceived(AlertDescription::InternalError));
        assert!(fault.is_transient() && message.contains("the TLS connection"), "{message}");
    }

    #[test]
    fn connections_that_fail_may_work_later() {
        for (kind, words) in [
            (
                io::ErrorKind::ConnectionRefused,
                "refuses connections: is it running, and is host in [runners.kubernetes] right?",
            ),
            (io::ErrorKind::TimedOut, "does not answer"),
            (io::ErrorKind::ConnectionReset, "https://10.0.0.1:6443 failed: "),
        ] {
            let (fault, message) = about(io::Error::from(kind));
            assert!(message.contains(words), "{message}");
            assert_eq!(fault, Fault::Broken);
        }
    }

    async fn answer_of(url: &str) -> crate::ApiError {
        let remote = crate::RemoteAccess { host: url.to_owned(), ..crate::RemoteAccess::default() };
        let access = crate::Access::Remote(remote);
        let (cluster, _driver) = crate::Cluster::connect(access, "ci".to_owned(), String::new()).await.unwrap();
        cluster.list_pods("").await.unwrap_err()
    }

    /// What says this to whoever comes, and goes.
    async fn stranger(greeting: &'static [u8]) -> (std::net::SocketAddr, impl Future<Output = ()>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 512]).await;
                let _ = stream.write_all(greeting).await;
            }
        };
        (address, serving)
    }

    async fn answer_of_stranger(scheme: &str, greeting: &'static [u8]) -> (Fault, String) {
        let (address, serving) = stranger(greeting).await;
        let url = format!("{scheme}://{address}");
        let error = tokio::select! {
            error = answer_of(&url) => error,
            () = serving => unreachable!("it goes on for ever"),
        };
        assert!(error.message.contains(&url), "{error}");
        (error.fault, error.message)
    }

    #[tokio::test]
    async fn a_port_where_something_else_answers_is_final() {
        let (fault, message) =
            answer_of_stranger("https", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(fault, Fault::Misconfigured, "{message}");
        assert!(message.contains("does not speak TLS: check host in [runners.kubernetes]"), "{message}");
        // What TLS answers to plain HTTP: an alert.
        let (fault, message) = answer_of_stranger("http", b"\x15\x03\x03\x00\x02\x02\x46").await;
        assert_eq!(fault, Fault::Misconfigured, "{message}");
        assert!(message.contains("does not speak HTTP") && message.contains("want https"), "{message}");
        // What a real API server answers to it.
        let answer = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        let (fault, message) = answer_of_stranger("http", answer).await;
        assert_eq!(fault, Fault::Refused, "{message}");
        assert!(
            message.contains("Client sent an HTTP request to an HTTPS server.") && message.contains("want https"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn a_port_and_a_name_that_nobody_has_may_still_come() {
        let (address, serving) = stranger(b"").await;
        drop(serving);
        let refused = answer_of(&format!("https://{address}")).await;
        assert!(refused.message.contains("refuses connections"), "{refused}");
        let unknown = answer_of("https://kube.invalid").await;
        assert!(unknown.message.starts_with("no such host: ") && unknown.message.contains("kube.invalid"), "{unknown}");
        assert_eq!((refused.fault, unknown.fault), (Fault::Broken, Fault::Broken));
    }
}
