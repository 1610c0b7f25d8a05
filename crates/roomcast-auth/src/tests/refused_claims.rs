//! Tokens that are well signed and have one claim that is wrong.

use serde_json::{Value, json};

use super::{set_verifier, validation};
use crate::{
    Claim, Keys, Malformed, TokenError, Validation, Verifier,
    testing::{EDDSA, NOW, claims, claims_with, claims_without, now},
};

const CLAIMS: TokenError = TokenError::Malformed(Malformed::Claims);

fn verdict(verifier: &Verifier, claims: impl ToString) -> Result<(), TokenError> {
    verifier.verify(&EDDSA.token("ed", claims), now()).map(drop)
}

fn check(table: Vec<(Value, TokenError)>) {
    let verifier = set_verifier();
    for (claims, error) in table {
        assert_eq!(verdict(&verifier, &claims), Err(error), "{claims}");
    }
}

#[test]
fn claims_that_are_no_object_or_have_duplicates() {
    let good = claims().to_string();
    let more = |member: &str| good.replacen('{', &format!("{{{member},"), 1);
    let deep = format!("{}{}", r#"{"a":"#.repeat(900), "1".to_owned() + &"}".repeat(900));
    let verifier = set_verifier();
    for text in [
        String::new(),
        "[]".to_owned(),
        "null".to_owned(),
        r#""sub""#.to_owned(),
        format!("{good} {good}"),
        more(r#""exp":9999999999"#),
        more(r#""sub":"user-1""#),
        more(r#""s\u0075b":"user-1""#),
        more(r#""roomcast":{"admin":true}"#),
        more(r#""x":1,"x":1"#),
        good.replace(r#""admin":false"#, r#""admin":true,"admin":false"#),
        good.replace(r#""role":"moderator""#, r#""role":"owner","role":"moderator""#),
        good.replace(&(NOW + 600).to_string(), "1e999"),
        good.replace(&(NOW + 600).to_string(), "NaN"),
        good.replace(&(NOW + 600).to_string(), "Infinity"),
        good.replace(&(NOW + 600).to_string(), "0x7fffffff"),
        more(&format!(r#""deep":{deep}"#)),
        good.replace("user-4711", r"\ud800"),
        good.replace("user-4711", "user\n4711"),
    ] {
        assert_eq!(verdict(&verifier, &text), Err(CLAIMS), "{text}");
    }
}

#[test]
fn times() {
    use Claim::{Expiry, IssuedAt, NotBefore};

    let expired = |exp: Value| (claims_with("exp", exp), TokenError::Expired);
    let early = |name, at: Value| (claims_with(name, at), TokenError::NotYetValid);
    let mut table = vec![
        (claims_without("exp"), TokenError::MissingClaim(Expiry)),
        expired(json!(NOW - 30)),
        expired(json!(1_799_999_969.999)),
        expired(json!(0)),
        expired(json!(1.5)),
        early("nbf", json!(NOW + 31)),
        early("nbf", json!(1_800_000_030.001)),
        early("iat", json!(NOW + 31)),
        early("iat", json!(253_000_000_000_i64)),
    ];
    for (name, claim) in [("exp", Expiry), ("nbf", NotBefore), ("iat", IssuedAt)] {
        let wrong = [
            json!((NOW + 600).to_string()),
            json!("2030-01-01T00:00:00Z"),
            json!(null),
            json!(true),
            json!([]),
            json!({}),
            json!(-1),
            json!(-0.5),
            json!(1e300),
            json!(-1e300),
            json!(u64::MAX),
            json!(i64::MIN),
            // Milliseconds.
            json!(NOW * 1000),
        ];
        table.extend(wrong.map(|it| (claims_with(name, it), TokenError::InvalidClaim(claim))));
    }
    check(table);
}

#[test]
fn times_that_are_lists_or_objects_with_something_in_them() {
    let verifier = set_verifier();
    for name in ["exp", "nbf", "iat"] {
        for value in [json!([NOW + 600]), json!({ "exp": NOW + 600 })] {
            let error = verdict(&verifier, claims_with(name, value)).unwrap_err();
            // The library cannot read on behind the first two.
            let expected =
                if name == "iat" { TokenError::InvalidClaim(Claim::IssuedAt) } else { CLAIMS };
            assert_eq!(error, expected, "{name}");
        }
    }
}

#[test]
fn issuers_and_audiences() {
    let issuer = |iss: Value, error| (claims_with("iss", iss), error);
    let audience = |aud: Value, error| (claims_with("aud", aud), error);
    let invalid_issuer = TokenError::InvalidClaim(Claim::Issuer);
    let invalid_audience = TokenError::InvalidClaim(Claim::Audience);
    check(vec![
        (claims_without("iss"), TokenError::MissingClaim(Claim::Issuer)),
        issuer(json!("https://issuer.example/"), TokenError::IssuerMismatch),
        issuer(json!("HTTPS://issuer.example"), TokenError::IssuerMismatch),
        issuer(json!(""), TokenError::IssuerMismatch),
        issuer(json!(["https://issuer.example"]), invalid_issuer),
        issuer(json!(null), invalid_issuer),
        (claims_without("aud"), TokenError::MissingClaim(Claim::Audience)),
        audience(json!("other"), TokenError::AudienceMismatch),
        audience(json!("roomcast "), TokenError::AudienceMismatch),
        audience(json!(["other", "another"]), TokenError::AudienceMismatch),
        audience(json!([]), TokenError::AudienceMismatch),
        audience(json!(["roomcast", 1]), invalid_audience),
        audience(json!({ "roomcast": true }), invalid_audience),
        audience(json!(null), invalid_audience),
    ]);
}

#[test]
fn identities() {
    let invalid = TokenError::InvalidClaim;
    let sub = |sub: Value| (claims_with("sub", sub), invalid(Claim::Subject));
    let name = |name: Value| (claims_with("name", name), invalid(Claim::Name));
    check(vec![
        (claims_without("sub"), TokenError::MissingClaim(Claim::Subject)),
        sub(json!("")),
        sub(json!(4711)),
        sub(json!(null)),
        sub(json!("é".repeat(129))),
        sub(json!("a\nb")),
        sub(json!("a\u{0}")),
        sub(json!("a\u{9b}31m")),
        name(json!(1)),
        name(json!(null)),
        name(json!(["Barbara"])),
        name(json!({ "en": "Barbara" })),
    ]);
}

#[test]
fn grants() {
    use Claim::{Admin, Grant, GrantMatch, GrantRole, Roomcast, Rooms};

    let invalid = |roomcast: Value, claim| {
        (claims_with("roomcast", roomcast), TokenError::InvalidClaim(claim))
    };
    let missing = |roomcast: Value, claim| {
        (claims_with("roomcast", roomcast), TokenError::MissingClaim(claim))
    };
    let good = json!({ "match": "a", "role": "member" });
    let second = |grant: Value| json!({ "rooms": [good, grant] });
    let role = |role: Value| second(json!({ "match": "a", "role": role }));
    let rooms = |rooms: Value| second(json!({ "match": rooms, "role": "member" }));
    let mut table = vec![
        invalid(json!(null), Roomcast),
        invalid(json!([]), Roomcast),
        invalid(json!("admin"), Roomcast),
        invalid(json!({ "admin": "true" }), Admin),
        invalid(json!({ "admin": 1 }), Admin),
        invalid(json!({ "admin": null }), Admin),
        invalid(json!({ "rooms": {} }), Rooms),
        invalid(json!({ "rooms": null }), Rooms),
        invalid(json!({ "rooms": "team-*" }), Rooms),
        invalid(json!({ "rooms": vec![json!(1); 257] }), Rooms),
        invalid(second(json!("team-*")), Grant(1)),
        invalid(second(json!(null)), Grant(1)),
        missing(second(json!({ "match": "a" })), GrantRole(1)),
        missing(second(json!({ "role": "member" })), GrantMatch(1)),
        missing(second(json!({})), GrantMatch(1)),
    ];
    for wrong in [json!("admin"), json!("Owner"), json!(""), json!("none"), json!(3), json!(null)] {
        table.push(invalid(role(wrong), GrantRole(1)));
    }
    for wrong in
        [json!(""), json!("a*b"), json!("**"), json!("*a"), json!("a b"), json!(["a"]), json!(1)]
    {
        table.push(invalid(rooms(wrong), GrantMatch(1)));
    }
    check(table);
}

#[test]
fn what_is_not_configured_is_not_looked_at() {
    let keys = Keys::from_pem(EDDSA.public_pem.as_bytes()).unwrap();
    let verifier = Verifier::new(keys, Validation::default());
    for (name, value) in [("iss", json!(1)), ("iss", json!("x")), ("aud", json!(["x"]))] {
        assert_eq!(verdict(&verifier, claims_with(name, value)), Ok(()));
    }
    assert_eq!(verdict(&verifier, claims_without("iss")), Ok(()));
    assert_eq!(verdict(&verifier, claims_without("aud")), Ok(()));
}

#[test]
fn a_huge_leeway_does_not_overflow() {
    let keys = Keys::from_pem(EDDSA.public_pem.as_bytes()).unwrap();
    let leeway = std::time::Duration::MAX;
    let verifier = Verifier::new(keys, Validation { leeway, ..validation() });
    assert_eq!(verdict(&verifier, claims_with("exp", 0)), Ok(()));
    assert_eq!(verdict(&verifier, claims_with("nbf", 253_000_000_000_i64)), Ok(()));
}
