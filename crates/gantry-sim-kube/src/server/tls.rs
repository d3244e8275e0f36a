//! The cluster's certificate authority and the server's certificate, made anew at every start and
//! kept in memory only.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::{config::Config, error::Error};

/// Names that clients and pods use.
const NAMES: &[&str] = &[
    "localhost",
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// What a server needs.
pub(crate) struct Tls {
    pub(crate) ca_pem: String,
    pub(crate) acceptor: TlsAcceptor,
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Certificate(Box::new(error))
}

/// Makes both certificates.
pub(crate) fn make(config: &Config, address: SocketAddr) -> Result<Tls, Error> {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "gantry-sim-kube");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate().map_err(failed)?).map_err(failed)?;

    let mut names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    names.push(address.ip().to_string());
    names.push(config.advertised_ip(address).to_string());
    names.extend(config.extra_sans.iter().cloned());
    names.sort_unstable();
    names.dedup();
    let mut server = CertificateParams::new(names).map_err(failed)?;
    server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = server.signed_by(&key, &issuer).map_err(failed)?;

    let chain = vec![CertificateDer::from(certificate)];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(failed)?;
    // WebSocket upgrades exist in HTTP/1.1 only, and one protocol is enough.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls { ca_pem: issuer.pem(), acceptor: TlsAcceptor::from(Arc::new(tls)) })
}
