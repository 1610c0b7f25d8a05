//! What the client trusts and shows.

use std::{path::PathBuf, time::SystemTime};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::{Args, Error};
use crate::tls::{self, PemFile, TlsError, TlsFiles};

/// How to do TLS with this server; nothing where its address asks for none.
pub(super) fn config(args: &Args) -> Result<Option<ClientTlsConfig>, Error> {
    let file = |name, path: &PathBuf| PemFile { name, path: path.clone() };
    let pair = args.cert.as_ref().zip(args.key.as_ref());
    let files = TlsFiles {
        pair: pair.map(|(cert, key)| (file("--cert", cert), file("--key", key))),
        ca: args.ca.as_ref().map(|path| file("--ca", path)),
    };
    if !args.addr.is_tls() {
        let needless = files != TlsFiles::default();
        return if needless { Err(Error::NoTls(args.addr.clone())) } else { Ok(None) };
    }
    let contents = files.read()?;
    files.check(&contents, SystemTime::now())?;
    let mut config = ClientTlsConfig::new();
    if let Some((cert, key)) = &contents.pair {
        config = config.identity(Identity::from_pem(cert, key));
    }
    Ok(Some(match &contents.ca {
        Some(ca) => config.ca_certificate(Certificate::from_pem(ca)),
        None => {
            let roots = tls::system_roots()?.roots;
            if roots.is_empty() {
                return Err(TlsError::NoSystemRoots("--ca").into());
            }
            config.trust_anchors(roots)
        }
    }))
}
