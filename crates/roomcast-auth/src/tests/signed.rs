//! Tokens of our own making.

use super::validation;
use crate::{
    Algorithm, Claims, Grant, KeyError, Keys, Role, RoomcastClaim, Signer, Validation, Verifier,
    testing::{HS256, NOW, RSA_PEM, SECRET, claims, now},
};

fn made() -> Claims {
    let rooms = vec![Grant { rooms: "team-*".parse().unwrap(), role: Role::Moderator }];
    Claims {
        sub: "user-4711".to_owned(),
        exp: NOW + 600,
        iat: Some(NOW - 5),
        nbf: Some(NOW - 5),
        iss: Some("https://issuer.example".to_owned()),
        aud: Some("roomcast".to_owned()),
        name: Some("Barbara".to_owned()),
        roomcast: Some(RoomcastClaim { rooms, admin: false }),
    }
}

#[test]
fn claims_are_written_as_they_are_read() {
    assert_eq!(serde_json::to_value(made()).unwrap(), claims());
    let least = Claims { sub: "x".to_owned(), exp: 1, ..Claims::default() };
    assert_eq!(serde_json::to_string(&least).unwrap(), r#"{"sub":"x","exp":1}"#);
}

#[test]
fn each_kind_of_key_signs_what_it_verifies() {
    let pairs = [
        (Algorithm::Rs256, RSA_PEM, include_str!("../testdata/rsa-2048.pub.pem")),
        (
            Algorithm::Rs256,
            include_str!("../testdata/rsa-2048.pkcs1.pem"),
            include_str!("../testdata/rsa-2048.pub.pem"),
        ),
        (
            Algorithm::Es256,
            include_str!("../testdata/p256.pem"),
            include_str!("../testdata/p256.pub.pem"),
        ),
        (
            Algorithm::EdDsa,
            include_str!("../testdata/ed25519.pem"),
            include_str!("../testdata/ed25519.pub.pem"),
        ),
    ];
    for (algorithm, private, public) in pairs {
        let signer = Signer::from_pem(private.as_bytes()).unwrap().with_key_id("k");
        assert_eq!(signer.algorithm(), algorithm);
        let verifier = Verifier::new(Keys::from_pem(public.as_bytes()).unwrap(), validation());
        let token = signer.sign(&made()).unwrap();
        assert_eq!(verifier.verify(&token, now()).unwrap().sub, "user-4711");
    }
    let token = Signer::from_secret(SECRET).unwrap().sign(&made()).unwrap();
    let verifier = Verifier::new(Keys::from_secret(SECRET).unwrap(), Validation::default());
    assert!(verifier.verify(&token, now()).is_ok());
    assert_eq!(
        token.split('.').nth(2),
        HS256.sign_message(token.rsplit_once('.').unwrap().0).split('.').nth(2)
    );
}

#[test]
fn keys_that_cannot_sign_are_explained() {
    let error = |pem: &str| Signer::from_pem(pem.as_bytes()).unwrap_err();
    assert_eq!(error(include_str!("../testdata/p256.sec1.pem")), KeyError::NotPkcs8);
    assert_eq!(error(include_str!("../testdata/p256.pub.pem")), KeyError::NoPrivateKey);
    assert_eq!(error("a secret"), KeyError::NoPrivateKey);
    let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_eq!(error(broken), KeyError::Unsupported);
    assert_eq!(Signer::from_secret(&[1; 31]).unwrap_err(), KeyError::ShortSecret(31));
}
