//! Words for people: errors in one line, and nothing that drives a terminal.

use std::{error::Error as StdError, fmt::Write as _};

use crate::{domain::showable, tls::fault};

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

/// Escapes what could drive a terminal, feign another line or hide something: control characters other
/// than the tab, line separators, characters that turn the direction of writing, and those that nobody
/// sees, except where emoji and words of some scripts need them.
pub(super) fn sanitise(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        match showable(&chars, at) {
            0 if c == '\t' => safe.push(c),
            0 if c.is_control() => {
                let _ = write!(safe, "{}", c.escape_default());
            }
            0 => {
                let _ = write!(safe, "{}", c.escape_unicode());
            }
            count => {
                safe.extend(&chars[at..at + count]);
                at += count - 1;
            }
        }
        at += 1;
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
            ("a\u{200b}b\u{feff}\u{2060}c\u{ad}", "a\\u{200b}b\\u{feff}\\u{2060}c\\u{ad}"),
            ("a\u{200d}b \u{200c}", "a\\u{200d}b \\u{200c}"),
            ("ok\u{e0068}\u{e0069}\u{e007f}", "ok\\u{e0068}\\u{e0069}\\u{e007f}"),
            ("x\u{e0101}\u{fe0f}\u{3164}", "x\\u{e0101}\\u{fe0f}\\u{3164}"),
        ] {
            assert_eq!(sanitise(text), safe);
        }
        for ordinary in [
            "\u{1f469}\u{200d}\u{1f680} gr\u{fc}n \u{2764}\u{fe0f}",
            "\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            "2\u{fe0f}\u{20e3} \u{2800}",
        ] {
            assert_eq!(sanitise(ordinary), ordinary);
        }
        let all: String = ('\0'..='\u{ffff}').collect();
        assert!(sanitise(&all).chars().all(|c| c == '\t' || !c.is_control()));
    }
}
