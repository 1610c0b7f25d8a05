//! Those who come for a moment and leave, and who ask for other people's names.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::RngExt;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{
    crowd::PER_ROOM,
    diary::{Clock, Diary},
    part::{Cues, Part, Speech},
    raw,
};
use crate::harness::Endpoint;

/// How often somebody comes for one message.
const ONCE: Duration = Duration::from_millis(400);
/// How often a guest says something.
const PACE: Duration = Duration::from_secs(1);

/// One guest after the other in each room.
#[derive(Default)]
pub(super) struct Guests {
    visits: JoinSet<()>,
    over: CancellationToken,
    book: Book,
}

/// Who was there, and what became of those who asked for a name that was held.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    diaries: Vec<Diary>,
    knocks: BTreeMap<String, usize>,
}

impl Guests {
    pub(super) fn invite(&mut self, endpoint: Endpoint, room: &'static str, clock: Clock) {
        self.visits.spawn(visit(endpoint, room, clock, self.over.clone(), self.book.clone()));
    }

    /// Those who want names, and those who come for one message.
    pub(super) fn invite_strangers(
        &mut self,
        endpoint: &Endpoint,
        room: &'static str,
        clock: Clock,
    ) {
        for _ in 0..2 {
            let (over, book) = (self.over.clone(), self.book.clone());
            self.visits.spawn(knock_on(endpoint.clone(), room, clock, over, book));
        }
        let (over, book) = (self.over.clone(), self.book.clone());
        self.visits.spawn(say_one_thing(endpoint.clone(), room, clock, over, book));
    }

    /// Has them leave, and waits until they have.
    pub(super) async fn go(&mut self, within: Duration) {
        self.over.cancel();
        let gone = async { while self.visits.join_next().await.is_some_and(|it| it.is_ok()) {} };
        timeout(within, gone).await.expect("the guests leave");
    }

    pub(super) fn diaries(&self) -> Vec<Diary> {
        self.book.0.lock().expect("book lock").diaries.clone()
    }

    /// How those were answered who asked for a name that was held.
    pub(super) fn knocks(&self) -> BTreeMap<String, usize> {
        self.book.0.lock().expect("book lock").knocks.clone()
    }
}

impl Book {
    /// Asks for the name of somebody in this room.
    async fn knock(&self, endpoint: &Endpoint, room: &'static str, clock: Clock) {
        let name = format!("{room} {}", rand::rng().random_range(0..PER_ROOM));
        let rival = part(endpoint, room, &name, clock);
        let answer = raw::knock(&rival).await;
        let told = answer.map_or("no answer".to_owned(), |code| format!("{code:?}"));
        let mut pages = self.0.lock().expect("book lock");
        *pages.knocks.entry(told).or_default() += 1;
        // Who was refused has not come; of others the room may hear.
        if answer.is_none_or(|code| code == Code::Ok) {
            pages.diaries.push(rival.diary);
        }
    }

    fn add(&self, part: &Part) {
        self.0.lock().expect("book lock").diaries.push(part.diary.clone());
    }
}

fn part(endpoint: &Endpoint, room: &'static str, name: &str, clock: Clock) -> Part {
    let cues = Cues::new();
    let (diary, speech) = (Diary::new(room, name, clock), Speech::new(PACE, &cues));
    Part { endpoint: endpoint.clone(), diary, cues, speech }
}

async fn visit(
    endpoint: Endpoint,
    room: &'static str,
    clock: Clock,
    over: CancellationToken,
    book: Book,
) {
    let mut number = 0;
    while !over.is_cancelled() {
        book.knock(&endpoint, room, clock).await;
        let guest = part(&endpoint, room, &format!("{room} guest {number}"), clock);
        number += 1;
        book.add(&guest);
        let leave = guest.cues.leave.clone();
        let stay = Duration::from_millis(rand::rng().random_range(500..5000));
        let visit = async {
            over.run_until_cancelled(sleep(stay)).await;
            leave.cancel();
        };
        tokio::join!(raw::talk(guest), visit);
    }
}

async fn knock_on(
    endpoint: Endpoint,
    room: &'static str,
    clock: Clock,
    over: CancellationToken,
    book: Book,
) {
    while !over.is_cancelled() {
        book.knock(&endpoint, room, clock).await;
        let pause = Duration::from_millis(rand::rng().random_range(50..250));
        sleep(pause).await;
    }
}

async fn say_one_thing(
    endpoint: Endpoint,
    room: &'static str,
    clock: Clock,
    over: CancellationToken,
    book: Book,
) {
    for number in 0.. {
        if over.run_until_cancelled(sleep(ONCE)).await.is_none() {
            return;
        }
        let caller = part(&endpoint, room, &format!("{room} once {number}"), clock);
        book.add(&caller);
        raw::say_once(&caller, number % 2 == 0).await;
    }
}
