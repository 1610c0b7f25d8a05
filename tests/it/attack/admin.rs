//! Attacks on the admin port, and with TLS.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{net::TcpStream, task::JoinSet, time::sleep};
use tokio_rustls::TlsConnector;

use super::target::{Target, tell};
use crate::harness::get;

/// Three thousand connections that ask nothing.
pub(super) async fn silent_admin_connections(target: Target) {
    let mut open = vec![];
    for _ in 0..target.some(3_000) {
        match target.until_over(TcpStream::connect(target.admin)).await {
            Some(Ok(stream)) => open.push(stream),
            _ => break,
        }
    }
    tell(&format!("{} connections", open.len()));
    target.hold().await;
}

/// Two hundred who ask for readiness and metrics all the time.
pub(super) async fn admin_questions(target: Target) {
    let mut asking = JoinSet::new();
    for number in 0..target.some(200) {
        asking.spawn(async move {
            let path = ["/readyz", "/metrics"][number % 2];
            let mut answered = 0;
            while !target.is_over() {
                match target.until_over(get(target.admin, path)).await {
                    Some(Ok(_)) => answered += 1,
                    _ => sleep(Duration::from_millis(50)).await,
                }
            }
            answered
        });
    }
    let answered: usize = asking.join_all().await.into_iter().sum();
    tell(&format!("{answered} answers"));
}

/// Believes everything: an attacker does not mind whom it speaks with.
#[derive(Debug)]
struct Credulous(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// TLS connections that are given up once the server has done its part.
pub(super) async fn tls_handshakes(target: Target) {
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them all")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous(algorithms)))
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let mut shaking = JoinSet::new();
    for _ in 0..16 {
        let connector = connector.clone();
        shaking.spawn(async move {
            let mut count = 0;
            while !target.is_over() {
                let name = ServerName::try_from("127.0.0.1").expect("an address");
                let shake = async {
                    let tcp = TcpStream::connect(target.addr).await.ok()?;
                    connector.connect(name, tcp).await.ok()
                };
                match target.until_over(shake).await {
                    Some(Some(_)) => count += 1,
                    _ => sleep(Duration::from_millis(20)).await,
                }
            }
            count
        });
    }
    let count: usize = shaking.join_all().await.into_iter().sum();
    tell(&format!("{count} handshakes"));
}
