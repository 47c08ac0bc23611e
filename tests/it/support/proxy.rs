//! A proxy between the service and a store, whose behaviour is switched while it runs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Most connections at a time; more wait to be taken on.
const CONNECTIONS: usize = 1_024;
const BACKLOG: u32 = 1_024;
/// Bytes read at a time, and how many such pieces may be on their way back while they are delayed.
const PIECE: usize = 64 * 1024;
const PIECES: usize = 256;

/// What becomes of connections, old and new, and of what they carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// All is passed on.
    None,
    /// What the store says comes this much later.
    Delay(Duration),
    /// Connections are closed, new ones refused.
    Cut,
    /// Connections stay and new ones are taken on, but whatever is said on them is swallowed.
    BlackHole,
    /// Connections are reset, new ones as soon as they are taken on.
    Reset,
}

/// A proxy on a port of its own. It stops when this is dropped, and its connections are closed.
pub struct Proxy {
    port: u16,
    fault: watch::Sender<Fault>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// In front of a store on this port of the local host. Call it within a Tokio runtime.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(store: u16) -> Self {
        // Keeps the port while nobody listens on it: a socket that is bound and does not listen refuses connections.
        let keeper = bound(0).expect("a free port");
        let port = keeper.local_addr().expect("an address").port();
        let listener = bound(port).and_then(|socket| socket.listen(BACKLOG)).expect("a port that is kept");
        let (fault, faults) = watch::channel(Fault::None);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _keeper = keeper;
            accept(listener, SocketAddr::from(([127, 0, 0, 1], store)), faults).await;
        });
        Self { port, fault, _tasks: tasks }
    }

    /// Where to connect in place of the store.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Changes the behaviour, of connections that are open too.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

fn bound(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    Ok(socket)
}

async fn accept(listener: TcpListener, store: SocketAddr, mut faults: watch::Receiver<Fault>) {
    let port = listener.local_addr().expect("an address").port();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    let mut listener = Some(listener);
    loop {
        if *faults.borrow_and_update() == Fault::Cut {
            listener = None;
        } else if listener.is_none() {
            listener = bound(port).and_then(|socket| socket.listen(BACKLOG)).ok();
        }
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            match &listener {
                Some(listener) => (permit, listener.accept().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = faults.changed() => if changed.is_err() { return },
            (permit, accepted) = next => {
                let Ok((client, _)) = accepted else { continue };
                let faults = faults.clone();
                open.spawn(async move {
                    let _permit = permit;
                    let _over = carry(client, store, faults).await;
                });
            }
        }
        while open.try_join_next().is_some() {}
    }
}

/// Carries one connection to its end.
async fn carry(mut client: TcpStream, store: SocketAddr, mut faults: watch::Receiver<Fault>) -> io::Result<()> {
    if *faults.borrow() == Fault::Reset {
        return client.set_zero_linger();
    }
    client.set_nodelay(true)?;
    let mut store = TcpStream::connect(store).await?;
    store.set_nodelay(true)?;
    {
        let ((from_client, to_client), (from_store, to_store)) = (client.split(), store.split());
        let (there, back) = (faults.clone(), faults.clone());
        tokio::select! {
            _ = faults.wait_for(|fault| matches!(fault, Fault::Cut | Fault::Reset)) => {}
            _ = pass_on(from_client, to_store, there, false) => {}
            _ = pass_on(from_store, to_client, back, true) => {}
        }
    }
    if *faults.borrow() == Fault::Reset {
        client.set_zero_linger()?;
        store.set_zero_linger()?;
    }
    Ok(())
}

/// Passes one direction on until it ends. What is delayed keeps its order, and does not delay what comes after it.
async fn pass_on(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    faults: watch::Receiver<Fault>,
    delayed: bool,
) -> io::Result<()> {
    let (pieces, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async move {
        let mut buffer = vec![0; PIECE];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            let wait = match *faults.borrow() {
                Fault::BlackHole => continue,
                Fault::Delay(wait) if delayed => wait,
                _ => Duration::ZERO,
            };
            let piece = (Instant::now() + wait, buffer[..count].to_vec());
            if pieces.send(piece).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((at, piece)) = due.recv().await {
            sleep_until(at).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    let (read, written): (io::Result<()>, io::Result<()>) = tokio::join!(read, write);
    read.and(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// A store that says everything twice.
    async fn store() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut byte = [0; 1];
                    while stream.read_exact(&mut byte).await.is_ok() {
                        stream.write_all(&[byte[0], byte[0]]).await.expect("written");
                    }
                });
            }
        });
        port
    }

    async fn connect(proxy: &Proxy) -> io::Result<TcpStream> {
        tokio::time::timeout(SOON, TcpStream::connect(("127.0.0.1", proxy.port()))).await.expect("in time")
    }

    async fn ask(stream: &mut TcpStream) -> io::Result<[u8; 2]> {
        stream.write_all(b"x").await?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn each_fault_is_what_it_says_and_heals() {
        let proxy = Proxy::start(store().await);
        let mut calm = connect(&proxy).await.expect("connected");
        assert_eq!(ask(&mut calm).await.expect("an answer"), *b"xx");

        proxy.set(Fault::Delay(Duration::from_millis(100)));
        let asked = Instant::now();
        assert_eq!(ask(&mut calm).await.expect("an answer"), *b"xx");
        assert!(asked.elapsed() >= Duration::from_millis(100));

        proxy.set(Fault::BlackHole);
        for stream in [&mut calm, &mut connect(&proxy).await.expect("taken on")] {
            assert!(tokio::time::timeout(Duration::from_millis(200), ask(stream)).await.is_err(), "swallowed");
        }

        for (fault, kind) in
            [(Fault::Reset, io::ErrorKind::ConnectionReset), (Fault::Cut, io::ErrorKind::UnexpectedEof)]
        {
            proxy.set(Fault::None);
            let mut stream = fresh(&proxy).await;
            assert_eq!(ask(&mut stream).await.expect("healed"), *b"xx");
            proxy.set(fault);
            let mut byte = [0; 1];
            let ended = tokio::time::timeout(SOON, stream.read_exact(&mut byte)).await.expect("in time");
            assert_eq!(ended.expect_err("ended").kind(), kind, "{fault:?}");
        }
        let refused = async {
            while connect(&proxy).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            connect(&proxy).await.expect_err("refused")
        };
        let refused = tokio::time::timeout(SOON, refused).await.expect("in time");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// A connection, once the proxy has taken note that it may take some on again.
    async fn fresh(proxy: &Proxy) -> TcpStream {
        for _ in 0..500 {
            if let Ok(mut stream) = connect(proxy).await
                && ask(&mut stream).await.is_ok()
            {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the proxy takes no connections");
    }
}
