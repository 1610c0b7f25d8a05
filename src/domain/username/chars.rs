//! Which characters a name is made of.

use roomcast_common::text::{invisible_but_needed, is_invisible, looks_blank};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

use super::{UsernameError, error::MAX_MARKS};

/// Whether there is anything to see. A control character counts, so that it is refused as one.
pub(super) fn is_blank(name: &str) -> bool {
    name.chars().all(|c| c.is_whitespace() || is_invisible(c) || looks_blank(c))
}

/// Checks a name's characters one by one, each with its neighbours.
pub(super) fn check(name: &str) -> Result<(), UsernameError> {
    let chars: Vec<char> = name.chars().collect();
    let (mut at, mut marks, mut has_base) = (0, 0, false);
    while let Some(&got) = chars.get(at) {
        if is_invisible(got) && !looks_blank(got) {
            match invisible_but_needed(&chars, at) {
                0 if is_bidi(got) => return Err(UsernameError::Bidi { got }),
                0 => return Err(UsernameError::Invisible { got }),
                needed => at += needed,
            }
            continue;
        }
        check_one(got)?;
        match got.general_category() {
            GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark if has_base => {
                marks += 1;
            }
            // A spacing mark has room of its own: it starts anew, but not a word.
            GeneralCategory::SpacingMark if has_base => marks = 0,
            GeneralCategory::NonspacingMark
            | GeneralCategory::EnclosingMark
            | GeneralCategory::SpacingMark => return Err(UsernameError::StrayMark { got }),
            _ => (marks, has_base) = (0, got != ' '),
        }
        if marks > MAX_MARKS {
            return Err(UsernameError::MarkFlood { got: marks + run_of_marks(&chars[at + 1..]) });
        }
        at += 1;
    }
    Ok(())
}

/// Refuses a character that is wrong wherever it stands.
fn check_one(got: char) -> Result<(), UsernameError> {
    if got == ' ' || got.is_ascii_graphic() {
        return Ok(());
    }
    if looks_blank(got) {
        return Err(UsernameError::Blank { got });
    }
    match got.general_category() {
        GeneralCategory::Control => Err(UsernameError::Control { got }),
        GeneralCategory::Format => Err(UsernameError::Invisible { got }),
        GeneralCategory::SpaceSeparator => Err(UsernameError::Space { got }),
        GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => {
            Err(UsernameError::LineSeparator { got })
        }
        GeneralCategory::Unassigned | GeneralCategory::PrivateUse | GeneralCategory::Surrogate => {
            Err(UsernameError::Unassigned { got })
        }
        _ => Ok(()),
    }
}

fn run_of_marks(chars: &[char]) -> usize {
    let is_mark = |c: &&char| {
        let category = c.general_category();
        matches!(category, GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark)
    };
    chars.iter().take_while(is_mark).count()
}

fn is_bidi(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_see_is_blank() {
        for name in ["", " ", "\t\n", "\u{a0}\u{3000}", "\u{200b}", "\u{3164}", "\u{2800} \u{feff}"]
        {
            assert!(is_blank(name), "{name:?}");
        }
        assert!(!is_blank("\0"), "a control character is refused as one");
        assert!(!is_blank(" . "));
    }

    #[test]
    fn each_kind_is_refused_as_what_it_is() {
        use UsernameError as E;
        type Refusal = fn(char) -> E;
        let cases: [(char, Refusal); 24] = [
            ('\u{85}', |got| E::Control { got }),
            ('\u{1b}', |got| E::Control { got }),
            ('\u{202e}', |got| E::Bidi { got }),
            ('\u{2066}', |got| E::Bidi { got }),
            ('\u{200f}', |got| E::Bidi { got }),
            ('\u{61c}', |got| E::Bidi { got }),
            ('\u{200b}', |got| E::Invisible { got }),
            ('\u{200d}', |got| E::Invisible { got }),
            ('\u{fe0f}', |got| E::Invisible { got }),
            ('\u{ad}', |got| E::Invisible { got }),
            ('\u{e0041}', |got| E::Invisible { got }),
            ('\u{e0100}', |got| E::Invisible { got }),
            ('\u{600}', |got| E::Invisible { got }),
            ('\u{3164}', |got| E::Blank { got }),
            ('\u{115f}', |got| E::Blank { got }),
            ('\u{2800}', |got| E::Blank { got }),
            ('\u{a0}', |got| E::Space { got }),
            ('\u{3000}', |got| E::Space { got }),
            ('\u{1680}', |got| E::Space { got }),
            ('\u{2028}', |got| E::LineSeparator { got }),
            ('\u{2029}', |got| E::LineSeparator { got }),
            ('\u{e000}', |got| E::Unassigned { got }),
            ('\u{ffff}', |got| E::Unassigned { got }),
            ('\u{378}', |got| E::Unassigned { got }),
        ];
        for (got, error) in cases {
            assert_eq!(check(&format!("a{got}b")), Err(error(got)), "U+{:04X}", u32::from(got));
        }
    }

    #[test]
    fn marks_need_a_base_and_stay_few() {
        for name in
            ["e\u{301}\u{302}\u{303}\u{304}", "हिन्दी", "ผู้ใช้", "မြွှောက်", "שָׁלוֹם", "1\u{fe0f}\u{20e3}"]
        {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let stray = Err(UsernameError::StrayMark { got: '\u{301}' });
        assert_eq!(check("\u{301}bob"), stray);
        assert_eq!(check("a \u{301}b"), stray);
        let zalgo = format!("z{}a", "\u{336}".repeat(30));
        assert_eq!(check(&zalgo), Err(UsernameError::MarkFlood { got: 30 }));
    }
}
