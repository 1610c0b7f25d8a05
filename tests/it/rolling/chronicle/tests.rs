//! The chronicle itself: what cannot have been, it finds.

use roomcast_proto::chat::ChatMessage;
use tonic::Code;

use super::*;

/// A stream that heard these, each as `time who: what`; ended or not.
fn life(name: &str, heard: &[&str], ended: bool) -> Life {
    let record = Record::default();
    for line in heard {
        let (timestamp, rest) = line.split_once(' ').unwrap();
        let (username, content) = rest.split_once(": ").unwrap();
        let [username, content, timestamp] = [username, content, timestamp].map(str::to_owned);
        record.hear(ChatMessage { username, content, timestamp });
    }
    if ended {
        record.end(Code::Unavailable, "server is shutting down");
    }
    let begun = Instant::now().checked_sub(Duration::from_secs(9)).unwrap();
    Life { name: name.to_owned(), room: "lobby", begun, record: Arc::new(record) }
}

fn chronicle(lives: Vec<Life>) -> Chronicle {
    Chronicle(Arc::new(Mutex::new(lives)))
}

fn listener(heard: &[&str]) -> Chronicle {
    chronicle(vec![life("eve", heard, false)])
}

const ROUND: [&str; 5] =
    ["1 bob: 0.7", "2 bob: 0.8", "3 System: bob left", "4 System: bob joined", "5 bob: 1.0"];

#[test]
fn a_return_is_no_collision() {
    listener(&ROUND).assert_names_are_held_once();
}

#[test]
#[should_panic(expected = "a second time")]
fn two_holders_are_found() {
    listener(&["1 System: bob joined", "2 System: bob joined"]).assert_names_are_held_once();
}

#[test]
#[should_panic(expected = "nobody who is there")]
fn words_of_the_absent_are_found() {
    listener(&["1 System: bob left", "2 bob: 0.1"]).assert_names_are_held_once();
}

#[test]
#[should_panic(expected = "after Some((0, 1))")]
fn missing_words_are_found() {
    listener(&["1 bob: 0.1", "2 bob: 0.3"]).assert_names_are_held_once();
}

/// Eve hears what becomes of bob, whose stream ended once.
fn told(heard: &[&str]) {
    let bob = [life("bob", &[], true), life("bob", &[], false)];
    chronicle([vec![life("eve", heard, false)], bob.to_vec()].concat())
        .assert_comings_and_goings_are_told_once();
}

#[test]
fn the_first_one_is_heard_by_nobody() {
    told(&["1 System: bob joined", "2 System: bob left", "3 System: bob joined"]);
}

#[test]
#[should_panic(expected = "who joined (true) and left (false)")]
fn a_departure_told_twice_is_found() {
    told(&[
        "0 System: bob joined",
        "1 System: bob left",
        "2 System: bob left",
        "3 System: bob joined",
    ]);
}

#[test]
#[should_panic(expected = "who joined (true) and left (false)")]
fn a_return_told_to_nobody_is_found() {
    told(&["0 System: bob joined", "1 System: bob left"]);
}

#[test]
#[should_panic(expected = "was sent away at once")]
fn a_refusal_is_found() {
    let told = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
    let chronicle = chronicle(vec![life("bob", &[], true)]);
    chronicle.assert_nobody_had_to_come_twice(told, Instant::now());
}

#[test]
#[should_panic(expected = "differ")]
fn another_order_is_found() {
    let one = Diary::of(life("eve", &["1 bob: 0.0", "2 bob: 0.1", "3 ann: 0.0"], false));
    let other = Diary::of(life("joe", &["1 bob: 0.0", "3 ann: 0.0", "2 bob: 0.1"], false));
    one.agrees_with(&other);
}

#[test]
#[should_panic(expected = "nothing in common")]
fn another_room_is_found() {
    let one = Diary::of(life("eve", &["1 bob: 0.0"], false));
    one.agrees_with(&Diary::of(life("joe", &["2 ann: 0.0"], false)));
}
