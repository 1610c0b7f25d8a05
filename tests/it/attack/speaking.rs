//! Attacks by what any client may do, done too often or too much.

use std::time::Duration;

use prost::Message;
use prost_types::{ListValue, Struct, Value, value::Kind};
use rand::RngExt;
use roomcast_proto::room::{Join, Say, connect_request::Frame};
use tokio::{task::JoinSet, time::sleep};

use super::{
    caller::{Call, Caller, WIDE, asked, framed},
    holding::speak,
    raw::CHAT,
    target::{Target, tell},
};

/// So many streams of one connection in ten rooms, each of which says 16 KB again and again; anew when none
/// is left.
async fn loud(target: Target, streams: usize) {
    let (mut count, mut said) = (0, 0);
    while !target.is_over() {
        let Some(mut caller) = Caller::connect(target, WIDE).await else { break };
        let (mut speakers, mut readers) = (JoinSet::new(), JoinSet::new());
        for number in 0..streams {
            let (room, name) = (format!("loud-{}", number % 10), format!("speaker {number}"));
            let Some(Some(call)) = target.until_over(caller.chat(&room, &name)).await else {
                break;
            };
            speakers.spawn(speak(target, call.body, 16_000));
            readers.spawn(Call::read(call.answer));
        }
        count += speakers.len();
        said += speakers.join_all().await.into_iter().sum::<usize>();
        sleep(Duration::from_millis(5)).await;
    }
    tell(&format!("{count} streams, {said} messages of 16 KB"));
}

/// A thousand of them.
pub(super) async fn a_thousand_heavy_speakers(target: Target) {
    loud(target, target.some(1_000)).await;
}

/// Twenty of them.
pub(super) async fn twenty_heavy_speakers(target: Target) {
    loud(target, 20).await;
}

/// One of them.
pub(super) async fn one_heavy_speaker(target: Target) {
    loud(target, 1).await;
}

/// Has so many connections do this until the attack is over, each opened anew when it ends. What it
/// does answers how often it did it, or nothing when its connection is no more.
async fn again_and_again<F>(target: Target, connections: usize, what: fn(Caller, usize) -> F)
where
    F: Future<Output = usize> + Send + 'static,
{
    let mut working = JoinSet::new();
    for number in 0..connections {
        working.spawn(async move {
            let mut done = 0;
            while !target.is_over() {
                if let Some(caller) = Caller::connect(target, WIDE).await {
                    done += target.until_over(what(caller, number)).await.unwrap_or_default();
                }
                sleep(Duration::from_millis(5)).await;
            }
            done
        });
    }
    let done: usize = working.join_all().await.into_iter().sum();
    tell(&format!("{done} times at least"));
}

/// How much is done on a connection before another one is opened.
const SOME: usize = 256;

/// So many chat streams at a time, each of which says that no more comes once it has asked to come in.
async fn visit(mut caller: Caller, place: impl Fn(usize) -> (String, String)) -> usize {
    let mut answers = vec![];
    for count in 0..SOME {
        let (room, name) = place(count);
        let Some(mut call) = caller.chat(&room, &name).await else { return count };
        call.body.end();
        answers.push(call.answer);
        if answers.len() == 32 {
            for answer in answers.drain(..) {
                Call::read(answer).await;
            }
        }
    }
    SOME
}

/// Rooms in which nobody ever was, entered and left.
pub(super) async fn new_rooms(target: Target) {
    async fn enter(caller: Caller, number: usize) -> usize {
        let place = |_| (format!("new-{:x}", rand::rng().random::<u64>()), number.to_string());
        visit(caller, place).await
    }
    again_and_again(target, 8, enter).await;
}

/// One room, entered and left.
pub(super) async fn comings_and_goings(target: Target) {
    async fn enter(caller: Caller, number: usize) -> usize {
        visit(caller, |count| ("busy".to_owned(), format!("{number}-{}", count % 32))).await
    }
    again_and_again(target, 8, enter).await;
}

/// Streams that are refused for their names.
pub(super) async fn refused_names(target: Target) {
    async fn ask(caller: Caller, _: usize) -> usize {
        visit(caller, |_| ("lobby".to_owned(), "\u{202e}".to_owned())).await
    }
    again_and_again(target, 8, ask).await;
}

/// Guesses at the token of somebody else's session.
pub(super) async fn guessed_tokens(target: Target) {
    async fn guess(mut caller: Caller, _: usize) -> usize {
        for count in 0..SOME {
            let guess = rand::rng().random::<[u8; 32]>();
            let join = Join {
                room: "bystanders".to_owned(),
                username: "alice".to_owned(),
                session_token: guess.to_vec(),
                ..Join::default()
            };
            let Some(call) = caller.join(join).await else { return count };
            Call::read(call.answer).await;
        }
        SOME
    }
    again_and_again(target, 16, guess).await;
}

/// Messages of 4 MiB that are two million empty values.
pub(super) async fn struct_bombs(target: Target) {
    async fn throw(mut caller: Caller, _: usize) -> usize {
        let list = ListValue { values: vec![Value { kind: None }; 2_000_000] };
        let value = Value { kind: Some(Kind::ListValue(list)) };
        let bomb = Struct { fields: [("content".to_owned(), value)].into() };
        let bomb = framed(&bomb.encode_to_vec());
        for count in 0..SOME {
            let Some(mut call) = caller.call(CHAT, &[]).await else { return count };
            if !call.body.send(bomb.clone()).await {
                // It may be refused before all of it was sent.
                sleep(Duration::from_millis(1)).await;
            }
            call.body.end();
            Call::read(call.answer).await;
        }
        SOME
    }
    again_and_again(target, 4, throw).await;
}

/// The first message, said again and again by each of forty.
pub(super) async fn one_message_again(target: Target) {
    async fn repeat(mut caller: Caller, number: usize) -> usize {
        let username = format!("repeats {number}");
        let join = Join { room: "again".to_owned(), username, ..Join::default() };
        let Some(mut call) = caller.join(join).await else { return 0 };
        let mut answers = JoinSet::new();
        answers.spawn(Call::read(call.answer));
        let say = Say { client_seq: 1, content: "again".to_owned(), ..Say::default() };
        let say = asked(Frame::Say(say));
        let mut count = 0;
        while call.body.send(say.clone()).await {
            count += 1;
        }
        count
    }
    again_and_again(target, 40, repeat).await;
}
