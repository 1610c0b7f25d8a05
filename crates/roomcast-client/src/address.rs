//! Where a server is.

use std::{fmt, net::IpAddr, str::FromStr};

use http::Uri;

/// A server's address, given as `host:port` or as a URL of the scheme `http`, or `https` for TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    uri: Uri,
}

/// Why an address is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("address {got:?} {fault}; allowed are host:port, http://host:port and https://host:port")]
pub struct AddressError {
    got: String,
    fault: &'static str,
}

impl Address {
    /// Checks an address.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        // What stands before an @ may be a password.
        let got = text.rsplit('@').next().unwrap_or_default();
        let got = if got == text { text.to_owned() } else { format!("(hidden)@{got}") };
        let refuse = |fault| AddressError { got: got.clone(), fault };
        let (scheme, authority) = match text.split_once("://") {
            None => ("http", text),
            Some((scheme @ ("http" | "https"), rest)) => {
                (scheme, rest.strip_suffix('/').unwrap_or(rest))
            }
            Some(_) => return Err(refuse("has another scheme than http and https")),
        };
        let uri = Uri::from_str(&format!("{scheme}://{authority}/"))
            .map_err(|_| refuse("is not an address"))?;
        if uri.path() != "/" || uri.query().is_some() || authority.contains('@') {
            return Err(refuse("is more than a host and a port"));
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(refuse("has no host"));
        }
        match uri.port_u16() {
            Some(1..) => Ok(Self { uri }),
            _ => Err(refuse("has no port from 1 to 65535")),
        }
    }

    /// Whether TLS is asked for.
    pub fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Whether what is sent there stays between the client and the server: over TLS, or on this machine.
    pub fn is_confidential(&self) -> bool {
        let host = self.uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let ip = host.parse::<IpAddr>().map(|ip| ip.to_canonical());
        self.is_tls()
            || host.eq_ignore_ascii_case("localhost")
            || ip.is_ok_and(|ip| ip.is_loopback())
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl fmt::Display for Address {
    /// `host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri.authority().map_or("", |authority| authority.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_both_forms() {
        for (text, shown) in [
            ("127.0.0.1:50051", "127.0.0.1:50051"),
            ("http://chat.example:80", "chat.example:80"),
            ("http://localhost:1/", "localhost:1"),
            ("[::1]:50051", "[::1]:50051"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.uri().to_string(), format!("http://{shown}/"));
            assert!(!address.is_tls());
        }
        let address = Address::parse("https://chat.example:443/").unwrap();
        assert_eq!(address.to_string(), "chat.example:443");
        assert!(address.is_tls());
    }

    #[test]
    fn what_is_sent_over_plain_text_stays_on_this_machine() {
        for (text, confidential) in [
            ("127.0.0.1:1", true),
            ("127.8.8.8:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("LocalHost:1", true),
            ("https://chat.example:1", true),
            ("chat.example:1", false),
            ("localhost.example:1", false),
            ("10.0.0.1:1", false),
            ("0.0.0.0:1", false),
            ("[2001:db8::1]:1", false),
        ] {
            assert_eq!(Address::parse(text).unwrap().is_confidential(), confidential, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, fault) in [
            ("", "is not an address"),
            ("localhost", "has no port"),
            ("localhost:0", "has no port"),
            ("localhost:65536", "has no port"),
            ("ftp://localhost:1", "has another scheme"),
            ("localhost:1/room", "is more than"),
            ("me@localhost:1", "is more than"),
            ("https://me:hunter2@localhost:1", "is more than"),
            (":50051", "has no host"),
            ("a b:1", "is not an address"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(fault), "{text}: {error}");
            assert!(error.contains("http://host:port"), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
