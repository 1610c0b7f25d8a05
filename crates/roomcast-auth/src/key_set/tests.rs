use serde_json::json;

use super::*;
use crate::testing::{EDDSA, ES256, RS256, base64url, jwks};

/// What becomes of a set with one good key and another one.
fn skipped(key: Value) -> Option<SkipReason> {
    let set = KeySet::parse(&jwks(&[EDDSA.jwk("good"), key])).unwrap();
    assert!(set.contains("good"));
    set.skipped().first().map(|it| it.reason)
}

fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
    jwk[name] = value.into();
    jwk
}

#[test]
fn keys_that_cannot_verify_tokens_are_skipped() {
    let (rs, es, ed) = (RS256.jwk("k"), ES256.jwk("k"), EDDSA.jwk("k"));
    let short = RS256.jwk("k")["n"].as_str().unwrap()[..300].to_owned();
    // One coordinate is a byte short, and the other has it.
    let (x, y) = (base64url([1; 31]), base64url([1; 33]));
    let shifted = with(with(es.clone(), "x", x), "y", y);
    for (key, reason) in [
        (shifted, SkipReason::Malformed),
        (json!({ "kty": "oct", "k": "AAAA", "kid": "k" }), SkipReason::Symmetric),
        (with(es.clone(), "d", "AAAA"), SkipReason::Private),
        (with(rs.clone(), "use", "enc"), SkipReason::Use),
        (with(rs.clone(), "key_ops", json!(["encrypt"])), SkipReason::Use),
        (with(rs.clone(), "alg", "RS512"), SkipReason::Algorithm),
        (with(rs.clone(), "alg", "PS256"), SkipReason::Algorithm),
        (with(rs.clone(), "alg", "RSA-OAEP"), SkipReason::Algorithm),
        (with(rs.clone(), "alg", "HS256"), SkipReason::Algorithm),
        (with(rs.clone(), "alg", "ES256"), SkipReason::Algorithm),
        (with(es.clone(), "alg", "RS256"), SkipReason::Algorithm),
        (with(ed.clone(), "alg", "none"), SkipReason::Algorithm),
        (with(ed.clone(), "alg", Value::Null), SkipReason::Algorithm),
        (with(es.clone(), "crv", "P-384"), SkipReason::Kind),
        (with(es.clone(), "crv", "secp256k1"), SkipReason::Kind),
        (with(ed.clone(), "crv", "X25519"), SkipReason::Kind),
        (with(ed.clone(), "kty", "AKP"), SkipReason::Kind),
        (json!({ "kid": "k" }), SkipReason::Kind),
        (with(rs.clone(), "n", short), SkipReason::RsaSize),
        (with(rs.clone(), "e", "AQ"), SkipReason::Malformed),
        (with(rs, "n", "!"), SkipReason::Malformed),
        (with(es.clone(), "x", "AAAA"), SkipReason::Malformed),
        (with(es, "use", 1), SkipReason::Malformed),
        (with(ed.clone(), "x", "AAAA"), SkipReason::Malformed),
        (with(ed, "kid", 1), SkipReason::Malformed),
        (json!(1), SkipReason::Malformed),
        (json!(null), SkipReason::Malformed),
    ] {
        assert_eq!(skipped(key.clone()), Some(reason), "{key}");
    }
}

#[test]
fn keys_that_say_more_about_themselves_are_taken() {
    let rs = RS256.jwk("k");
    for key in [
        with(rs.clone(), "use", "sig"),
        with(rs.clone(), "alg", "RS256"),
        with(rs.clone(), "key_ops", json!(["verify"])),
        with(rs.clone(), "x5c", json!(["AAAA"])),
        with(rs.clone(), "unknown", json!({ "a": 1 })),
        with(ES256.jwk("k"), "alg", "ES256"),
        with(EDDSA.jwk("k"), "alg", "EdDSA"),
    ] {
        assert_eq!(skipped(key.clone()), None, "{key}");
    }
}

#[test]
fn a_set_without_any_usable_key_is_an_error() {
    let error = |json: &[u8]| KeySet::parse(json).unwrap_err();
    assert_eq!(error(b"{\n\"keys\": ["), KeySetError::Json { line: 2, column: 9 });
    assert!(matches!(error(b"<html>"), KeySetError::Json { .. }));
    assert_eq!(error(b"{}"), KeySetError::NoKeys);
    assert_eq!(error(b"[]"), KeySetError::NoKeys);
    assert_eq!(error(b"{\"keys\": {}}"), KeySetError::NoKeys);
    assert_eq!(error(b"{\"keys\": []}").to_string(), "none of its 0 keys can be used");
    let secret = json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "s\n" });
    assert_eq!(
        error(&jwks(&[secret, json!(1)])).to_string(),
        r#"none of its 2 keys can be used; key 0 ("s\n"): it is a symmetric key"#
    );
}

#[test]
fn of_keys_with_one_kid_the_first_of_each_algorithm_is_used() {
    let other = ES256.jwk("k");
    let set = KeySet::parse(&jwks(&[EDDSA.jwk("k"), other, RS256.jwk("x"), EDDSA.jwk("k")]));
    let set = set.unwrap();
    assert_eq!(set.len(), 3);
    let skipped = SkippedKey { index: 3, kid: Some("k".to_owned()), reason: SkipReason::Duplicate };
    assert_eq!(set.skipped(), [skipped]);
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        assert_eq!(set.find(Some("k"), algorithm).unwrap().algorithm(), algorithm);
    }
    assert_eq!(set.find(Some("k"), Algorithm::Rs256).unwrap_err(), TokenError::AlgorithmMismatch);
}

#[test]
fn a_long_kid_is_not_shown_in_full() {
    let set = KeySet::parse(&jwks(&[
        EDDSA.jwk("good"),
        json!({ "kty": "oct", "k": "AA", "kid": "x".repeat(1000) }),
    ]));
    let kid = set.unwrap().skipped()[0].kid.clone();
    assert_eq!(kid, Some("x".repeat(64)));
}
