//! What helps against an error of TLS towards the API server. Pure.

use std::{error::Error, io};

use rustls::CertificateError;

/// A remark to put behind `error`; empty where there is nothing to add.
pub(crate) fn of(error: &(dyn Error + 'static)) -> &'static str {
    let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) else { return "" };
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "; ca_file in [runners.kubernetes] (or the kubeconfig) must hold the authority that signed the API server's certificate"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "; host in [runners.kubernetes] must be a name or address that the API server's certificate is made out to"
        }
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "; the API server's certificate has to be renewed (or is the clock here wrong?)"
        }
        rustls::Error::InvalidMessage(_) => "; does host in [runners.kubernetes] name a port that speaks https?",
        rustls::Error::AlertReceived(_) => {
            "; if the API server asks for a client certificate, set cert_file and key_file in [runners.kubernetes]"
        }
        _ => "",
    }
}

/// An error and all that is below it. An IO error leaves the error that it holds out of its own chain.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(held) => Some(held as &(dyn Error + 'static)),
        None => (*error).source(),
    })
}
