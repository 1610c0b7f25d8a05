//! What is shown of what the library tells.

use roomcast_client::{Event, EventKind, Gap, LeftCause, Members, Page, Position, Reason, Update};
use roomcast_common::text::sanitise;
use roomcast_proto::chat::ChatMessage;

use super::{
    lines::{Place, Printer},
    moderated,
    style::{Style, timestamp},
};

/// Who tells of comings and goings.
const SYSTEM: &str = "System";
/// The most characters of a reason: its line is replaced later, so it has to be one.
const REASON_CHARS: usize = 60;
/// Up to the line before, which is cleared.
const REPLACE: &str = "\x1b[A\r\x1b[K";

/// Where a chat is shown.
pub(super) struct Screen {
    printer: Printer,
    /// Where notes go that are no part of the chat: standard error, when the chat goes through a pipe.
    notes: Option<Printer>,
    /// The last line says that we are away, so that it can be replaced.
    away: bool,
    us: Us,
    style: Style,
}

/// Who we are: nobody has to be told what they said themselves.
pub(super) struct Us {
    pub(super) username: String,
    pub(super) entered_at: Position,
    /// What comes is older than our coming in, and of us only by name.
    past: bool,
}

impl Us {
    pub(super) fn new(username: &str, entered_at: Position) -> Self {
        Self { username: username.to_owned(), entered_at, past: true }
    }

    fn did(&mut self, event: &Event) -> bool {
        self.past = self.past && event.position.seq < self.entered_at.seq;
        !self.past && event.username == self.username
    }
}

impl Screen {
    /// Of a terminal, where notes are lines among the others.
    pub(super) fn of_terminal(printer: Printer, us: Us, style: Style) -> Self {
        Self { printer, notes: None, away: false, us, style }
    }

    /// Of a pipe, with a place for notes beside it.
    pub(super) fn of_pipe(printer: Printer, notes: Printer, us: Us) -> Self {
        Self { printer, notes: Some(notes), away: false, us, style: Style::Pipe }
    }

    /// Waits for room for one line, then takes what is to be shown. None: nobody reads it any more.
    pub(super) async fn show_next<T>(
        &mut self,
        next: impl Future<Output = Option<Result<Update, T>>>,
    ) -> Option<Option<Result<(), T>>> {
        let Self { printer, notes, away, us, style } = self;
        let Ok(place) = printer.reserve().await else { return None };
        let update = match next.await {
            Some(Ok(update)) => update,
            Some(Err(error)) => return Some(Some(Err(error))),
            None => return Some(None),
        };
        match update {
            Update::Event(event) => {
                if let Some(line) = line(&event, style).filter(|_| !us.did(&event)) {
                    place.send(line);
                    *away = false;
                }
            }
            Update::Gap(gap) => {
                note(place, notes.as_ref(), style.note(&note_of_gap(gap)));
                *away = false;
            }
            Update::Disconnected { reason } => {
                note(place, notes.as_ref(), style.note(&note_of_away(&reason)));
                *away = notes.is_none();
            }
            Update::Reconnected { resumed } => {
                let replace = if std::mem::take(away) { REPLACE } else { "" };
                let back = style.note(note_of_back(resumed));
                note(place, notes.as_ref(), format!("{replace}{back}"));
            }
        }
        Some(Some(Ok(())))
    }

    /// Somebody typed a line: what is on the screen has moved.
    pub(super) fn typed(&mut self) {
        self.away = false;
    }

    /// Shows a note that is no part of the chat, if there is room.
    pub(super) fn note(&mut self, text: &str) {
        self.away = false;
        self.notes.as_ref().unwrap_or(&self.printer).try_print(self.style.note(text));
    }

    /// Shows a page of the past, each line once there is room for it.
    pub(super) async fn past(&mut self, page: &Page) {
        self.away = false;
        let gap = page.gap.map(|gap| self.style.note(&note_of_gap(gap)));
        let lines = page.events.iter().filter_map(|event| line(event, &self.style));
        for line in gap.into_iter().chain(lines) {
            let Ok(place) = self.printer.reserve().await else { return };
            place.send(line);
        }
    }

    /// Whether this is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.style.is_terminal()
    }

    /// Ends showing.
    pub(super) async fn finish(self) -> std::io::Result<()> {
        if let Some(notes) = self.notes {
            let _ = notes.finish().await;
        }
        self.printer.finish().await
    }
}

fn note(place: Place<'_>, notes: Option<&Printer>, text: String) {
    match notes {
        Some(notes) => notes.try_print(text),
        None => place.send(text),
    }
}

/// An event as one line, `[timestamp] username: content`; nothing for one of an unknown kind.
fn line(event: &Event, style: &Style) -> Option<String> {
    let time = style.time(timestamp(event.time));
    let name = style.name(&sanitise(&event.username));
    Some(match &event.what {
        EventKind::Said(content) => format!("[{time}] {name}: {}", sanitise(content)),
        EventKind::Joined => format!("[{time}] {SYSTEM}: {name} joined"),
        EventKind::Left(cause) => format!("[{time}] {SYSTEM}: {name} left{}", words(*cause)),
        EventKind::Moderated(moderation) => {
            let words = moderated::words(&name, moderation)?;
            format!("[{time}] {SYSTEM}: {words}")
        }
        // Of a later version, too.
        _ => return None,
    })
}

/// A message of the `chat` protocol as one line, in the same form.
pub(super) fn line_of(message: &ChatMessage, style: &Style) -> String {
    let ChatMessage { timestamp, username, content } = message;
    let time = match timestamp.parse() {
        Ok(time) if style.is_terminal() => style.time(time),
        _ => sanitise(timestamp),
    };
    let name = sanitise(username);
    let name = if name == SYSTEM { name } else { style.name(&name) };
    format!("[{time}] {name}: {}", sanitise(content))
}

/// A cause that is worth a word.
fn words(cause: LeftCause) -> &'static str {
    match cause {
        LeftCause::Disconnected => " (connection lost)",
        LeftCause::Ended => " (ended by the server)",
        LeftCause::Shutdown => " (server shut down)",
        LeftCause::ReplicaLost => " (server lost)",
        LeftCause::TimedOut => " (timed out)",
        LeftCause::Kicked => " (told to go)",
        // It was asked for, or this version has no word for it.
        _ => "",
    }
}

fn note_of_gap(gap: Gap) -> String {
    match gap {
        Gap::Range { from, to } => match to.seq.saturating_sub(from.seq) + 1 {
            1 => "-- one event is gone from the room's log".to_owned(),
            count => format!("-- {count} events are gone from the room's log"),
        },
        Gap::Everything => "-- the room's log is gone; something may be missing here".to_owned(),
    }
}

fn note_of_away(reason: &Reason) -> String {
    let reason = reason.to_string();
    let mut shown: String = reason.chars().take(REASON_CHARS).collect();
    if shown.len() < reason.len() {
        shown.push_str("...");
    }
    format!("-- reconnecting: {shown}")
}

fn note_of_back(resumed: bool) -> &'static str {
    if resumed { "-- back" } else { "-- back; the room may have heard that you left" }
}

/// Who is here, in one line.
pub(super) fn note_of_members(members: &Members) -> String {
    let names: Vec<_> = members.members.iter().map(|it| sanitise(&it.username)).collect();
    let others = members.total.saturating_sub(names.len() as u64);
    let more = if others > 0 { format!(" and {others} more") } else { String::new() };
    format!("-- here: {}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use roomcast_client::{Epoch, Member};

    use super::*;

    fn event(seq: u64, username: &str, what: EventKind) -> Event {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        let position = Position::new(Epoch(1), seq);
        Event { position, time, username: username.to_owned(), what }
    }

    #[test]
    fn a_message_is_one_line() {
        let message = |timestamp: &str| ChatMessage {
            username: "bob".to_owned(),
            content: "hello\tthere\u{7}".to_owned(),
            timestamp: timestamp.to_owned(),
        };
        let (pipe, utc) = (Style::Pipe, jiff::tz::TimeZone::UTC);
        let terminal = Style::Terminal { zone: utc, colored: false };
        let now = message("2026-11-24T10:00:00.5Z");
        assert_eq!(line_of(&now, &pipe), "[2026-11-24T10:00:00.5Z] bob: hello\tthere\\u{7}");
        assert_eq!(line_of(&now, &terminal), "[10:00] bob: hello\tthere\\u{7}");
        assert_eq!(line_of(&message("soon\n"), &terminal), "[soon\\n] bob: hello\tthere\\u{7}");
    }

    #[test]
    fn events_are_lines() {
        let shown = |what| line(&event(1, "bob", what), &Style::Pipe);
        let time = "[1970-01-01T00:00:01.5Z]";
        let said = EventKind::Said("hello\u{7}".to_owned());
        assert_eq!(shown(said), Some(format!("{time} bob: hello\\u{{7}}")));
        assert_eq!(shown(EventKind::Joined), Some(format!("{time} System: bob joined")));
        for (cause, end) in [
            (LeftCause::Asked, "bob left"),
            (LeftCause::Unknown, "bob left"),
            (LeftCause::TimedOut, "bob left (timed out)"),
            (LeftCause::ReplicaLost, "bob left (server lost)"),
        ] {
            assert_eq!(shown(EventKind::Left(cause)), Some(format!("{time} System: {end}")));
        }
        assert_eq!(shown(EventKind::Unknown), None);
    }

    #[test]
    fn what_we_did_before_is_not_ours() {
        let mut us = Us::new("bob", Position::new(Epoch(1), 10));
        let said = || EventKind::Said("x".to_owned());
        assert!(!us.did(&event(8, "bob", said())));
        assert!(!us.did(&event(9, "eve", said())));
        assert!(us.did(&event(10, "bob", EventKind::Joined)));
        assert!(us.did(&event(11, "bob", said())));
        assert!(!us.did(&event(12, "eve", said())));
        // A log that begins anew.
        assert!(us.did(&event(1, "bob", said())));
    }

    #[test]
    fn notes_are_one_line() {
        let at = |seq| Position::new(Epoch(1), seq);
        let gap = |from, to| note_of_gap(Gap::Range { from: at(from), to: at(to) });
        assert_eq!(gap(3, 3), "-- one event is gone from the room's log");
        assert_eq!(gap(3, 14), "-- 12 events are gone from the room's log");
        let reason = Reason::Broken { what: "ü".repeat(200) };
        assert_eq!(note_of_away(&reason).chars().count(), "-- reconnecting: ".len() + 63);
        let member = |name: &str| Member {
            username: name.to_owned(),
            since: SystemTime::UNIX_EPOCH,
            lingering: false,
        };
        let mut members = Members { members: vec![member("bob"), member("eve")], total: 2 };
        assert_eq!(note_of_members(&members), "-- here: bob, eve");
        members.total = 5;
        assert_eq!(note_of_members(&members), "-- here: bob, eve and 3 more");
    }
}
