//! The key by which backends are known.

use std::path::PathBuf;

use super::{reader::Reader, values::Secret};

/// The fewest bytes of a key that gives the right to everything.
const KEY_BYTES: usize = 32;

/// How backends are known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiConfig {
    /// The key that gives the right to everything.
    pub key: Option<Secret>,
    /// The file that it was read from, if there is one.
    pub key_file: Option<PathBuf>,
}

impl ApiConfig {
    const KEY: &str = "api.key";
    const KEY_FILE: &str = "api.key_file";

    pub(super) fn read(reader: &mut Reader) -> Self {
        let inline = reader.optional::<Secret>(Self::KEY);
        let key_file = reader.optional::<PathBuf>(Self::KEY_FILE);
        let from_file =
            key_file.as_ref().and_then(|path| reader.content_of::<Secret>(Self::KEY_FILE, path));
        if reader.is_set(Self::KEY) && reader.is_set(Self::KEY_FILE) {
            reader.conflict(Self::KEY, Self::KEY_FILE);
        }
        let setting = if inline.is_some() { Self::KEY } else { Self::KEY_FILE };
        let key = inline.or(from_file);
        if let Some(why) = key.as_ref().and_then(|key| unfit(key.expose())) {
            let got = format!("{} bytes", key.as_ref().map_or(0, |key| key.expose().len()));
            reader.refuse(setting, got, why.to_owned());
        }
        Self { key, key_file }
    }
}

/// What a key has to be that this one is not.
pub fn unfit(key: &str) -> Option<&'static str> {
    if key.len() < KEY_BYTES {
        return Some("at least 32 bytes");
    }
    // It is sent in a header.
    let sendable = key.bytes().all(|byte| byte.is_ascii_graphic());
    (!sendable).then_some("printable ASCII without spaces, as it is sent in a header")
}
