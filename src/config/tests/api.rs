//! The key of backends.

use super::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_key_is_long_sendable_and_given_once() {
    let error = |pairs: &[(&str, &str)]| errors_of_variables(pairs).join("\n");
    let short = error(&[("ROOMCAST_API__KEY", "hunter2")]);
    assert!(short.contains("7 bytes") && short.contains("at least 32 bytes"), "{short}");
    let spaced = error(&[("ROOMCAST_API__KEY", &format!("{KEY} {KEY}"))]);
    assert!(spaced.contains("printable ASCII") && !spaced.contains(KEY), "{spaced}");
    let file = file(&format!("{KEY}\n"));
    let path = file.path().to_str().unwrap();
    let both = error(&[("ROOMCAST_API__KEY", KEY), ("ROOMCAST_API__KEY_FILE", path)]);
    assert!(both.ends_with("exclude each other"), "{both}");
    let loaded = load(&variables(&[("ROOMCAST_API__KEY_FILE", path)])).unwrap();
    let key = loaded.config.api.key.as_ref().expect("the file's");
    assert_eq!(key.expose(), KEY);
    assert!(!loaded.dump().contains(KEY));
}
