//! Why a connection could not be made, in words that say which setting helps. Pure.

use std::error::Error;
use std::io;

use gantry_core::error_chain::{causes, chain};
use rustls::{AlertDescription, CertificateError};

use crate::tls::is_own_authority;

/// What is known about the connection beside the error.
#[derive(Clone, Debug)]
pub(crate) struct Circumstances<'a> {
    pub(crate) scheme: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// It could not be made; otherwise it broke later.
    pub(crate) connecting: bool,
    /// Host and port of the proxy that it goes through.
    pub(crate) proxy: Option<&'a str>,
    /// The setting and file whose certificates are trusted beside the usual ones.
    pub(crate) ca: Option<&'a str>,
    /// Where a file with such certificates would be found.
    pub(crate) place_of_ca: Option<&'a str>,
    /// The setting and file of the client's certificate.
    pub(crate) cert: Option<&'a str>,
    /// Those of its key. One without the other is not used.
    pub(crate) key: Option<&'a str>,
}

/// So many names of a certificate are shown.
const SHOWN_NAMES: usize = 5;

/// A sentence about `error`.
pub(crate) fn explain(error: &(dyn Error + 'static), at: &Circumstances<'_>) -> String {
    let address = format!("{}:{}", at.host, at.port);
    let via = at.proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
    let said = match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(problem)) => certificate(problem, at),
        Some(rustls::Error::InvalidMessage(_)) => Some(format!(
            "{address} does not answer in TLS: write http:// in the URL, or the port where it serves https"
        )),
        Some(rustls::Error::AlertReceived(alert)) => Some(refused(*alert, at)),
        None if at.connecting && at.scheme == "https" && is_cut_off(error) => Some(format!(
            "{address} ended the connection in the middle of the TLS handshake: write http:// in the URL if it does not speak TLS"
        )),
        None if at.scheme == "http" && is_no_http(error) => {
            Some(format!("{address} does not answer in HTTP: write https:// in the URL if it speaks TLS"))
        }
        _ => None,
    };
    match said {
        Some(said) => format!("{said}{via}"),
        None => format!("{address}{via}: {}", chain(error)),
    }
}

fn certificate(problem: &CertificateError, at: &Circumstances<'_>) -> Option<String> {
    let host = at.host;
    Some(match problem {
        // An authority of the same name may have another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => untrusted(at),
        problem if is_own_authority(problem) => untrusted(at),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!(
                "the certificate of {host} has expired{}; renew it there (or is the clock here wrong?)",
                until(problem)
            )
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {host} is not valid yet{}; is the clock here wrong?", until(problem))
        }
        CertificateError::NotValidForName => {
            format!("the certificate of {host} is made out to another name; write that name in the URL")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = names(presented);
            format!(
                "the certificate of {host} is made out to {names} and not to {host}; write such a name in the URL, or have the \
                 certificate made out to {host}"
            )
        }
        _ => return None,
    })
}

fn untrusted(at: &Circumstances<'_>) -> String {
    let help = match (at.ca, at.place_of_ca) {
        (Some(ca), _) => format!("the file {ca} does not hold the certificate of that authority: add it there"),
        (None, Some(place)) => {
            format!("set tls-ca-file to a PEM file with the authority's certificate, or put it at {place}")
        }
        (None, None) => "set tls-ca-file to a PEM file with the authority's certificate".to_owned(),
    };
    format!("the certificate of {} comes from an authority that is not trusted here; {help}", at.host)
}

/// The names of a certificate, which come as `DnsName("…")`.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        inner.trim_matches('"').to_owned()
    };
    let shown = presented.iter().take(SHOWN_NAMES).map(plain).collect::<Vec<_>>().join(", ");
    match presented.len().saturating_sub(SHOWN_NAMES) {
        0 if shown.is_empty() => "no name".to_owned(),
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The date that a certificate's validity ends or begins at.
fn until(problem: &CertificateError) -> String {
    let (word, time) = match problem {
        CertificateError::ExpiredContext { not_after, .. } => ("on", not_after),
        CertificateError::NotValidYetContext { not_before, .. } => ("before", not_before),
        _ => return String::new(),
    };
    let time = i64::try_from(time.as_secs()).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map(|time| format!(" ({word} {time})")).unwrap_or_default()
}

/// The other side has ended the handshake.
fn refused(alert: AlertDescription, at: &Circumstances<'_>) -> String {
    let host = at.host;
    let help = match (at.cert, at.key) {
        (Some(cert), Some(_)) => {
            return format!("{host} does not accept the client certificate ({alert:?}): look at {cert}");
        }
        (Some(cert), None) => format!("{cert} is of use with its key only: set tls-key-file to it"),
        (None, Some(key)) => format!("{key} is of use with its certificate only: set tls-cert-file to it"),
        (None, None) => "set tls-cert-file and tls-key-file".to_owned(),
    };
    format!("{host} ended the TLS handshake ({alert:?}): if it asks for a client certificate, {help}")
}

fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn is_cut_off(error: &(dyn Error + 'static)) -> bool {
    let cut_off = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
    causes(error).any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|io| cut_off.contains(&io.kind())))
}

fn is_no_http(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_certificate_are_plain_and_few() {
        let presented = |list: &[&str]| names(&list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(presented(&[]), "no name");
        assert_eq!(
            presented(&[r#"DnsName("a.test")"#, "IpAddress(192.0.2.1)", "DirectoryName"]),
            "a.test, 192.0.2.1, DirectoryName"
        );
        let many: Vec<String> = (1..=8).map(|n| format!("DnsName(\"{n}.test\")")).collect();
        assert_eq!(names(&many), "1.test, 2.test, 3.test, 4.test, 5.test and 3 more");
    }

    const AT: Circumstances<'_> = Circumstances {
        scheme: "https",
        host: "gitlab.test",
        port: 443,
        connecting: true,
        proxy: None,
        ca: None,
        place_of_ca: None,
        cert: None,
        key: None,
    };

    #[test]
    fn only_what_nobody_trusts_is_said_to_be_so() {
        let said = |error: webpki::Error| {
            let problem = CertificateError::Other(rustls::OtherError(std::sync::Arc::new(error)));
            explain(&rustls::Error::InvalidCertificate(problem), &AT)
        };
        let own_authority = said(webpki::Error::CaUsedAsEndEntity);
        assert!(own_authority.contains("comes from an authority that is not trusted here"), "{own_authority}");
        let old = said(webpki::Error::UnsupportedCertVersion);
        assert!(old.starts_with("gitlab.test:443: ") && old.contains("UnsupportedCertVersion"), "{old}");
    }

    #[test]
    fn a_certificate_without_its_key_was_not_refused() {
        let said = |cert, key| refused(AlertDescription::CertificateRequired, &Circumstances { cert, key, ..AT });
        let cert = Some("tls-cert-file /certs/gitlab.test.auth.crt");
        let alone = said(cert, None);
        assert!(alone.ends_with("gitlab.test.auth.crt is of use with its key only: set tls-key-file to it"), "{alone}");
        assert!(said(cert, Some("tls-key-file x")).contains("does not accept the client certificate"));
        assert!(said(None, Some("tls-key-file x")).contains("tls-key-file x is of use with its certificate only"));
    }
}
