//! Standard input and output for people and pipes.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    thread,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// How many typed lines, and how many lines to print, wait. Whoever fills them waits, too.
const WAITING: usize = 64;
/// The longest line that is read, in bytes: what gRPC can carry.
const MAX_LINE: u64 = 4 * 1024 * 1024;
/// How long the last lines may take to be printed.
const FINISH_PATIENCE: Duration = Duration::from_secs(1);

/// What came from standard input.
#[derive(Debug)]
pub(super) enum Typed {
    /// A line to send, without its end.
    Line(String),
    /// There is nothing more to send.
    End,
    /// The same, and somebody is waiting at the keyboard.
    Interrupt,
    /// Reading failed; nothing more comes.
    Failed(io::Error),
}

/// Lines from a thread that reads them.
pub(super) struct Lines(mpsc::Receiver<Typed>);

impl Lines {
    /// The next line; [`Typed::End`] for ever once there is none. Loses none when dropped.
    pub(super) async fn next(&mut self) -> Typed {
        self.0.recv().await.unwrap_or(Typed::End)
    }
}

/// Starts to read lines up to one that says `exit`. Blank ones are left out.
///
/// The thread sits in a blocking read and is never waited for; it ends with the process.
pub(super) fn read(input: impl Read + Send + 'static) -> io::Result<Lines> {
    let mut input = BufReader::new(input);
    read_with(move || next_typed(&mut input).unwrap_or_else(Typed::Failed))
}

/// Starts to read, up to what is no line.
pub(super) fn read_with(mut next: impl FnMut() -> Typed + Send + 'static) -> io::Result<Lines> {
    let (typed, lines) = mpsc::channel(WAITING);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        loop {
            let next = next();
            let more = matches!(next, Typed::Line(_));
            if typed.blocking_send(next).is_err() || !more {
                return;
            }
        }
    })?;
    Ok(Lines(lines))
}

fn next_typed(input: &mut impl BufRead) -> io::Result<Typed> {
    loop {
        let mut line = Vec::new();
        let length = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(Typed::End);
        }
        if length as u64 == MAX_LINE && !line.ends_with(b"\n") {
            let error = format!("a line has more than {MAX_LINE} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_suffix('\n').unwrap_or(&line);
        if let Some(typed) = meaning(line.strip_suffix('\r').unwrap_or(line)) {
            return Ok(typed);
        }
    }
}

/// What a line asks for; a blank one asks for nothing.
pub(super) fn meaning(line: &str) -> Option<Typed> {
    match line.trim() {
        "" => None,
        "exit" => Some(Typed::End),
        _ => Some(Typed::Line(line.to_owned())),
    }
}

/// Room for one line to print.
pub(super) type Place<'a> = mpsc::Permit<'a, String>;

/// Lines for a thread that prints them.
pub(super) struct Printer {
    lines: mpsc::Sender<String>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Printer {
    /// Starts to print. The thread may sit in a blocking write; it ends with the process.
    pub(super) fn start(mut output: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, mut queue) = mpsc::channel::<String>(WAITING);
        let (report, done) = oneshot::channel();
        thread::Builder::new().name("stdout".to_owned()).spawn(move || {
            let result = print(&mut queue, &mut output);
            drop(queue);
            let _ = report.send(result);
        })?;
        Ok(Self { lines, done })
    }

    /// Waits for room for one line. An error says that printing has ended.
    pub(super) async fn reserve(&self) -> Result<Place<'_>, mpsc::error::SendError<()>> {
        self.lines.reserve().await
    }

    /// Prints one line if there is room for it.
    pub(super) fn try_print(&self, line: String) {
        let _ = self.lines.try_send(line);
    }

    /// Ends printing, and says how it went. A reader that went away or is stuck is no error.
    pub(super) async fn finish(self) -> io::Result<()> {
        drop(self.lines);
        match timeout(FINISH_PATIENCE, self.done).await {
            Ok(Ok(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

fn print(queue: &mut mpsc::Receiver<String>, output: &mut impl Write) -> io::Result<()> {
    while let Some(mut line) = queue.blocking_recv() {
        line.push('\n');
        output.write_all(line.as_bytes())?;
        if queue.is_empty() {
            output.flush()?;
        }
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_lines_up_to_exit() {
        let mut lines = read("one\r\n\n  \n two \nexit\nthree\n".as_bytes()).unwrap();
        assert!(matches!(lines.next().await, Typed::Line(line) if line == "one"));
        assert!(matches!(lines.next().await, Typed::Line(line) if line == " two "));
        assert!(matches!(lines.next().await, Typed::End));
        assert!(matches!(lines.next().await, Typed::End));
    }

    #[tokio::test]
    async fn the_last_line_needs_no_end() {
        let mut lines = read(&b"last \xff"[..]).unwrap();
        assert!(matches!(lines.next().await, Typed::Line(line) if line == "last \u{fffd}"));
        assert!(matches!(lines.next().await, Typed::End));
    }

    #[tokio::test]
    async fn an_endless_line_is_an_error() {
        let mut lines = read(io::repeat(b'x')).unwrap();
        let Typed::Failed(error) = lines.next().await else { panic!("not refused") };
        assert_eq!(error.to_string(), "a line has more than 4194304 bytes");
        assert!(matches!(lines.next().await, Typed::End));
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_closed_output_ends_quietly() {
        let printer = Printer::start(Closed).unwrap();
        printer.reserve().await.unwrap().send("lost".to_owned());
        printer.lines.closed().await;
        assert!(printer.reserve().await.is_err());
        printer.finish().await.unwrap();
    }
}
