//! Nothing of a token, a secret or a key is in what is printed.

use super::{set_verifier, validation};
use crate::{
    Grant, KeySet, Keys, Role, RoomcastClaim, Signer, Verifier,
    testing::{EDDSA, ES256, HS256, RS256, SECRET, STRANGER, claims, claims_with, jwks, now},
};

/// Pieces of a text, long enough not to be there by chance.
fn pieces(text: &str) -> impl Iterator<Item = String> {
    let chars: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = chars.windows(8).map(|it| it.iter().collect()).collect();
    pieces.into_iter()
}

fn assert_hidden(printed: &str, secrets: &[&str]) {
    for secret in secrets {
        for piece in pieces(secret) {
            assert!(!printed.contains(&piece), "{piece:?} is in {printed:?}");
        }
        // As a list of numbers, as bytes print by default.
        let numbers = format!("{:?}", &secret.as_bytes()[..secret.len().min(6)]);
        assert!(!printed.contains(numbers.trim_matches(['[', ']'])), "{numbers} is in {printed:?}");
    }
}

/// The base64 in a PEM file.
fn body(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

#[test]
fn errors_and_principals_do_not_show_a_token() {
    let verifier = set_verifier();
    let good = EDDSA.token("ed", claims());
    let (_, signature) = good.rsplit_once('.').unwrap();
    let wrong = [
        good.clone(),
        good.replace('.', "!"),
        format!("{good}="),
        format!("{signature}.{good}"),
        good.repeat(40),
        EDDSA.token("marker-00-qz", claims()),
        STRANGER.token("ed", claims()),
        EDDSA.sign(r#"{"alg":"marker-01-qz","kid":"ed"}"#, claims()),
        EDDSA.sign(r#"{"alg":"EdDSA","typ":"marker-02-qz"}"#, claims()),
        EDDSA.sign(r#"{"alg":"EdDSA","kid":"ed","crit":["marker-03-qz"]}"#, claims()),
        EDDSA.token("ed", claims_with("exp", "marker-04-qz")),
        EDDSA.token("ed", claims_with("iss", "marker-05-qz")),
        EDDSA.token("ed", claims_with("aud", "marker-06-qz")),
        EDDSA.token("ed", claims_with("sub", "marker-07-qz\n")),
        EDDSA.token("ed", "marker-08-qz"),
        EDDSA.token("ed", serde_json::json!({ "marker-09-qz": 1 })),
        EDDSA.token(
            "ed",
            claims_with(
                "roomcast",
                serde_json::json!({ "rooms": [{ "match": "a", "role": "marker-10-qz" }] }),
            ),
        ),
    ];
    for token in wrong {
        let printed = match verifier.verify(&token, now()) {
            Ok(principal) => format!("{principal:?} {:?}", principal.grants),
            Err(error) => format!("{error} {error:?}"),
        };
        let secrets = [
            token.as_str(),
            "marker-00-qz",
            "marker-01-qz",
            "marker-02-qz",
            "marker-03-qz",
            "marker-04-qz",
            "marker-05-qz",
            "marker-06-qz",
            "marker-07-qz",
            "marker-08-qz",
            "marker-09-qz",
            "marker-10-qz",
            "user-4711",
        ];
        assert_hidden(&printed, &secrets);
        assert!(!printed.contains("Barbara") && !printed.contains("team-"), "{printed}");
    }
}

#[test]
fn what_holds_keys_does_not_show_them() {
    let secret = str::from_utf8(SECRET).unwrap();
    let secret_keys = Keys::from_secret(SECRET).unwrap();
    let mut printed = format!(
        "{secret_keys:?} {:?} {:?} {:?}",
        Verifier::new(secret_keys.clone(), validation()),
        set_verifier(),
        Signer::from_secret(SECRET).unwrap(),
    );
    let mut secrets = vec![secret.to_owned(), HS256.token("k", claims())];
    for key in [&*RS256, &*ES256, &*EDDSA] {
        let (private, public) = (key.private_pem.as_bytes(), key.public_pem.as_bytes());
        let printed_too = format!(
            "{:?} {:?} {:?}",
            Keys::from_pem(public).unwrap(),
            Signer::from_pem(private).unwrap(),
            KeySet::parse(&jwks(&[key.jwk("k")])).unwrap(),
        );
        printed.push_str(&printed_too);
        secrets.extend([body(&key.private_pem), body(&key.public_pem)]);
        let jwk = key.jwk("k");
        let numbers = ["n", "x", "y"].into_iter().filter_map(|name| jwk[name].as_str());
        secrets.extend(numbers.map(str::to_owned));
    }
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    assert_hidden(&printed, &secrets);
}

#[test]
fn keys_that_are_refused_are_not_shown() {
    let (private, public) = (RS256.private_pem.as_str(), RS256.public_pem.as_str());
    let broken_public = public.replacen('M', "!", 1);
    let broken_private = private.replacen('M', "!", 1);
    let mut set = ES256.jwk("k");
    set["d"] = "ThePrivatePartOfTheKey".into();
    let set = String::from_utf8(jwks(&[set])).unwrap();
    let truncated = &set[..set.len() - 3];
    for text in [private, public, &broken_public, &broken_private, &set, truncated, "JustASecret"] {
        let bytes = text.as_bytes();
        let printed = [
            Keys::from_pem(bytes).map(drop).map_err(|it| format!("{it} {it:?}")),
            Keys::from_jwks(bytes).map(drop).map_err(|it| format!("{it} {it:?}")),
            Keys::from_secret(bytes).map(drop).map_err(|it| format!("{it} {it:?}")),
            Signer::from_pem(bytes).map(drop).map_err(|it| format!("{it} {it:?}")),
        ];
        for printed in printed.into_iter().filter_map(Result::err) {
            assert_hidden(&printed, &[&body(text), "ThePrivatePartOfTheKey", "JustASecret"]);
        }
    }
}

#[test]
fn grants_do_not_show_rooms() {
    let grant = Grant { rooms: "HiddenRoom-*".parse().unwrap(), role: Role::Owner };
    assert_hidden(&format!("{grant:?}"), &["HiddenRoom"]);
    let claim = RoomcastClaim { rooms: vec![grant], admin: true };
    assert_eq!(serde_json::to_value(claim).unwrap()["rooms"][0]["match"], "HiddenRoom-*");
}
