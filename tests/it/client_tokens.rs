//! The client library, and programs on it, where replicas want tokens.

mod command_line;
mod faults;
mod refusals;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use roomcast_auth::Claims;
use roomcast_client::{
    AccessToken, Address, Client, Connector, Error, Events, Options, TokenSource,
};
use tokio::time::timeout;

use crate::harness::{Cluster, SOON, tokens};

/// A token as the library takes it.
fn signed(claims: &Claims) -> AccessToken {
    AccessToken::parse(&tokens::token(claims)).expect("a token")
}

/// A source of tokens, and how often it was asked.
fn source(
    give: impl Fn(usize) -> Result<AccessToken, &'static str> + Send + Sync + 'static,
) -> (TokenSource, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let source = TokenSource::new(move || {
        let given = give(counted.fetch_add(1, Relaxed));
        async move { given }
    });
    (source, calls)
}

/// Comes in, by way of the replicas in this order.
async fn join(
    cluster: &Cluster,
    name: &str,
    order: &[usize],
    tokens: TokenSource,
) -> Result<(Client, Events), Error> {
    let mut addrs = order.iter().map(|&replica| {
        Address::parse(&cluster.replicas[replica].grpc().to_string()).expect("an address")
    });
    let connector = Connector::new(addrs.next().expect("one at least")).with_tokens(tokens);
    let joined = Client::join(addrs.fold(connector, Connector::or), Options::new("den", name));
    timeout(SOON, joined).await.expect("in time")
}
