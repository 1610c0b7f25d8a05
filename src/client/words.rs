//! Words for people: errors in one line, and nothing that drives a terminal.

use std::{error::Error as StdError, fmt::Write as _};

use crate::tls::fault;

/// What is behind an error: a failure of TLS, or the innermost source, where the operating system's
/// word is.
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    if let Some(fault) = fault(error) {
        return sanitise(&fault.words);
    }
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    let reason = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason);
    if reason == Some(h2::Reason::FRAME_SIZE_ERROR) {
        return "it does not speak plain HTTP/2".to_owned();
    }
    sanitise(&error.to_string())
}

/// Escapes what could drive a terminal or feign another line: control characters other than the
/// tab, line separators, and the characters that turn the direction of writing.
pub(super) fn sanitise(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => safe.push(c),
            '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                let _ = write!(safe, "{}", c.escape_unicode());
            }
            c if c.is_control() => {
                let _ = write!(safe, "{}", c.escape_default());
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_drives_the_terminal() {
        for (text, safe) in [
            ("\u{1b}[2J\u{7}", "\\u{1b}[2J\\u{7}"),
            ("a\r\nb\u{0}", "a\\r\\nb\\u{0}"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("\u{202e}gpj\u{2066}\u{2028}", "\\u{202e}gpj\\u{2066}\\u{2028}"),
            ("\u{1f469}\u{200d}\u{1f680} gr\u{fc}n", "\u{1f469}\u{200d}\u{1f680} gr\u{fc}n"),
        ] {
            assert_eq!(sanitise(text), safe);
        }
        let all: String = ('\0'..='\u{ffff}').collect();
        assert!(sanitise(&all).chars().all(|c| c == '\t' || !c.is_control()));
    }
}
