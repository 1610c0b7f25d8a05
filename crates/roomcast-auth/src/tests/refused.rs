//! Tokens that are wrong in one way outside of their claims.

use serde_json::{Value, json};

use super::{set_verifier, validation};
use crate::{
    Keys, Malformed, TokenError, Verifier,
    testing::{EDDSA, ES256, HS256, RS256, SECRET, STRANGER, TestKey, base64url, claims, now},
};

const ENCODING: TokenError = TokenError::Malformed(Malformed::Encoding);
const EXTENSION: TokenError = TokenError::Malformed(Malformed::Extension);
const HEADER: TokenError = TokenError::Malformed(Malformed::Header);
const PARTS: TokenError = TokenError::Malformed(Malformed::Parts);
const TOO_LONG: TokenError = TokenError::Malformed(Malformed::TooLong);
const TYPE: TokenError = TokenError::Malformed(Malformed::Type);

fn check(verifier: &Verifier, table: Vec<(&str, String, TokenError)>) {
    for (what, token, error) in table {
        assert_eq!(verifier.verify(&token, now()).unwrap_err(), error, "{what}");
    }
}

/// A token whose header has one thing more, or another one.
fn with_header(name: &str, value: impl Into<Value>) -> String {
    let mut header = json!({ "alg": "EdDSA", "kid": "ed" });
    header[name] = value.into();
    EDDSA.sign(header, claims())
}

#[test]
fn the_shape_of_a_token() {
    let good = EDDSA.token("ed", claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let standard = signature.replace('-', "+").replace('_', "/");
    let last = good.len() - 1;
    // The last character of a signature of 64 bytes has four bits that mean nothing.
    let trailing_bits = format!("{}{}", &good[..last], if good.ends_with('B') { 'C' } else { 'B' });
    check(
        &set_verifier(),
        vec![
            ("empty", String::new(), PARTS),
            ("no dot", "token".to_owned(), PARTS),
            ("two dots missing", good.replace('.', ""), PARTS),
            ("one dot missing", message.to_owned(), PARTS),
            ("a fourth part", format!("{good}.x"), PARTS),
            ("an empty fourth part", format!("{good}."), PARTS),
            ("a dot before it", format!(".{good}"), PARTS),
            ("JWE", format!("{header}.{payload}.{payload}.{payload}.{signature}"), PARTS),
            ("nothing but dots", "..".to_owned(), HEADER),
            ("no header", format!(".{payload}.{signature}"), HEADER),
            ("no payload", format!("{header}..{signature}"), TokenError::BadSignature),
            ("no signature", format!("{message}."), TokenError::BadSignature),
            ("padding of the signature", format!("{good}=="), ENCODING),
            ("padding of the header", format!("{header}=.{payload}.{signature}"), ENCODING),
            ("a space behind it", format!("{good} "), ENCODING),
            ("a line feed behind it", format!("{good}\n"), ENCODING),
            ("Bearer before it", format!("Bearer {good}"), ENCODING),
            ("a header in JSON", format!("{{}}.{payload}.{signature}"), ENCODING),
            ("standard base64", format!("{message}.{standard}+/"), ENCODING),
            ("an impossible length", format!("{good}AAA"), ENCODING),
            ("bits that mean nothing", trailing_bits, ENCODING),
            ("not ASCII", format!("{message}.é"), ENCODING),
            ("a short signature", good[..good.len() - 2].to_owned(), TokenError::BadSignature),
            ("a long signature", format!("{good}AAAA"), TokenError::BadSignature),
            ("more than 8 KiB", format!("{good}{}", "A".repeat(8193 - good.len())), TOO_LONG),
            ("1 MiB of dots", ".".repeat(1 << 20), TOO_LONG),
            ("many dots", ".".repeat(8192), PARTS),
            ("padded payload", EDDSA.sign_message(&format!("{message}=")), ENCODING),
        ],
    );
}

#[test]
fn the_header_of_a_token() {
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    let raw = |header: &str| EDDSA.sign(header, claims());
    check(
        &set_verifier(),
        vec![
            ("no JSON", raw("alg"), HEADER),
            ("a list", raw("[]"), HEADER),
            ("no UTF-8", format!("{}.e30.", base64url(b"{\"alg\":\"\xff\"}")), HEADER),
            ("two values", raw(r#"{"alg":"EdDSA","kid":"ed"} {}"#), HEADER),
            ("alg twice", raw(r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#), HEADER),
            ("kid twice", raw(r#"{"alg":"EdDSA","kid":"x","kid":"ed"}"#), HEADER),
            ("b64 twice", raw(r#"{"alg":"EdDSA","kid":"ed","b64":false,"b64":true}"#), HEADER),
            ("alg missing", raw(r#"{"kid":"ed"}"#), HEADER),
            ("alg null", with_header("alg", Value::Null), HEADER),
            ("alg a list", with_header("alg", json!(["EdDSA"])), HEADER),
            ("kid a number", with_header("kid", 1), HEADER),
            ("typ a number", with_header("typ", 1), HEADER),
            ("nested deeply", raw(&format!(r#"{{"alg":"EdDSA","kid":"ed","x":{deep}}}"#)), HEADER),
            ("x5c a string", with_header("x5c", "x"), HEADER),
            ("another typ", with_header("typ", "logout+jwt"), TYPE),
            ("an empty typ", with_header("typ", ""), TYPE),
            ("unknown crit", with_header("crit", json!(["exp"])), EXTENSION),
            ("empty crit", with_header("crit", json!([])), EXTENSION),
            ("crit no list", with_header("crit", "b64"), EXTENSION),
            ("b64 false", with_header("b64", false), EXTENSION),
            ("b64 a string", with_header("b64", "true"), EXTENSION),
            (
                "b64 true but critical",
                raw(r#"{"alg":"EdDSA","kid":"ed","b64":true,"crit":["b64"]}"#),
                EXTENSION,
            ),
        ],
    );
}

#[test]
fn algorithms_and_keys_that_do_not_belong_together() {
    let mismatch = TokenError::AlgorithmMismatch;
    let unsigned = |alg: &str| {
        let header = json!({ "alg": alg, "kid": "ed" }).to_string();
        format!("{}.{}.", base64url(header), base64url(claims().to_string()))
    };
    let mut table = vec![];
    let unusable = [
        "none", "None", "NONE", "", "eddsa", "es256", "EdDSA ", "ES512", "RS1", "RS384", "PS256",
        "ES256K", "HS512", "Ed25519", "dir",
    ];
    for alg in unusable {
        table.push((alg, unsigned(alg), mismatch));
    }
    let unknown = |key: &TestKey, kid| key.token(kid, claims());
    table.extend([
        ("alg of another kind", with_header("alg", "ES256"), mismatch),
        ("HS256 beside public keys", unknown(&HS256, "ed"), mismatch),
        ("HS256 and an unknown kid", unknown(&HS256, "x"), mismatch),
        ("kid of another key", ES256.token("rs", claims()), mismatch),
        ("an unknown kid", unknown(&EDDSA, "x"), TokenError::UnknownKeyId),
        ("an empty kid", unknown(&EDDSA, ""), TokenError::UnknownKeyId),
        ("a kid in upper case", unknown(&EDDSA, "ED"), TokenError::UnknownKeyId),
        ("a stranger with a known kid", unknown(&STRANGER, "ed"), TokenError::BadSignature),
    ]);
    check(&set_verifier(), table);
}

#[test]
fn keys_that_a_header_brings_are_not_used() {
    let own = |name: &str, value: Value| {
        let mut header = json!({ "alg": "EdDSA", "kid": "ed" });
        header[name] = value;
        STRANGER.sign(header, claims())
    };
    let url = "http://127.0.0.1:9/jwks.json";
    check(
        &set_verifier(),
        vec![
            ("jwk", own("jwk", STRANGER.jwk("ed")), TokenError::BadSignature),
            ("jku", own("jku", url.into()), TokenError::BadSignature),
            ("x5u", own("x5u", url.into()), TokenError::BadSignature),
            ("x5c", own("x5c", json!(["AAAA"])), TokenError::BadSignature),
        ],
    );
}

#[test]
fn a_public_key_is_no_secret() {
    for key in [&*RS256, &*ES256, &*EDDSA] {
        let pem = key.public_pem.as_bytes();
        let verifier = Verifier::new(Keys::from_pem(pem).unwrap(), validation());
        for secret in [pem, pem.trim_ascii_end()] {
            let token = TestKey::of_secret(secret).token("ed", claims());
            let error = verifier.verify(&token, now()).unwrap_err();
            assert_eq!(error, TokenError::AlgorithmMismatch);
        }
        // Whoever signs with it under the name of the right algorithm is no better off.
        let header = json!({ "alg": key.algorithm.name() });
        let token = TestKey::of_secret(pem).sign(header, claims());
        assert_eq!(verifier.verify(&token, now()).unwrap_err(), TokenError::BadSignature);
    }
}

#[test]
fn a_secret_takes_no_other_algorithm_and_no_other_secret() {
    let verifier = Verifier::new(Keys::from_secret(SECRET).unwrap(), validation());
    let other = TestKey::of_secret(b"another secret of at least thirty-two bytes");
    let mismatch = TokenError::AlgorithmMismatch;
    check(
        &verifier,
        vec![
            ("another secret", other.token("ed", claims()), TokenError::BadSignature),
            ("EdDSA", EDDSA.token("ed", claims()), mismatch),
            ("HS384", HS256.sign(r#"{"alg":"HS384"}"#, claims()), mismatch),
            ("lower case", HS256.sign(r#"{"alg":"hs256"}"#, claims()), mismatch),
        ],
    );
}

#[test]
fn a_token_without_kid_needs_one_key_of_its_algorithm() {
    let token = EDDSA.sign(r#"{"alg":"EdDSA"}"#, claims());
    let verify = |keys: &[Value]| {
        let keys = Keys::from_jwks(&crate::testing::jwks(keys)).unwrap();
        Verifier::new(keys, validation()).verify(&token, now()).map(|it| it.sub)
    };
    let (ours, other) = (EDDSA.jwk("a"), STRANGER.jwk("b"));
    assert!(verify(&[ours.clone(), ES256.jwk("c")]).is_ok());
    assert_eq!(verify(&[ours, other.clone()]), Err(TokenError::MissingKeyId));
    assert_eq!(verify(&[other]), Err(TokenError::BadSignature));
    assert_eq!(verify(&[ES256.jwk("c")]), Err(TokenError::AlgorithmMismatch));
}

#[test]
fn without_a_set_every_token_of_one_waits() {
    let verifier = Verifier::new(Keys::Set(std::sync::Arc::default()), validation());
    let error = verifier.verify(&EDDSA.token("ed", claims()), now()).unwrap_err();
    assert_eq!(error, TokenError::KeysUnavailable);
}
