//! Where and how a client comes in.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{self, Channel, ClientTlsConfig, Error},
};

use super::{ChatClient, Dialect, Payload, SOON};

/// A replica's address, and what a client that connects to it speaks and asks for.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    addr: SocketAddr,
    /// What the client speaks.
    pub(crate) dialect: Dialect,
    /// The value of the metadata key `chat-room`.
    pub(crate) room: Option<MetadataValue<Ascii>>,
    /// The value of the metadata key `traceparent`.
    pub(crate) traceparent: Option<MetadataValue<Ascii>>,
    /// The value of the metadata key `x-forwarded-for`.
    pub(crate) forwarded_for: Option<MetadataValue<Ascii>>,
    /// The value of the metadata key `authorization`.
    pub(crate) authorization: Option<MetadataValue<Ascii>>,
    from: Option<IpAddr>,
    windows: Option<(u32, u32)>,
    tls: Option<ClientTlsConfig>,
    shared: Option<Channel>,
}

impl Endpoint {
    /// The `chat` protocol at this address.
    pub(crate) fn at(addr: SocketAddr, dialect: Dialect) -> Self {
        let (room, traceparent, forwarded_for, authorization, from) = Default::default();
        let (windows, tls, shared) = Default::default();
        Self {
            addr,
            dialect,
            room,
            traceparent,
            forwarded_for,
            authorization,
            from,
            windows,
            tls,
            shared,
        }
    }

    /// The address.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same in this dialect.
    pub(crate) fn speaking(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// The same into another room than the default one.
    pub(crate) fn into_room(mut self, room: &str) -> Self {
        self.room = Some(MetadataValue::try_from(room.as_bytes()).expect("a header value"));
        self
    }

    /// The same in a trace that began elsewhere.
    pub(crate) fn in_trace(mut self, traceparent: &str) -> Self {
        self.traceparent = Some(traceparent.parse().expect("a header value"));
        self
    }

    /// The same as a proxy that speaks for somebody.
    pub(crate) fn on_behalf_of(mut self, client: &str) -> Self {
        self.forwarded_for = Some(client.parse().expect("a header value"));
        self
    }

    /// The same with this token.
    pub(crate) fn bearing(mut self, token: &str) -> Self {
        self.authorization = Some(format!("Bearer {token}").parse().expect("a header value"));
        self
    }

    /// The request with the token, if there is one.
    pub(crate) fn authorized<T>(&self, asked: T) -> Request<T> {
        let mut request = Request::new(asked);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }

    /// The same from another address of this machine, hence another peer.
    pub(crate) fn coming_from(mut self, address: [u8; 4]) -> Self {
        self.from = Some(address.into());
        self
    }

    /// The same with these HTTP/2 windows of a stream and of the connection.
    pub(crate) fn with_windows(mut self, stream: u32, connection: u32) -> Self {
        self.windows = Some((stream, connection));
        self
    }

    /// The same over TLS.
    pub(crate) fn over_tls(mut self, tls: ClientTlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The same by way of another address.
    pub(crate) fn by_way_of(mut self, addr: SocketAddr) -> Self {
        self.addr = addr;
        self
    }

    /// The same, all streams on one connection that is made now.
    pub(crate) async fn on_one_connection(mut self) -> Self {
        self.shared = Some(self.channel().await);
        self
    }

    /// Its connection: the shared one, or a new one.
    pub(crate) async fn channel(&self) -> Channel {
        self.try_channel().await.expect("connect to the replica")
    }

    /// The same, or why there is none.
    pub(crate) async fn try_channel(&self) -> Result<Channel, Error> {
        if let Some(channel) = &self.shared {
            return Ok(channel.clone());
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut endpoint = transport::Endpoint::from_shared(format!("{scheme}://{}", self.addr))
            .expect("a URL")
            .connect_timeout(SOON)
            .local_address(self.from);
        if let Some((stream, connection)) = self.windows {
            endpoint = endpoint
                .initial_stream_window_size(stream)
                .initial_connection_window_size(connection);
        }
        if let Some(tls) = &self.tls {
            endpoint = endpoint.tls_config(tls.clone())?;
        }
        endpoint.connect().await
    }

    /// Opens a stream and asks for a name. Whether it is given shows later.
    pub(crate) async fn join(&self, name: &str) -> ChatClient {
        ChatClient::open(self, name, Some(Payload::registration(name))).await
    }

    /// Opens a stream whose first message is this one, or which sends none yet.
    pub(crate) async fn open(&self, label: &str, first: Option<Payload>) -> ChatClient {
        ChatClient::open(self, label, first).await
    }

    /// Opens a stream, asks for a name, and reads nothing until [`ChatClient::drain`].
    pub(crate) async fn join_without_reading(&self, name: &str) -> ChatClient {
        ChatClient::open_stalled(self, name, Payload::registration(name)).await
    }

    /// Comes in as the first of a room. Nobody is there to see it, so others knock until this
    /// client hears one; they are gone again when it returns.
    pub(crate) async fn enter(&self, name: &str) -> ChatClient {
        let mut client = self.join(name).await;
        let mut early = vec![];
        for knock in 0..50 {
            let knocker = format!("knock {knock} for {name}");
            let other = self.join(&knocker).await;
            if client.hears(&format!("{knocker} joined"), Duration::from_millis(500)).await {
                // Once these have ended, whatever is told of them comes before the last one's end.
                for mut other in early.into_iter().chain([other]) {
                    ChatClient::half_close(&mut other);
                    other.ended(SOON).await;
                }
                assert!(
                    client.hears(&format!("{knocker} left"), SOON).await,
                    "{name} is in, but the knocker did not leave: {client:?}"
                );
                client.forget();
                return client;
            }
            client.assert_open();
            early.push(other);
        }
        panic!("{name} heard nobody come in: {client:?}");
    }

    /// Comes in and waits until every one of those who are there has heard it, and nothing else.
    pub(crate) async fn enter_seen_by(
        &self,
        name: &str,
        witnesses: &mut [&mut ChatClient],
    ) -> ChatClient {
        let client = self.join(name).await;
        for witness in witnesses {
            witness.expect_system(&format!("{name} joined")).await;
        }
        client
    }

    /// Comes in and waits until one who is there has heard it, whatever else is going on.
    pub(crate) async fn enter_in_sight_of(&self, name: &str, witness: &ChatClient) -> ChatClient {
        let client = self.join(name).await;
        witness.until_heard(&format!("{name} joined")).await;
        client
    }
}
