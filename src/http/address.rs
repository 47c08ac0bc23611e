//! The client's address, behind proxies that are trusted.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderName, HeaderValue, X_FORWARDED_FOR};

use crate::config::Network;

static FORWARDED: HeaderName = X_FORWARDED_FOR;

/// Proxies whose word on the client's address is taken.
pub struct Proxies(Vec<Network>);

impl Proxies {
    /// Trusts proxies in these networks.
    pub fn new(trusted: Vec<Network>) -> Self {
        Self(trusted)
    }

    /// The client's address: the peer's, or, where the peer is trusted, the right-most hop of `X-Forwarded-For` that is not.
    pub fn client(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip();
        Some(self.first_untrusted(peer, request.headers().get_all(&FORWARDED).map(HeaderValue::as_bytes)))
    }

    /// Goes through the hops from the right, over all lines of the header. They are read as bytes: what a client made up may
    /// stand to the left of what our proxy wrote, in the same line, and need not be text.
    fn first_untrusted<'a>(&self, peer: IpAddr, lines: impl Iterator<Item = &'a [u8]>) -> IpAddr {
        let trusts = |address: IpAddr| self.0.iter().any(|network| network.contains(address));
        let mut client = peer.to_canonical();
        if !trusts(client) {
            return client;
        }
        let lines: Vec<_> = lines.collect();
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
            // A hop that is no address was not written by a proxy of ours.
            let Some(address) = std::str::from_utf8(hop).ok().and_then(|text| text.trim().parse::<IpAddr>().ok())
            else {
                break;
            };
            client = address.to_canonical();
            if !trusts(client) {
                break;
            }
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hostile;

    fn proxies() -> Proxies {
        Proxies::new(vec![Network::parse("10.0.0.0/8").expect("a network")])
    }

    fn client(peer: &str, lines: &[&[u8]]) -> String {
        proxies().first_untrusted(peer.parse().expect("address"), lines.iter().copied()).to_string()
    }

    #[test]
    fn the_right_most_untrusted_hop_is_the_client() {
        assert_eq!(client("203.0.113.9", &[b"198.51.100.1"]), "203.0.113.9", "an untrusted peer is the client");
        assert_eq!(client("10.0.0.1", &[b"198.51.100.1"]), "198.51.100.1");
        assert_eq!(
            client("10.0.0.1", &[b"1.1.1.1, 198.51.100.1 ,10.9.9.9"]),
            "198.51.100.1",
            "forged hops are passed over"
        );
        assert_eq!(
            client("10.0.0.1", &[b"1.1.1.1", b"198.51.100.1", b"10.9.9.9"]),
            "198.51.100.1",
            "lines are one list"
        );
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[b"rubbish"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[b"\xFF\xFE, 198.51.100.1"]), "198.51.100.1", "forged hops need not be text");
        assert_eq!(client("::ffff:10.0.0.1", &[b"::ffff:198.51.100.1"]), "198.51.100.1", "one client has one name");
    }

    proptest! {
        #![proptest_config(hostile::config("forwarded"))]

        /// Whatever a client writes, it stands to the left of what the proxy adds, and changes nothing.
        #[test]
        fn nothing_a_client_forges_changes_its_address(
            forged in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6), own: std::net::Ipv4Addr,
        ) {
            prop_assume!(own.octets()[0] != 10);
            let mut lines: Vec<&[u8]> = forged.iter().map(Vec::as_slice).collect();
            let added = own.to_string();
            lines.push(added.as_bytes());
            prop_assert_eq!(client("10.1.2.3", &lines), added.clone(), "as a line of its own");
            let joined = [forged.concat(), b", ".to_vec(), added.as_bytes().to_vec()].concat();
            prop_assert_eq!(client("10.1.2.3", &[&joined]), added, "in the client's own line");
        }
    }
}
