//! The few places where an invisible character belongs: inside emoji, and between letters of
//! scripts that are written with joiners.

use unicode_properties::{EmojiStatus, UnicodeEmoji as _, emoji::is_regional_indicator};
use unicode_script::{Script, UnicodeScript as _};

const ZWNJ: char = '\u{200c}';
const ZWJ: char = '\u{200d}';
const TEXT_STYLE: char = '\u{fe0e}';
const EMOJI_STYLE: char = '\u{fe0f}';
const KEYCAP: char = '\u{20e3}';
const BLACK_FLAG: char = '\u{1f3f4}';
const TAG_END: char = '\u{e007f}';

/// Scripts whose plain words need joiners: `می‌خواهم`, `क्‍ष`.
const JOINING: [Script; 14] = [
    Script::Arabic,
    Script::Syriac,
    Script::Devanagari,
    Script::Bengali,
    Script::Gurmukhi,
    Script::Gujarati,
    Script::Oriya,
    Script::Tamil,
    Script::Telugu,
    Script::Kannada,
    Script::Malayalam,
    Script::Sinhala,
    Script::Khmer,
    Script::Myanmar,
];

/// How many characters from `at` on, of which the first is invisible, are rightly there: 0 when
/// they are not.
pub fn invisible_but_needed(chars: &[char], at: usize) -> usize {
    let (before, rest) = chars.split_at(at);
    let next = rest.get(1).copied();
    match rest.first() {
        Some(&ZWJ) => usize::from(joins_emoji(before, next) || joins_letters(before, next)),
        Some(&ZWNJ) => usize::from(joins_letters(before, next)),
        Some(&(TEXT_STYLE | EMOJI_STYLE)) => usize::from(styles(before, next)),
        Some(&c) if is_tag(c) && before.last() == Some(&BLACK_FLAG) => flag_tags(rest),
        _ => 0,
    }
}

/// A family, a profession, a rainbow flag: a picture on both sides. The one on the left may be
/// coloured or styled.
fn joins_emoji(before: &[char], next: Option<char>) -> bool {
    let mut left = before.iter().rev().copied();
    let picture = left.find(|&c| c != EMOJI_STYLE && !is_skin_tone(c));
    picture.is_some_and(is_picture) && next.is_some_and(is_picture)
}

/// Letters or marks of one joining script on both sides. Vowel signs that belong to no script
/// of their own are looked past.
fn joins_letters(before: &[char], next: Option<char>) -> bool {
    let script = |c: char| Some(c.script()).filter(|script| JOINING.contains(script));
    let left = before.iter().rev().find(|c| c.script() != Script::Inherited);
    let left = left.copied().and_then(script);
    left.is_some() && left == next.and_then(script)
}

/// A picture that is asked for in colour or in black, or the middle of a keycap.
fn styles(before: &[char], next: Option<char>) -> bool {
    before.last().is_some_and(|&c| {
        is_picture(c) || (matches!(c, '0'..='9' | '#' | '*') && next == Some(KEYCAP))
    })
}

/// The flag of a part of a country: three to six letters or digits, and an end. Bounded, as
/// nobody sees what is written there.
fn flag_tags(tags: &[char]) -> usize {
    let is_spec = |c: &&char| matches!(c, '\u{e0030}'..='\u{e0039}' | '\u{e0061}'..='\u{e007a}');
    let spec = tags.iter().take_while(is_spec).count();
    if (3..=6).contains(&spec) && tags.get(spec) == Some(&TAG_END) { spec + 1 } else { 0 }
}

fn is_tag(c: char) -> bool {
    matches!(c, '\u{e0020}'..=TAG_END)
}

fn is_skin_tone(c: char) -> bool {
    c.emoji_status() == EmojiStatus::EmojiPresentationAndModifierAndEmojiComponent
}

/// An emoji that is a picture by itself: no digit, no half of a flag, no colour of skin. Hair
/// is one.
fn is_picture(c: char) -> bool {
    let is_part = c.is_ascii() || is_regional_indicator(c) || is_skin_tone(c);
    c.is_emoji_char() && !is_part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(text: &str) -> bool {
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            let hidden = matches!(chars[at], ZWJ | ZWNJ | TEXT_STYLE | EMOJI_STYLE);
            at += match invisible_but_needed(&chars, at) {
                0 if hidden || is_tag(chars[at]) => return false,
                n => n.max(1),
            };
        }
        true
    }

    #[test]
    fn emoji_and_joining_scripts_keep_their_joiners() {
        for text in [
            "👨\u{200d}👩\u{200d}👧\u{200d}👦",
            "❤\u{fe0f}\u{200d}🔥",
            "👩🏽\u{200d}🚀",
            "👨🏽\u{200d}🦰",
            "⛹🏽\u{200d}♀\u{fe0f}",
            "👁\u{fe0f}\u{200d}🗨\u{fe0f}",
            "🏳\u{fe0f}\u{200d}🌈",
            "🏴\u{200d}☠\u{fe0f}",
            "☎\u{fe0e}",
            "1\u{fe0f}\u{20e3}#\u{fe0f}\u{20e3}",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "مِ\u{200c}ن",
        ] {
            assert!(needed(text), "{text:?}");
        }
    }

    #[test]
    fn elsewhere_they_hide() {
        for text in [
            "a\u{200d}b",
            "\u{200d}🔥",
            "🔥\u{200d}",
            "🔥\u{200d}a",
            "🔥\u{200c}🔥",
            "🏽\u{200d}🔥",
            "🇳\u{200d}🇱",
            "a\u{fe0f}",
            "1\u{fe0f}",
            "❤\u{fe0f}\u{fe0f}",
            "م\u{200c}",
            "م\u{200c}a",
            "م\u{200c}\u{200c}م",
            "🏴\u{e0067}\u{e0062}",
            "🏴\u{e007f}",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e0067}\u{e0067}\u{e007f}",
            "a\u{e0067}\u{e0062}\u{e0065}\u{e007f}",
        ] {
            assert!(!needed(text), "{text:?}");
        }
    }
}
