//! Who may come in, and by what that is known.

use std::{path::PathBuf, time::Duration};

use super::{
    reader::Reader,
    sections::secs,
    values::{Secret, Word},
};

/// The fewest bytes of a secret that signs tokens.
const SECRET_BYTES: usize = 32;

/// Whether anybody has to say who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AuthMode {
    Open,
    Token,
}

impl Word for AuthMode {
    const WORDS: &'static [(&'static str, Self)] = &[("open", Self::Open), ("token", Self::Token)];
}

/// The role in rooms that a token does not name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefaultRole {
    /// None: it gives no right to them.
    None,
    /// Its bearer may read there.
    Reader,
    /// Its bearer may speak there.
    Member,
}

impl Word for DefaultRole {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("reader", Self::Reader), ("member", Self::Member)];
}

/// Who may come in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthConfig {
    /// By what tokens are verified; without it nobody needs one.
    pub keys: Option<KeySource>,
    /// What `iss` has to be.
    pub issuer: Option<String>,
    /// What `aud` has to be, or have.
    pub audience: Option<String>,
    /// How far the clock of whoever makes tokens may be off.
    pub leeway: Duration,
    /// The role in rooms that a token does not name.
    pub default_role: DefaultRole,
}

/// Where the keys are that verify tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// A shared secret, and the file that it was read from, if there is one.
    Secret(Secret, Option<PathBuf>),
    /// A public key in a PEM file.
    PublicKey(PathBuf),
    /// A key set at a URL.
    KeySetUrl(Secret),
    /// A key set in a file.
    KeySetFile(PathBuf),
}

impl AuthConfig {
    const SOURCES: [&str; 5] = [
        "auth.secret",
        "auth.secret_file",
        "auth.public_key_file",
        "auth.jwks_url",
        "auth.jwks_file",
    ];

    /// What says nothing where nobody needs a token.
    const OTHERS: [&str; 2] = ["auth.issuer", "auth.audience"];

    pub(super) fn read(reader: &mut Reader) -> Self {
        let mode = reader.required::<AuthMode>("auth.mode");
        let [secret, secret_file, public_key, url, file] = Self::SOURCES;
        let inline = reader.optional::<Secret>(secret);
        let secret_path = reader.optional::<PathBuf>(secret_file);
        let from_file = secret_path.as_ref().and_then(|path| reader.content_of(secret_file, path));
        let public_key_path = reader.optional(public_key);
        let jwks_url = reader.optional::<Secret>(url);
        let jwks_path = reader.optional(file);
        let config = Self {
            keys: inline
                .map(|it| KeySource::Secret(it, None))
                .or(from_file.map(|it| KeySource::Secret(it, secret_path)))
                .or(public_key_path.map(KeySource::PublicKey))
                .or(jwks_url.map(KeySource::KeySetUrl))
                .or(jwks_path.map(KeySource::KeySetFile)),
            issuer: reader.optional(Self::OTHERS[0]),
            audience: reader.optional(Self::OTHERS[1]),
            leeway: reader.within("auth.leeway", secs(0)..=secs(600)),
            default_role: reader.required("auth.default_role"),
        };
        let set: Vec<_> = Self::SOURCES.into_iter().filter(|key| reader.is_set(key)).collect();
        if mode == AuthMode::Open {
            for key in set.into_iter().chain(Self::OTHERS) {
                reader.refuse_presence(key, "left out, as auth.mode is \"open\"; say \"token\"");
            }
            return Self { keys: None, ..config };
        }
        match set[..] {
            [] => {
                let needed = format!("\"open\", or one of {} beside it", Self::SOURCES.join(", "));
                reader.refuse("auth.mode", "\"token\"".to_owned(), needed);
            }
            [_] => {}
            [first, second, ..] => reader.conflict(first, second),
        }
        if let Some(KeySource::Secret(given, path)) = &config.keys
            && given.expose().len() < SECRET_BYTES
        {
            let key = if path.is_some() { secret_file } else { secret };
            let got = format!("{} bytes", given.expose().len());
            reader.refuse(key, got, format!("at least {SECRET_BYTES} bytes"));
        }
        if reader.is_set(url) {
            // Others may be served from the same place.
            for needed in Self::OTHERS {
                if !reader.is_set(needed) {
                    reader.alone(url, needed);
                }
            }
        }
        config
    }
}
