//! The spans of roomcast: which there are, what they tell, and which of them are recorded.
//!
//! Names of attributes are those of OpenTelemetry's semantic conventions for messaging, RPC and
//! databases, so that trace backends draw spans as what they are; what has no convention begins
//! with `roomcast.`. A span that is not recorded is not made, so it costs nothing.
//!
//! Source: <https://opentelemetry.io/docs/specs/semconv/>, version 1.42.

mod sampler;

use std::net::SocketAddr;

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
pub use sampler::Sampler;
use tracing::{Span, field, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::domain::{LeftCause, Position, RoomName, TraceParent};

/// The target of all of them, by which they are told from spans that only logs are about.
pub const TARGET: &str = "roomcast::trace";

/// A span that begins a trace, or goes on with the trace of a parent elsewhere.
macro_rules! begin {
    ($recorded:expr, $parent:expr, $name:literal, $room:expr, $($fields:tt)*) => {{
        let parent: Option<&TraceParent> = $parent;
        if $recorded {
            let span = info_span!(
                target: TARGET,
                $name,
                trace_id = Empty,
                messaging.destination.name = %$room,
                "error.type" = Empty,
                otel.status_code = Empty,
                $($fields)*
            );
            place(span, parent)
        } else {
            Span::none()
        }
    }};
}

impl Sampler {
    /// `room.join`: somebody comes in by a call of the RPC `method`.
    pub fn join(
        &self,
        parent: Option<&TraceParent>,
        room: &RoomName,
        method: &'static str,
        peer: SocketAddr,
    ) -> Span {
        begin!(self.samples(parent), parent, "room.join", room,
            otel.kind = "server",
            rpc.system.name = "grpc",
            // Its name before version 1.39, which many backends look for.
            rpc.system = "grpc",
            rpc.method = method,
            rpc.response.status_code = Empty,
            network.peer.address = %peer.ip(),
            network.peer.port = peer.port(),
        )
    }

    /// `room.say`: a message is taken in, with so many bytes of content. It is in the trace that its client
    /// named for it, or else in one of its own, which points to that of its stream, if there is one.
    pub fn say(
        &self,
        parent: Option<&TraceParent>,
        stream: Option<&TraceParent>,
        room: &RoomName,
        bytes: usize,
    ) -> Span {
        let span = begin!(
            self.samples(parent),
            parent,
            "room.say",
            room,
            otel.kind = "producer",
            messaging.system = "roomcast",
            messaging.operation.name = "say",
            "messaging.operation.type" = "send",
            messaging.message.body.size = bytes,
            messaging.message.id = Empty,
        );
        if !span.is_none()
            && let Some(context) = stream.and_then(remote)
        {
            span.add_link(context);
        }
        span
    }

    /// `room.deliver`: an event of another span, maybe on another replica, goes out to the streams
    /// of this one. Ends when the last of them has it.
    pub fn deliver(&self, of: &TraceParent, room: &RoomName, position: Position) -> Span {
        begin!(self.goes_on(of), Some(of), "room.deliver", room,
            otel.kind = "consumer",
            messaging.system = "roomcast",
            messaging.operation.name = "deliver",
            "messaging.operation.type" = "process",
            messaging.message.id = %position,
            roomcast.streams = Empty,
            roomcast.streams.waiting = Empty,
        )
    }

    /// `room.retake`: a member whose lease had ended takes its name again.
    pub fn retake(&self, room: &RoomName) -> Span {
        begin!(self.samples(None), None, "room.retake", room, roomcast.outcome = Empty,)
    }

    /// `room.leave`: a name is given back.
    pub fn leave(&self, room: &RoomName, cause: LeftCause) -> Span {
        begin!(self.samples(None), None, "room.leave", room, roomcast.cause = cause.name(),)
    }

    /// `room.heal`: what live delivery missed is read from the log.
    pub fn heal(&self, room: &RoomName, after: u64) -> Span {
        begin!(
            self.samples(None),
            None,
            "room.heal",
            room,
            roomcast.after = after,
            roomcast.events = Empty,
            roomcast.outcome = Empty,
        )
    }

    /// `room.reap`: members whose replica stopped renewing are declared gone, in one room or in several.
    pub fn reap(&self, overdue: usize) -> Span {
        if !self.samples(None) {
            return Span::none();
        }
        let span = info_span!(
            target: TARGET,
            "room.reap",
            trace_id = Empty,
            "error.type" = Empty,
            otel.status_code = Empty,
            roomcast.overdue = overdue,
            roomcast.reaped = Empty,
        );
        place(span, None)
    }
}

/// `backplane.append`, below the span of the message: from handing it to the backplane to its answer.
pub fn append(say: &Span, backplane: &'static str, room: &RoomName) -> Span {
    if say.is_none() {
        return Span::none();
    }
    info_span!(
        target: TARGET,
        parent: say,
        "backplane.append",
        otel.kind = "client",
        db.system.name = backplane,
        db.operation.name = "append",
        db.collection.name = %room,
        "error.type" = Empty,
        otel.status_code = Empty,
    )
}

/// Notes how an RPC was answered, by the name of its status.
pub fn answered(span: &Span, code: &str) {
    if !span.is_none() {
        span.record("rpc.response.status_code", code);
    }
}

/// Notes which position a message got.
pub fn appended(say: &Span, position: Position) {
    if !say.is_none() {
        say.record("messaging.message.id", field::display(position));
    }
}

/// Notes that what the span stands for failed, by a name of the error that varies little.
pub fn failed(span: &Span, error: &'static str) {
    if !span.is_none() {
        span.record("error.type", error).record("otel.status_code", "ERROR");
    }
}

/// What others need to go on with the trace of a span, if it is recorded.
pub fn traceparent(span: &Span) -> Option<TraceParent> {
    if span.is_none() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    let (trace, span) = (context.trace_id(), context.span_id());
    let recorded = context.is_valid() && context.is_sampled();
    recorded.then(|| TraceParent::parse(&format!("00-{trace:032x}-{span:016x}-01"))).flatten()
}

/// The same of the span that is entered.
pub fn current() -> Option<TraceParent> {
    traceparent(&Span::current())
}

/// Puts a span below its parent elsewhere, and notes for the log which trace it is in.
fn place(span: Span, parent: Option<&TraceParent>) -> Span {
    if let Some(context) = parent.and_then(remote) {
        // Fails only without a subscriber that exports.
        let _ = span.set_parent(Context::new().with_remote_span_context(context));
    }
    if let Some(own) = traceparent(&span) {
        span.record("trace_id", own.trace_id());
    }
    span
}

fn remote(parent: &TraceParent) -> Option<SpanContext> {
    let trace = TraceId::from_hex(parent.trace_id()).ok()?;
    let span = SpanId::from_hex(parent.span_id()).ok()?;
    let flags = if parent.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE))
}
