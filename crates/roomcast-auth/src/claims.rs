//! From a token's claims to a principal.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use crate::{
    error::{Claim, TokenError},
    grant::Grant,
    principal::Principal,
    validation::Validation,
};

/// The most bytes of `sub`.
const MAX_SUBJECT: usize = 256;
/// The most grants of a token.
const MAX_GRANTS: usize = 256;

type Object = Map<String, Value>;

/// Judges the claims of a token that is well signed.
pub(crate) fn principal(
    claims: &Object,
    validation: &Validation,
    now: Timestamp,
) -> Result<Principal, TokenError> {
    check_issuer(claims, validation)?;
    check_audience(claims, validation)?;
    let expires_at = required(date(claims, "exp", Claim::Expiry)?, Claim::Expiry)?;
    let not_before = date(claims, "nbf", Claim::NotBefore)?;
    let issued_at = date(claims, "iat", Claim::IssuedAt)?;
    check_times(expires_at, [not_before, issued_at], validation, now)?;
    let sub = required(text(claims, "sub", Claim::Subject)?, Claim::Subject)?;
    if sub.is_empty() || sub.len() > MAX_SUBJECT || sub.contains(char::is_control) {
        return Err(TokenError::InvalidClaim(Claim::Subject));
    }
    let name = text(claims, "name", Claim::Name)?;
    let (grants, admin) = rights(claims)?;
    Ok(Principal {
        sub: sub.to_owned(),
        name: name.map(str::to_owned),
        grants,
        admin,
        expires_at,
        issued_at,
    })
}

fn check_issuer(claims: &Object, validation: &Validation) -> Result<(), TokenError> {
    let Some(expected) = &validation.issuer else { return Ok(()) };
    let issuer = required(text(claims, "iss", Claim::Issuer)?, Claim::Issuer)?;
    if issuer == expected { Ok(()) } else { Err(TokenError::IssuerMismatch) }
}

fn check_audience(claims: &Object, validation: &Validation) -> Result<(), TokenError> {
    let Some(expected) = &validation.audience else { return Ok(()) };
    let invalid = TokenError::InvalidClaim(Claim::Audience);
    let matches = match required(claims.get("aud"), Claim::Audience)? {
        Value::String(one) => one == expected,
        Value::Array(all) if all.iter().all(Value::is_string) => {
            all.iter().any(|it| it == expected)
        }
        _ => return Err(invalid),
    };
    if matches { Ok(()) } else { Err(TokenError::AudienceMismatch) }
}

/// A token is valid before `exp`, and from the latest of `begins` on.
fn check_times(
    expires_at: Timestamp,
    begins: [Option<Timestamp>; 2],
    validation: &Validation,
    now: Timestamp,
) -> Result<(), TokenError> {
    let leeway = SignedDuration::try_from(validation.leeway).unwrap_or(SignedDuration::MAX);
    if now.duration_since(expires_at) >= leeway {
        return Err(TokenError::Expired);
    }
    if begins.into_iter().flatten().any(|begin| begin.duration_since(now) > leeway) {
        return Err(TokenError::NotYetValid);
    }
    Ok(())
}

fn rights(claims: &Object) -> Result<(Vec<Grant>, bool), TokenError> {
    let Some(claim) = claims.get("roomcast") else { return Ok((vec![], false)) };
    let claim = claim.as_object().ok_or(TokenError::InvalidClaim(Claim::Roomcast))?;
    let admin = match claim.get("admin") {
        Some(admin) => admin.as_bool().ok_or(TokenError::InvalidClaim(Claim::Admin))?,
        None => false,
    };
    let rooms = match claim.get("rooms") {
        Some(Value::Array(rooms)) if rooms.len() <= MAX_GRANTS => rooms.as_slice(),
        Some(_) => return Err(TokenError::InvalidClaim(Claim::Rooms)),
        None => &[],
    };
    let grants = rooms.iter().enumerate().map(|(index, it)| grant(index, it));
    Ok((grants.collect::<Result<_, _>>()?, admin))
}

fn grant(index: usize, grant: &Value) -> Result<Grant, TokenError> {
    let grant = grant.as_object().ok_or(TokenError::InvalidClaim(Claim::Grant(index)))?;
    let (of_rooms, of_role) = (Claim::GrantMatch(index), Claim::GrantRole(index));
    let rooms = required(text(grant, "match", of_rooms)?, of_rooms)?;
    let role = required(text(grant, "role", of_role)?, of_role)?;
    Ok(Grant {
        rooms: rooms.parse().map_err(|_| TokenError::InvalidClaim(of_rooms))?,
        role: role.parse().map_err(|_| TokenError::InvalidClaim(of_role))?,
    })
}

fn required<T>(value: Option<T>, claim: Claim) -> Result<T, TokenError> {
    value.ok_or(TokenError::MissingClaim(claim))
}

fn text<'a>(members: &'a Object, name: &str, claim: Claim) -> Result<Option<&'a str>, TokenError> {
    let value = members.get(name);
    value.map(|it| it.as_str().ok_or(TokenError::InvalidClaim(claim))).transpose()
}

/// A numeric date: seconds since 1970, perhaps with a fraction.
fn date(members: &Object, name: &str, claim: Claim) -> Result<Option<Timestamp>, TokenError> {
    let Some(value) = members.get(name) else { return Ok(None) };
    timestamp(value).map(Some).ok_or(TokenError::InvalidClaim(claim))
}

fn timestamp(value: &Value) -> Option<Timestamp> {
    let time = match (value.as_i64(), value.as_f64()) {
        (Some(seconds), _) => Timestamp::from_second(seconds).ok(),
        (None, Some(seconds)) => SignedDuration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|since_epoch| Timestamp::from_duration(since_epoch).ok()),
        (None, None) => None,
    };
    time.filter(|it| *it >= Timestamp::UNIX_EPOCH)
}
