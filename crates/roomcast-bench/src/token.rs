//! The token that all clients of a run show.

use std::{env, ffi::OsString, path::Path};

use http::HeaderMap;
use roomcast_client::AccessToken;
use tonic::Request;

use super::Error;

/// The variable that has the token itself.
pub(super) const VARIABLE: &str = "ROOMCAST_TOKEN";

/// The header with the token that was given: the file counts before the variable, which is none when it is empty.
pub(super) fn headers(file: Option<&Path>) -> Result<HeaderMap, Error> {
    headers_with(file, env::var_os(VARIABLE))
}

fn headers_with(file: Option<&Path>, variable: Option<OsString>) -> Result<HeaderMap, Error> {
    let token = match (file, variable.filter(|value| !value.is_empty())) {
        (Some(path), _) => AccessToken::read(path).map_err(Error::TokenFile)?,
        (None, Some(value)) => {
            AccessToken::parse(&value.to_string_lossy()).map_err(Error::TokenVariable)?
        }
        (None, None) => return Ok(HeaderMap::new()),
    };
    let mut request = Request::new(());
    token.authorize(&mut request);
    Ok(std::mem::take(request.metadata_mut()).into_headers())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_becomes_a_header_that_does_not_show() {
        let headers = |variable: &str| headers_with(None, Some(variable.into()));
        assert!(headers("").unwrap().is_empty());
        let shown = headers("a.b.c").unwrap();
        assert_eq!(shown["authorization"], "Bearer a.b.c");
        assert!(!format!("{shown:?}").contains("a.b.c"), "{shown:?}");
        let refused = headers("a secret").unwrap_err().to_string();
        assert!(refused.starts_with("ROOMCAST_TOKEN: not a token"), "{refused}");
        let nowhere = headers_with(Some(Path::new("/nowhere")), None).unwrap_err().to_string();
        assert!(nowhere.starts_with("--token-file: cannot read /nowhere"), "{nowhere}");
    }
}
