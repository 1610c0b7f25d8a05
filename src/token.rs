//! `roomcast token`: makes tokens, and says what one allows.

pub mod keyring;

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use roomcast_auth::{Claims, Grant, KeyError, Principal, Role, RoomPattern, RoomcastClaim, Signer};
use tokio::time::timeout;

use self::keyring::{AuthError, Keyring, Origin, role};
use crate::config::{AuthConfig, KeySource};

/// How long a key set may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most that is read of a token, in bytes.
const MAX_TOKEN: u64 = 64 * 1024;

/// What `roomcast token` is asked for.
#[derive(Args, Clone, Debug)]
pub struct TokenOptions {
    /// Whom the token is for
    #[arg(long, value_name = "SUBJECT", required_unless_present = "check")]
    sub: Option<String>,
    /// The only name that the bearer may take; any free one without it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A room, or a prefix and *; may be given several times [default: *]
    #[arg(long = "room", value_name = "ROOM")]
    rooms: Vec<RoomPattern>,
    /// The role there: reader, member, moderator or owner
    #[arg(long, default_value = "member")]
    role: Role,
    /// With the right to everything
    #[arg(long)]
    admin: bool,
    /// For how long it is good
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    ttl: SignedDuration,
    /// Private key to sign with, in PEM form (PKCS#8) [default: the configured auth.secret]
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// The key's id in a key set
    #[arg(long, value_name = "ID", requires = "private_key")]
    key_id: Option<String>,
    /// Make none, but say what this one allows, or why it is refused; - reads it from standard input, where `ps` does not show it
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["sub", "name", "rooms", "private_key"])]
    check: Option<String>,
}

/// Why there is no token, or it is not good.
#[derive(Debug, thiserror::Error)]
pub enum TokenCommandError {
    /// There is nothing to sign with.
    #[error(
        "nothing to sign with: configure auth.mode = \"token\" and auth.secret, or give --private-key"
    )]
    NoKey,
    /// There is nothing to check with.
    #[error("auth.mode is \"open\": nobody needs a token")]
    Open,
    /// A file that cannot be read.
    #[error("--private-key: cannot read {}: {error}", .path.display())]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Standard input cannot be read.
    #[error("cannot read a token from standard input: {0}")]
    Input(#[source] io::Error),
    /// A key that is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key does not sign.
    #[error(transparent)]
    Sign(#[from] roomcast_auth::SignError),
    /// The keys are not there.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The key set did not come.
    #[error("{0}")]
    NoKeySet(String),
    /// The token is refused.
    #[error("refused: {0}")]
    Refused(#[from] roomcast_auth::TokenError),
}

/// Does what is asked. Returns what is to be printed.
pub async fn run(args: &TokenOptions, config: &AuthConfig) -> Result<String, TokenCommandError> {
    match &args.check {
        Some(token) if token == "-" => check(read_token(io::stdin())?.trim(), config).await,
        Some(token) => check(token.trim(), config).await,
        None => make(args, config),
    }
}

fn make(args: &TokenOptions, config: &AuthConfig) -> Result<String, TokenCommandError> {
    let signer = match (&args.private_key, &config.keys) {
        (Some(path), _) => {
            let pem = fs::read(path)
                .map_err(|error| TokenCommandError::Unreadable { path: path.clone(), error })?;
            let signer = Signer::from_pem(&pem)?;
            match &args.key_id {
                Some(id) => signer.with_key_id(id),
                None => signer,
            }
        }
        (None, Some(KeySource::Secret(secret, _))) => {
            Signer::from_secret(secret.expose().as_bytes())?
        }
        (None, _) => return Err(TokenCommandError::NoKey),
    };
    let now = Timestamp::now();
    let mut rooms = args.rooms.clone();
    if rooms.is_empty() {
        rooms.extend("*".parse::<RoomPattern>());
    }
    let claims = Claims {
        sub: args.sub.clone().unwrap_or_default(),
        exp: now.saturating_add(args.ttl).unwrap_or(Timestamp::MAX).as_second(),
        iat: Some(now.as_second()),
        nbf: None,
        iss: config.issuer.clone(),
        aud: config.audience.clone(),
        name: args.name.clone(),
        roomcast: Some(RoomcastClaim {
            rooms: rooms.into_iter().map(|rooms| Grant { rooms, role: args.role }).collect(),
            admin: args.admin,
        }),
    };
    Ok(format!("{}\n", signer.sign(&claims)?))
}

/// Reads a token to the end of the input. One that is too long is not whole, and refused as such.
fn read_token(input: impl Read) -> Result<String, TokenCommandError> {
    let mut token = String::new();
    input.take(MAX_TOKEN).read_to_string(&mut token).map_err(TokenCommandError::Input)?;
    Ok(token)
}

async fn check(token: &str, config: &AuthConfig) -> Result<String, TokenCommandError> {
    let Some(keys) = Keyring::load(config)? else { return Err(TokenCommandError::Open) };
    if let Origin::KeySet(source) = &keys.origin {
        let mut fetched = source.subscribe();
        let (run, first) = (Arc::clone(source).run(), fetched.changed());
        let come = async {
            tokio::select! {
                () = run => {}
                _ = first => {}
            }
        };
        let _ = timeout(PATIENCE, come).await;
        if !source.status().is_ready() {
            let why = source.status().error.map(|error| error.to_string());
            let why = why.unwrap_or_else(|| "no answer".to_owned());
            return Err(TokenCommandError::NoKeySet(why));
        }
    }
    let principal = keys.verifier().verify(token, Timestamp::now())?;
    Ok(described(&principal, role(config.default_role)))
}

/// What a token allows, for people.
fn described(principal: &Principal, default_role: Option<Role>) -> String {
    let mut text = format!("good until {}\nsub   {}\n", principal.expires_at, principal.sub);
    // Writing to a string cannot fail.
    let _ = match &principal.name {
        Some(name) => writeln!(text, "name  {name}"),
        None => writeln!(text, "name  any free one"),
    };
    for grant in &principal.grants {
        let _ = writeln!(text, "room  {}: {}", grant.rooms, grant.role);
    }
    let others = default_role.map_or_else(|| "none".to_owned(), |role| role.to_string());
    let _ = writeln!(text, "others: {others}");
    if principal.admin {
        text.push_str("admin: the right to everything\n");
    }
    text
}
