//! Which scripts go together in one name: UTS #39's *moderately restrictive* level, on all of
//! Unicode rather than on identifiers only, and a little stricter.

use unicode_normalization::UnicodeNormalization as _;
use unicode_script::{Script, ScriptExtension};
use unicode_security::mixed_script::AugmentedScriptSet;

use super::UsernameError;

/// Scripts that are full of Latin's look-alikes. UTS #39 names the first two; Armenian's `օ`,
/// `ս` and `հ` are no harder to tell apart.
const IMITATORS: [Script; 3] = [Script::Cyrillic, Script::Greek, Script::Armenian];

/// Refuses mixes that serve look-alikes, such as a Cyrillic `а` in `pаypal`. One script goes, and
/// Latin beside Japanese, Korean, Chinese, or one other script in common use that does not
/// imitate it.
pub(super) fn check(name: &str) -> Result<(), UsernameError> {
    let mut all = AugmentedScriptSet::default();
    let mut beside_latin = AugmentedScriptSet::default();
    for c in letters(name) {
        let of_char = AugmentedScriptSet::for_char(c);
        all.intersect_with(of_char);
        if !of_char.base.contains_script(Script::Latin) {
            beside_latin.intersect_with(of_char);
        }
    }
    if !all.is_empty() || beside_latin.kore || beside_latin.hanb || beside_latin.jpan {
        return Ok(());
    }
    let mut others = beside_latin.base.iter();
    if let (Some(other), None) = (others.next(), others.next())
        && other.is_recommended()
        && !IMITATORS.contains(&other)
    {
        return Ok(());
    }
    Err(blame(name))
}

/// The letters of a name. Those of the mathematical alphabets belong to no script, so that they
/// are taken for what they show; a trade mark or a numero sign is left as it is.
fn letters(name: &str) -> impl Iterator<Item = char> + '_ {
    name.chars().flat_map(|c| {
        let plain = if matches!(c, '\u{1d400}'..='\u{1d7ff}') { c.nfkd().next() } else { None };
        std::iter::once(plain.unwrap_or(c))
    })
}

/// Names the first two scripts that differ.
fn blame(name: &str) -> UsernameError {
    let name_of = |set: ScriptExtension| set.iter().next().map_or("Unknown", Script::full_name);
    let mut seen: Option<ScriptExtension> = None;
    for (got, c) in name.chars().zip(letters(name)) {
        let here = ScriptExtension::from(c);
        if here.is_common() || here.is_inherited() {
            continue;
        }
        match seen {
            Some(first) if first.intersection(here).is_empty() => {
                let (first, second) = (name_of(first), name_of(here));
                return UsernameError::MixedScripts { first, second, got };
            }
            Some(first) => seen = Some(first.intersection(here)),
            None => seen = Some(here),
        }
    }
    // Unreachable: a mix has two characters whose scripts differ.
    UsernameError::MixedScripts { first: "Unknown", second: "Unknown", got: '\u{fffd}' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_script_or_neighbours_that_do_not_imitate() {
        for name in [
            "bob",
            "боб",
            "Ωμέγα",
            "Արամ",
            "田中さんカナ",
            "Tokyo東京タワー",
            "Lee이李",
            "ㄅㄆ字a",
            "Ali علي",
            "राम Ram",
            "ᏣᎳᎩ",
            "Иван™ №5",
            "10µm",
            "ｂｏｂ",
            "🔥боб🔥",
            "42",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn mixes_with_imitators_are_refused_by_script() {
        for (name, first, second, got) in [
            ("p\u{430}ypal", "Latin", "Cyrillic", '\u{430}'),
            ("\u{405}уѕtем", "Cyrillic", "Latin", 't'),
            ("\u{3b1}lpha", "Greek", "Latin", 'l'),
            ("p\u{1d6c2}ypal", "Latin", "Greek", '\u{1d6c2}'),
            ("b\u{585}b", "Latin", "Armenian", '\u{585}'),
            ("bob\u{13a0}", "Latin", "Cherokee", '\u{13a0}'),
            ("боб東", "Cyrillic", "Han", '東'),
            ("aا中", "Latin", "Arabic", 'ا'),
        ] {
            assert_eq!(
                check(name),
                Err(UsernameError::MixedScripts { first, second, got }),
                "{name}"
            );
        }
    }
}
