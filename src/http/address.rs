//! The client's address, behind proxies that are trusted.

use std::net::IpAddr;

use actix_web::HttpRequest;

use crate::config::Network;

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
        let forwarded = request.headers().get_all("X-Forwarded-For").filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = forwarded.flat_map(|text| text.split(',')).map(str::trim).collect();
        Some(self.first_untrusted(peer, &hops))
    }

    fn first_untrusted(&self, peer: IpAddr, hops: &[&str]) -> IpAddr {
        let trusts = |address: IpAddr| self.0.iter().any(|network| network.contains(address));
        let mut client = peer;
        for hop in hops.iter().rev() {
            if !trusts(client) {
                break;
            }
            // A hop that is no address was not written by a proxy of ours.
            let Ok(address) = hop.parse() else { break };
            client = address;
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_most_untrusted_hop_is_the_client() {
        let proxies = Proxies::new(vec![Network::parse("10.0.0.0/8").expect("a network")]);
        let client =
            |peer: &str, hops: &[&str]| proxies.first_untrusted(peer.parse().expect("address"), hops).to_string();
        assert_eq!(
            client("203.0.113.9", &["198.51.100.1"]),
            "203.0.113.9",
            "an untrusted peer is the client, whatever it says"
        );
        assert_eq!(client("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(
            client("10.0.0.1", &["1.1.1.1", "198.51.100.1", "10.9.9.9"]),
            "198.51.100.1",
            "what the client forged is passed over"
        );
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["rubbish"]), "10.0.0.1");
    }
}
