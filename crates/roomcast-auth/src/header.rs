//! What a token's header says about how to check the token.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{
    error::{Malformed, TokenError},
    json::Object,
};

/// The parts of a header that matter. Keys and addresses of keys in it (`jwk`, `jku`, `x5c`, `x5u`)
/// are never used.
pub(crate) struct Header {
    pub(crate) alg: String,
    pub(crate) kid: Option<String>,
}

impl Header {
    /// Reads the first part of a token, which nobody has vouched for.
    pub(crate) fn read(part: &str) -> Result<Self, TokenError> {
        let malformed = TokenError::Malformed;
        let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed(Malformed::Encoding))?;
        let Object(mut members) =
            serde_json::from_slice(&json).map_err(|_| malformed(Malformed::Header))?;
        if members.contains_key("crit") || members.get("b64").is_some_and(|it| *it != true) {
            return Err(malformed(Malformed::Extension));
        }
        if !text(&mut members, "typ")?.is_none_or(|it| is_jwt(&it)) {
            return Err(malformed(Malformed::Type));
        }
        let alg = text(&mut members, "alg")?.ok_or(malformed(Malformed::Header))?;
        Ok(Self { alg, kid: text(&mut members, "kid")? })
    }
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, TokenError> {
    match members.remove(name) {
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(TokenError::Malformed(Malformed::Header)),
        None => Ok(None),
    }
}

/// Types are media types, whose case does not matter and whose `application/` may be left out.
fn is_jwt(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}
