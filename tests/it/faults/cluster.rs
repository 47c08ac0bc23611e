//! A Cluster of three masters: the line of an event goes on while its slot is moved from one to another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::rig::Rig;
use crate::support::process::free_port;
use crate::support::redis::RedisServer;

const SLOTS: u32 = 16_384;
const SOON: Duration = Duration::from_secs(30);

/// Three masters that share the slots.
struct Cluster {
    nodes: Vec<RedisServer>,
    ids: Vec<String>,
}

impl Cluster {
    async fn start() -> Self {
        let started = tokio::task::spawn_blocking(|| {
            let node = || {
                let (bus, file) = (free_port().to_string(), format!("nodes-{}.conf", uuid::Uuid::new_v4()));
                let options = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-config-file", &file];
                (RedisServer::start(&options), bus)
            };
            [node(), node(), node()]
        });
        let started = started.await.expect("Redis starts");
        let share = SLOTS.div_ceil(3);
        for (at, (node, _)) in (0_u32..).zip(&started) {
            let (first, last) = (at * share, ((at + 1) * share).min(SLOTS) - 1);
            let _: String = node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            // The nodes number their epochs themselves; given ones are in nobody's way.
            let _: String = node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]).await;
        }
        for (node, bus) in &started[1..] {
            let port = node.port().to_string();
            let _: String = started[0].0.command(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await;
        }
        let nodes: Vec<RedisServer> = started.into_iter().map(|(node, _)| node).collect();
        let mut ids = Vec::new();
        let deadline = Instant::now() + SOON;
        for node in &nodes {
            loop {
                let info: String = node.command(&["CLUSTER", "INFO"]).await;
                if info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3") {
                    break;
                }
                assert!(Instant::now() < deadline, "the cluster does not come up: {info}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            ids.push(node.command(&["CLUSTER", "MYID"]).await);
        }
        Self { nodes, ids }
    }

    /// Which node has the slot.
    async fn owner(&self, slot: u32) -> usize {
        for (at, node) in self.nodes.iter().enumerate() {
            let slots: Vec<(u32, u32, redis::Value)> =
                Self::own(node.command(&["CLUSTER", "SLOTS"]).await, &self.ids[at]);
            if slots.iter().any(|(first, last, _)| (*first..=*last).contains(&slot)) {
                return at;
            }
        }
        panic!("nobody has slot {slot}");
    }

    /// The ranges that this node says are its own.
    fn own(slots: Vec<Vec<redis::Value>>, id: &str) -> Vec<(u32, u32, redis::Value)> {
        let read = |range: Vec<redis::Value>| {
            let (first, last) =
                (redis::from_redis_value(range[0].clone()).ok()?, redis::from_redis_value(range[1].clone()).ok()?);
            let text = format!("{:?}", range[2]);
            text.contains(id).then(|| (first, last, range[2].clone()))
        };
        slots.into_iter().filter_map(read).collect()
    }

    /// Moves a slot, key by key, as `redis-cli --cluster reshard` does; gives how many keys went.
    async fn move_slot(&self, slot: u32, from: usize, to: usize) -> usize {
        let number = slot.to_string();
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let _: String = target.command(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &self.ids[from]]).await;
        let _: String = source.command(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &self.ids[to]]).await;
        let (port, mut moved) = (target.port().to_string(), 0);
        loop {
            // One at a time, so that for a while the keys of the event lie on two nodes.
            let keys: Vec<String> = source.command(&["CLUSTER", "GETKEYSINSLOT", &number, "1"]).await;
            let Some(key) = keys.first() else { break };
            let _: String = source.command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
            moved += 1;
        }
        for node in [target, source, &self.nodes[3 - from - to]] {
            let _: String = node.command(&["CLUSTER", "SETSLOT", &number, "NODE", &self.ids[to]]).await;
        }
        moved
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_moved_while_the_line_runs() {
    let cluster = Cluster::start().await;
    // One node is enough to find the others.
    let url = cluster.nodes[0].url();
    let rig = Rig::start(&[("USHER_REDIS_URL", &url), ("USHER_REDIS_MODE", "cluster")]).await;
    rig.put_event("e", 120).await;
    let slot: u32 = cluster.nodes[0].command(&["CLUSTER", "KEYSLOT", "x{e}"]).await;

    let moved = AtomicBool::new(false);
    let mut refused = 0;
    let joins = async {
        let mut tickets = Vec::new();
        while !moved.load(Ordering::Relaxed) || tickets.len() < 20 {
            let joined = rig.join("e").await;
            joined.check();
            if joined.reply.status == 201 {
                tickets.push(joined.reply.json()["token"].as_str().expect("a ticket").to_owned());
            } else {
                refused += 1;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tickets
    };
    let resharding = async {
        let mut keys = 0;
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let from = cluster.owner(slot).await;
            keys += cluster.move_slot(slot, from, (from + 1) % 3).await;
        }
        moved.store(true, Ordering::Relaxed);
        keys
    };
    let began = Instant::now();
    let (tickets, keys) = tokio::join!(joins, resharding);
    println!("6 moves of {keys} keys beside {} joins, {refused} refused, in {:?}", tickets.len(), began.elapsed());
    assert!(keys >= 6 * 3, "hardly anything was moved: {keys}");

    // Nobody was lost, and all stand in the order in which they came.
    rig.pause("e").await;
    let (mut last, mut inside) = (0, 0);
    for ticket in &tickets {
        let view = rig.position("e", ticket).await.reply.expect(200);
        if view["state"] == "waiting" {
            let position = view["position"].as_u64().expect("a position");
            assert!(position > last, "{view} behind {last}");
            last = position;
        } else {
            assert_eq!(last, 0, "somebody was overtaken: {view}");
            inside += 1;
        }
    }
    let most = 2.0 * began.elapsed().as_secs_f64() + 3.0;
    assert!(inside >= 1 && f64::from(inside) <= most, "{inside} were let in");
    assert_eq!(rig.plain("/ready").await.reply.status, 200);
}
