//! The PROXY protocol, with which a proxy passes on the client's address.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::{io, net::SocketAddr};

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::AsyncReadExt;

use crate::stream::BoxStream;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The length of the longest header of version 1, including its CRLF (§2.1).
const MAX_V1: usize = 107;
/// The length of a version 2 header up to its addresses, and the length of the longest version 2 header that is
/// accepted. The latter leaves room for the addresses of Unix sockets and some TLVs.
const V2_FIXED: usize = 16;
const MAX_V2: usize = 536;

/// Reads the header, and nothing that follows it. Returns the client's address. Returns `None` if the proxy's own
/// address counts, because the header is LOCAL or UNKNOWN, or contains no TCP address.
///
/// The TLVs of version 2 are ignored, because the server itself determines whether the connection uses TLS, and which
/// certificate the client presented.
///
/// # Errors
/// Returns `InvalidData` if there is no header, or if it is malformed or too long. Otherwise, returns the error of the
/// stream.
pub(super) async fn read(stream: &mut BoxStream) -> io::Result<Option<SocketAddr>> {
    let mut header = Vec::new();
    loop {
        let missing = missing(&header)?;
        if missing == 0 {
            break;
        }
        let mut rest = (&mut *stream).take(missing);
        if rest.read_to_end(&mut header).await? == 0 || rest.limit() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    let (header, _) = ProxyHeader::parse(&header, config).map_err(|_| malformed())?;
    let of_tcp = header.proxied_address().filter(|of| of.protocol == Protocol::Stream);
    Ok(of_tcp.map(|of| of.source))
}

/// Returns the minimum number of octets that are still missing from the header. Zero means that the header is complete.
fn missing(header: &[u8]) -> io::Result<u64> {
    let missing = match header {
        header if header.len() < V2.len() && V2.starts_with(header) => 1,
        header if header.starts_with(V2) => match header.get(V2_FIXED - 2..V2_FIXED) {
            Some(&[high, low]) => {
                let whole = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
                if whole > MAX_V2 {
                    return Err(malformed());
                }
                whole - header.len()
            }
            _ => V2_FIXED - header.len(),
        },
        header if header.len() < V1.len() && V1.starts_with(header) => 1,
        header if header.starts_with(V1) && header.ends_with(b"\r\n") => 0,
        header if header.starts_with(V1) && header.len() < MAX_V1 => 1,
        _ => return Err(malformed()),
    };
    Ok(u64::try_from(missing).unwrap_or(u64::MAX))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the proxy sent no PROXY header, or a malformed one")
}

/// Detects a header at the start of a connection that must not have one. A version 2 header begins with empty lines. If
/// these lines arrive alone, the session replies to them as to those of any client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Opening {
    /// No octet has arrived.
    #[default]
    Nothing,
    /// The octets so far are the beginning of a header. This number of octets is missing.
    Part(&'static [u8]),
    /// The connection begins with a header.
    Header,
    /// The connection begins with anything else.
    Other,
}

impl Opening {
    pub(crate) fn error() -> io::Error {
        let why = "the client sent a PROXY header, but its address is not configured as a proxy's";
        io::Error::new(io::ErrorKind::InvalidData, why)
    }

    pub(crate) fn look(&mut self, octets: &[u8]) {
        for octet in octets {
            *self = match *self {
                Self::Nothing => [V1, V2].into_iter().fold(Self::Other, |found, pattern| {
                    let rest = pattern.split_first().filter(|(first, _)| *first == octet);
                    rest.map_or(found, |(_, rest)| Self::Part(rest))
                }),
                Self::Part([last]) if last == octet => Self::Header,
                Self::Part([next, rest @ ..]) if next == octet => Self::Part(rest),
                Self::Part(_) => Self::Other,
                decided => return *self = decided,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Headers as HAProxy writes them, and the addresses in them. Some have TLVs that claim TLS and a certificate's
    /// name.
    fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let v2 = |command: u8, family: u8, rest: &[u8]| {
            let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
            [V2, &[command, family], &length, rest].concat()
        };
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0xDD, 0xD5, 0x02, 0x4B];
        let address: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
        let v6 = [&address.octets()[..], &address.octets(), &[0xDD, 0xD5, 0x02, 0x4B]].concat();
        let ssl = b"\x20\x00\x16\x07\x00\x00\x00\x00\x21\x00\x07TLSv1.3\x22\x00\x03tim\x01";
        vec![
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 56789 587\r\n".to_vec(), Some("192.0.2.1:56789")),
            (
                b"PROXY TCP6 2001:db8::1 2001:db8::2 56789 587\r\n".to_vec(),
                Some("[2001:db8::1]:56789"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::f ffff::f 65535 65535\r\n".to_vec(), None),
            (v2(0x21, 0x11, &v4), Some("192.0.2.1:56789")),
            (v2(0x21, 0x11, &[&v4[..], ssl].concat()), Some("192.0.2.1:56789")),
            (v2(0x21, 0x21, &v6), Some("[2001:db8::1]:56789")),
            (v2(0x20, 0x00, b""), None),
            (v2(0x20, 0x11, &v4), None),
            (v2(0x21, 0x00, b""), None),
            (v2(0x21, 0x12, &v4), None),
            (v2(0x21, 0x31, &[b'/'; 216]), None),
            (
                v2(0x21, 0x11, &[&v4[..], &[4, 1, 0xFC], &[0; 505]].concat()),
                Some("192.0.2.1:56789"),
            ),
        ]
    }

    /// Each octet arrives by itself, and the octets after the header stay in the stream.
    #[tokio::test]
    async fn a_header_is_read_whole_and_nothing_after_it() {
        for (header, address) in headers() {
            let (own, mut theirs) = tokio::io::duplex(1);
            let mut stream: BoxStream = Box::new(own);
            let sent = [&header[..], b"EHLO"].concat();
            let writing = tokio::spawn(async move { theirs.write_all(&sent).await });
            let read = read(&mut stream).await.unwrap();
            assert_eq!(read, address.map(|address| address.parse().unwrap()));
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            writing.await.unwrap().unwrap();
            assert_eq!(rest, "EHLO");
        }
    }

    #[tokio::test]
    async fn anything_else_is_no_header() {
        let mut longest = b"PROXY UNKNOWN ".to_vec();
        longest.resize(MAX_V1 - 2, b'x');
        let long = [&longest[..], b"x\r\n"].concat();
        longest.extend_from_slice(b"\r\n");
        let largest = headers().pop().unwrap().0;
        assert_eq!((longest.len(), largest.len()), (MAX_V1, MAX_V2));
        let mut wrong: Vec<Vec<u8>> = vec![
            b"EHLO hand\r\n".to_vec(),
            b"P".to_vec(),
            b"PROXX".to_vec(),
            b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
            b"PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n".to_vec(),
            b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n".to_vec(),
            b"PROXY \r\n".to_vec(),
            [V2, b"\x31\x11\x00\x0C", &[0; 12]].concat(),
            [V2, b"\x22\x11\x00\x0C", &[0; 12]].concat(),
            [V2, b"\x21\x11\x00\x0B", &[0; 11]].concat(),
            [V2, b"\x21\x41\x00\x00"].concat(),
            [V2, b"\x21\x00\x02\x09", &[0; 521]].concat(),
            [V2, b"\x21\x00\xFF\xFF"].concat(),
            long,
        ];
        for (header, _) in headers() {
            wrong.extend((0..header.len()).map(|end| header[..end].to_vec()));
        }
        for wrong in wrong {
            let mut stream: BoxStream =
                Box::new(tokio::io::join(&*wrong.clone().leak(), Vec::new()));
            assert!(read(&mut stream).await.is_err(), "{}", wrong.escape_ascii());
        }
        let mut stream: BoxStream = Box::new(tokio::io::join(&*longest.leak(), Vec::new()));
        assert_eq!(read(&mut stream).await.unwrap(), None);
    }

    proptest::proptest! {
        /// Any octets are either a header or not, and nothing after a header is read.
        #[test]
        fn whatever_comes_is_judged(
            v2 in proptest::prelude::any::<bool>(),
            command in 0x1Fu8..0x23, family in 0u8..0x40, length in 0u16..600,
            rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600),
            text in "(TCP4|TCP6|UNKNOWN|TCP)? ?[0-9a-f.: \r]{0,100}(\r\n)?.{0,20}",
        ) {
            let begin = match v2 {
                true => [V2, &[command, family], &length.to_be_bytes(), &rest].concat(),
                false => [V1, text.as_bytes()].concat(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (mut own, theirs) = tokio::io::duplex(2048);
                own.write_all(&begin).await.unwrap();
                own.shutdown().await.unwrap();
                let mut stream: BoxStream = Box::new(theirs);
                let read = read(&mut stream).await;
                let mut left = Vec::new();
                stream.read_to_end(&mut left).await.unwrap();
                let taken = begin.len() - left.len();
                assert!(taken <= if v2 { MAX_V2 } else { MAX_V1 });
                if read.is_ok() {
                    let end = if v2 { V2_FIXED + usize::from(length) } else { taken };
                    assert_eq!(taken, end);
                    assert!(v2 || begin[..taken].ends_with(b"\r\n"));
                }
            });
        }
    }

    #[test]
    fn a_header_where_there_should_be_none_is_seen_however_it_is_split() {
        for pattern in [V1, V2] {
            let mut one_by_one = Opening::default();
            for (n, octet) in pattern.iter().enumerate() {
                assert_ne!(one_by_one, Opening::Header);
                one_by_one.look(&[*octet]);
                let mut other = Opening::default();
                other.look(&pattern[..n]);
                other.look(b"!");
                other.look(&pattern[n..]);
                assert_eq!(other, Opening::Other);
            }
            assert_eq!(one_by_one, Opening::Header);
            let mut at_once = Opening::default();
            at_once.look(&[pattern, b"more"].concat());
            assert_eq!(at_once, Opening::Header);
        }
    }
}
