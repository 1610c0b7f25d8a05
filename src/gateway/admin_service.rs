//! `roomcast.v1.AdminService`: what backends and admins do with rooms, without being in them.

mod publishing;
mod rooms;
mod users;
mod watching;

use std::{
    convert::Infallible,
    future::ready,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use prost::Message;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::{
    body::Body,
    codec::CompressionEncoding,
    server::{Grpc, NamedService},
};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use self::{
    publishing::{PublishLimits, Publisher},
    watching::{Watch, WatchCodec},
};
use super::{
    admission::Party,
    principal::Principal,
    small,
    status::{Outcome, status},
    stream::{StreamAcceptor, traceparent},
};
use crate::{
    domain::{RoomName, UsernameLimits},
    proto::room::{
        DeleteRoomRequest, DisconnectRequest, GetRoomRequest, GetUserRequest, ListRoomsRequest,
        PublishManyRequest, PublishRequest, RevokeTokensRequest, WatchEventsRequest,
    },
};

/// What the paths of its calls begin with.
const CALLS: &str = "/roomcast.v1.AdminService/";

/// How many calls are worked on at a time, and how many of them that have many messages; others wait, for so long.
/// Whoever has the right to everything is not limited otherwise.
const CALLS_AT_ONCE: usize = 1024;
const LARGE_AT_ONCE: usize = 16;
const TURN_COMES: Duration = Duration::from_secs(10);

/// The most bytes of a request with many messages, packed or unpacked.
const LARGE: usize = 4 << 20;

/// What the service needs to know.
#[derive(Clone, Copy, Debug)]
pub struct AdminServiceConfig {
    /// What a name may be.
    pub names: UsernameLimits,
    /// The most bytes of a message's content.
    pub content_bytes: usize,
    /// The most rooms in one page.
    pub page_size: usize,
    /// When a watch that has nothing to say says so.
    pub ping_interval: Duration,
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct AdminService {
    acceptor: Arc<StreamAcceptor>,
    config: Arc<AdminServiceConfig>,
    calls: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// Whether a path is of this service, which is for backends and admins only.
pub(super) fn is_asked(path: &str) -> bool {
    path.starts_with(CALLS)
}

impl AdminService {
    pub(super) fn new(acceptor: Arc<StreamAcceptor>, config: AdminServiceConfig) -> Self {
        let [calls, large] = [CALLS_AT_ONCE, LARGE_AT_ONCE].map(|it| Arc::new(Semaphore::new(it)));
        Self { acceptor, config: Arc::new(config), calls, large }
    }

    /// The most bytes of a request to this path.
    pub(super) fn request_bytes(&self, path: &str) -> usize {
        match path.strip_prefix(CALLS) {
            Some("Publish") => self.config.content_bytes + small::BYTES,
            Some("PublishMany" | "WatchEvents") => LARGE,
            Some(_) | None => small::BYTES,
        }
    }

    /// Waits for the turn of a call, before its request is read.
    async fn turn(&self, of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Outcome> {
        let turn = timeout(TURN_COMES, of.clone().acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or(Outcome::CallsWait(TURN_COMES));
        turn.inspect_err(|outcome| self.acceptor.count(outcome))
    }

    /// Works on a call when its turn comes.
    async fn unary<T, U, F>(
        self,
        request: Request<Body>,
        turns: Arc<Semaphore>,
        answer: impl Fn(Self, T) -> F,
    ) -> Result<Response<Body>, Infallible>
    where
        T: Message + Default + Send + 'static,
        U: Message + Send + 'static,
        F: Future<Output = Result<U, Outcome>>,
    {
        let turn = match self.turn(&turns).await {
            Ok(turn) => turn,
            Err(outcome) => return Ok(status(&outcome).into_http()),
        };
        let max = self.request_bytes(request.uri().path());
        let answer = service_fn(|asked: tonic::Request<T>| {
            let answer = answer(self.clone(), asked.into_inner());
            async move { answer.await.map(tonic::Response::new).map_err(|it| status(&it)) }
        });
        let mut codec = Grpc::new(ProstCodec::default())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(max);
        let answered = codec.unary(answer, request).await;
        drop(turn);
        Ok(answered)
    }

    fn publisher(&self, request: &Request<Body>) -> Publisher {
        let AdminServiceConfig { names, content_bytes, .. } = *self.config;
        let limits = PublishLimits { names, content_bytes };
        let trace = traceparent(request.headers());
        Publisher { hub: self.acceptor.hub.clone(), limits, trace }
    }

    async fn publish(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let (publisher, turns) = (self.publisher(&request), self.calls.clone());
        let answer = |_, asked: PublishRequest| publisher.publish(asked);
        self.unary(request, turns, answer).await
    }

    async fn publish_many(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let (publisher, turns) = (self.publisher(&request), self.large.clone());
        let answer = |_, asked: PublishManyRequest| publisher.publish_many(asked);
        self.unary(request, turns, answer).await
    }

    async fn list_rooms(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let (turns, page_size) = (self.calls.clone(), self.config.page_size);
        let answer = |it: Self, asked: ListRoomsRequest| async move {
            rooms::list_rooms(it.acceptor.hub.backplane(), page_size, asked).await
        };
        self.unary(request, turns, answer).await
    }

    async fn get_room(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let turns = self.calls.clone();
        let answer = |it: Self, asked: GetRoomRequest| async move {
            rooms::get_room(it.acceptor.hub.backplane(), asked).await
        };
        self.unary(request, turns, answer).await
    }

    async fn get_user(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        // It may look into very many rooms.
        let turns = self.large.clone();
        let answer = |it: Self, asked: GetUserRequest| async move {
            users::get_user(&it.acceptor.hub, asked).await
        };
        self.unary(request, turns, answer).await
    }

    async fn disconnect(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let (turns, by) = (self.calls.clone(), subject(&request));
        let answer = |it: Self, asked: DisconnectRequest| {
            let by = by.clone();
            async move {
                let StreamAcceptor { hub, users, .. } = &*it.acceptor;
                users::disconnect(hub.backplane(), users, by.as_deref(), asked).await
            }
        };
        self.unary(request, turns, answer).await
    }

    async fn revoke_tokens(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let (turns, by) = (self.calls.clone(), subject(&request));
        let answer = |it: Self, asked: RevokeTokensRequest| {
            let by = by.clone();
            async move {
                let StreamAcceptor { hub, users, .. } = &*it.acceptor;
                users::revoke_tokens(hub.backplane(), users, by.as_deref(), asked).await
            }
        };
        self.unary(request, turns, answer).await
    }

    async fn delete_room(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let turns = self.calls.clone();
        let by = subject(&request);
        let answer = |it: Self, asked: DeleteRoomRequest| {
            let subject = by.clone();
            async move {
                rooms::delete_room(it.acceptor.hub.backplane(), subject.as_deref(), asked).await
            }
        };
        self.unary(request, turns, answer).await
    }

    async fn watch_events(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let expires = request.extensions().get::<(Arc<Party>, Principal)>();
        let expires = expires.and_then(|(_, it)| it.rights(&RoomName::lobby()).expires);
        let turn = match self.turn(&self.large).await {
            Ok(turn) => turn,
            Err(outcome) => return Ok(status(&outcome).into_http()),
        };
        let answer = service_fn(|asked: tonic::Request<WatchEventsRequest>| {
            let watch = Watch::begin(
                &self.acceptor,
                asked.into_inner(),
                self.config.ping_interval,
                expires,
            );
            ready(watch.map(tonic::Response::new).map_err(|outcome| {
                self.acceptor.count(&outcome);
                status(&outcome)
            }))
        });
        let mut codec = Grpc::new(WatchCodec)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(LARGE);
        let answered = codec.server_streaming(answer, request).await;
        drop(turn);
        Ok(answered)
    }
}

impl NamedService for AdminService {
    const NAME: &'static str = "roomcast.v1.AdminService";
}

impl Service<Request<Body>> for AdminService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match request.uri().path().strip_prefix(CALLS) {
            Some("Publish") => self.clone().publish(request).boxed(),
            Some("PublishMany") => self.clone().publish_many(request).boxed(),
            Some("ListRooms") => self.clone().list_rooms(request).boxed(),
            Some("GetRoom") => self.clone().get_room(request).boxed(),
            Some("DeleteRoom") => self.clone().delete_room(request).boxed(),
            Some("GetUser") => self.clone().get_user(request).boxed(),
            Some("Disconnect") => self.clone().disconnect(request).boxed(),
            Some("RevokeTokens") => self.clone().revoke_tokens(request).boxed(),
            Some("WatchEvents") => self.clone().watch_events(request).boxed(),
            Some(_) | None => ready(Ok(status(&Outcome::NoMethod).into_http())).boxed(),
        }
    }
}

/// The subject of whoever calls, if a token names one.
fn subject(request: &Request<Body>) -> Option<String> {
    let (_, principal) = request.extensions().get::<(Arc<Party>, Principal)>()?;
    principal.subject().map(str::to_owned)
}

/// The room of that name; without one, the default room.
fn room(name: &str) -> Result<RoomName, Outcome> {
    if name.is_empty() {
        return Ok(RoomName::lobby());
    }
    RoomName::parse(name).map_err(Outcome::JoinRoom)
}
