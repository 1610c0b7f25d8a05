//! Which characters can be seen, and text that can be shown on a terminal or written to a log.

mod emoji;

use std::fmt::Write as _;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

pub use emoji::invisible_but_needed;

/// Characters that nobody can see: Unicode's `Default_Ignorable_Code_Point`, whose members do not
/// change, and the anchors of interlinear annotations.
const INVISIBLE: [(char, char); 17] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// How far back a picture or a letter is looked for that an invisible character belongs to.
const BEFORE: usize = 16;

/// How many characters from `at` on a terminal can be given as they are: 0 where the first one drives
/// it, feigns a line, or cannot be seen and belongs to no emoji and no word.
fn showable(chars: &[char], at: usize) -> usize {
    let Some(&c) = chars.get(at) else { return 0 };
    if is_invisible(c) {
        let from = at.saturating_sub(BEFORE);
        return emoji::invisible_but_needed(&chars[from..], at - from);
    }
    let hidden = matches!(
        c.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    );
    usize::from(!hidden)
}

/// Escapes what could drive a terminal, feign another line or hide something: control characters other
/// than the tab, line separators, characters that turn the direction of writing, and those that nobody
/// sees, except where emoji and words of some scripts need them.
pub fn sanitise(text: &str) -> String {
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

/// Whether nobody can see it.
pub fn is_invisible(c: char) -> bool {
    INVISIBLE.iter().any(|&(first, last)| (first..=last).contains(&c))
}

/// Characters that take room and show nothing: fillers of Hangul, Khmer's inherent vowels,
/// Braille's empty cell, blanks of Khitan and of hieroglyphs, a note without a head, an object
/// that is not there.
pub fn looks_blank(c: char) -> bool {
    matches!(
        c,
        '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{ffa0}'
            | '\u{fffc}'
            | '\u{13441}'
            | '\u{13442}'
            | '\u{16fe4}'
            | '\u{1d159}'
    )
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
