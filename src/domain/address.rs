//! Addresses of clients: which are one's own, and which are of whom.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// What limits and sums go by: an IPv4 address, or the network of an IPv6 address, of which every host has as many
/// addresses as it likes.
pub fn origin(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(addr) if !addr.is_loopback() => {
            Ipv6Addr::from_bits(addr.to_bits() & (u128::MAX << 64)).into()
        }
        addr => addr,
    }
}

/// An address, or all that begin with as many bits of it: `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    addr: IpAddr,
    bits: u8,
}

/// What is no network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an address, nor one with a number of bits behind a slash")]
pub struct NetworkError;

impl Network {
    /// Whether an address is in it.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let begins = |one: u128, other: u128, width: u32| {
            let free = width - u32::from(self.bits);
            free >= width || (one ^ other) >> free == 0
        };
        match (self.addr, addr.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(addr)) => {
                begins(own.to_bits().into(), addr.to_bits().into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(addr)) => begins(own.to_bits(), addr.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (addr, bits) = match text.split_once('/') {
            Some((addr, bits)) => (addr, Some(bits)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| NetworkError)?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| NetworkError))?;
        if bits > most { Err(NetworkError) } else { Ok(Self { addr, bits }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.bits)
    }
}

/// Whom somebody speaks for who says so with `x-forwarded-for`, given as its lines from first to last: the last
/// address that none of the proxies that are trusted has. `None` where it says nothing that can be read.
pub fn forwarded_for<'a>(
    trusted: &[Network],
    lines: impl DoubleEndedIterator<Item = &'a str>,
) -> Option<IpAddr> {
    let mut client = None;
    for text in lines.rev().flat_map(|line| line.rsplit(',')) {
        // What stands before something that is no address, nobody whom we trust has written.
        let Some(addr) = read(text.trim()) else { return client };
        client = Some(addr);
        if !trusted.iter().any(|it| it.contains(addr)) {
            return client;
        }
    }
    client
}

/// An address, perhaps with a port, as some proxies write it.
fn read(text: &str) -> Option<IpAddr> {
    let addr = text.parse().or_else(|_| text.trim_matches(['[', ']']).parse());
    let addr = addr.or_else(|_| text.parse().map(|it: std::net::SocketAddr| it.ip()));
    addr.ok().map(|it: IpAddr| it.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_host_has_one_origin() {
        for (given, of) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::1", "::1"),
        ] {
            assert_eq!(origin(addr(given)), addr(of));
        }
    }

    #[test]
    fn networks_contain_what_begins_like_them() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(addr(inside)), "{network} {inside}");
            assert!(!network.contains(addr(outside)), "{network} {outside}");
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "proxy", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text}");
        }
    }

    #[test]
    fn the_last_address_is_believed_that_no_proxy_of_ours_has() {
        let trusted: Vec<Network> = ["10.0.0.0/8", "::1"].map(|it| it.parse().unwrap()).into();
        let client = |lines: &[&str]| forwarded_for(&trusted, lines.iter().copied());
        assert_eq!(client(&["203.0.113.9"]), Some(addr("203.0.113.9")));
        assert_eq!(client(&["1.1.1.1, 203.0.113.9, 10.0.0.3"]), Some(addr("203.0.113.9")));
        assert_eq!(client(&["1.1.1.1", "203.0.113.9", "10.0.0.3"]), Some(addr("203.0.113.9")));
        assert_eq!(client(&["10.0.0.4,10.0.0.3"]), Some(addr("10.0.0.4")), "a client inside");
        assert_eq!(client(&["1.1.1.1, unknown"]), None);
        assert_eq!(client(&["1.1.1.1, unknown, 10.0.0.3"]), Some(addr("10.0.0.3")));
        assert_eq!(client(&["203.0.113.9:443"]), Some(addr("203.0.113.9")));
        assert_eq!(client(&["[2001:db8::9]:443"]), Some(addr("2001:db8::9")));
        assert_eq!(client(&["[2001:db8::9]"]), Some(addr("2001:db8::9")));
        assert_eq!(client(&[""]), None);
        assert_eq!(client(&[]), None);
    }
}
