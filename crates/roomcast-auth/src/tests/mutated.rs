//! Tokens that came to harm.

use proptest::prelude::*;
use serde_json::Value;

use super::{set_verifier, validation};
use crate::{
    Keys, TokenError, Verifier,
    testing::{EDDSA, ES256, HS256, RS256, SECRET, claims, now},
};

/// A token of each algorithm, with a verifier that takes it.
fn tokens() -> [(Verifier, String); 4] {
    let secret = Verifier::new(Keys::from_secret(SECRET).unwrap(), validation());
    [
        (secret, HS256.token("hs", claims())),
        (set_verifier(), RS256.token("rs", claims())),
        (set_verifier(), ES256.token("es", claims())),
        (set_verifier(), EDDSA.token("ed", claims())),
    ]
}

#[test]
fn no_bit_can_be_flipped() {
    for (verifier, token) in tokens() {
        assert!(verifier.verify(&token, now()).is_ok());
        let mut bytes = token.into_bytes();
        for bit in 0..bytes.len() * 8 {
            let mask = 1 << (bit % 8);
            bytes[bit / 8] ^= mask;
            if let Ok(text) = str::from_utf8(&bytes) {
                assert!(verifier.verify(text, now()).is_err(), "bit {bit} of {text}");
            }
            bytes[bit / 8] ^= mask;
        }
    }
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9_-]{0,60}",
        any::<Vec<u8>>().prop_map(crate::testing::base64url),
        json().prop_map(|it| crate::testing::base64url(it.to_string())),
    ]
}

/// JSON that often has the names and values that matter.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["EdDSA", "JWT", "ed", "roomcast", "owner", "team-*"])
            .prop_map(Value::from),
    ];
    let names = vec![
        "alg", "kid", "typ", "crit", "b64", "jwk", "sub", "exp", "nbf", "iat", "iss", "aud",
        "name", "roomcast", "rooms", "match", "role", "admin",
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        let name = prop::sample::select(names.clone()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(name, inner, 0..6)
                .prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused(text in ".{0,200}") {
        prop_assert!(set_verifier().verify(&text, now()).is_err());
    }

    #[test]
    fn arbitrary_parts_are_refused(parts in prop::collection::vec(part(), 0..5)) {
        prop_assert!(set_verifier().verify(&parts.join("."), now()).is_err());
    }

    #[test]
    fn arbitrary_claims_that_are_well_signed_do_no_harm(claims in json()) {
        if let Ok(principal) = set_verifier().verify(&EDDSA.token("ed", &claims), now()) {
            prop_assert_eq!(Some(principal.sub.as_str()), claims["sub"].as_str());
        }
    }

    #[test]
    fn one_claim_of_any_value_is_taken_or_refused(
        name in prop::sample::select(vec!["sub", "exp", "nbf", "iat", "iss", "aud", "name", "roomcast"]),
        value in json(),
    ) {
        let claims = crate::testing::claims_with(name, value);
        let _: Result<_, TokenError> = set_verifier().verify(&EDDSA.token("ed", claims), now());
    }

    #[test]
    fn a_payload_changed_anywhere_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for (verifier, token) in tokens() {
            let mut bytes = token.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(text) = str::from_utf8(&bytes) {
                prop_assert_eq!(verifier.verify(text, now()).is_ok(), text == token);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_keys(bytes in any::<Vec<u8>>()) {
        prop_assert!(Keys::from_pem(&bytes).is_err());
        prop_assert!(Keys::from_jwks(&bytes).is_err());
    }

    #[test]
    fn arbitrary_json_is_no_key_set(keys in json()) {
        prop_assert!(Keys::from_jwks(&crate::testing::jwks(&[keys])).is_err());
    }
}
