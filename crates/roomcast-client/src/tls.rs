//! What the client trusts and shows.

use std::{path::Path, sync::Arc, time::SystemTime};

use roomcast_tls::{Contents, PemFile, TlsError, TlsFiles};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::{Address, CONNECT_TIMEOUT};

/// What a client trusts and shows, read from files and checked.
#[derive(Clone, Debug)]
pub struct Credentials {
    contents: Contents,
    roots: RootCertStore,
}

impl Credentials {
    /// Reads and checks files in PEM form: the CAs to trust (those of this system when there is none),
    /// and the certificate to show, with its key, to a server that asks for one.
    pub fn read(ca: Option<&Path>, pair: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let file = |name, path: &Path| PemFile { name, path: path.to_owned() };
        let files = TlsFiles {
            pair: pair.map(|(cert, key)| (file("--cert", cert), file("--key", key))),
            ca: ca.map(|path| file("--ca", path)),
        };
        let contents = files.read()?;
        files.check(&contents, SystemTime::now())?;
        let roots = match files.trusted(&contents)? {
            Some(roots) => roots,
            None => roomcast_tls::system_roots()?,
        };
        if roots.is_empty() {
            return Err(TlsError::NoSystemRoots("--ca"));
        }
        Ok(Self { contents, roots })
    }

    /// For tonic.
    pub(super) fn config(&self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new().timeout(CONNECT_TIMEOUT);
        if let Some((cert, key)) = &self.contents.pair {
            config = config.identity(Identity::from_pem(cert, key));
        }
        match &self.contents.ca {
            Some(ca) => config.ca_certificate(Certificate::from_pem(ca)),
            None => config.trust_anchors(self.roots.roots.clone()),
        }
    }

    /// Asks a server that closed the connection what it has against it. With TLS 1.3 a server looks at
    /// the client's certificate when the client is already done, and HTTP/2 may drop its answer.
    async fn objection(&self, addr: &Address) -> Option<String> {
        let config = Arc::new(self.rustls()?);
        let name = ServerName::try_from(host(addr)?.to_owned()).ok()?;
        let asked = async {
            let socket = connect(addr).await?;
            let answer = match TlsConnector::from(config).connect(name, socket).await {
                Ok(mut stream) => stream.read_u8().await.err(),
                Err(error) => Some(error),
            };
            Some(roomcast_tls::fault(&answer?)?.words)
        };
        timeout(CONNECT_TIMEOUT, asked).await.ok().flatten()
    }

    fn rustls(&self) -> Option<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(roomcast_tls::provider())
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.contents.pair {
            Some((cert, key)) => {
                let chain = CertificateDer::pem_slice_iter(cert).collect::<Result<_, _>>().ok()?;
                builder
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key).ok()?)
                    .ok()?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Some(config)
    }
}

/// What the server at this address has against a connection that it closed or refused: against the
/// certificate that was shown, or against plain text. Connects once more to find out; none if it cannot be told.
pub async fn objection(addr: &Address, credentials: Option<&Credentials>) -> Option<String> {
    if addr.is_tls() {
        return credentials?.objection(addr).await;
    }
    let speaks_tls = speaks_tls(addr).await?;
    speaks_tls.then(|| "it speaks TLS: begin the address with https://".to_owned())
}

/// Whether a server that closed a connection of plain text does so because it speaks TLS. It gets as
/// many bytes as a record of TLS has before its content, and those are no such record's: so it has
/// nothing left to read when it closes, and its alert arrives. None: it cannot be told.
async fn speaks_tls(addr: &Address) -> Option<bool> {
    const ALERT: u8 = 21;
    let asked = async {
        let mut socket = connect(addr).await?;
        socket.write_all(b"PRI *").await.ok()?;
        socket.read_u8().await.ok()
    };
    Some(timeout(CONNECT_TIMEOUT, asked).await.ok()?? == ALERT)
}

async fn connect(addr: &Address) -> Option<TcpStream> {
    TcpStream::connect((host(addr)?, addr.uri().port_u16()?)).await.ok()
}

fn host(addr: &Address) -> Option<&str> {
    Some(addr.uri().host()?.trim_start_matches('[').trim_end_matches(']'))
}
