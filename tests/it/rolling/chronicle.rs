//! What everybody heard, and whether it can have been so.

mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::harness::{Heard, Record};

/// One stream of one client, from its beginning.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) name: String,
    pub(super) room: &'static str,
    pub(super) begun: Instant,
    pub(super) record: Arc<Record>,
}

impl Life {
    fn ended(&self) -> Option<Instant> {
        self.record.state().ended.as_ref().map(|ended| ended.at)
    }

    /// How long both were there.
    fn together_with(&self, other: &Self) -> Option<Duration> {
        let [mine, theirs] = [self, other].map(|life| life.ended().unwrap_or_else(Instant::now));
        mine.min(theirs).checked_duration_since(self.begun.max(other.begun))
    }
}

/// Whom a message is about: its sender, or who came or went.
fn about(heard: &Heard) -> &str {
    if heard.username != "System" {
        return &heard.username;
    }
    let content = &heard.content;
    let name = content.strip_suffix(" joined").or_else(|| content.strip_suffix(" left"));
    name.unwrap_or_else(|| panic!("the server says {content:?}"))
}

/// Whether each of these lives has heard something, or this, from each other one in its room.
pub(super) fn all_hear_all(lives: &[Life], content: Option<&str>) -> bool {
    lives.iter().all(|life| {
        let state = life.record.state();
        let heard = state.heard.iter().filter(|it| content.is_none_or(|text| it.content == text));
        let heard: HashSet<_> = heard.map(|it| it.username.as_str()).collect();
        let mut others = lives.iter().filter(|it| it.room == life.room && it.name != life.name);
        others.all(|other| heard.contains(other.name.as_str()))
    })
}

/// All lives, in the order in which they began.
#[derive(Clone, Default)]
pub(super) struct Chronicle(Arc<Mutex<Vec<Life>>>);

impl Chronicle {
    pub(super) fn add(&self, life: Life) {
        self.0.lock().expect("lives").push(life);
    }

    fn lives(&self) -> Vec<Life> {
        self.0.lock().expect("lives").clone()
    }

    /// Those whose streams are open.
    pub(super) fn talking(&self) -> Vec<Life> {
        self.lives().into_iter().filter(|life| life.ended().is_none()).collect()
    }

    /// How many streams ended in that time.
    pub(super) fn ended_between(&self, from: Instant, to: Instant) -> usize {
        let ended = |life: &&Life| life.ended().is_some_and(|at| from <= at && at <= to);
        self.lives().iter().filter(ended).count()
    }

    /// Nobody came in while a replica was leaving, and was sent away again by it.
    pub(super) fn assert_nobody_had_to_come_twice(&self, told: Instant, settled: Instant) {
        for life in self.lives().iter().filter(|life| life.begun >= told) {
            let refused = life.ended().is_some_and(|at| at <= settled);
            assert!(!refused, "{} came in, and was sent away at once", life.name);
        }
    }

    /// In everybody's ears: who has left is silent until he has joined, who is there does not join,
    /// and each stream's messages come in order, none of them missing.
    pub(super) fn assert_names_are_held_once(&self) {
        for life in self.lives() {
            let mut speakers: HashMap<String, Speaker> = HashMap::new();
            for heard in &life.record.state().heard {
                let speaker = speakers.entry(about(heard).to_owned()).or_default();
                let wrong = speaker.hear(heard);
                assert!(wrong.is_none(), "{} heard {heard:?}: {wrong:?}", life.name);
            }
        }
    }

    /// Every coming and going of a stream was told once, and nothing else was; but nobody was there
    /// to hear the first one of each room come.
    pub(super) fn assert_comings_and_goings_are_told_once(&self) {
        let lives = self.lives();
        let mut told: BTreeMap<(String, bool), HashSet<String>> = BTreeMap::new();
        let mut happened: BTreeMap<(String, bool), usize> = BTreeMap::new();
        for life in &lives {
            let state = life.record.state();
            for heard in state.heard.iter().filter(|it| it.username == "System") {
                let key = (about(heard).to_owned(), heard.content.ends_with(" joined"));
                told.entry(key).or_default().insert(heard.timestamp.clone());
            }
            *happened.entry((life.name.clone(), true)).or_default() += 1;
            if state.ended.is_some() {
                *happened.entry((life.name.clone(), false)).or_default() += 1;
            }
        }
        let told: BTreeMap<_, _> = told.into_iter().map(|(key, at)| (key, at.len())).collect();
        let mut unheard = BTreeMap::new();
        for life in &lives {
            let key = (life.name.clone(), true);
            if told.get(&key).copied().unwrap_or(0) + 1 == happened[&key] {
                unheard.insert(life.room, key);
            }
        }
        for key in unheard.values() {
            *happened.get_mut(key).expect("it is there") -= 1;
        }
        happened.retain(|_, times| *times > 0);
        assert_eq!(told, happened, "who joined (true) and left (false), and how often");
    }

    /// Any two who were there at the same time heard the same in the same order, but for what they
    /// did themselves.
    pub(super) fn assert_one_order_without_holes(&self) {
        let diaries: Vec<_> = self.lives().into_iter().map(Diary::of).collect();
        let mut compared = 0;
        for (number, one) in diaries.iter().enumerate() {
            for other in diaries[..number].iter().filter(|it| it.life.room == one.life.room) {
                compared += usize::from(one.agrees_with(other));
            }
        }
        // Each room has a dozen, who are there together more often than not.
        assert!(compared > 200, "only {compared} pairs heard the same");
    }
}

/// What a life heard, each line with whom it is about.
struct Diary {
    life: Life,
    lines: Vec<(String, String)>,
}

impl Diary {
    fn of(life: Life) -> Self {
        let line = |it: &Heard| {
            let line = format!("{} {} {}", it.timestamp, it.username, it.content);
            (about(it).to_owned(), line)
        };
        let lines = life.record.state().heard.iter().map(line).collect();
        Self { life, lines }
    }

    /// The lines that are not about these two.
    fn without(&self, names: [&str; 2]) -> Vec<&str> {
        let others = self.lines.iter().filter(|(about, _)| !names.contains(&about.as_str()));
        others.map(|(_, line)| line.as_str()).collect()
    }

    /// Whether the two have anything in common, which must then be one run in both.
    fn agrees_with(&self, other: &Self) -> bool {
        let names = [self.life.name.as_str(), other.life.name.as_str()];
        let (ours, theirs) = (self.without(names), other.without(names));
        // Whoever came later begins somewhere in what the earlier one heard.
        let ours_from = ours.iter().position(|line| Some(line) == theirs.first());
        let theirs_from = theirs.iter().position(|line| Some(line) == ours.first());
        let (ours, theirs) = match (ours_from, theirs_from) {
            (Some(from), _) => (&ours[from..], &theirs[..]),
            (None, Some(from)) => (&ours[..], &theirs[from..]),
            (None, None) => {
                let together = self.life.together_with(&other.life);
                let apart = together < Some(Duration::from_secs(1));
                assert!(apart, "{names:?} heard nothing in common in {together:?}");
                return false;
            }
        };
        if let Some((ours, theirs)) = ours.iter().zip(theirs).find(|(ours, theirs)| ours != theirs)
        {
            panic!("{names:?} differ: {ours:?} and {theirs:?}");
        }
        true
    }
}

/// What one listener knows of one speaker.
#[derive(Default)]
struct Speaker {
    there: Option<bool>,
    last: Option<(usize, usize)>,
}

impl Speaker {
    /// What is wrong with hearing this next.
    fn hear(&mut self, heard: &Heard) -> Option<String> {
        if heard.username == "System" {
            let joins = heard.content.ends_with(" joined");
            let before = self.there.replace(joins);
            return (before == Some(joins)).then(|| "a second time".to_owned());
        }
        if self.there.replace(true) == Some(false) {
            return Some("said by nobody who is there".to_owned());
        }
        let (life, number) = heard.content.split_once('.')?;
        let next = (life.parse().expect("a number"), number.parse().expect("a number"));
        let last = self.last.replace(next);
        let follows = last.is_none_or(|(life, number)| next == (life, number + 1))
            || last.is_some_and(|(life, _)| next.0 > life && next.1 == 0);
        (!follows).then(|| format!("after {last:?}"))
    }
}
