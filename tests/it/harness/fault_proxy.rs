//! A way between two processes that a test can break.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// A TCP proxy on loopback.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    addr: SocketAddr,
    target: watch::Sender<SocketAddr>,
    way: watch::Sender<Way>,
    _tasks: JoinSet<()>,
}

/// What happens to bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// They pass.
    Open,
    /// They wait; nothing is closed, nothing is lost.
    Frozen,
    /// Every connection is closed, and each new one at once.
    Cut,
}

impl FaultProxy {
    /// Listens on a free port for connections to `target`.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind the proxy");
        let addr = listener.local_addr().expect("the proxy's address");
        let (way, seen) = watch::channel(Way::Open);
        let (target, to) = watch::channel(target);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, to, seen));
        Self { addr, target, way, _tasks: tasks }
    }

    /// Where to connect instead of the target.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes every connection and refuses new ones.
    pub(crate) fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }

    /// Lets no byte pass, as a broken cable would: nobody is told.
    pub(crate) fn freeze(&self) {
        self.way.send_replace(Way::Frozen);
    }

    /// Closes every connection; new ones lead to another target.
    pub(crate) fn point_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
        self.cut();
        self.restore();
    }

    /// Lets all pass again.
    pub(crate) fn restore(&self) {
        self.way.send_replace(Way::Open);
    }
}

async fn accept(
    listener: TcpListener,
    target: watch::Receiver<SocketAddr>,
    way: watch::Receiver<Way>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        if *way.borrow() != Way::Cut {
            let to = *target.borrow();
            connections.spawn(carry(client, to, way.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(client: TcpStream, target: SocketAddr, way: watch::Receiver<Way>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut closed = way.clone();
    tokio::select! {
        _ = closed.wait_for(|way| *way == Way::Cut) => {}
        () = pump(from_client, to_server, way.clone()) => {}
        () = pump(from_server, to_client, way) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if way.wait_for(|way| *way == Way::Open).await.is_err()
            || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
    }
}
