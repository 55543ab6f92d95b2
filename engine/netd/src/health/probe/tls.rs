//! TLS around a check's connection. Whose certificate it is does not matter here: what is asked is whether this backend
//! answers, and backends behind a balancer often have certificates of names that only clients use, or of their own.

use super::Failure;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, WebPkiSupportedAlgorithms};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// Shakes hands. The name is the host's of the check, without its port, else the address.
pub(super) async fn wrap(
    stream: TcpStream,
    host: Option<&str>,
    address: IpAddr,
) -> Result<TlsStream<TcpStream>, Failure> {
    let config = match &*CONFIG {
        Ok(config) => Arc::clone(config),
        Err(why) => return Err(Failure::Hindered(format!("TLS cannot be used: {why}"))),
    };
    let shaken = TlsConnector::from(config).connect(name(host, address), stream).await;
    shaken.map_err(|error| Failure::Bad(format!("TLS: {}", super::words(&error))))
}

fn name(host: Option<&str>, address: IpAddr) -> ServerName<'static> {
    let name = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
    let name = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
    name.unwrap_or_else(|| ServerName::from(address))
}

static CONFIG: LazyLock<Result<Arc<ClientConfig>, Error>> = LazyLock::new(|| {
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
});

/// Takes any certificate, but its owner has to have signed the handshake: the backend has the key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_name_is_the_hosts_without_its_port_else_the_address() {
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let named = |host| name(host, address);
        assert_eq!(named(Some("web.example:8443")), ServerName::try_from("web.example").unwrap());
        assert_eq!(named(Some("web.example")), ServerName::try_from("web.example").unwrap());
        assert_eq!(named(Some("not a name")), ServerName::from(address));
        assert_eq!(named(None), ServerName::from(address));
    }
}
