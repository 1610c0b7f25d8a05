use std::{collections::BTreeSet, future::ready, sync::Mutex, time::Duration};

use futures_util::FutureExt as _;
use prost::Message as _;
use tonic::Code;

use super::*;
use crate::{
    backplane::{
        Hold, LogBounds,
        conformance::Replica,
        memory::{Memory, MemoryConfig},
    },
    domain::{DisplayName, Position, ReplicaId, RoomRole, SessionId},
    gateway::status::status,
    proto::{
        self,
        room::{Gap, event::What},
    },
};

const LIMITS: QueryLimits = QueryLimits { page_size: 5 };

fn replica(length: usize) -> Replica {
    let memory = Memory::new(MemoryConfig {
        lease: Duration::from_secs(15),
        log: LogBounds { length, bytes: usize::MAX, age: Duration::from_secs(60) },
        bytes: usize::MAX,
        members_per_room: 100,
        signal_queue: 64,
    });
    let id = ReplicaId::from_bytes(rand::random());
    let (backplane, signals) = memory.attach(id);
    Replica { id, backplane, signals }
}

/// A room in which bob came and said so many things: his join is at 1, "2" at 2.
async fn talk(replica: &Replica, events: u64) -> Hold {
    let bob = replica.join(&RoomName::lobby(), "Bob").await;
    for seq in 2..=events {
        replica.say(&bob, seq - 1, &seq.to_string()).await;
    }
    bob
}

fn position(of: Position, seq: u64) -> proto::room::Position {
    proto::room::Position { epoch: of.epoch.0, seq }
}

async fn events(replica: &Replica, range: Option<Range>, page_size: u32) -> ListEventsResponse {
    let request = ListEventsRequest { room: String::new(), range, page_size };
    list_events(&*replica.backplane, &LIMITS, &Principal::Anonymous, request)
        .await
        .expect("the backplane answers")
}

/// The numbers of a page's events, which say their number.
fn seqs(page: &ListEventsResponse) -> Vec<u64> {
    let seq = |event: &proto::room::Event| {
        let seq = event.position.expect("an event has its position").seq;
        match event.what.as_ref().expect("it is known") {
            What::Said(said) => assert_eq!(said.content, seq.to_string()),
            What::Joined(_) => assert_eq!(seq, 1),
            What::Left(_) | What::Moderated(_) => panic!("nobody went"),
        }
        assert_eq!(event.username, "Bob");
        seq
    };
    page.events.iter().map(seq).collect()
}

#[tokio::test(start_paused = true)]
async fn events_come_in_pages() {
    let replica = replica(1000);
    talk(&replica, 12).await;
    let head = replica.head(&RoomName::lobby()).await.position;
    let (after, before) = (
        |seq| Some(Range::After(position(head, seq))),
        |seq| Some(Range::Before(position(head, seq))),
    );
    for (range, page_size, first, end) in [
        (None, 0, 8, 13),
        (None, 2, 11, 13),
        (None, u32::MAX, 8, 13),
        (after(0), 0, 1, 6),
        (after(5), 3, 6, 9),
        (after(10), 99, 11, 13),
        (after(12), 0, 13, 13),
        (after(u64::MAX), 0, 13, 13),
        (before(13), 0, 8, 13),
        (before(8), 0, 3, 8),
        (before(3), 0, 1, 3),
        (before(1), 0, 1, 1),
        (before(0), 0, 1, 1),
        (before(u64::MAX), 0, 8, 13),
    ] {
        let page = events(&replica, range, page_size).await;
        assert_eq!(seqs(&page), (first..end).collect::<Vec<_>>(), "{range:?} {page_size}");
        assert_eq!((page.head, page.gap), (Some(position(head, 12)), None), "{range:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_are_gone_are_told() {
    let replica = replica(4);
    talk(&replica, 12).await;
    let head = replica.head(&RoomName::lobby()).await.position;
    let at = |seq| Some(position(head, seq));
    let page = events(&replica, at(3).map(Range::After), 0).await;
    assert_eq!(seqs(&page), [9, 10, 11, 12]);
    assert_eq!(page.gap, Some(Gap { from: at(4), to: at(8) }));
    let page = events(&replica, at(9).map(Range::Before), 0).await;
    assert_eq!((seqs(&page), page.gap), (vec![], Some(Gap { from: at(1), to: at(8) })));
    let page = events(&replica, None, 0).await;
    assert_eq!((seqs(&page), page.gap), (vec![9, 10, 11, 12], None));

    let elsewhere = proto::room::Position { epoch: head.epoch.0 ^ 1, seq: 7 };
    let page = events(&replica, Some(Range::After(elsewhere)), 2).await;
    assert_eq!((seqs(&page), page.gap), (vec![9, 10], Some(Gap::default())));
    let page = events(&replica, Some(Range::Before(elsewhere)), 2).await;
    assert_eq!((seqs(&page), page.gap), (vec![], Some(Gap::default())));
}

#[tokio::test(start_paused = true)]
async fn the_largest_page_fits_into_a_message() {
    let replica = replica(1000);
    let bob = replica.join(&RoomName::lobby(), "Bob").await;
    for (client_seq, size) in [(1, (4 << 20) - 2048), (2, 300_000), (3, (4 << 20) - 2048)] {
        replica.say(&bob, client_seq, &"x".repeat(size)).await;
    }
    for client_seq in 4..400 {
        replica.say(&bob, client_seq, &"x".repeat(16_384)).await;
    }
    let head = replica.head(&RoomName::lobby()).await.position;
    let limits = QueryLimits { page_size: 500 };
    for seq in 0..=head.seq + 1 {
        for range in [Range::After(position(head, seq)), Range::Before(position(head, seq))] {
            let range = Some(range);
            let request = ListEventsRequest { room: "lobby".to_owned(), range, page_size: 0 };
            let page = list_events(&*replica.backplane, &limits, &Principal::Anonymous, request)
                .await
                .unwrap();
            let size = page.encoded_len();
            assert!(page.events.len() == 1 || size <= (PAGE_BYTES * 11) / 10, "{seq}: {size}");
            assert!(size < 4 << 20, "{seq}: {size}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rooms_are_parsed_and_a_backplane_that_is_away_is_told() {
    let replica = replica(10);
    let ask = async |room: &str| {
        let room = room.to_owned();
        let members = ListMembersRequest { room: room.clone(), ..Default::default() };
        let events = ListEventsRequest { room, ..Default::default() };
        let members =
            list_members(&*replica.backplane, &LIMITS, &Principal::Anonymous, members).await;
        (members, list_events(&*replica.backplane, &LIMITS, &Principal::Anonymous, events).await)
    };
    let (members, events) = ask("nowhere").await;
    assert_eq!(members.expect("nobody is there"), ListMembersResponse::default());
    assert_eq!(events.expect("nothing was"), ListEventsResponse::default());
    let of = |(members, events): (Result<_, Outcome>, Result<_, Outcome>)| {
        [members.map(|_: ListMembersResponse| ()), events.map(|_: ListEventsResponse| ())]
            .map(|it| status(&it.expect_err("it is refused")))
    };
    for status in of(ask("a room").await) {
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("room: room name contains ' '"), "{status}");
    }
    replica.backplane.close().await;
    for status in of(ask("nowhere").await) {
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("try again"), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn members_come_in_pages() {
    let replica = replica(100);
    let names: BTreeSet<String> = (0..12).map(|i| format!("Member {i}")).collect();
    for name in &names {
        replica.join(&RoomName::lobby(), name).await;
    }
    let mut hold = replica.hold(&RoomName::lobby(), "Zoë");
    hold.since = "2026-11-24T11:22:33.5Z".parse().unwrap();
    replica.take(&hold).await;
    assert!(replica.linger(&hold, Duration::from_secs(60)).await);

    let (mut token, mut seen) = (String::new(), Vec::new());
    loop {
        let request = ListMembersRequest { page_token: token, page_size: 9, ..Default::default() };
        let page = list_members(&*replica.backplane, &LIMITS, &Principal::Anonymous, request)
            .await
            .unwrap();
        assert_eq!(page.total_size, 13);
        assert!((1..=5).contains(&page.members.len()), "{page:?}");
        seen.extend(page.members);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let (late, others) = seen.split_last().unwrap();
    assert_eq!(others.iter().map(|it| it.username.clone()).collect::<BTreeSet<_>>(), names);
    assert!(others.len() == 12 && others.iter().all(|it| !it.lingering));
    let since = prost_types::Timestamp { seconds: 1_795_519_353, nanos: 500_000_000 };
    let zoe = Member { username: "Zoë".to_owned(), since: Some(since), lingering: true };
    assert_eq!(late, &zoe);
}

#[tokio::test(start_paused = true)]
async fn page_tokens_are_those_that_were_given() {
    let replica = replica(100);
    let ask = async |token: &str| {
        let request = ListMembersRequest { page_token: token.to_owned(), ..Default::default() };
        list_members(&*replica.backplane, &LIMITS, &Principal::Anonymous, request).await
    };
    for token in ["x", "5", "+000000000000005", "00000000000000005", "zzzzzzzzzzzzzzzz", " "] {
        assert_eq!(ask(token).await.expect_err("no such token"), Outcome::PageToken);
    }
    for cursor in [1, 5, u64::MAX] {
        for next in [None, Some(MembersCursor(7))] {
            for told in [None, Some(Told { next, key: u128::MAX - 1 })] {
                let from = PageToken { cursor: Some(MembersCursor(cursor)), told };
                let token = from.write();
                assert_eq!(PageToken::read(&token).unwrap(), from);
                ask(&token).await.expect("whatever a client makes up");
            }
        }
    }
    ask(&"0".repeat(16)).await.expect("whatever a client makes up");
}

/// A roster as Redis scans it: in buckets, of which as many are told as have what was asked for, all
/// members of each.
fn scan(buckets: &[Vec<u8>], MembersPage { cursor, limit }: MembersPage) -> Members {
    let mut at = cursor.map_or(0, |MembersCursor(at)| usize::try_from(at).unwrap());
    let (begin, mut found) = (at, Vec::new());
    while at < buckets.len() && found.len() < limit && at - begin < 10 * limit {
        found.extend(&buckets[at]);
        at += 1;
    }
    let present = |number| {
        let session = SessionId::from_bytes([number; 16]);
        let member = crate::domain::Member { name: DisplayName::from_log("x"), session };
        let (subject, role) = (None, RoomRole::Member);
        Present { member, since: jiff::Timestamp::UNIX_EPOCH, lingers: false, subject, role }
    };
    let next = (at < buckets.len()).then_some(MembersCursor(at as u64));
    let total = buckets.iter().map(Vec::len).sum();
    Members { members: found.into_iter().map(present).collect(), next, total }
}

/// How many members come in each page, and how often the roster is read for that. Between two pages
/// `change` happens to it.
async fn scanned_while(
    mut buckets: Vec<Vec<u8>>,
    most: usize,
    mut change: impl FnMut(&mut Vec<Vec<u8>>),
) -> (Vec<Vec<u8>>, usize) {
    let reads = Mutex::new(0);
    let (mut pages, mut from) = (Vec::new(), PageToken::default());
    loop {
        let read = |page| {
            *reads.lock().unwrap() += 1;
            ready(Ok(scan(&buckets, page))).boxed()
        };
        let (page, next) = members(read, from, most).await.unwrap();
        pages.push(page.members.iter().map(|it| it.member.session.as_bytes()[0]).collect());
        let Some(next) = next else { return (pages, reads.into_inner().unwrap()) };
        // By way of the client.
        from = PageToken::read(&next.write()).unwrap();
        assert!(pages.len() < 100, "{pages:?}");
        change(&mut buckets);
    }
}

/// Buckets with so many members each, who are numbered.
fn buckets(sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut numbers = 0..;
    sizes.iter().map(|size| numbers.by_ref().take(*size).collect()).collect()
}

async fn scanned(sizes: &[usize], most: usize) -> (Vec<usize>, usize) {
    let (pages, reads) = scanned_while(buckets(sizes), most, |_| {}).await;
    let mut seen: Vec<u8> = pages.concat();
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..u8::try_from(sizes.iter().sum::<usize>()).unwrap()));
    (pages.iter().map(Vec::len).collect(), reads)
}

#[tokio::test]
async fn pages_of_members_are_neither_too_large_nor_empty_without_need() {
    assert_eq!(scanned(&[1; 7], 3).await, (vec![3, 3, 1], 3));
    assert_eq!(scanned(&[2, 2, 2, 2], 3).await, (vec![2; 4], 7), "asked for less, it tells less");
    assert_eq!(scanned(&[3, 1], 2).await.0, [2, 1, 1], "a bucket is told in parts");
    assert_eq!(scanned(&[7], 1).await.0, [1; 7]);
    assert_eq!(scanned(&[0, 5, 0, 0, 4], 2).await.0, [2, 2, 1, 2, 2]);
    let mut sparse = vec![0; 1000];
    sparse[999] = 2;
    assert_eq!(scanned(&sparse, 10).await, (vec![2], 10));
    sparse.resize(100_000, 0);
    assert_eq!(scanned(&sparse[1000..2701], 10).await, (vec![0, 0], 18), "one call ends");
}

#[tokio::test]
async fn whoever_stays_is_in_the_pages_whatever_happens_between_them() {
    // The second one of each bucket stays; the others go, and new ones come, at every step in turn.
    for step in 0..12 {
        for most in 1..4 {
            let (mut steps, mut added) = (0, 100..);
            let change = |buckets: &mut Vec<Vec<u8>>| {
                steps += 1;
                if steps == step {
                    for bucket in buckets {
                        bucket.retain(|number| number % 3 == 1);
                        if step % 2 == 0 {
                            bucket.extend(added.by_ref().take(2));
                        }
                    }
                }
            };
            let (pages, _) = scanned_while(buckets(&[3; 4]), most, change).await;
            assert!(pages.iter().all(|page| page.len() <= most), "{pages:?}");
            let seen: BTreeSet<_> = pages.concat().into_iter().collect();
            for number in (0..12).filter(|number| number % 3 == 1) {
                assert!(seen.contains(&number), "{number} stayed: {pages:?}");
            }
        }
    }
}

#[test]
fn any_thread_may_answer() {
    let replica = replica(1);
    let is_send = |answer: &dyn Send| std::mem::size_of_val(answer) > 0;
    assert!(is_send(&list_members(
        &*replica.backplane,
        &LIMITS,
        &Principal::Anonymous,
        ListMembersRequest::default()
    )));
    assert!(is_send(&list_events(
        &*replica.backplane,
        &LIMITS,
        &Principal::Anonymous,
        ListEventsRequest::default()
    )));
}
