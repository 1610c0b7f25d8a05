//! The token that a client shows, where the server wants one.

use std::{env, ffi::OsString, path::PathBuf};

use roomcast_client::{AccessToken, Address, Connector, TokenSource};

use super::Error;
use crate::config::TOKEN_VARIABLE;

/// How a token is given. Not as an argument, which `ps` shows to everybody on the machine.
#[derive(clap::Args, Clone, Debug)]
pub struct TokenArgs {
    /// The file; the variable has a token itself. Not by clap's `env`, which would be for a file.
    #[arg(
        long,
        value_name = "FILE",
        help = "File with the token to show, read again when a newer one is needed \
                [env: ROOMCAST_TOKEN, the token itself]"
    )]
    token_file: Option<PathBuf>,
    /// Show the token also over plain text, to another machine than this one
    #[arg(long)]
    insecure_token: bool,
}

/// What was given.
#[derive(Clone, Debug)]
pub(super) enum Given {
    Nothing,
    Text(AccessToken),
    File(PathBuf),
}

impl TokenArgs {
    /// What was given: the argument counts before the variable. An empty variable is none, as templates leave it.
    pub(super) fn given(&self) -> Result<Given, Error> {
        self.given_with(env::var_os(TOKEN_VARIABLE))
    }

    fn given_with(&self, variable: Option<OsString>) -> Result<Given, Error> {
        let variable = variable.filter(|value| !value.is_empty());
        Ok(match (&self.token_file, variable) {
            (Some(path), _) => Given::File(path.clone()),
            (None, Some(value)) => {
                let token = AccessToken::parse(&value.to_string_lossy());
                Given::Text(token.map_err(Error::Variable)?)
            }
            (None, None) => Given::Nothing,
        })
    }

    /// The connector, with the token.
    pub(super) fn authorize(&self, connector: Connector, given: &Given) -> Connector {
        let source = match given {
            Given::Nothing => return connector,
            Given::Text(token) => TokenSource::fixed(token.clone()),
            Given::File(path) => TokenSource::file(path),
        };
        let connector = connector.with_tokens(source);
        if self.insecure_token { connector.allow_insecure_tokens() } else { connector }
    }

    /// The token for the one stream of the `chat` protocol, to these addresses.
    pub(super) fn once(
        &self,
        addrs: &[Address],
        given: &Given,
    ) -> Result<Option<AccessToken>, Error> {
        let token = match given {
            Given::Nothing => return Ok(None),
            Given::Text(token) => token.clone(),
            Given::File(path) => AccessToken::read(path)?,
        };
        match addrs.iter().find(|addr| !addr.is_confidential()) {
            Some(addr) if !self.insecure_token => Err(Error::InsecureToken(addr.clone())),
            Some(_) | None => Ok(Some(token)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(file: Option<&str>, variable: Option<&str>) -> Result<Given, Error> {
        let args = TokenArgs { token_file: file.map(PathBuf::from), insecure_token: false };
        args.given_with(variable.map(OsString::from))
    }

    #[test]
    fn the_argument_counts_before_the_variable() {
        assert!(matches!(given(None, None), Ok(Given::Nothing)));
        assert!(matches!(given(None, Some("")), Ok(Given::Nothing)));
        assert!(matches!(given(None, Some("a.b.c")), Ok(Given::Text(_))));
        assert!(matches!(given(Some("token"), Some("a.b.c")), Ok(Given::File(_))));
        let refused = given(None, Some("a secret")).unwrap_err().to_string();
        assert!(refused.starts_with("ROOMCAST_TOKEN: not a token"), "{refused}");
        assert!(!refused.contains("secret"), "{refused}");
    }
}
