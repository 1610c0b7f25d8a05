//! Where the keys are that verify tokens.

use super::*;
use crate::config::{DefaultRole, KeySource};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// What is wrong with these keys of the section.
fn errors(keys: &[(&str, &str)]) -> Vec<String> {
    let named: Vec<_> =
        keys.iter().map(|(key, value)| (format!("ROOMCAST_AUTH__{key}"), *value)).collect();
    let keys: Vec<_> = named.iter().map(|(key, value)| (&**key, *value)).collect();
    errors_of_variables(&keys)
}

#[test]
fn nobody_needs_a_token_unless_that_is_said() {
    let Loaded { config, .. } = load(&Sources::default()).unwrap();
    assert_eq!((config.auth.keys, config.auth.default_role), (None, DefaultRole::None));
    for (key, value) in
        [("SECRET", SECRET), ("PUBLIC_KEY_FILE", "x.pem"), ("JWKS_FILE", "x"), ("ISSUER", "x")]
    {
        let errors = errors(&[(key, value)]);
        assert!(errors[0].ends_with("as auth.mode is \"open\"; say \"token\""), "{errors:?}");
    }
}

#[test]
fn there_is_one_source_of_keys() {
    let none = errors(&[("MODE", "token")]);
    assert!(none[0].contains("one of auth.secret, auth.secret_file"), "{none:?}");
    let two = errors(&[("MODE", "token"), ("SECRET", SECRET), ("JWKS_FILE", "keys.json")]);
    assert!(two[0].ends_with("exclude each other") && two.len() == 1, "{two:?}");
    let short = errors(&[("MODE", "token"), ("SECRET", "hunter2")]);
    assert!(short[0].contains("7 bytes") && short[0].contains("at least 32"), "{short:?}");
    assert!(!short[0].contains("hunter2"), "{short:?}");
    let url = errors(&[("MODE", "token"), ("JWKS_URL", "https://id.example.com/keys")]);
    assert_eq!(url.len(), 2, "{url:?}");
    assert!(url[0].ends_with("is set, but auth.issuer is not"), "{url:?}");
    assert!(errors(&[("MODE", "tokens")])[0].contains("\"open\" or \"token\""));
    assert!(errors(&[("DEFAULT_ROLE", "owner")])[0].contains("\"reader\" or \"member\""));
}

#[test]
fn a_secret_comes_from_a_file_too() {
    let file = file(&format!("{SECRET}\n"));
    let path = file.path().to_str().unwrap();
    let loaded =
        load(&variables(&[("ROOMCAST_AUTH__MODE", "token"), ("ROOMCAST_AUTH__SECRET_FILE", path)]))
            .unwrap();
    let Some(KeySource::Secret(secret, Some(_))) = &loaded.config.auth.keys else { panic!() };
    assert_eq!(secret.expose(), SECRET);
    assert!(!loaded.dump().contains(SECRET));
}
