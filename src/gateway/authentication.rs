//! Finds out whom a request is from.

use std::sync::{Arc, PoisonError, RwLock};

use http::{HeaderMap, header::AUTHORIZATION};
use jiff::{SignedDuration, Timestamp};
use roomcast_auth::{Role, TokenError, Verifier};

use super::{
    principal::{Bearer, Principal},
    status::Outcome,
};

/// How long after its end a token is good for anything, whatever clocks may differ: as long as a stream is open.
const GRACE: SignedDuration = SignedDuration::from_secs(25);

/// What the value of the header begins with, in any case.
const SCHEME: &str = "bearer ";

/// How it is found out whom a request is from: not at all, or by a token.
#[derive(Debug)]
pub struct Authenticator {
    /// Held only to clone or to replace the pointer.
    verifier: Option<RwLock<Arc<Verifier>>>,
    default_role: Option<Role>,
}

impl Authenticator {
    /// Asks nobody who they are.
    pub fn open() -> Arc<Self> {
        Arc::new(Self { verifier: None, default_role: None })
    }

    /// Wants a token that this verifies. Its bearer has the default role in rooms that it does not name.
    pub fn tokens(verifier: Verifier, default_role: Option<Role>) -> Arc<Self> {
        Arc::new(Self { verifier: Some(RwLock::new(Arc::new(verifier))), default_role })
    }

    /// Verifies by this from now on.
    pub fn replace(&self, verifier: Verifier) {
        if let Some(current) = &self.verifier {
            *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(verifier);
        }
    }

    /// Whom a request with these headers is from.
    pub(super) fn principal(&self, headers: &HeaderMap) -> Result<Principal, Outcome> {
        let Some(verifier) = &self.verifier else { return Ok(Principal::Anonymous) };
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
        let token = token
            .ok_or_else(|| refuse("malformed authorization header; send Bearer and the token"))?;
        self.verified(verifier, token)
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
            Ok(token) => Ok(Principal::Bearer(Arc::new(Bearer { token, default_role }))),
            Err(TokenError::UnknownKeyId) => Err(Outcome::UnknownKey),
            Err(TokenError::KeysUnavailable) => Err(Outcome::KeysUnavailable),
            Err(error) => Err(Outcome::Unauthenticated(error.to_string())),
        }
    }
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
}
