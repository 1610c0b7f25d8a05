//! A server of key sets that can be told to misbehave.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// What every request is answered with.
#[derive(Clone)]
pub(super) enum Answer {
    /// This body, with status 200.
    Body(String),
    /// These bytes, whether HTTP or not; then the connection ends.
    Raw(String),
    /// Nothing, and the connection stays.
    Silence,
    /// The head of an answer, and then nothing.
    SlowBody,
    /// A chunk after another, without end.
    Endless,
}

pub(super) struct Server {
    pub(super) addr: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    answer: Mutex<Answer>,
    requests: Mutex<Vec<(Instant, String)>>,
}

impl Server {
    pub(super) async fn start(body: String) -> Self {
        Self::listen(body, None).await
    }

    /// Over TLS, with a certificate and its key.
    pub(super) async fn start_tls(body: String, cert: &str, key: &str) -> Self {
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(roomcast_tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key);
        Self::listen(body, Some(TlsAcceptor::from(Arc::new(config.unwrap())))).await
    }

    async fn listen(body: String, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let answer = Mutex::new(Answer::Body(body));
        let state = Arc::new(State { answer, requests: Mutex::default() });
        let mut tasks = JoinSet::new();
        let shared = state.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, tls) = (shared.clone(), tls.clone());
                connections.spawn(async move {
                    // Clients that hang up are part of the tests.
                    let _ = match tls {
                        None => state.serve(stream).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => state.serve(stream).await,
                            Err(error) => Err(error),
                        },
                    };
                });
            }
        });
        Self { addr, state, _tasks: tasks }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/keys", self.addr)
    }

    pub(super) fn answer_with(&self, answer: Answer) {
        *self.state.answer.lock().unwrap() = answer;
    }

    /// The heads of all requests so far, and when they came.
    pub(super) fn requests(&self) -> Vec<(Instant, String)> {
        self.state.requests.lock().unwrap().clone()
    }
}

impl State {
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(stream.read_u8().await?));
        }
        self.requests.lock().unwrap().push((Instant::now(), head));
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            Answer::Body(body) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all((head + &body).as_bytes()).await?;
            }
            Answer::Raw(bytes) => stream.write_all(bytes.as_bytes()).await?,
            Answer::Silence => std::future::pending::<()>().await,
            Answer::SlowBody => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await?;
                std::future::pending::<()>().await;
            }
            Answer::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
                loop {
                    stream.write_all(chunk.as_bytes()).await?;
                }
            }
        }
        stream.shutdown().await
    }
}
