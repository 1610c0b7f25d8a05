//! `WatchEvents`.

use std::{
    collections::HashMap,
    future::{pending, poll_fn},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use prost::Message;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    codec::{Codec, EncodeBuf, Encoder as TonicEncoder},
};
use tonic_prost::ProstDecoder;

use super::rooms::check_prefix;
use crate::{
    domain::{Event, Position, RoomName},
    gateway::{
        status::{AdminRefusal, Outcome, status},
        stream::StreamAcceptor,
        v1::translate,
    },
    hub::{Encoder, Hub, WatchRequest, Watched, WatchedRooms, Watcher},
    metrics::Metrics,
    proto::room::{
        self as proto, WatchEventsRequest, WatchEventsResponse, WatchStart, WatchedItem,
        watch_events_request::Watched as Asked, watched_item::Item,
    },
    room::Lost,
    session::Ending,
};

/// How long a stream outlives its token, as others do.
const GRACE: Duration = Duration::from_secs(25);

/// The most rooms, or positions, that one client names.
const NAMED: usize = 100_000;

/// A stream of what is watched.
pub(super) struct Watch {
    watcher: Watcher,
    metrics: Metrics,
    draining: CancellationToken,
    /// When the token has expired that it was opened with.
    expires: Option<Instant>,
    ping_interval: Duration,
    /// When there was last something.
    last: Instant,
    ended: bool,
}

impl Watch {
    /// Begins to watch what is asked for.
    pub(super) fn begin(
        acceptor: &StreamAcceptor,
        request: WatchEventsRequest,
        ping_interval: Duration,
        expires: Option<Instant>,
    ) -> Result<BoxStream<'static, Result<Bytes, Status>>, Outcome> {
        let hub = &acceptor.hub;
        if hub.draining().is_cancelled() {
            return Err(Outcome::Ended(Ending::ShuttingDown));
        }
        let watcher = Hub::watch_rooms(hub, read(request)?);
        let watch = Self {
            watcher: watcher.map_err(|error| Outcome::Admin(AdminRefusal::Watch(error)))?,
            metrics: hub.metrics().clone(),
            draining: hub.draining().clone(),
            expires: expires.and_then(|at| at.checked_add(GRACE)),
            ping_interval,
            last: Instant::now(),
            ended: false,
        };
        let messages = stream::unfold(watch, |mut watch| async {
            if watch.ended {
                return None;
            }
            let next = watch.next().await;
            watch.last = Instant::now();
            watch.ended = next.is_err();
            Some((next.map_err(|outcome| status(&outcome)), watch))
        });
        Ok(messages.boxed())
    }

    /// The next message. Loses nothing when dropped.
    async fn next(&mut self) -> Result<Bytes, Outcome> {
        let expired = async {
            match self.expires {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        let watched = poll_fn(|cx| self.watcher.poll_next(&WatchEncoder, cx));
        tokio::select! {
            biased;
            () = self.draining.cancelled() => Err(Outcome::Ended(Ending::ShuttingDown)),
            () = expired => Err(Outcome::Ended(Ending::TokenExpired)),
            watched = watched => match watched {
                Ok(Watched::Began(room, position)) => Ok(began(&room, position)),
                Ok(Watched::Ready) => Ok(heartbeat()),
                Ok(Watched::Events(room, items, count)) => {
                    self.metrics.events_out.inc_by(count as u64);
                    Ok(of_room(&room, &items))
                }
                Err(error) => Err(Outcome::Admin(AdminRefusal::Watch(error))),
            },
            () = sleep_until(self.last + self.ping_interval) => Ok(heartbeat()),
        }
    }
}

/// What a client asks for.
fn read(request: WatchEventsRequest) -> Result<WatchRequest, Outcome> {
    let invalid = |why: String| Outcome::Admin(AdminRefusal::Invalid(why));
    let start = request.start();
    let name = |room: &str| RoomName::parse(room).map_err(Outcome::JoinRoom);
    let rooms = match request.watched {
        Some(Asked::Rooms(list)) => {
            let count = list.rooms.len();
            if !(1..=NAMED).contains(&count) {
                return Err(invalid(format!("rooms: {count} names; allowed are 1 to {NAMED}")));
            }
            let rooms = list.rooms.iter().map(|room| name(room)).collect::<Result<_, _>>()?;
            WatchedRooms::Named(rooms)
        }
        Some(Asked::Prefix(prefix)) => {
            check_prefix(&prefix)?;
            WatchedRooms::Prefix(prefix)
        }
        None => return Err(invalid("rooms or prefix has to be given".to_owned())),
    };
    let mut after = HashMap::new();
    for place in request.after {
        let position = place.position.map(translate::read_position);
        let position =
            position.ok_or_else(|| invalid("after: a position is missing".to_owned()))?;
        after.insert(name(&place.room)?, position);
    }
    Ok(WatchRequest { rooms, after, from_beginning: start == WatchStart::Beginning })
}

/// Where the watch of a room begins.
fn began(room: &RoomName, position: Position) -> Bytes {
    let after = Some(translate::position(position));
    let response = WatchEventsResponse { room: room.to_string(), after, ..Default::default() };
    response.encode_to_vec().into()
}

fn heartbeat() -> Bytes {
    let heartbeat = Some(proto::Heartbeat {});
    WatchEventsResponse { heartbeat, ..Default::default() }.encode_to_vec().into()
}

/// A message with a room's items, which are encoded as its field: one after another, as the encoding has it.
fn of_room(room: &RoomName, items: &Bytes) -> Bytes {
    let head = WatchEventsResponse { room: room.to_string(), ..Default::default() };
    let mut message = BytesMut::with_capacity(head.encoded_len() + items.len());
    // There is room for it.
    let _ = head.encode(&mut message);
    message.extend_from_slice(items);
    message.freeze()
}

/// How items of [`WatchEventsResponse`] are written, for all who watch: as its field, without the room.
#[derive(Clone, Copy, Debug)]
struct WatchEncoder;

impl WatchEncoder {
    fn item(item: Item) -> Bytes {
        let items = vec![WatchedItem { item: Some(item) }];
        WatchEventsResponse { items, ..Default::default() }.encode_to_vec().into()
    }
}

impl Encoder for WatchEncoder {
    fn index(&self) -> usize {
        // After the `v1` protocol.
        3
    }

    fn encode(&self, position: Position, event: &Event) -> Bytes {
        Self::item(Item::Event(translate::event(position, event)))
    }

    fn encode_lost(&self, lost: &Lost) -> Bytes {
        Self::item(Item::Gap(translate::gap(lost)))
    }
}

/// Reads the request, and sends messages that are encoded already.
#[derive(Clone, Copy, Debug)]
pub(super) struct WatchCodec;

impl Codec for WatchCodec {
    type Encode = Bytes;
    type Decode = WatchEventsRequest;
    type Encoder = Encoded;
    type Decoder = ProstDecoder<WatchEventsRequest>;

    fn encoder(&mut self) -> Encoded {
        Encoded
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

/// Messages as they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoded;

impl TonicEncoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Epoch;

    #[test]
    fn items_are_a_field_of_their_message() {
        let at = |seq| Position::new(Epoch(7), seq);
        let gap = |from, to| WatchEncoder.encode_lost(&Lost::Range { from: at(from), to: at(to) });
        let items: Bytes = [gap(1, 2), gap(3, 4)].concat().into();
        let message = of_room(&RoomName::lobby(), &items);
        let read = WatchEventsResponse::decode(message).unwrap();
        let gap = |from, to| {
            let [from, to] = [from, to].map(|seq| Some(translate::position(at(seq))));
            WatchedItem { item: Some(Item::Gap(proto::Gap { from, to })) }
        };
        let expected = WatchEventsResponse {
            room: "lobby".to_owned(),
            items: vec![gap(1, 2), gap(3, 4)],
            ..Default::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn what_cannot_be_watched_is_refused() {
        let asked = |watched| WatchEventsRequest { watched, ..Default::default() };
        let refused = |request| read(request).expect_err("refused");
        let nothing = refused(asked(None));
        assert!(matches!(nothing, Outcome::Admin(AdminRefusal::Invalid(_))), "{nothing:?}");
        let list = |rooms: &[&str]| {
            let rooms = rooms.iter().map(ToString::to_string).collect();
            Some(Asked::Rooms(proto::RoomList { rooms }))
        };
        assert!(matches!(refused(asked(list(&[]))), Outcome::Admin(_)));
        assert!(matches!(refused(asked(list(&["a", "b c"]))), Outcome::JoinRoom(_)));
        assert!(matches!(refused(asked(Some(Asked::Prefix("a b".into())))), Outcome::Admin(_)));
        let place = proto::RoomPosition { room: "a".into(), position: None };
        let request = WatchEventsRequest { after: vec![place], ..asked(list(&["a"])) };
        assert!(matches!(refused(request), Outcome::Admin(_)));
        assert!(read(asked(Some(Asked::Prefix(String::new())))).is_ok(), "all rooms");
    }
}
