//! Ways to a server.

use std::{sync::Arc, time::Duration};

use tonic::transport::{Channel, Endpoint};

use super::{
    Address, CONNECT_TIMEOUT, Credentials, token_source::TokenSource, update::Reason,
    words::root_cause,
};

/// What one stream may have in flight to an application that does not read.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The connection's window. HTTP/2 implementations count small unread frames against a budget
/// that grows with it: with this one a paused application fills its stream's window first, which
/// only pauses the server.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// A connection that is silent for so long is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How to reach a server: at one of several addresses, or over a channel that somebody else made.
#[derive(Clone, Debug)]
pub struct Connector {
    route: Route,
    tokens: Option<TokenSource>,
    /// Tokens may be read on their way.
    insecure_tokens: bool,
}

#[derive(Clone, Debug)]
enum Route {
    Addresses { all: Vec<Address>, next: usize, tls: Option<Arc<Credentials>> },
    Channel(Channel),
}

/// One way, to be tried once.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Dial { addr: Address, tls: Option<Arc<Credentials>> },
    Given(Channel),
}

impl Connector {
    /// Connects to this address, with a new connection for each attempt.
    pub fn new(addr: Address) -> Self {
        Self::by(Route::Addresses { all: vec![addr], next: 0, tls: None })
    }

    /// Tries this address, too: they are tried in turn. Over a channel that was given, nothing
    /// changes.
    #[must_use]
    pub fn or(mut self, addr: Address) -> Self {
        if let Route::Addresses { all, .. } = &mut self.route {
            all.push(addr);
        }
        self
    }

    /// What to trust and to show where an address is `https`. Has to be said for those: without it
    /// they cannot be reached.
    #[must_use]
    pub fn with_tls(mut self, credentials: Credentials) -> Self {
        if let Route::Addresses { tls, .. } = &mut self.route {
            *tls = Some(Arc::new(credentials));
        }
        self
    }

    /// Uses this channel for each attempt, for those who have a transport of their own. Whether a new
    /// attempt gets a new connection is then the channel's business: one whose peer hangs needs
    /// HTTP/2's keep-alive to notice.
    pub fn over(channel: Channel) -> Self {
        Self::by(Route::Channel(channel))
    }

    fn by(route: Route) -> Self {
        Self { route, tokens: None, insecure_tokens: false }
    }

    /// Shows a token of this source with every stream and call, as servers in token mode want it.
    ///
    /// Over plain text it goes to this machine only: [`Client::join`](super::Client::join) refuses other addresses,
    /// unless [`allow_insecure_tokens`](Self::allow_insecure_tokens) has been said. Over a channel that was given, it
    /// always goes: what protects that one is its owner's business.
    #[must_use]
    pub fn with_tokens(mut self, tokens: TokenSource) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Sends tokens also over plain text to other machines, for networks that encrypt by other means. Whoever can read
    /// a token on its way can use it until it expires.
    #[must_use]
    pub fn allow_insecure_tokens(mut self) -> Self {
        self.insecure_tokens = true;
        self
    }

    /// Where tokens come from.
    pub(super) fn tokens(&self) -> Option<&TokenSource> {
        self.tokens.as_ref()
    }

    /// An address to which a token would go over plain text, and is not allowed to.
    pub(super) fn insecure(&self) -> Option<&Address> {
        match &self.route {
            Route::Addresses { all, .. } if self.tokens.is_some() && !self.insecure_tokens => {
                all.iter().find(|addr| !addr.is_confidential())
            }
            Route::Addresses { .. } | Route::Channel(_) => None,
        }
    }

    /// How many ways there are.
    pub(super) fn ways(&self) -> usize {
        match &self.route {
            Route::Addresses { all, .. } => all.len(),
            Route::Channel(_) => 1,
        }
    }

    /// The next way in turn.
    pub(super) fn next_way(&mut self) -> Way {
        match &mut self.route {
            Route::Addresses { all, next, tls } => {
                let addr = all[*next % all.len()].clone();
                *next = (*next + 1) % all.len();
                Way::Dial { addr, tls: tls.clone() }
            }
            Route::Channel(channel) => Way::Given(channel.clone()),
        }
    }
}

impl Way {
    /// Where it leads, for people.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Dial { addr, .. } => addr.to_string(),
            Self::Given(_) => "the given channel".to_owned(),
        }
    }

    /// A channel that is connected.
    pub(super) async fn channel(self) -> Result<Channel, Reason> {
        match self {
            Self::Given(channel) => Ok(channel),
            Self::Dial { addr, tls } => dial(&addr, tls.as_deref()).await,
        }
    }
}

/// A new connection to one address, for those who speak another protocol of the server's over it.
///
/// The credentials are for addresses that ask for TLS, which cannot be reached without. Fails with
/// [`Reason::Unreachable`].
pub async fn dial(addr: &Address, tls: Option<&Credentials>) -> Result<Channel, Reason> {
    connect(addr, tls).await.map_err(|error| {
        let (to, cause) = (addr.to_string(), root_cause(&error));
        Reason::Unreachable { to, cause }
    })
}

async fn connect(
    addr: &Address,
    tls: Option<&Credentials>,
) -> Result<Channel, tonic::transport::Error> {
    let mut endpoint = Endpoint::from(addr.uri().clone());
    if let Some(tls) = tls.filter(|_| addr.is_tls()) {
        endpoint = endpoint.tls_config(tls.config())?;
    }
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_turns() {
        let addr = |text| Address::parse(text).unwrap();
        let mut connector = Connector::new(addr("a:1")).or(addr("b:2"));
        let names: Vec<_> = (0..3).map(|_| connector.next_way().name()).collect();
        assert_eq!((connector.ways(), names), (2, vec!["a:1".into(), "b:2".into(), "a:1".into()]));
    }
}
