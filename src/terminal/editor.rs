//! A line editor on a terminal, with what arrives printed above the line that is being typed.

use std::{
    fmt,
    io::{self, Write},
};

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use rustyline::{Config, Editor, ExternalPrinter, error::ReadlineError, history::MemHistory};

use super::lines::{self, Lines, Printer, Typed};

/// What stands before the line that is being typed.
const PROMPT: &str = "> ";
/// Back to the begin of the line, which is cleared.
const CLEAR_LINE: &[u8] = b"\r\x1b[K";

/// Gives the terminal back as it was found: the thread that edits may be in the middle of a line.
pub(super) struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = io::stdout().write_all(CLEAR_LINE).and_then(|()| io::stdout().flush());
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// Edits on this process's terminal.
pub(super) fn open() -> io::Result<(Lines, Printer, Restored)> {
    let before = tcgetattr(io::stdin())?;
    // Each pasted line is a message; nothing is completed.
    let config = Config::builder().bracketed_paste(false).auto_add_history(true).build();
    let history = MemHistory::with_config(&config);
    let mut editor: Editor<(), MemHistory> =
        Editor::with_history(config, history).map_err(failed)?;
    let above = Above(editor.create_external_printer().map_err(failed)?);
    let lines = lines::read_with(move || {
        loop {
            let typed = match editor.readline(PROMPT) {
                Ok(line) => lines::meaning(&line),
                Err(ReadlineError::Eof) => Some(Typed::End),
                Err(ReadlineError::Interrupted) => Some(Typed::Interrupt),
                Err(error) => Some(Typed::Failed(failed(error))),
            };
            if let Some(typed) = typed {
                return typed;
            }
        }
    })?;
    Ok((lines, Printer::start(above)?, Restored(before)))
}

fn failed(error: ReadlineError) -> io::Error {
    match error {
        ReadlineError::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// Prints above the line that is being typed. Each write has to be whole lines.
struct Above<P>(P);

impl<P: ExternalPrinter> Write for Above<P> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.0.print(String::from_utf8_lossy(lines).into_owned()).map_err(failed)?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Restored(..)")
    }
}
