//! What else is on the gRPC port, and the `chat` protocol through stock clients.

use futures_util::{Stream, StreamExt, stream};
use prost_types::{Struct, Value, value::Kind};
use roomcast_proto::chat::{ChatMessage, chat_service_client::ChatServiceClient};
use tokio::sync::oneshot;
use tonic::{Code, Request, client::Grpc, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_prost::ProstCodec;

use crate::harness::{Cluster, Layout, SOON, eventually, quiet};

on_both_backplanes!(
    health_says_serving,
    reflection_lists_the_services_in_both_versions,
    a_generated_client_chats,
    a_struct_client_chats,
    an_unknown_method_is_unimplemented,
);

const SERVICES: [&str; 3] = ["", "chat.ChatService", "roomcast.v1.AdminService"];

fn asked(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn health_says_serving(layout: Layout) {
    let cluster = layout.plan().start().await;
    for replica in 0..cluster.replicas.len() {
        let mut health = HealthClient::new(cluster.endpoint(replica).channel().await);
        for service in SERVICES {
            let answer = health.check(asked(service)).await.expect("a known service");
            assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service:?}");
        }
        let unknown = health.check(asked("no.such.Service")).await;
        assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
    }
}

/// A load balancer that watches sees what `/readyz` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_health_follows_readiness() {
    let mut cluster = Cluster::redis(1).start().await;
    let mut health = HealthClient::new(cluster.endpoint(0).channel().await);
    let mut watch = health.watch(asked("")).await.expect("watch").into_inner();
    let mut next = async || {
        let next = tokio::time::timeout(SOON, watch.message()).await.expect("told in time");
        next.expect("the watch goes on").expect("the watch goes on").status()
    };
    assert_eq!(next().await, ServingStatus::Serving);
    cluster.shared().kill();
    assert_eq!(next().await, ServingStatus::NotServing);
    cluster.shared().restart_empty().await;
    assert_eq!(next().await, ServingStatus::Serving);
    cluster.replicas[0].signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0, "a watch does not hold it up");
}

/// Asks one version of the reflection service for the list of services.
macro_rules! listed {
    ($version:ident, $channel:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let ask = |request| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(request),
        };
        let questions = vec![
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("chat.ChatService".to_owned())),
        ];
        let mut client = ServerReflectionClient::new($channel);
        let answers = client.server_reflection_info(stream::iter(questions)).await;
        let mut answers = answers.expect("reflection").into_inner();
        let mut names = Vec::new();
        let mut described = false;
        while let Some(answer) = answers.message().await.expect("an answer") {
            match answer.message_response {
                Some(MessageResponse::ListServicesResponse(list)) => {
                    names.extend(list.service.into_iter().map(|service| service.name));
                }
                Some(MessageResponse::FileDescriptorResponse(files)) => {
                    described = !files.file_descriptor_proto.is_empty();
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(described, "chat.ChatService is described");
        names
    }};
}

async fn reflection_lists_the_services_in_both_versions(layout: Layout) {
    let cluster = layout.plan().start().await;
    let channel = cluster.endpoint(0).channel().await;
    for names in [listed!(v1, channel.clone()), listed!(v1alpha, channel.clone())] {
        assert!(names.iter().any(|name| name == "chat.ChatService"), "{names:?}");
        assert!(names.iter().all(|name| !name.contains("internal")), "{names:?}");
    }
}

/// These messages, and no end until the sender is dropped.
fn held_open<T>(messages: impl Stream<Item = T>) -> (oneshot::Sender<()>, impl Stream<Item = T>) {
    let (sender, dropped) = oneshot::channel();
    let end = stream::once(dropped).filter_map(async |_| None);
    (sender, messages.chain(end))
}

fn typed(username: &str, content: &str) -> ChatMessage {
    ChatMessage { username: username.into(), content: content.into(), timestamp: String::new() }
}

async fn a_generated_client_chats(layout: Layout) {
    let cluster = layout.plan().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut client = ChatServiceClient::new(cluster.endpoint(1).channel().await);
    let messages = stream::iter([typed("bob", "ignored"), typed("", "hello from bob")]);
    let (done, messages) = held_open(messages);
    let mut answers = client.chat_stream(messages).await.expect("a stream").into_inner();
    alice.expect_system("bob joined").await;
    alice.expect_said("bob", "hello from bob").await;
    alice.say("hello bob").await;
    let answer = answers.message().await.expect("open").expect("open");
    assert_eq!((answer.username.as_str(), answer.content.as_str()), ("alice", "hello bob"));
    drop(done);
    assert_eq!(answers.message().await.expect("a clean end"), None);
    alice.expect_system("bob left").await;
}

fn fields(username: &str, content: &str) -> Struct {
    let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = [("username", value(username)), ("content", value(content))];
    Struct { fields: fields.map(|(key, value)| (key.to_owned(), value)).into() }
}

async fn a_struct_client_chats(layout: Layout) {
    let cluster = layout.plan().start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut client = Grpc::new(cluster.endpoint(1).channel().await);
    client.ready().await.expect("ready");
    let messages = stream::iter([fields("bob", "ignored"), fields("", "hello from bob")]);
    let (_done, messages) = held_open(messages);
    let path = "/chat.ChatService/ChatStream".parse().expect("a path");
    let codec = ProstCodec::<Struct, Struct>::default();
    let answers = client.streaming(Request::new(messages), path, codec).await;
    let mut answers = answers.expect("a stream").into_inner();
    alice.expect_system("bob joined").await;
    alice.expect_said("bob", "hello from bob").await;
    alice.say("hello bob").await;
    let answer = answers.message().await.expect("open").expect("open");
    let text = |key: &str| match answer.fields[key].kind.as_ref() {
        Some(Kind::StringValue(text)) => text.clone(),
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!((text("username"), text("content")), ("alice".into(), "hello bob".into()));
    assert!(text("timestamp").ends_with('Z'));
    assert_eq!(answer.fields.len(), 3);
}

async fn unary_code(channel: Channel, path: &str) -> Code {
    let mut client = Grpc::new(channel);
    client.ready().await.expect("ready");
    let codec = ProstCodec::<ChatMessage, ChatMessage>::default();
    let path = path.parse().expect("a path");
    client.unary(Request::new(typed("", "")), path, codec).await.expect_err("refused").code()
}

async fn an_unknown_method_is_unimplemented(layout: Layout) {
    let cluster = layout.plan().start().await;
    let channel = cluster.endpoint(0).channel().await;
    for path in ["/chat.ChatService/Chat", "/no.such.Service/ChatStream", "/"] {
        assert_eq!(unary_code(channel.clone(), path).await, Code::Unimplemented, "{path}");
    }
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    quiet(&bob, &mut [&mut alice]).await;
    // A service that says at once that it serves does so without being polled again.
    let mut health = HealthClient::new(channel);
    eventually(SOON, "serving", async || {
        let answer = health.check(asked("")).await.ok()?.into_inner();
        (answer.status() == ServingStatus::Serving).then_some(())
    })
    .await;
}
