//! A key set at a URL, fetched over HTTP/1.1.

use std::{pin::pin, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT},
    uri::Scheme,
};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1,
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::{JwksError, JwksUrlError, MAX_BYTES};

/// Where a key set is. Each fetch has a connection of its own, since fetches are minutes apart.
pub(super) struct Endpoint {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    request: Request<Empty<Bytes>>,
    /// The URL without user, password and query.
    pub(super) shown: String,
}

impl Endpoint {
    /// The roots are those of this system if none are given.
    pub(super) fn new(url: &str, roots: Option<RootCertStore>) -> Result<Self, JwksUrlError> {
        let uri: Uri = url.parse().map_err(|_| JwksUrlError::Malformed)?;
        let scheme = uri.scheme().ok_or(JwksUrlError::Malformed)?;
        let is_https = *scheme == Scheme::HTTPS;
        if !is_https && *scheme != Scheme::HTTP {
            return Err(JwksUrlError::Scheme);
        }
        let authority = uri.authority().ok_or(JwksUrlError::Malformed)?;
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if bare.is_empty() {
            return Err(JwksUrlError::Host);
        }
        let (user, at_host) = match authority.as_str().rsplit_once('@') {
            Some((user, at_host)) => (Some(user), at_host),
            None => (None, authority.as_str()),
        };
        let port = match authority.port_u16() {
            Some(port) => port,
            None if at_host != host => return Err(JwksUrlError::Malformed),
            None if is_https => 443,
            None => 80,
        };
        let tls = if is_https { Some(tls(&bare, roots)?) } else { None };
        let shown = format!("{scheme}://{at_host}{}", uri.path());
        let request = request(&uri, at_host, user).map_err(|_| JwksUrlError::Malformed)?;
        Ok(Self { host: bare, port, tls, request, shown })
    }

    /// The body of the answer, whatever its type. There is no limit of time.
    pub(super) async fn fetch(&self) -> Result<Bytes, JwksError> {
        let address = (self.host.as_str(), self.port);
        let stream = TcpStream::connect(address).await.map_err(JwksError::Connect)?;
        let request = self.request.clone();
        let Some((connector, name)) = &self.tls else {
            return exchange(TokioIo::new(stream), request).await;
        };
        let stream =
            connector.connect(name.clone(), stream).await.map_err(
                |error| match roomcast_tls::fault(&error) {
                    Some(fault) => JwksError::Tls(fault.words),
                    None => JwksError::Connect(error),
                },
            )?;
        exchange(TokioIo::new(stream), request).await
    }
}

fn tls(
    host: &str,
    roots: Option<RootCertStore>,
) -> Result<(TlsConnector, ServerName<'static>), JwksUrlError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| JwksUrlError::Host)?;
    let roots = match roots {
        Some(roots) => roots,
        None => roomcast_tls::system_roots()?,
    };
    let config = ClientConfig::builder_with_provider(roomcast_tls::provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn request(
    uri: &Uri,
    host: &str,
    user: Option<&str>,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    let target = uri.path_and_query().map_or("/", |it| it.as_str());
    let mut request = Request::get(target)
        .header(HOST, host)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("roomcast/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())?;
    if let Some(user) = user {
        let user: Vec<u8> = percent_decode_str(user).collect();
        let mut basic = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(user)))?;
        basic.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, basic);
    }
    Ok(request)
}

/// One request on a connection, which is closed afterwards.
async fn exchange(
    stream: impl Read + Write + Unpin,
    request: Request<Empty<Bytes>>,
) -> Result<Bytes, JwksError> {
    let (mut sender, connection) = http1::handshake(stream).await.map_err(JwksError::Transfer)?;
    let mut answer = pin!(async move {
        let response = sender.send_request(request).await.map_err(JwksError::Transfer)?;
        body(response).await
    });
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The server has closed the connection, perhaps behind a full answer.
        _ = connection => answer.await,
    }
}

async fn body(response: Response<Incoming>) -> Result<Bytes, JwksError> {
    let status = response.status();
    if status.is_redirection() {
        return Err(JwksError::Redirect(status.as_u16()));
    }
    if status != StatusCode::OK {
        return Err(JwksError::Status(status.as_u16()));
    }
    let body = response.into_body();
    if body.size_hint().lower() > MAX_BYTES as u64 {
        return Err(JwksError::TooLarge);
    }
    match Limited::new(body, MAX_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(JwksError::TooLarge),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => JwksError::Transfer(*error),
            Err(_) => JwksError::TooLarge,
        }),
    }
}
