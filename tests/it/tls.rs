//! TLS: towards clients, towards Redis, and certificates that change meanwhile.

mod client;
mod listener;
mod redis;
mod reload;
mod start;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::harness::{Authority, Cluster, PairFiles, Replica};

const CERT: &str = "ROOMCAST_SERVER__TLS__CERT_FILE";
const KEY: &str = "ROOMCAST_SERVER__TLS__KEY_FILE";
const CLIENT_CA: &str = "ROOMCAST_SERVER__TLS__CLIENT_CA_FILE";

/// One replica on memory that shows this certificate.
pub(crate) async fn serving(files: &PairFiles) -> Cluster {
    Cluster::memory().with(CERT, &files.cert).with(KEY, &files.key).start().await
}

/// A TLS connection that knows nothing of gRPC, as far as the handshake.
pub(crate) async fn handshake(
    addr: SocketAddr,
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::IpAddress(addr.ip().into());
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(addr).await?).await
}

/// The certificate that a replica shows to a client that connects now.
async fn shown(replica: &Replica, authority: &Authority) -> std::io::Result<Vec<u8>> {
    let stream = handshake(replica.grpc(), authority, rustls::ALL_VERSIONS, &["h2"]).await?;
    let chain: Option<&[CertificateDer<'_>]> = stream.get_ref().1.peer_certificates();
    Ok(chain.expect("a certificate")[0].to_vec())
}

/// Longer than the pause between two looks at the files.
const A_LOOK: Duration = Duration::from_secs(3);
