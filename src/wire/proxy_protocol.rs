//! The PROXY protocol, versions 1 and 2: a load balancer that passes on TCP names its client in
//! front of the first byte.
//!
//! The header is read only from trusted proxies, because it can name any address, and never beyond
//! its end, because TLS or HTTP follows.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The beginning of a header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of the longest header of version 1, as its specification has it.
const TEXT_BYTES_MAX: usize = 107;

/// Bytes of addresses and extensions in a header of version 2: balancers add a few hundred.
const BINARY_BYTES_MAX: usize = 4096;

/// Reads the header in front of a connection. The result is the client's address; `None`: the
/// proxy itself is the client, as for its health checks.
///
/// # Errors
/// If the connection breaks off or does not begin with such a header.
pub(super) async fn read(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut first = [0; SIGNATURE.len()];
    socket.read_exact(&mut first).await?;
    match first == SIGNATURE {
        true => read_binary(socket).await,
        false => read_text(socket, &first).await,
    }
}

async fn read_text(socket: &mut TcpStream, first: &[u8]) -> io::Result<Option<SocketAddr>> {
    let mut line = first.to_vec();
    if !line.starts_with(b"PROXY ") {
        return Err(malformed());
    }
    // Byte by byte: what follows the line is not ours.
    while !line.ends_with(b"\r\n") {
        if line.len() >= TEXT_BYTES_MAX {
            return Err(malformed());
        }
        line.push(socket.read_u8().await?);
    }
    let text = std::str::from_utf8(&line).map_err(|_| malformed())?;
    text_address(text.trim_end()).ok_or_else(malformed)
}

/// The client in a header of version 1; `None`: it is malformed.
fn text_address(line: &str) -> Option<Option<SocketAddr>> {
    let mut parts = line.strip_prefix("PROXY ")?.split(' ');
    let family = parts.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let [source, _, port, _] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let address: IpAddr = match family {
        "TCP4" => source.parse::<Ipv4Addr>().ok()?.into(),
        "TCP6" => source.parse::<Ipv6Addr>().ok()?.into(),
        _ => return None,
    };
    let port = port.parse().ok().filter(|_| parts.next().is_none())?;
    Some(Some(SocketAddr::new(address, port)))
}

async fn read_binary(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut head = [0; 4];
    socket.read_exact(&mut head).await?;
    let [command, family, high, low] = head;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > BINARY_BYTES_MAX {
        return Err(malformed());
    }
    let mut rest = vec![0; len];
    socket.read_exact(&mut rest).await?;
    binary_address(command, family, &rest).ok_or_else(malformed)
}

/// The client in a header of version 2; `None`: it is malformed.
fn binary_address(command: u8, family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const TCP4: u8 = 0x11;
    const TCP6: u8 = 0x21;
    let port = |at: usize| {
        let bytes = rest.get(at..at + 2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    };
    match (command, family) {
        (LOCAL, _) => Some(None),
        (PROXY, TCP4) => {
            let source: [u8; 4] = *rest.first_chunk()?;
            Some(Some(SocketAddr::new(Ipv4Addr::from(source).into(), port(8)?)))
        }
        (PROXY, TCP6) => {
            let source: [u8; 16] = *rest.first_chunk()?;
            Some(Some(SocketAddr::new(Ipv6Addr::from(source).into(), port(32)?)))
        }
        // UDP, or a socket of the proxy's machine.
        (PROXY, _) => Some(None),
        _ => None,
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no header of the PROXY protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_the_client() {
        let of = text_address;
        let v4 = Some(Some("203.0.113.9:51000".parse().unwrap()));
        assert_eq!(of("PROXY TCP4 203.0.113.9 198.51.100.1 51000 443"), v4);
        let v6 = Some(Some("[2001:db8::9]:51000".parse().unwrap()));
        assert_eq!(of("PROXY TCP6 2001:db8::9 2001:db8::1 51000 443"), v6);
        assert_eq!(of("PROXY UNKNOWN"), Some(None));
        for wrong in [
            "PROXY TCP4 2001:db8::9 198.51.100.1 51000 443",
            "PROXY TCP4 203.0.113.9 198.51.100.1 51000",
            "PROXY TCP4 203.0.113.9 198.51.100.1 51000 443 9",
            "PROXY UDP4 203.0.113.9 198.51.100.1 51000 443",
            "GET / HTTP/1.1",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bytes_name_the_client() {
        let v4 = [203, 0, 113, 9, 198, 51, 100, 1, 0xc7, 0x38, 1, 0xbb, 3, 0, 1, 0];
        let expected = Some(Some("203.0.113.9:51000".parse().unwrap()));
        assert_eq!(binary_address(0x21, 0x11, &v4), expected);
        assert_eq!(binary_address(0x20, 0, &[]), Some(None), "a health check");
        assert_eq!(binary_address(0x21, 0x11, &v4[..9]), None);
        assert_eq!(binary_address(0x11, 0x11, &v4), None);
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        v6[33] = 80;
        let expected = Some(Some("[2001:db8::]:80".parse().unwrap()));
        assert_eq!(binary_address(0x21, 0x21, &v6), expected);
    }
}
