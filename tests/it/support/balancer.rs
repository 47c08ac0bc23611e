//! A balancer in front of instances: `HAProxy`, which asks each for `/ready` and sends requests to those that are.

use std::time::Duration;

use super::process::{Guarded, free_port};
use super::scratch::Scratch;

/// A private balancer. It ends when this is dropped, or with the test process.
pub struct Balancer {
    /// Where it listens.
    pub address: String,
    _process: Guarded,
    _scratch: Scratch,
}

impl Balancer {
    /// Starts a balancer, and waits until it answers.
    ///
    /// # Panics
    /// When `haproxy` is missing or no instance is ready.
    pub async fn start(instances: &[String]) -> Self {
        let (scratch, address) = (Scratch::new("balancer"), format!("127.0.0.1:{}", free_port()));
        let server = |(at, address): (usize, &String)| format!("  server s{at} {address} check");
        let servers = instances.iter().enumerate().map(server).collect::<Vec<_>>().join("\n");
        let settings = format!(
            "global\n  maxconn 4000\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n  timeout check 2s\n\
             frontend door\n  bind {address}\n  stats enable\n  stats uri /balancer\n  default_backend instances\n\
             backend instances\n  balance roundrobin\n  option httpchk GET /ready\n  http-check expect status 200\n  \
             default-server inter 200ms fall 2 rise 1\n{servers}\n"
        );
        let file = scratch.path().join("haproxy.cfg");
        std::fs::write(&file, settings).expect("a file");
        let program = if std::path::Path::new("/usr/sbin/haproxy").exists() { "/usr/sbin/haproxy" } else { "haproxy" };
        let log = scratch.path().join("log");
        let process = Guarded::start(program, &["-db", "-f", file.to_str().expect("a text path")], "KILL", &log);
        let balancer = Self { address, _process: process, _scratch: scratch };
        for _ in 0..200 {
            let health = reqwest::get(format!("http://{}/ready", balancer.address)).await;
            if health.is_ok_and(|reply| reply.status() == 200) {
                return balancer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no balancer (Debian's package `haproxy`): {}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    /// Waits until it sends requests to each of its instances.
    ///
    /// # Panics
    /// When that does not come to be.
    pub async fn all_up(&self) {
        for _ in 0..200 {
            let table = reqwest::get(format!("http://{}/balancer;csv", self.address)).await.expect("an answer");
            let table = table.text().await.expect("a table");
            let mut servers = table.lines().filter(|line| line.starts_with("instances,s"));
            if servers.all(|line| line.split(',').nth(17) == Some("UP")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the balancer does not find every instance ready");
    }
}
