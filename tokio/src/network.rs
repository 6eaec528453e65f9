//! Networks of IP addresses.

use core::{
    fmt,
    net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// The number of leading bits that all IPv4-mapped IPv6 addresses share.
const MAPPED: u8 = 96;

/// A network, which is a set of IP addresses that begin with the same bits. In text, a network is written as
/// `192.0.2.0/24` or `2001:db8::/32`, or as a single address without a prefix length. [`str::parse`] reads this format,
/// and `Display` writes it.
///
/// An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) is treated as the IPv4 address that it contains (`192.0.2.1`). If
/// the address in the text is IPv4-mapped, the prefix length must be at least 96. For example, `::ffff:192.0.2.0/120`
/// means `192.0.2.0/24`.
///
/// ```
/// use smtp_auth_tokio::Network;
///
/// let network: Network = "192.0.2.0/24".parse()?;
/// assert!(network.contains("192.0.2.7".parse()?));
/// assert!(!network.contains("198.51.100.1".parse()?));
/// assert_eq!(network.to_string(), "192.0.2.0/24");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Creates the network of all addresses that share their first `bits` bits with `address`. If `bits` is greater
    /// than the length of the address, the network contains only this address.
    pub fn new(address: IpAddr, bits: u8) -> Self {
        let is_mapped = address.is_ipv6() && address.to_canonical().is_ipv4();
        let (address, bits) = match (is_mapped, bits.checked_sub(MAPPED)) {
            (true, Some(bits)) => (address.to_canonical(), bits),
            // Fewer than 96 bits do not make an IPv4 network, which would contain every IPv4 address.
            _ => (address, bits),
        };
        match address {
            IpAddr::V4(v4) => {
                let bits = bits.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Self { address: Ipv4Addr::from_bits(v4.to_bits() & mask).into(), bits }
            }
            IpAddr::V6(v6) => {
                let bits = bits.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Self { address: Ipv6Addr::from_bits(v6.to_bits() & mask).into(), bits }
            }
        }
    }

    /// Returns the network of one client, which is a single IPv4 address or an IPv6 /64. A client with one address in a
    /// /64 usually controls all addresses in it.
    pub(crate) fn of_client(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self::new(address, if address.is_ipv4() { 32 } else { 64 })
    }

    /// Returns whether the network contains the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Self::new(address, self.bits) == *self
    }
}

/// Converts an IPv4-mapped IPv6 address, as a listener on `[::]` reports it, to IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        // Keeps the scope id of a link-local address.
        IpAddr::V6(_) => address,
    }
}

/// Creates the network that contains only this address.
impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self::new(address, 128)
    }
}

/// The error returned when a string cannot be parsed as a [`Network`]. Either the text does not begin with an IP
/// address, or the prefix length is not valid for the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkError(());

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a network: expected an IP address, optionally with a prefix length, such as 192.0.2.0/24")
    }
}

impl core::error::Error for NetworkError {}

impl From<AddrParseError> for NetworkError {
    fn from(_: AddrParseError) -> Self {
        Self(())
    }
}

/// Writes the first address and the prefix length, or only the address if the network contains a single address.
/// [`str::parse`] accepts this format.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, bits } = self;
        match (address, bits) {
            (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => write!(f, "{address}"),
            _ => write!(f, "{address}/{bits}"),
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let Some((address, bits)) = text.split_once('/') else {
            return Ok(Self::from(text.parse::<IpAddr>()?));
        };
        let address: IpAddr = address.parse()?;
        let (least, most) = match address {
            IpAddr::V4(_) => (0, 32),
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => (MAPPED, 128),
            IpAddr::V6(_) => (0, 128),
        };
        match bits.parse::<u8>() {
            Ok(bits) if (least..=most).contains(&bits) => Ok(Self::new(address, bits)),
            _ => Err(NetworkError(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_a_network_by_its_leading_bits() {
        for (network, address, expected) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.77/24", "192.0.2.1", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/25", "192.0.2.128", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.0/120", "192.0.2.9", true),
            ("::ffff:192.0.2.0/120", "192.0.3.9", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "127.0.0.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("2001:db8::1", "2001:db8::1", true),
            ("2001:db8::1", "2001:db8::2", false),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{network} {address}");
        }
        // With fewer bits than all mapped addresses have in common, this would be every IPv4 address.
        for wrong in ["::ffff:192.0.2.0/24", "::ffff:192.0.2.0/95"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        let mistaken = Network::new("::ffff:192.0.2.0".parse().unwrap(), 24);
        assert!(!mistaken.contains("198.51.100.1".parse().unwrap()));
        for wrong in ["", "/8", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_is_written_as_it_is_parsed() {
        for (given, written) in [
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("2001:db8::1/128", "2001:db8::1"),
            ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
            ("::/0", "::/0"),
        ] {
            let network: Network = given.parse().unwrap();
            assert_eq!(network.to_string(), written);
            assert_eq!(written.parse(), Ok(network));
        }
        // A prefix that is shorter than that of the mapped addresses gives a network of IPv6.
        let short = Network::new("::ffff:192.0.2.7".parse().unwrap(), 95);
        assert_eq!(short.to_string().parse(), Ok(short));
    }

    #[test]
    fn a_client_has_a_whole_64_of_ipv6() {
        let of = |address: &str| Network::of_client(address.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
