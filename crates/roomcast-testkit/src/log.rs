//! What a process writes, captured line by line.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
};

/// The lines that a process has written so far. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Reads `source` to its end on a thread of its own, so that the process never blocks.
    pub fn capture(source: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let written = Arc::clone(&log.0);
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                written.lock().expect("log lock").lines.push(text);
                line.clear();
            }
            written.lock().expect("log lock").ended = true;
        });
        log
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().expect("log lock").lines.clone()
    }

    /// How many bytes they have.
    pub fn bytes(&self) -> usize {
        self.0.lock().expect("log lock").lines.iter().map(|line| line.len() + 1).sum()
    }

    /// Whether the process, and all that it started, has closed it.
    pub fn ended(&self) -> bool {
        self.0.lock().expect("log lock").ended
    }

    /// The lines that contain `text`.
    pub fn with(&self, text: &str) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.contains(text)).collect()
    }

    /// The last lines, for a failed test.
    pub fn tail(&self) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The address that the line about this listener announces.
    pub fn listening(&self, listener: &str) -> Option<SocketAddr> {
        let mark = format!("\"listener\":\"{listener}\"");
        self.with(&mark).iter().find_map(|line| {
            let (_, rest) = line.split_once("\"addr\":\"")?;
            rest.split_once('"')?.0.parse().ok()
        })
    }

    /// Lines at level ERROR, and panics.
    pub fn errors(&self) -> Vec<String> {
        let bad =
            |line: &String| line.contains("\"level\":\"ERROR\"") || line.contains("panicked at");
        self.lines().into_iter().filter(bad).collect()
    }
}
