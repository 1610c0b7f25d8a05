//! A way between two processes that a test can break.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::sleep,
};

/// How long a connection stays half open: longer than anything that came over it is under way, and shorter
/// than it takes a proxy to find by itself that nobody is there.
const STRANDED: Duration = Duration::from_secs(10);

/// A TCP proxy on loopback.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    target: watch::Sender<SocketAddr>,
    way: watch::Sender<Way>,
    stranded: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

/// What happens to bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// They pass.
    Open,
    /// They pass, each read so much later.
    Slow(Duration),
    /// They wait; nothing is closed, nothing is lost.
    Frozen,
    /// Those to the target wait.
    Unheard,
    /// Those from the target wait.
    Unanswered,
    /// Every connection is closed, and each new one at once.
    Cut,
}

impl Way {
    /// How much later bytes pass, if they do; they are on their way to the target, or from it.
    fn delay(self, to_target: bool) -> Option<Duration> {
        match (self, to_target) {
            (Self::Open, _) | (Self::Unheard, false) | (Self::Unanswered, true) => {
                Some(Duration::ZERO)
            }
            (Self::Slow(by), _) => Some(by),
            (Self::Frozen | Self::Cut, _) | (Self::Unheard, true) | (Self::Unanswered, false) => {
                None
            }
        }
    }
}

impl FaultProxy {
    /// Listens on a free port for connections to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind the proxy");
        let addr = listener.local_addr().expect("the proxy's address");
        let (way, seen) = watch::channel(Way::Open);
        let (target, to) = watch::channel(target);
        let (stranded, strands) = watch::channel(());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, to, seen, strands));
        Self { addr, target, way, stranded, _tasks: tasks }
    }

    /// Where to connect instead of the target.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes every connection and refuses new ones.
    pub fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }

    /// Lets no byte pass, as a broken cable would: nobody is told.
    pub fn freeze(&self) {
        self.way.send_replace(Way::Frozen);
    }

    /// Lets no byte pass to the target.
    pub fn freeze_questions(&self) {
        self.way.send_replace(Way::Unheard);
    }

    /// Lets no byte pass from the target.
    pub fn freeze_answers(&self) {
        self.way.send_replace(Way::Unanswered);
    }

    /// Lets all pass, so much later.
    pub fn slow_down(&self, by: Duration) {
        self.way.send_replace(Way::Slow(by));
    }

    /// Leaves every connection half open: no byte passes on it any more, and for a while neither side learns
    /// that the other one is gone. New ones are made as ever.
    pub fn strand(&self) {
        self.stranded.send_replace(());
    }

    /// Closes every connection; new ones lead to another target.
    pub fn point_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
        self.cut();
        self.restore();
    }

    /// Lets all pass again.
    pub fn restore(&self) {
        self.way.send_replace(Way::Open);
    }
}

async fn accept(
    listener: TcpListener,
    target: watch::Receiver<SocketAddr>,
    way: watch::Receiver<Way>,
    strands: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        if *way.borrow() != Way::Cut {
            let to = *target.borrow();
            let mut stranded = strands.clone();
            // Only what comes from here on concerns it.
            stranded.mark_unchanged();
            connections.spawn(carry(client, to, way.clone(), stranded));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(
    client: TcpStream,
    target: SocketAddr,
    way: watch::Receiver<Way>,
    mut stranded: watch::Receiver<()>,
) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut closed = way.clone();
    let is_stranded = tokio::select! {
        _ = closed.wait_for(|way| *way == Way::Cut) => false,
        () = pump(&mut from_client, &mut to_server, way.clone(), true) => false,
        () = pump(&mut from_server, &mut to_client, way, false) => false,
        changed = stranded.changed() => changed.is_ok(),
    };
    if is_stranded {
        // Both ends stay open here.
        sleep(STRANDED).await;
    }
}

async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    to_target: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let passes = way.wait_for(|way| way.delay(to_target).is_some()).await;
        let Some(delay) = passes.ok().and_then(|way| way.delay(to_target)) else { return };
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
