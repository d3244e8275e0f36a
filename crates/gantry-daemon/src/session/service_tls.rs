//! TLS to a port that a job offers with `protocol: https`. Its certificate is the job's own, signed
//! by itself as a rule, and the way there is an exec into the job's pod: nobody can stand in
//! between, so any certificate will do. API servers treat the services that they proxy alike.

use std::io;
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The name that services are called by, which most certificates made for a test have.
const NAME: &str = "localhost";

/// Speaks TLS over a connection to a service.
///
/// # Errors
/// The service does not speak TLS, or the connection is lost.
pub(super) async fn connect<S>(stream: S) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// The same for all services: it knows nothing of any of them.
    static CONFIG: LazyLock<Result<Arc<ClientConfig>, rustls::Error>> = LazyLock::new(|| config().map(Arc::new));
    let config = CONFIG.as_ref().map_err(|error| io::Error::other(error.clone()))?;
    let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

fn config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    // Upgrades to WebSocket exist in HTTP/1.1 only.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // All services go by one name here: a session of one is of no use to another.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Takes every certificate whose owner proves to have its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::session::certificate::Identity;

    #[tokio::test]
    async fn a_service_with_a_certificate_of_its_own() {
        let (ours, theirs) = tokio::io::duplex(16 << 10);
        let acceptor = Identity::make("web.example.com", None).unwrap().acceptor();
        let service = async {
            let mut stream = acceptor.accept(theirs).await.unwrap();
            let mut asked = [0; 4];
            stream.read_exact(&mut asked).await.unwrap();
            stream.write_all(&asked).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let visitor = async {
            let mut stream = connect(ours).await.unwrap();
            stream.write_all(b"ping").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let ((), answer) = tokio::join!(service, visitor);
        assert_eq!(answer, "ping");
    }

    #[tokio::test]
    async fn a_service_that_speaks_no_tls_is_an_error() {
        let (ours, mut theirs) = tokio::io::duplex(16 << 10);
        let service = async { theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap() };
        let ((), connected) = tokio::join!(service, connect(ours));
        connected.unwrap_err();
    }
}
