//! Addresses and address ranges, as trusted proxies are listed.

use std::fmt;
use std::net::IpAddr;

/// A range of addresses: `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

/// Why a text is not a range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an IP address or a range such as 10.0.0.0/8")]
pub struct InvalidNetwork;

impl Network {
    /// Reads `address` or `address/bits`.
    ///
    /// # Errors
    /// [`InvalidNetwork`] when the text has another form or more bits than its address.
    pub fn parse(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| InvalidNetwork)?)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        match base.to_canonical() {
            _ if bits > width => Err(InvalidNetwork),
            // IPv4 in IPv6 form is IPv4, as the addresses are that it is compared with.
            v4 @ IpAddr::V4(_) if base.is_ipv6() && bits >= 96 => Ok(Self { base: v4, bits: bits - 96 }),
            IpAddr::V4(_) if base.is_ipv6() => Err(InvalidNetwork),
            _ => Ok(Self { base, bits }),
        }
    }

    /// Whether the address lies in the range. An IPv4 address that arrives in IPv6 form counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                base.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                base.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }

    /// Whether the range holds every address of its kind.
    pub const fn is_everyone(&self) -> bool {
        self.bits == 0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hostile;

    fn within(range: &str, address: &str) -> bool {
        Network::parse(range).expect("a range").contains(address.parse().expect("an address"))
    }

    #[test]
    fn an_address_is_inside_or_outside() {
        assert!(within("10.0.0.0/8", "10.255.0.1"));
        assert!(within("10.0.0.0/8", "::ffff:10.1.2.3"), "IPv4 in IPv6 form");
        assert!(!within("10.0.0.0/8", "11.0.0.1"));
        assert!(within("192.0.2.7", "192.0.2.7") && !within("192.0.2.7", "192.0.2.8"));
        assert!(within("0.0.0.0/0", "203.0.113.9") && !within("0.0.0.0/0", "::1"));
        assert!(within("fd00::/8", "fd12::1") && !within("fd00::/8", "fe80::1"));
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "proxy", "10.0.0.0/x", "10.0.0.0/"] {
            assert_eq!(Network::parse(bad), Err(InvalidNetwork), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(hostile::config("networks"))]

        #[test]
        fn a_range_holds_its_own_base_and_reads_as_it_is_written(text in "\\PC{0,12}|[0-9a-f.:/]{0,30}", base: std::net::IpAddr, bits: u8) {
            for text in [text, format!("{base}/{bits}"), base.to_string(), format!("::ffff:{base}/{bits}")] {
                if let Ok(network) = Network::parse(&text) {
                    prop_assert!(network.contains(network.base), "{}", &text);
                    prop_assert_eq!(Network::parse(&network.to_string()), Ok(network), "{}", text);
                }
            }
        }
    }
}
