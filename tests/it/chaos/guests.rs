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
use crate::harness::Door;

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
    pub(super) fn invite(&mut self, door: Door, room: &'static str, clock: Clock) {
        self.visits.spawn(visit(door, room, clock, self.over.clone(), self.book.clone()));
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

async fn visit(door: Door, room: &'static str, clock: Clock, over: CancellationToken, book: Book) {
    let part = |name: &str| {
        let cues = Cues::new();
        let (diary, speech) = (Diary::new(room, name, clock), Speech::new(PACE, &cues));
        Part { door: door.clone(), diary, cues, speech }
    };
    let mut number = 0;
    while !over.is_cancelled() {
        let rival = part(&format!("{room} {}", rand::rng().random_range(0..PER_ROOM)));
        let answer = raw::knock(&rival).await;
        let answer = answer.map_or("no answer".to_owned(), |code| format!("{code:?}"));
        let guest = part(&format!("{room} guest {number}"));
        number += 1;
        {
            let mut pages = book.0.lock().expect("book lock");
            if answer == format!("{:?}", Code::Ok) {
                pages.diaries.push(rival.diary.clone());
            }
            *pages.knocks.entry(answer).or_default() += 1;
            pages.diaries.push(guest.diary.clone());
        }
        let leave = guest.cues.leave.clone();
        let stay = Duration::from_millis(rand::rng().random_range(500..5000));
        let visit = async {
            over.run_until_cancelled(sleep(stay)).await;
            leave.cancel();
        };
        tokio::join!(raw::talk(guest), visit);
    }
}
