//! What names are compared by: one spelling for all that look or sound in case the same.
//!
//! The skeleton of a name is its case folding (Unicode's full default one), compatibility
//! normalization, and UTS #39's folding of look-alikes, repeated until nothing changes. Two
//! relations are merged here that each on its own leave a hole:
//!
//! - UTS #39 knows nothing of case. `I` looks like `l`, so `biII` passes for `bill`; and `I` is
//!   `i`. Whoever wants both has `i`, `I`, `l`, `1` and `|` in one class. That `Neil` and `Nell`
//!   exclude each other is its price, and it is paid on purpose: who loses has to choose another
//!   name, while who is imitated cannot defend himself.
//! - Case folding takes capitals away before their likeness is seen: Cyrillic `ЅУЅТЕМ` reads
//!   SYSTEM, but its small letters `т` and `м` are UTS #39 look-alikes only of small capitals.
//!   So a letter without an ASCII look-alike of its own takes that of its capital. Where the two
//!   differ (Greek `ν` looks like `v`, `Ν` like `N`) the small letter decides.
//!
//! Everything works on one character at a time, but for the order of combining marks and the
//! spaces at the end, so tests over all characters prove the properties for all strings.

use caseless::Caseless as _;
use unicode_normalization::UnicodeNormalization as _;

/// How many bytes of skeleton a character becomes at most. The widest is U+FDFA, a whole phrase.
pub(super) const MAX_BYTES_PER_CHAR: usize = 32;

/// How many passes bring any character to its fixpoint.
const MAX_PASSES: usize = 3;

/// Letters that UTS #39 leaves alone or sends to one another, though they are drawn like an
/// ASCII capital. Kra is here because small `к` and `κ` are sent to it.
const SMALL_CAPITALS: [(char, char); 15] = [
    ('\u{138}', 'k'),
    ('\u{262}', 'g'),
    ('\u{274}', 'n'),
    ('\u{280}', 'r'),
    ('\u{28d}', 'm'),
    ('\u{299}', 'b'),
    ('\u{29c}', 'h'),
    ('\u{29f}', 'l'),
    ('\u{1d00}', 'a'),
    ('\u{1d05}', 'd'),
    ('\u{1d07}', 'e'),
    ('\u{1d0a}', 'j'),
    ('\u{1d18}', 'p'),
    ('\u{1d1b}', 't'),
    ('\u{a730}', 'f'),
];

/// The skeleton of a name. Idempotent, never empty for a name with something visible in it, and
/// at most [`MAX_BYTES_PER_CHAR`] times as many bytes as the name has characters.
pub(super) fn skeleton(name: &str) -> String {
    match ascii(name) {
        Some(skeleton) => skeleton,
        None => general(name),
    }
}

/// The same for plain ASCII, without the tables; nothing for names that need them.
fn ascii(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len() + 8);
    for byte in name.bytes() {
        match byte {
            // A look-alike of characters beyond ASCII.
            b'%' => return None,
            b'0' => out.push('o'),
            b'1' | b'i' | b'I' | b'|' => out.push('l'),
            b'm' | b'M' => out.push_str("rn"),
            b'"' => out.push_str("''"),
            b'`' => out.push('\''),
            b' ' => push_space(&mut out),
            b'!'..=b'~' => out.push(char::from(byte.to_ascii_lowercase())),
            _ => return None,
        }
    }
    trim_end(&mut out);
    Some(out)
}

fn general(name: &str) -> String {
    let fixpoint = fixpoint(name);
    let mut spaced = String::with_capacity(fixpoint.len());
    for c in fixpoint.chars() {
        if c == ' ' {
            push_space(&mut spaced);
        } else {
            spaced.push(c);
        }
    }
    trim_end(&mut spaced);
    // Composed again, as decomposed Hangul is three times as long.
    spaced.nfc().collect()
}

/// One space between words and none before the first: others cannot see how many there are.
fn push_space(out: &mut String) {
    if !out.is_empty() && !out.ends_with(' ') {
        out.push(' ');
    }
}

fn trim_end(out: &mut String) {
    if out.ends_with(' ') {
        out.pop();
    }
}

fn fixpoint(name: &str) -> String {
    let mut now = pass(name);
    for _ in 1..MAX_PASSES {
        let next = pass(&now);
        if next == now {
            break;
        }
        now = next;
    }
    now
}

/// Folds case, compatibility and looks once.
fn pass(name: &str) -> String {
    let folded = name.chars().nfd().default_case_fold().nfkd();
    let mut out = String::with_capacity(name.len() + 8);
    folded.for_each(|c| push_look(c, &mut out));
    out.nfd().collect()
}

/// Appends what a folded character looks like.
fn push_look(c: char, out: &mut String) {
    if let Some(&(_, letter)) = SMALL_CAPITALS.iter().find(|&&(small, _)| small == c) {
        out.push(letter);
        return;
    }
    let start = out.len();
    push_prototype(c, out);
    if c != 'i' && out[start..].is_ascii() {
        return;
    }
    let mut upper = c.to_uppercase();
    if let (Some(capital), None) = (upper.next(), upper.next()) {
        let end = out.len();
        push_prototype(capital, out);
        let of_capital = end..out.len();
        if capital != c && out[of_capital].bytes().all(|b| b.is_ascii_alphanumeric()) {
            out.replace_range(start..end, "");
        } else {
            out.truncate(end);
        }
    }
}

fn push_prototype(c: char, out: &mut String) {
    out.extend(unicode_security::skeleton(c.encode_utf8(&mut [0; 4])));
}

/// What is left of a skeleton without marks, spaces and punctuation, and with a 5 taken for an s: the
/// server's own name is guarded against more than look-alikes.
pub(super) fn bare(skeleton: &str) -> String {
    let letters = skeleton.nfd().filter(|c| c.is_alphanumeric());
    letters.map(|c| if c == '5' { 's' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every_char() -> impl Iterator<Item = char> {
        '\0'..=char::MAX
    }

    #[test]
    fn every_character_reaches_a_fixpoint_without_controls_and_within_bounds() {
        for c in every_char() {
            let name = c.to_string();
            let fixed = fixpoint(&name);
            assert_eq!(pass(&fixed), fixed, "U+{:04X}", u32::from(c));
            assert!(fixed.len() <= MAX_BYTES_PER_CHAR, "U+{:04X} {}", u32::from(c), fixed.len());
            let made_control = !c.is_control() && fixed.chars().any(char::is_control);
            assert!(!made_control, "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn the_short_cut_for_ascii_agrees_with_the_tables() {
        for c in ' '..='~' {
            let name = format!("x{c}x");
            assert_eq!(skeleton(&name), general(&name), "{c}");
        }
    }

    #[test]
    fn long_phrases_in_one_character_stay_within_bounds() {
        for c in ["\u{fdfa}", "\u{fdfb}", "\u{3300}", "\u{390}", "\u{fb03}", "%", "m", "\u{ac01}"] {
            assert!(skeleton(&c.repeat(64)).len() <= 64 * MAX_BYTES_PER_CHAR);
        }
        assert!(skeleton(&"\u{fdfa}".repeat(64)).len() > 32 * MAX_BYTES_PER_CHAR, "it is wide");
    }

    proptest! {
        #[test]
        fn idempotent(name in "\\PC{0,64}") {
            let once = skeleton(&name);
            prop_assert_eq!(skeleton(&once), once.clone());
            prop_assert!(once.len() <= name.chars().count() * MAX_BYTES_PER_CHAR);
        }

        #[test]
        fn ascii_as_the_tables(name in "[ -~]{0,64}") {
            prop_assert_eq!(skeleton(&name), general(&name));
        }

        #[test]
        fn blind_to_case(name in "[a-zA-Z0-9 \u{c0}-\u{24f}\u{370}-\u{3ff}\u{400}-\u{4ff}]{1,32}") {
            prop_assert_eq!(skeleton(&name.to_lowercase()), skeleton(&name));
            prop_assert_eq!(skeleton(&name.to_uppercase()), skeleton(&name));
        }
    }
}
