//! A collector that counts the spans it is sent and keeps none.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use super::Error;

/// A running sink; dropping it ends it.
#[derive(Debug)]
pub(super) struct Sink {
    addr: SocketAddr,
    spans: Counter,
    _server: JoinSet<()>,
}

#[derive(Clone, Default, Debug)]
struct Counter(Arc<AtomicU64>);

impl Sink {
    /// Listens on a free port of the loopback interface.
    pub(super) async fn start() -> Result<Self, Error> {
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let failed = |error: std::io::Error| Error::Baseline { addr, reason: error.to_string() };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let spans = Counter::default();
        let service = TraceServiceServer::new(spans.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let incoming = TcpIncoming::from(listener);
            // Should it end, no span is counted any more, which the report shows.
            let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
        });
        Ok(Self { addr, spans, _server: server })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many spans came.
    pub(super) fn spans(&self) -> u64 {
        self.spans.0.load(Relaxed)
    }
}

#[tonic::async_trait]
impl TraceService for Counter {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let groups = request.into_inner().resource_spans;
        let scopes = groups.iter().flat_map(|group| &group.scope_spans);
        let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
        self.0.fetch_add(spans as u64, Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
