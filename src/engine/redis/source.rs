//! Where connections lead: one server, the master that Sentinels name, or the nodes of a Cluster.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError,
    RedisResult, TlsMode, Value,
};
use tokio::sync::Mutex;

use super::{RedisSettings, Topology};

/// What leads to the store.
pub enum Source {
    /// One server.
    Single(Client),
    /// Each Sentinel with the name of the master: all are asked at once, the first one that names a master wins.
    Sentinel(Vec<Mutex<SentinelClient>>),
    /// A Cluster, and the connection to it that all share.
    Cluster(Box<ClusterClient>, Mutex<Option<(u64, ClusterConnection)>>),
}

/// What goes over the wire.
#[derive(Clone)]
pub enum Wire {
    /// To one server.
    Server(MultiplexedConnection),
    /// To all nodes of a Cluster; a command goes to the one that has its keys.
    Cluster(ClusterConnection),
}

/// What a server said of itself when it was connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// Another one after each start of a server, and on each server: what was known of the store may not hold any more.
    /// `None` on a Cluster, and where the store does not say.
    pub run_id: Option<String>,
}

impl Source {
    /// What the settings name.
    pub fn open(settings: &RedisSettings) -> RedisResult<Self> {
        let mut nodes = Vec::new();
        for url in std::iter::once(&settings.url).chain(&settings.others) {
            let info = url.as_str().into_connection_info()?;
            let tcp = info.tcp_settings().clone().set_nodelay(true);
            nodes.push(info.set_tcp_settings(tcp));
        }
        let first = nodes[0].clone();
        Ok(match &settings.topology {
            Topology::Single => Self::Single(Client::open(first)?),
            Topology::Sentinel { master, password } => {
                let of_master = SentinelNodeConnectionInfo::default()
                    .set_redis_connection_info(first.redis_settings().clone())
                    .set_tcp_settings(first.tcp_settings().clone());
                let of_master = match first.addr() {
                    ConnectionAddr::TcpTls { insecure: false, .. } => of_master.set_tls_mode(TlsMode::Secure),
                    ConnectionAddr::TcpTls { .. } => of_master.set_tls_mode(TlsMode::Insecure),
                    _ => of_master,
                };
                let sentinel = |node: ConnectionInfo| {
                    // The user, password and database of the URLs are the master's.
                    let mut own = redis::RedisConnectionInfo::default();
                    if let Some(password) = password {
                        own = own.set_password(password);
                    }
                    let node = node.set_redis_settings(own);
                    let kind = SentinelServerType::Master;
                    SentinelClient::build(vec![node], master.as_str(), Some(of_master.clone()), kind).map(Mutex::new)
                };
                Self::Sentinel(nodes.into_iter().map(sentinel).collect::<RedisResult<_>>()?)
            }
            Topology::Cluster => {
                let client = ClusterClient::builder(nodes)
                    .tcp_settings(first.tcp_settings().clone())
                    .connection_timeout(settings.connect_timeout)
                    .response_timeout(settings.response_timeout)
                    .overall_response_timeout(Some(settings.response_timeout))
                    .build()?;
                Self::Cluster(Box::new(client), Mutex::new(None))
            }
        })
    }

    /// Opens a connection. A server that is a replica is refused: it would take no change. `age` tells the connections
    /// of a Cluster apart that were given up.
    pub async fn connect(&self, response_timeout: Duration, age: u64) -> RedisResult<(Wire, Server)> {
        let client = match self {
            Self::Single(client) => client.clone(),
            Self::Sentinel(sentinels) => master(sentinels).await?,
            Self::Cluster(client, shared) => {
                let mut shared = shared.lock().await;
                if let Some((of, link)) = &*shared
                    && *of == age
                {
                    return Ok((Wire::Cluster(link.clone()), Server::default()));
                }
                *shared = None;
                let (_, link) = shared.insert((age, client.get_async_connection().await?));
                return Ok((Wire::Cluster(link.clone()), Server::default()));
            }
        };
        // The time to connect is bounded by the caller: looking up the master is part of it.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(Some(response_timeout));
        let mut wire = Wire::Server(client.get_multiplexed_async_connection_with_config(&config).await?);
        let server = introduce(&mut wire).await?;
        Ok((wire, server))
    }
}

/// The first master that a Sentinel names and that says so itself.
async fn master(sentinels: &[Mutex<SentinelClient>]) -> RedisResult<Client> {
    let mut asked = FuturesUnordered::new();
    for sentinel in sentinels {
        asked.push(async move { sentinel.lock().await.async_get_client().await });
    }
    let mut refusal = RedisError::from((ErrorKind::EmptySentinelList, "there are no Sentinels to ask"));
    while let Some(named) = asked.next().await {
        match named {
            Ok(client) => return Ok(client),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

/// Asks a server which one it is.
async fn introduce(wire: &mut Wire) -> RedisResult<Server> {
    let mut info = redis::cmd("INFO");
    info.arg("server").arg("replication");
    let text = match wire.send(&info).await {
        Ok(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(Value::VerbatimString { text, .. }) => text,
        Err(error) if error.code() != Some("NOPERM") => return Err(error),
        _ => return Ok(Server::default()),
    };
    let fact = |name| text.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
    if fact("role") == Some("slave") {
        return Err(RedisError::from((ErrorKind::Io, "the address leads to a replica")));
    }
    Ok(Server { run_id: fact("run_id").map(str::to_owned) })
}

impl Wire {
    /// Sends one command and waits for the answer.
    pub async fn send(&mut self, command: &redis::Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Server(link) => link.send_packed_command(command).await,
            Self::Cluster(link) => link.req_packed_command(command).await,
        };
        answer.and_then(Value::extract_error)
    }

    /// Asks for a sign of life: of a Cluster that of any node.
    pub async fn ping(&mut self) -> RedisResult<Value> {
        let ping = redis::cmd("PING");
        match self {
            Self::Server(_) => self.send(&ping).await,
            Self::Cluster(link) => {
                let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
                link.route_command(ping, any).await.and_then(Value::extract_error)
            }
        }
    }
}
