//! The name of a file with a certificate or a key.

use std::{fmt, path::PathBuf};

/// A file, and what the operator calls it: a key of the configuration, or a flag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PemFile {
    /// The key or the flag.
    pub name: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

impl fmt::Display for PemFile {
    /// `server.tls.cert_file = /etc/roomcast/tls.crt`, in one line whatever the path is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display().to_string().replace(char::is_control, "?");
        write!(f, "{} = {path}", self.name)
    }
}
