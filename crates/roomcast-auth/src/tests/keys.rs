//! Keys that are taken, and those that are not.

use crate::{
    Algorithm, KeyError, VerifyingKey,
    testing::{EDDSA, ES256, RS256},
};

fn pem(text: &str) -> Result<Algorithm, KeyError> {
    VerifyingKey::from_pem(text.as_bytes()).map(|it| it.algorithm())
}

#[test]
fn the_key_decides_the_algorithm() {
    for key in [&*RS256, &*ES256, &*EDDSA] {
        assert_eq!(pem(&key.public_pem), Ok(key.algorithm));
        assert_eq!(pem(&format!("a comment\n{}\n", key.public_pem)), Ok(key.algorithm));
        assert_eq!(pem(&key.public_pem.replace('\n', "\r\n")), Ok(key.algorithm));
    }
}

#[test]
fn what_is_no_public_key_is_refused_with_what_to_give_instead() {
    let certificate = rcgen::generate_simple_self_signed(vec![]).unwrap().cert.pem();
    let encrypted = ES256.private_pem.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let pkcs1 = include_str!("../testdata/rsa-2048.pkcs1.pub.pem");
    for (text, error, advice) in [
        (ES256.private_pem.as_str(), KeyError::PrivateKey, "-pubout"),
        (include_str!("../testdata/p256.sec1.pem"), KeyError::PrivateKey, "-pubout"),
        (include_str!("../testdata/rsa-2048.pkcs1.pem"), KeyError::PrivateKey, "-pubout"),
        (&encrypted, KeyError::PrivateKey, "-pubout"),
        (&certificate, KeyError::Certificate, "-pubkey"),
        (pkcs1, KeyError::Pkcs1, "-RSAPublicKey_in"),
        (include_str!("../testdata/rsa-1024.pub.pem"), KeyError::RsaSize(1024), "2048"),
        (include_str!("../testdata/p384.pub.pem"), KeyError::Unsupported, "P-256"),
        ("", KeyError::NoPublicKey, "BEGIN PUBLIC KEY"),
        ("ThirtyTwoBytesAreEnoughForASecret", KeyError::NoPublicKey, "BEGIN PUBLIC KEY"),
    ] {
        let told = pem(text).unwrap_err();
        assert_eq!(told, error, "{text}");
        assert!(told.to_string().contains(advice), "{told}");
    }
    let both = format!("{}{}", ES256.public_pem, ES256.private_pem);
    assert_eq!(pem(&both), Err(KeyError::PrivateKey));
    let two = format!("{}{}", ES256.public_pem, RS256.public_pem);
    assert_eq!(pem(&two), Err(KeyError::SeveralKeys));
    let empty = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    assert_eq!(pem(empty), Err(KeyError::Malformed));
}

#[test]
fn a_secret_is_long_and_no_pem() {
    let secret = |secret: &[u8]| VerifyingKey::from_secret(secret).map(|it| it.algorithm());
    assert_eq!(secret(&[7; 32]), Ok(Algorithm::Hs256));
    assert_eq!(secret(&[7; 31]), Err(KeyError::ShortSecret(31)));
    assert_eq!(secret(&[]), Err(KeyError::ShortSecret(0)));
    assert_eq!(secret(ES256.public_pem.as_bytes()), Err(KeyError::PemSecret));
    assert_eq!(secret(format!("\n{}", RS256.private_pem).as_bytes()), Err(KeyError::PemSecret));
}

#[test]
fn numbers_that_are_no_rsa_key_are_refused() {
    let rsa = |n: &[u8], e: &[u8]| VerifyingKey::from_rsa(n, e).map(|it| it.algorithm());
    let (odd, mut even) = ([0xff; 256], [0xff; 256]);
    even[255] = 0xfe;
    assert_eq!(rsa(&odd, &[1, 0, 1]), Ok(Algorithm::Rs256));
    assert_eq!(rsa(&[&[0], &odd[..]].concat(), &[0, 1, 0, 1]), Ok(Algorithm::Rs256));
    for (modulus, exponent) in [
        (&even[..], &[1, 0, 1][..]),
        (&odd, &[1]),
        (&odd, &[0]),
        (&odd, &[]),
        (&odd, &[1, 0, 0]),
        (&odd, &[1; 9]),
    ] {
        assert_eq!(rsa(modulus, exponent), Err(KeyError::Malformed));
    }
    assert_eq!(rsa(&odd[1..], &[3]), Err(KeyError::RsaSize(2040)));
    assert_eq!(rsa(&[0xff; 1025], &[3]), Err(KeyError::RsaSize(8200)));
    assert_eq!(rsa(&[0; 256], &[3]), Err(KeyError::RsaSize(0)));
}
