//! Names from end to end.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn parse(name: &str) -> Result<Username, UsernameError> {
    Username::parse(name, UsernameLimits::default())
}

fn skeleton(name: &str) -> String {
    parse(name).unwrap_or_else(|error| panic!("{name:?}: {error}")).skeleton().to_owned()
}

#[test]
fn plain_names_of_any_script_are_kept_as_spelled() {
    for name in [
        "bob",
        "O'Brien",
        "Anne-Marie",
        "j.r.r",
        "user/42",
        "R2D2",
        "a b",
        " bob ",
        "a  b",
        "42",
        "中文",
        "山田 太郎",
        "김철수",
        "हिन्दी",
        "ไทย",
        "العربية",
        "עברית",
        "Ελλάδα",
        "Мария",
        "ქართული",
        "தமிழ்",
        "አማርኛ",
        "José",
        "Zoe\u{308}",
        "Nguyễn",
        "🦀",
        "bob🔥",
        "👩🏽\u{200d}🚀",
        "🇳🇱",
        "1\u{fe0f}\u{20e3}",
        "100%",
        "\"x\"",
        "<b>",
        "{a}",
        "\u{fdfa}",
    ] {
        assert_eq!(parse(name).unwrap().display().as_str(), name);
    }
}

#[test]
fn spellings_of_one_name_are_equal() {
    for (one, other) in [
        ("bob", "BOB"),
        ("bob", "ｂｏｂ"),
        ("bob", "𝐛𝐨𝐛"),
        ("bob", "ⓑⓞⓑ"),
        ("bob", "b0b"),
        ("bob", " bob  "),
        ("bob", "ВОВ"),
        ("bob", "ΒΟΒ"),
        ("bob", "ʙᴏʙ"),
        ("a b", "a   b"),
        ("bill", "biII"),
        ("bill", "b1|l"),
        // The price of the line before: case and likeness together make one class of i, l and 1.
        ("Neil", "Nell"),
        ("paypal", "раураӏ"),
        ("paypal", "PAYPAI"),
        ("user1", "userl"),
        ("room0", "roomo"),
        ("modern", "rnodem"),
        ("straße", "STRASSE"),
        ("José", "Jose\u{301}"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("МАРИЯ", "мария"),
        ("❤", "❤\u{fe0f}"),
        ("o'neil", "O’Neil"),
        ("reader-10", "reader‐1O"),
    ] {
        assert_eq!(parse(one), parse(other), "{one} {other}");
    }
}

#[test]
fn different_names_differ() {
    for (one, other) in [
        ("bob", "rob"),
        ("José", "Jose"),
        ("anna", "ana"),
        ("a b", "ab"),
        ("a-b", "a_b"),
        ("中", "国"),
        ("👍", "👎"),
        ("👍", "👍🏽"),
        ("🇳🇱", "🇱🇳"),
        ("Мария", "Марина"),
    ] {
        assert_ne!(parse(one).unwrap(), parse(other).unwrap(), "{one} {other}");
    }
}

#[test]
fn numbered_names_never_collide_with_each_other() {
    let mut seen: HashMap<String, String> = HashMap::new();
    let stems = ["user", "c", "s", "m", "rn_", "reader-", "bot-1-", "l-", "o", "клиент", "用户"];
    for name in stems.iter().flat_map(|stem| (0..1200).map(move |n| format!("{stem}{n}"))) {
        if let Some(other) = seen.insert(skeleton(&name), name.clone()) {
            panic!("{name} collides with {other}");
        }
    }
    for digits in ["0123456789", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "০১২৩৪৫৬৭৮৯", "๐๑๒๓๔๕๖๗๘๙"]
    {
        let mut skeletons: Vec<_> = digits.chars().map(|d| skeleton(&d.to_string())).collect();
        skeletons.sort();
        skeletons.dedup();
        assert_eq!(skeletons.len(), 10, "{digits}");
    }
}

#[test]
fn the_servers_name_is_nobodys() {
    for name in [
        "System",
        "system",
        "SYSTEM",
        "sYsTeM",
        " System",
        "system  ",
        "Ｓｙｓｔｅｍ",
        "𝐒ystem",
        "𝔖𝔶𝔰𝔱𝔢𝔪",
        "ⓢⓨⓢⓣⓔⓜ",
        "ЅУЅТЕМ",
        "ѕуѕтем",
        "ꜱʏꜱᴛᴇᴍ",
        "Systern",
        "ſyſtem",
        "Syst\u{e9}m",
        "s\u{1ef5}stem",
        "5ystem",
        "Sys tem",
        "-System-",
        "system.",
    ] {
        assert_eq!(parse(name), Err(UsernameError::System { got: name.into() }));
    }
    for name in
        ["\u{405}уѕtеm", "S\u{443}stem", "Sys\u{200b}tem", "\u{202e}metsyS", "System\u{3164}"]
    {
        assert!(parse(name).is_err(), "{name:?}");
    }
    for name in ["Systems", "my system", "systematic", "ecosystem"] {
        assert!(parse(name).is_ok(), "{name}");
    }
}

#[test]
fn refusals_name_field_finding_and_rule() {
    let long = "x".repeat(70);
    let nothing = "username cannot be empty";
    for (name, message) in [
        ("", nothing),
        (" \t\u{a0}", nothing),
        ("\n", nothing),
        ("\u{200b}\u{3164}", nothing),
        (&*long, "username has 70 characters; at most 64 are allowed"),
        (
            "\n\u{b}username",
            "username contains the control character U+000A; only visible characters and U+0020 \
             between them are allowed",
        ),
        (
            "bob\u{202e}",
            "username contains U+202E, which changes the direction of text; only visible \
             characters and U+0020 between them are allowed",
        ),
        ("a\u{a0}b", "username contains the space U+00A0; the only space allowed is U+0020"),
        (
            "p\u{430}ypal",
            "username mixes Latin with Cyrillic (U+0430); allowed are one script, or Latin \
             beside a script that does not imitate it",
        ),
        (
            "SYSTEM",
            "username \"SYSTEM\" looks like \"System\", which belongs to the server; any other \
             name is allowed",
        ),
    ] {
        assert_eq!(parse(name).unwrap_err().to_string(), message, "{name:?}");
    }
}

#[test]
fn length_counts_characters_and_bounds_the_work() {
    assert!(parse(&"é".repeat(64)).is_ok());
    assert!(parse(&"👍".repeat(64)).is_ok());
    assert_eq!(parse(&"é".repeat(65)), Err(UsernameError::TooLong { got: 65, max: 64 }));
    assert!(Username::parse("abc", UsernameLimits { max_chars: 2 }).is_err());
    let huge = "\u{fdfa}".repeat((4 << 20) / 3);
    assert_eq!(parse(&huge), Err(UsernameError::TooLong { got: (4 << 20) / 3, max: 64 }));
    assert_eq!(parse(&" ".repeat(4 << 20)), Err(UsernameError::Empty));
    let late = format!("{huge}\n");
    assert_eq!(parse(&late), Err(UsernameError::Control { got: '\n' }));
}

#[test]
fn every_character_is_refused_or_makes_a_name() {
    for c in '\0'..=char::MAX {
        match parse(&c.to_string()) {
            Ok(username) => {
                let skeleton = username.skeleton();
                assert!(!skeleton.is_empty(), "U+{:04X}", u32::from(c));
                assert!(!skeleton.chars().any(char::is_control), "U+{:04X}", u32::from(c));
            }
            Err(error) => {
                let mixed = matches!(error, UsernameError::MixedScripts { .. });
                assert!(!mixed, "U+{:04X} alone: {error}", u32::from(c));
            }
        }
    }
}

/// Strings that are dense in what the rules are about.
fn tricky() -> impl Strategy<Value = String> {
    let bits = prop::sample::select(vec![
        "a",
        "I",
        "0",
        "m",
        " ",
        "System",
        "\n",
        "\u{200d}",
        "\u{fe0f}",
        "\u{20e3}",
        "👩",
        "🏽",
        "🏴",
        "\u{e0067}",
        "\u{e007f}",
        "\u{301}",
        "\u{430}",
        "\u{3b1}",
        "中",
        "한",
        "क",
        "\u{94d}",
        "م",
        "\u{202e}",
        "\u{3164}",
        "\u{fdfa}",
        "ß",
        "İ",
        "ŉ",
        "\u{345}",
        "\u{e000}",
        "½",
        "´",
    ]);
    prop_oneof![
        prop::collection::vec(bits, 0..24).prop_map(|bits| bits.concat()),
        prop::collection::vec(any::<char>(), 0..80).prop_map(String::from_iter),
        "\\PC{0,70}",
    ]
}

proptest! {
    #[test]
    fn what_is_accepted_keeps_every_promise(name in tricky()) {
        let Ok(username) = parse(&name) else { return Ok(()) };
        prop_assert_eq!(username.display().as_str(), &name);
        prop_assert!((1..=64).contains(&name.chars().count()));
        prop_assert!(!name.chars().any(char::is_control));
        prop_assert!(name.chars().all(|c| c == ' ' || !c.is_whitespace()));
        let forbidden = ['\u{202e}', '\u{3164}', '\u{e000}', '\u{200b}'];
        prop_assert!(!name.contains(forbidden));
        let skeleton = username.skeleton();
        prop_assert!(!skeleton.is_empty());
        prop_assert!(skeleton.len() <= UsernameLimits::default().max_skeleton_bytes());
        prop_assert!(!skeleton.chars().any(char::is_control));
        prop_assert_eq!(skeleton::skeleton(skeleton), skeleton);
    }

    #[test]
    fn case_never_makes_another_name(name in "[A-Za-z0-9._'é-]{1,20}") {
        prop_assert_eq!(parse(&name.to_uppercase()).ok(), parse(&name).ok());
        prop_assert_eq!(parse(&name.to_lowercase()).ok(), parse(&name).ok());
    }
}
