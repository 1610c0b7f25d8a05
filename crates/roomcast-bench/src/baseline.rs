//! The baseline: a chat room as one writes it on plain tonic, a channel of messages per client
//! and a task per stream; several share their rooms by plain `PUBLISH` and `SUBSCRIBE`. What roomcast
//! has to be better than.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    str::Utf8Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use redis::{AsyncCommands, aio::MultiplexedConnection};
use roomcast_proto::chat::{
    ChatMessage,
    chat_service_server::{ChatService, ChatServiceServer},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use super::Error;

/// Messages that wait for one client; one that has more is too slow and has to go.
const QUEUE: usize = 1024;

/// The channel of all messages in Redis.
const CHANNEL: &str = "baseline";

/// Serves the baseline for ever. Says where on standard error, as roomcast's log does.
pub(super) async fn serve(addr: SocketAddr, redis: Option<String>) -> Result<(), Error> {
    let failed =
        |error: &dyn std::error::Error| Error::Baseline { addr, reason: error.to_string() };
    let baseline = Baseline::default();
    let baseline = match redis {
        None => baseline,
        Some(url) => baseline.through_redis(&url).await.map_err(|error| failed(&error))?,
    };
    let listener = TcpListener::bind(addr).await.map_err(|error| failed(&error))?;
    let addr = listener.local_addr().map_err(|error| failed(&error))?;
    eprintln!(
        r#"{{"level":"INFO","fields":{{"message":"listening","listener":"grpc","addr":"{addr}"}}}}"#
    );
    serve_rooms(listener, baseline).await.map_err(|error| failed(&error))
}

/// Serves the baseline on this listener for ever, on its own: a small server of the chat protocol for tests.
pub async fn serve_on(listener: TcpListener) -> Result<(), tonic::transport::Error> {
    serve_rooms(listener, Baseline::default()).await
}

async fn serve_rooms(
    listener: TcpListener,
    baseline: Baseline,
) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .add_service(ChatServiceServer::new(baseline))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
}

#[derive(Clone, Default)]
struct Baseline {
    rooms: Arc<Mutex<HashMap<String, Room>>>,
    tasks: TaskTracker,
    /// Where messages are published, if others share the rooms.
    publisher: Option<MultiplexedConnection>,
}

type Room = HashMap<String, Member>;

struct Member {
    queue: mpsc::Sender<ChatMessage>,
    /// Ends the stream of a client that is too slow.
    too_slow: CancellationToken,
}

#[tonic::async_trait]
impl ChatService for Baseline {
    type ChatStreamStream = Pin<Box<dyn Stream<Item = Result<ChatMessage, Status>> + Send>>;

    async fn chat_stream(
        &self,
        request: Request<Streaming<ChatMessage>>,
    ) -> Result<Response<Self::ChatStreamStream>, Status> {
        let room = request.metadata().get("chat-room").and_then(|room| room.to_str().ok());
        let room = room.unwrap_or("lobby").to_owned();
        let (queue, mut queued) = mpsc::channel(QUEUE);
        let (end, ended) = oneshot::channel();
        let baseline = self.clone();
        self.tasks.spawn(async move {
            let result = baseline.chat(&room, request.into_inner(), queue).await;
            let _ = end.send(result);
        });
        let messages = stream::poll_fn(move |cx| queued.poll_recv(cx)).map(Ok);
        let end = stream::once(ended).filter_map(async |end| end.ok()?.err().map(Err));
        Ok(Response::new(Box::pin(messages.chain(end))))
    }
}

impl Baseline {
    async fn chat(
        &self,
        room: &str,
        mut inbound: Streaming<ChatMessage>,
        queue: mpsc::Sender<ChatMessage>,
    ) -> Result<(), Status> {
        let first = inbound.message().await.ok().flatten();
        let name = first
            .ok_or_else(|| Status::invalid_argument("failed to receive registration"))?
            .username;
        if name.trim().is_empty() {
            return Err(Status::invalid_argument("username cannot be empty"));
        }
        let too_slow = CancellationToken::new();
        self.join(room, &name, Member { queue, too_slow: too_slow.clone() })?;
        let result = loop {
            tokio::select! {
                message = inbound.message() => match message {
                    Ok(Some(message)) if message.content.is_empty() => {}
                    Ok(Some(message)) => self.say(room, &name, message.content).await?,
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(status),
                },
                () = too_slow.cancelled() => {
                    break Err(Status::resource_exhausted("too slow to keep up"));
                }
            }
        };
        self.leave(room, &name);
        result
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<String, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, room: &str, name: &str, member: Member) -> Result<(), Status> {
        let mut rooms = self.rooms();
        let members = rooms.entry(room.to_owned()).or_default();
        if members.contains_key(name) {
            return Err(Status::already_exists(format!("username {name:?} is already taken")));
        }
        send(members, name, "System", format!("{name} joined"));
        members.insert(name.to_owned(), member);
        Ok(())
    }

    /// Shares what is said with all who subscribe to the same Redis.
    async fn through_redis(mut self, url: &str) -> redis::RedisResult<Self> {
        let client = redis::Client::open(url)?;
        self.publisher = Some(client.get_multiplexed_async_connection().await?);
        let mut subscription = client.get_async_pubsub().await?;
        subscription.subscribe(CHANNEL).await?;
        let baseline = self.clone();
        self.tasks.spawn(async move {
            let mut messages = subscription.into_on_message();
            while let Some(message) = messages.next().await {
                let Ok((room, name, content)) = unpack(message.get_payload_bytes()) else {
                    continue;
                };
                baseline.broadcast(&room, &name, content);
            }
        });
        Ok(self)
    }

    async fn say(&self, room: &str, name: &str, content: String) -> Result<(), Status> {
        let Some(mut publisher) = self.publisher.clone() else {
            self.broadcast(room, name, content);
            return Ok(());
        };
        let published = publisher.publish::<_, _, ()>(CHANNEL, pack(room, name, &content)).await;
        published.map_err(|error| Status::unavailable(error.to_string()))
    }

    fn broadcast(&self, room: &str, name: &str, content: String) {
        if let Some(members) = self.rooms().get_mut(room) {
            send(members, name, name, content);
        }
    }

    fn leave(&self, room: &str, name: &str) {
        let mut rooms = self.rooms();
        let Some(members) = rooms.get_mut(room) else { return };
        members.remove(name);
        send(members, name, "System", format!("{name} left"));
        if members.is_empty() {
            rooms.remove(room);
        }
    }
}

/// Queues a message for all but one.
fn send(members: &Room, except: &str, username: &str, content: String) {
    let timestamp = Timestamp::now().to_string();
    let message = ChatMessage { username: username.to_owned(), content, timestamp };
    for (name, member) in members {
        if name != except && member.queue.try_send(message.clone()).is_err() {
            member.too_slow.cancel();
        }
    }
}

/// A message on its way through Redis: names first, as contents may hold anything.
fn pack(room: &str, name: &str, content: &str) -> String {
    format!("{room}\n{name}\n{content}")
}

fn unpack(payload: &[u8]) -> Result<(String, String, String), Utf8Error> {
    let mut parts = std::str::from_utf8(payload)?.splitn(3, '\n').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    Ok((part(), part(), part()))
}
