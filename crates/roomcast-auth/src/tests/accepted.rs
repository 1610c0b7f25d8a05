//! Tokens that are good.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{set_verifier, validation};
use crate::{
    Claim, KeySet, Keys, Role, TokenError, Validation, Verifier,
    testing::{
        EDDSA, ES256, HS256, NOW, RS256, SECRET, base64url, claims, claims_with, claims_without,
        jwks, now,
    },
};

#[test]
fn a_principal_is_what_the_claims_say() {
    let principal = set_verifier().verify(&EDDSA.token("ed", claims()), now()).unwrap();
    assert_eq!(principal.sub, "user-4711");
    assert_eq!(principal.name.as_deref(), Some("Barbara"));
    assert_eq!(principal.expires_at, Timestamp::from_second(NOW + 600).unwrap());
    assert_eq!(principal.issued_at, Some(Timestamp::from_second(NOW - 5).unwrap()));
    assert_eq!(principal.role_in("team-1", None), Some(Role::Moderator));
    assert_eq!(principal.role_in("lobby", None), None);
    assert!(!principal.admin);
}

#[test]
fn each_algorithm_verifies_from_each_kind_of_source() {
    let set = set_verifier();
    for (key, kid) in [(&*RS256, "rs"), (&*ES256, "es"), (&*EDDSA, "ed")] {
        let pem = Verifier::new(Keys::from_pem(key.public_pem.as_bytes()).unwrap(), validation());
        let token = key.token(kid, claims());
        for verifier in [&set, &pem] {
            assert_eq!(verifier.verify(&token, now()).unwrap().sub, "user-4711", "{kid}");
        }
    }
    let secret = Verifier::new(Keys::from_secret(SECRET).unwrap(), validation());
    assert!(secret.verify(&HS256.token("any", claims()), now()).is_ok());
}

#[test]
fn headers_that_change_nothing_are_fine() {
    let verifier = set_verifier();
    for (name, value) in [
        ("typ", json!("JWT")),
        ("typ", json!("jwt")),
        ("typ", json!("at+jwt")),
        ("typ", json!("application/at+jwt")),
        ("b64", json!(true)),
        ("jku", json!("https://elsewhere.example")),
        ("unknown", json!({ "a": [1] })),
    ] {
        let mut header = json!({ "alg": "EdDSA", "kid": "ed" });
        header[name] = value;
        assert!(verifier.verify(&EDDSA.sign(&header, claims()), now()).is_ok(), "{header}");
    }
}

#[test]
fn claims_at_the_edge_of_what_is_allowed() {
    let verifier = set_verifier();
    let grants = vec![json!({ "match": "a", "role": "reader" }); 150];
    for claims in [
        claims_with("exp", NOW - 29),
        claims_with("exp", json!(1_799_999_970.001)),
        claims_with("exp", json!(1.8e9)),
        claims_with("exp", 253_000_000_000_i64),
        claims_with("nbf", NOW + 30),
        claims_with("iat", NOW + 30),
        claims_with("iat", 0),
        claims_without("nbf"),
        claims_without("iat"),
        claims_without("name"),
        claims_without("roomcast"),
        claims_with("aud", json!(["other", "roomcast"])),
        claims_with("sub", "x"),
        claims_with("sub", "é".repeat(128)),
        claims_with("sub", "auth0|5f7c \" \\ 😀"),
        claims_with("name", ""),
        claims_with("roomcast", json!({})),
        claims_with("roomcast", json!({ "admin": true })),
        claims_with("roomcast", json!({ "rooms": [] })),
        claims_with("roomcast", json!({ "rooms": grants })),
        claims_with(
            "roomcast",
            json!({ "later": 1, "rooms": [
            { "match": "*", "role": "owner", "later": [] },
        ] }),
        ),
        claims_with("unknown", json!({ "exp": "x" })),
    ] {
        let token = EDDSA.token("ed", &claims);
        assert_eq!(verifier.verify(&token, now()).map(drop), Ok(()), "{claims}");
    }
}

#[test]
fn fractions_of_seconds_are_kept() {
    let token = EDDSA.token("ed", claims_with("exp", json!(1_800_000_000.5)));
    let principal = set_verifier().verify(&token, now()).unwrap();
    assert_eq!(principal.expires_at, Timestamp::from_millisecond(NOW * 1000 + 500).unwrap());
}

#[test]
fn a_set_can_be_replaced_while_it_is_used() {
    let keys = Keys::from_jwks(&jwks(&[ES256.jwk("old")])).unwrap();
    let Keys::Set(store) = &keys else { panic!("no set") };
    let store = store.clone();
    let verifier = Verifier::new(keys, validation());
    let (old, new) = (ES256.token("old", claims()), EDDSA.token("new", claims()));
    assert!(verifier.verify(&old, now()).is_ok());
    assert_eq!(verifier.verify(&new, now()).unwrap_err(), TokenError::UnknownKeyId);
    assert!(store.knows("old") && !store.knows("new"));
    store.replace(KeySet::parse(&jwks(&[EDDSA.jwk("new")])).unwrap());
    assert!(verifier.verify(&new, now()).is_ok());
    assert_eq!(verifier.verify(&old, now()).unwrap_err(), TokenError::UnknownKeyId);
    assert!(store.knows("new") && !store.knows("old"));
}

/// The examples of RFC 7515, appendix A, and RFC 8037, appendix A.4. Their claims lack `sub`, and the
/// last is no JSON, which only shows once a signature is verified.
#[test]
fn signatures_of_the_standards_are_verified() {
    let joe = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let es256: Value = json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    let es256_signature =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let ed: Value = json!({
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    });
    let ed_signature =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let then = Timestamp::from_second(1_300_819_379).unwrap();
    let verify = |jwk: Value, token: String| {
        let keys = Keys::from_jwks(&jwks(&[jwk])).unwrap();
        Verifier::new(keys, Validation::default()).verify(&token, then).map(drop)
    };
    let header = base64url(r#"{"alg":"ES256"}"#);
    let missing = Err(TokenError::MissingClaim(Claim::Subject));
    assert_eq!(verify(es256, format!("{header}.{joe}.{es256_signature}")), missing);
    let header = base64url(r#"{"alg":"EdDSA"}"#);
    let payload = base64url("Example of Ed25519 signing");
    let malformed = Err(TokenError::Malformed(crate::Malformed::Claims));
    assert_eq!(verify(ed, format!("{header}.{payload}.{ed_signature}")), malformed);
}
