//! The PROXY protocol, version 2: a load balancer tells whom it speaks for, before TLS and anything else.
//!
//! It is read to the byte, so that nothing of what follows is taken, and bounded in size and time.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, timeout_at},
};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const HEAD: usize = 16;

/// The most bytes behind the head: two addresses take 36, and balancers add some fields of their own.
const MOST: usize = 1024;

/// Why nobody knows whom a connection is from.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    #[error("no PROXY protocol header in time")]
    Late,
    /// As a probe of a load balancer does.
    #[error("it closed the connection without a word")]
    Silent,
    #[error("it is none of server.trusted_proxies")]
    Stranger,
    #[error("no PROXY protocol header of version 2: {0}")]
    Malformed(&'static str),
    #[error("the PROXY protocol header broke off: {0}")]
    Io(#[from] io::Error),
}

/// Reads the header. `None` when the balancer speaks for itself.
pub(super) async fn read(
    socket: &mut (impl AsyncRead + Unpin),
    deadline: Instant,
) -> Result<Option<SocketAddr>, ProxyError> {
    timeout_at(deadline, read_header(socket)).await.unwrap_or(Err(ProxyError::Late))
}

async fn read_header(
    socket: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, ProxyError> {
    let mut head = [0; HEAD];
    // What is no such header is known from its first bytes.
    let mut filled = 0;
    while filled < HEAD {
        match socket.read(&mut head[filled..]).await? {
            0 if filled == 0 => return Err(ProxyError::Silent),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            more => filled += more,
        }
        let signature = filled.min(SIGNATURE.len());
        if head[..signature] != SIGNATURE[..signature] {
            return Err(ProxyError::Malformed("it begins otherwise"));
        }
    }
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > MOST {
        return Err(ProxyError::Malformed("it is too long"));
    }
    let mut rest = vec![0; length];
    socket.read_exact(&mut rest).await?;
    parse(head[12], head[13], &rest)
}

fn parse(command: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    match command {
        // LOCAL: a probe, of which the rest says nothing.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(ProxyError::Malformed("its version or command is another one")),
    }
    let short = || ProxyError::Malformed("its addresses are cut short");
    let (addr, port): (IpAddr, _) = match family {
        // TCP over IPv4: source, destination, source port, destination port.
        0x11 => {
            let fields = rest.first_chunk::<12>().ok_or_else(short)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *fields;
            (Ipv4Addr::new(a, b, c, d).into(), [high, low])
        }
        // TCP over IPv6, likewise.
        0x21 => {
            let fields = rest.first_chunk::<36>().ok_or_else(short)?;
            let source = fields.first_chunk::<16>().ok_or_else(short)?;
            (Ipv6Addr::from(*source).into(), [fields[32], fields[33]])
        }
        // Not specified: whoever it is, the balancer does not know.
        0x00 => return Ok(None),
        _ => return Err(ProxyError::Malformed("it is not for TCP")),
    };
    Ok(Some(SocketAddr::new(addr, u16::from_be_bytes(port))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    async fn read_all(mut bytes: &[u8]) -> (Result<Option<SocketAddr>, String>, usize) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let read = read(&mut bytes, deadline).await.map_err(|error| error.to_string());
        (read, bytes.len())
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0xc3, 0x83];

    #[tokio::test]
    async fn addresses_are_read_and_not_a_byte_more() {
        let v6 = [&[0x20, 1, 0xd, 0xb8], &[0; 11][..], &[9], &[0; 16], &[0, 80, 0, 81]].concat();
        let more = [&V4[..], &[4, 0, 3, b'a', b'b', b'c']].concat();
        for (command, family, rest, addr) in [
            (0x21, 0x11, &V4[..], Some("192.0.2.7:8080")),
            (0x21, 0x11, &more, Some("192.0.2.7:8080")),
            (0x21, 0x21, &v6, Some("[2001:db8::9]:80")),
            (0x20, 0x00, &[], None),
            (0x20, 0x11, &V4, None),
            (0x21, 0x00, &[], None),
        ] {
            let bytes = [header(command, family, rest), b"PRI * HTTP/2.0".to_vec()].concat();
            let addr = addr.map(|addr| addr.parse().unwrap());
            assert_eq!(read_all(&bytes).await, (Ok(addr), 14), "{command:x} {family:x}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for (bytes, says) in [
            (vec![], "without a word"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "begins otherwise"),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(), "begins otherwise"),
            (SIGNATURE.to_vec(), "broke off"),
            (header(0x11, 0x11, &V4), "version or command"),
            (header(0x22, 0x11, &V4), "version or command"),
            (header(0x21, 0x12, &V4), "not for TCP"),
            (header(0x21, 0x31, &[0; 216]), "not for TCP"),
            (header(0x21, 0x11, &V4[..11]), "cut short"),
            (header(0x21, 0x21, &[0; 35]), "cut short"),
            (header(0x20, 0x00, &[0; MOST + 1]), "too long"),
            (header(0x21, 0x11, &V4)[..20].to_vec(), "broke off"),
        ] {
            let (read, _) = read_all(&bytes).await;
            let error = read.unwrap_err();
            assert!(error.contains(says), "{bytes:?}: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_longer_than_that() {
        let (mut here, _there) = tokio::io::duplex(64);
        let deadline = Instant::now() + Duration::from_secs(1);
        assert!(matches!(read(&mut here, deadline).await, Err(ProxyError::Late)));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(command: u8, family: u8, rest: Vec<u8>) {
            let _ = parse(command, family, &rest);
        }
    }
}
