//! Rate limits: per visitor where one is known, else per client address; off for a caller that holds a valid pass.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use actix_web::http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use governor::clock::{Clock as _, DefaultClock};
use governor::{Quota, RateLimiter, state::keyed::DashMapStateStore};

use super::error::{HttpProblem, whole_seconds};
use crate::domain::{Code, Problem, VisitorId};

/// Callers are counted in so many buckets, chosen by a keyed hash: what is remembered is bounded, at the price that two
/// callers in a million share a bucket now and then.
const BUCKETS: u64 = 1 << 20;

/// One limit.
struct Limit {
    name: &'static str,
    burst: u32,
    per_second: u32,
    limiter: RateLimiter<u64, DashMapStateStore<u64>, DefaultClock>,
    hash: RandomState,
}

/// The limits of one instance.
pub struct Limits {
    visitor: Option<Limit>,
    address: Option<Limit>,
    clock: DefaultClock,
}

impl Limit {
    fn new(name: &'static str, per_second: u32, burst: u32) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?).allow_burst(NonZeroU32::new(burst.max(1))?);
        Some(Self {
            name,
            burst: burst.max(1),
            per_second,
            limiter: RateLimiter::dashmap(quota),
            hash: RandomState::new(),
        })
    }

    fn check(&self, caller: impl Hash, clock: &DefaultClock) -> Result<(), HttpProblem> {
        let Err(until) = self.limiter.check_key(&(self.hash.hash_one(caller) % BUCKETS)) else { return Ok(()) };
        let wait = whole_seconds(until.wait_time_from(clock.now()));
        let mut problem = Problem::new(
            Code::RateLimited,
            format!(
                "At most {} requests a second per {}; wait as long as Retry-After says.",
                self.per_second, self.name
            ),
        );
        problem.retry_after = None;
        let window = self.burst.div_ceil(self.per_second);
        let headers = [
            (RETRY_AFTER.as_str(), wait.to_string()),
            ("x-ratelimit-limit", self.burst.to_string()),
            ("x-ratelimit-remaining", "0".to_owned()),
            ("x-ratelimit-reset", wait.to_string()),
            ("ratelimit-policy", format!("\"{}\";q={};w={window}", self.name, self.burst)),
            ("ratelimit", format!("\"{}\";r=0;t={wait}", self.name)),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(&value).ok()?))
        });
        Err(HttpProblem { headers: headers.collect(), ..HttpProblem::from(problem) })
    }

    fn shrink(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

impl Limits {
    /// Limits of so many requests a second with so large a burst; 0 a second is no limit.
    pub fn new(visitor: (u32, u32), address: (u32, u32)) -> Self {
        Self {
            visitor: Limit::new("visitor", visitor.0, visitor.1),
            address: Limit::new("address", address.0, address.1),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request of a visitor who is known.
    pub fn count_visitor(&self, visitor: &VisitorId) -> Result<(), HttpProblem> {
        self.visitor.as_ref().map_or(Ok(()), |limit| limit.check(visitor, &self.clock))
    }

    /// Counts a request of somebody of whom only the address is known.
    pub fn count_address(&self, address: IpAddr) -> Result<(), HttpProblem> {
        self.address.as_ref().map_or(Ok(()), |limit| limit.check(site(address), &self.clock))
    }

    /// Forgets callers who have been quiet; run now and then.
    pub fn shrink(&self) {
        if let Some(limit) = &self.visitor {
            limit.shrink();
        }
        if let Some(limit) = &self.address {
            limit.shrink();
        }
    }
}

/// What counts as one address: with IPv6 whoever has one address has the 2^64 of its network, so those count as one.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_of_ipv6_is_one_caller_and_one_address_of_ipv4_is() {
        let limits = Limits::new((0, 0), (1, 1));
        let count = |address: &str| limits.count_address(address.parse().expect("an address")).is_ok();
        assert!(count("2001:db8::1") && !count("2001:db8::ffff:1:2:3"));
        assert!(count("2001:db8:0:1::1"), "another network");
        assert!(count("198.51.100.1") && !count("::ffff:198.51.100.1") && count("198.51.100.2"));
    }
}
