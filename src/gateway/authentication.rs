//! Finds out whom a request is from.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use http::{HeaderMap, header::AUTHORIZATION};
use jiff::{SignedDuration, Timestamp};
use roomcast_auth::{Role, TokenError, Verifier};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{
    principal::{Bearer, Principal},
    status::Outcome,
};

/// How long after its end a token is good for anything, whatever clocks may differ: as long as a stream is open.
const GRACE: SignedDuration = SignedDuration::from_secs(25);

/// What the value of the header begins with, in any case.
const SCHEME: &str = "bearer ";

/// How it is found out whom a request is from: not at all, by a token, or by the key of backends.
#[derive(Debug)]
pub struct Authenticator {
    /// Held only to clone or to replace the pointer.
    verifier: Option<RwLock<Arc<Verifier>>>,
    default_role: Option<Role>,
    /// The hash of the key of backends, if they have one.
    api_key: RwLock<Option<KeyHash>>,
    /// Of whom tokens are good for nothing that were issued before then; replaced as a whole.
    revoked: RwLock<Arc<Revoked>>,
}

/// When the tokens of subjects had to be issued at the earliest.
pub(super) type Revoked = HashMap<Arc<str>, Timestamp>;

/// What is said of a token that was good.
pub(super) const REVOKED: &str = "token revoked";

/// The SHA-256 of a key that is random: compared in constant time, and nothing of the key is kept.
#[derive(Clone, Copy)]
struct KeyHash([u8; 32]);

impl KeyHash {
    fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    fn is_of(&self, key: &str) -> bool {
        self.0.ct_eq(&Self::of(key).0).into()
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

impl Authenticator {
    /// Asks nobody who they are.
    pub fn open() -> Arc<Self> {
        Arc::new(Self {
            verifier: None,
            default_role: None,
            api_key: RwLock::default(),
            revoked: RwLock::default(),
        })
    }

    /// Wants a token that this verifies. Its bearer has the default role in rooms that it does not name.
    pub fn tokens(verifier: Verifier, default_role: Option<Role>) -> Arc<Self> {
        let verifier = Some(RwLock::new(Arc::new(verifier)));
        let (api_key, revoked) = (RwLock::default(), RwLock::default());
        Arc::new(Self { verifier, default_role, api_key, revoked })
    }

    /// Knows backends by this key from now on.
    pub fn know_backends_by(&self, key: &str) {
        *self.api_key.write().unwrap_or_else(PoisonError::into_inner) = Some(KeyHash::of(key));
    }

    /// Verifies by this from now on.
    pub fn replace(&self, verifier: Verifier) {
        if let Some(current) = &self.verifier {
            *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(verifier);
        }
    }

    /// Takes these tokens for revoked from now on.
    pub(super) fn revoke(&self, revoked: Revoked) {
        *self.revoked.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(revoked);
    }

    fn is_revoked(&self, token: &roomcast_auth::Principal) -> bool {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner).clone();
        let before = revoked.get(&*token.sub);
        before.is_some_and(|before| token.issued_at.is_none_or(|issued| issued < *before))
    }

    /// Whether whoever comes has to show a token.
    pub(super) fn wants_tokens(&self) -> bool {
        self.verifier.is_some()
    }

    /// Whom a request with these headers is from.
    pub(super) fn principal(&self, headers: &HeaderMap) -> Result<Principal, Outcome> {
        let api_key = *self.api_key.read().unwrap_or_else(PoisonError::into_inner);
        if self.verifier.is_none() && api_key.is_none() {
            return Ok(Principal::Anonymous);
        }
        let token = bearer_token(headers);
        if let (Some(key), Ok(token)) = (api_key, &token)
            && key.is_of(token)
        {
            return Ok(Principal::Backend);
        }
        // Where nobody needs a token, a bad one is none.
        let Some(verifier) = &self.verifier else { return Ok(Principal::Anonymous) };
        self.verified(verifier, token?)
    }

    /// Whom a token is for. Nobody needs one where nobody is asked.
    pub(super) fn bearer(&self, token: &str) -> Result<Principal, Outcome> {
        self.verifier.as_ref().map_or(Ok(Principal::Anonymous), |it| self.verified(it, token))
    }

    fn verified(
        &self,
        verifier: &RwLock<Arc<Verifier>>,
        token: &str,
    ) -> Result<Principal, Outcome> {
        let verifier = verifier.read().unwrap_or_else(PoisonError::into_inner).clone();
        let default_role = self.default_role;
        match verifier.verify(token, Timestamp::now()) {
            // A stream that it opened would have ended.
            Ok(token) if Timestamp::now().duration_since(token.expires_at) > GRACE => {
                Err(Outcome::Unauthenticated(TokenError::Expired.to_string()))
            }
            Ok(token) if self.is_revoked(&token) => {
                Err(Outcome::Unauthenticated(REVOKED.to_owned()))
            }
            Ok(token) => Ok(Principal::Bearer(Arc::new(Bearer { token, default_role }))),
            Err(TokenError::UnknownKeyId) => Err(Outcome::UnknownKey),
            Err(TokenError::KeysUnavailable) => Err(Outcome::KeysUnavailable),
            Err(error) => Err(Outcome::Unauthenticated(error.to_string())),
        }
    }
}

/// The token of the header `authorization`, or what is wrong with it.
fn bearer_token(headers: &HeaderMap) -> Result<&str, Outcome> {
    let refuse = |why: &str| Outcome::Unauthenticated(why.to_owned());
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value,
        (None, _) => return Err(refuse("no token; send authorization: Bearer <token>")),
        (Some(_), Some(_)) => return Err(refuse("more than one authorization header")),
    };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_at_checked(SCHEME.len())?;
        scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim())
    });
    token.ok_or_else(|| refuse("malformed authorization header; send Bearer and the token"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use roomcast_auth::{Keys, Validation};

    use super::*;

    fn refusal(headers: &[&str]) -> Outcome {
        let keys = Keys::from_secret(&[7; 32]).expect("long enough");
        let validation = Validation { leeway: Duration::ZERO, ..Validation::default() };
        let authenticator = Authenticator::tokens(Verifier::new(keys, validation), None);
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(AUTHORIZATION, value.parse().expect("a header value"));
        }
        assert_eq!(Authenticator::open().principal(&map), Ok(Principal::Anonymous));
        authenticator.principal(&map).expect_err("no token is good")
    }

    #[test]
    fn what_is_no_token_is_told_from_a_bad_one() {
        for (headers, why) in [
            (&[][..], "no token"),
            (&["Bearer a", "Bearer b"], "more than one"),
            (&["Basic YTpi"], "malformed authorization"),
            (&["Bear"], "malformed authorization"),
            (&["bearer a.b.c"], "malformed token"),
            (&["BEARER  a.b"], "three parts"),
        ] {
            let Outcome::Unauthenticated(said) = refusal(headers) else { panic!("{headers:?}") };
            assert!(said.contains(why), "{headers:?}: {said}");
        }
    }

    #[test]
    fn a_backend_is_known_by_its_key_in_both_modes() {
        let key = "k".repeat(32);
        let bearer = |token: &str| {
            let value = format!("Bearer {token}").parse().expect("a header value");
            HeaderMap::from_iter([(AUTHORIZATION, value)])
        };
        let keys = Keys::from_secret(&[7; 32]).expect("long enough");
        let tokens = Authenticator::tokens(Verifier::new(keys, Validation::default()), None);
        let open = Authenticator::open();
        for authenticator in [&tokens, &open] {
            assert_ne!(authenticator.principal(&bearer(&key)), Ok(Principal::Backend), "unset");
            authenticator.know_backends_by(&key);
            assert_eq!(authenticator.principal(&bearer(&key)), Ok(Principal::Backend));
            for other in ["", "k", &"k".repeat(31), &"k".repeat(33), &"K".repeat(32)] {
                assert_ne!(authenticator.principal(&bearer(other)), Ok(Principal::Backend));
            }
            authenticator.know_backends_by(&"n".repeat(32));
            assert_ne!(authenticator.principal(&bearer(&key)), Ok(Principal::Backend), "replaced");
        }
        assert_eq!(open.principal(&bearer("x")), Ok(Principal::Anonymous));
        assert!(matches!(tokens.principal(&bearer("x")), Err(Outcome::Unauthenticated(_))));
        assert!(!format!("{open:?}").contains('['));
    }
}
