//! A collector that speaks real OTLP and keeps what it is sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::stream;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value},
    trace::v1::span::SpanKind,
};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{Request, Response, Status, transport::Server};

use super::eventually;

/// A running collector.
#[derive(Debug)]
pub(crate) struct Collector {
    addr: SocketAddr,
    spans: Spans,
    _server: JoinSet<()>,
}

/// One span that came, as far as tests look at it.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// 32 hexadecimal digits.
    pub(crate) trace: String,
    /// 16 hexadecimal digits.
    pub(crate) id: String,
    /// The same of its parent; empty when it has none.
    pub(crate) parent: String,
    /// The traces that it points to.
    pub(crate) links: Vec<String>,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    /// Nanoseconds since the Unix epoch.
    pub(crate) began: u64,
    pub(crate) ended: u64,
    attributes: Vec<KeyValue>,
    resource: Vec<KeyValue>,
}

#[derive(Clone, Default, Debug)]
struct Spans(Arc<Mutex<Vec<Span>>>);

impl Collector {
    /// Listens on a free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind the collector");
        let addr = listener.local_addr().expect("the collector's address");
        let spans = Spans::default();
        let service = TraceServiceServer::new(spans.clone());
        let incoming = stream::unfold(listener, async |listener| {
            let accepted = listener.accept().await.map(|(socket, _)| socket);
            Some((accepted, listener))
        });
        let mut server = JoinSet::new();
        server.spawn(async move {
            let served = Server::builder().add_service(service).serve_with_incoming(incoming);
            served.await.expect("the collector serves");
        });
        Self { addr, spans, _server: server }
    }

    /// What `telemetry.otlp_endpoint` takes.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.spans.0.lock().expect("no panic").clone()
    }

    /// Waits until so many spans of that name came that fit.
    pub(crate) async fn until(
        &self,
        name: &str,
        count: usize,
        fits: impl Fn(&Span) -> bool,
    ) -> Vec<Span> {
        let what = format!("{count} spans {name}, among {:#?}", self.spans.0);
        eventually(Duration::from_secs(10), &what, async || {
            let spans = self.spans().into_iter().filter(|span| span.name == name && fits(span));
            let spans: Vec<_> = spans.collect();
            (spans.len() >= count).then_some(spans)
        })
        .await
    }
}

impl Span {
    /// An attribute as text.
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        value(&self.attributes, key)
    }

    /// An attribute of its resource, as text.
    pub(crate) fn resource(&self, key: &str) -> Option<String> {
        value(&self.resource, key)
    }
}

fn value(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.clone()?.value? {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::BoolValue(truth) => truth.to_string(),
        other => format!("{other:?}"),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().expect("no panic");
        for group in request.into_inner().resource_spans {
            let resource = group.resource.unwrap_or_default().attributes;
            kept.extend(group.scope_spans.into_iter().flat_map(|it| it.spans).map(|span| Span {
                kind: span.kind(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
                name: span.name,
                began: span.start_time_unix_nano,
                ended: span.end_time_unix_nano,
                attributes: span.attributes,
                resource: resource.clone(),
            }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
