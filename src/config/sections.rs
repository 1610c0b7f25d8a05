//! The sections with their keys, ranges, and what has to hold between them.

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{
    reader::Reader,
    values::{Bytes, Endpoint, LogFilter, LogFormat, Networks, Ratio, shown},
};
use crate::domain::Network;

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// How many of something a cap may allow.
const CAP: RangeInclusive<usize> = 1..=10_000_000;

/// How long one message takes of a rate; zero for no limit.
const INTERVAL: RangeInclusive<Duration> = secs(0)..=secs(3600);

/// How long messages may gather; zero for not at all.
const GATHER: RangeInclusive<Duration> = secs(0)..=Duration::from_millis(100);

/// How old a stream gets; zero for any age.
const AGE: RangeInclusive<Duration> = secs(0)..=secs(30 * 24 * 3600);

/// How many messages of a rate may come at once.
const BURST: RangeInclusive<usize> = 1..=100_000;

/// gRPC refuses messages beyond 4 MiB; the rest of a message has to fit beside its content: a name of
/// up to 1 KiB (256 characters of four bytes), a traceparent, positions and a time.
const CONTENT: RangeInclusive<Bytes> = Bytes(1)..=Bytes((4 << 20) - 2048);

/// One message of the largest kind has to fit, and a terabyte is as good as no bound.
const INPUT: RangeInclusive<Bytes> = Bytes(8 << 20)..=Bytes(1 << 40);

/// PEM files for TLS on one side of a connection. What is in them is not looked at here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsConfig {
    /// The certificate that this side shows, with those that lead to its CA behind it, and the
    /// certificate's key.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// The CAs that the other side's certificate has to come from.
    pub ca_file: Option<PathBuf>,
}

/// What the keys of a section with a [`TlsConfig`] are called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlsKeys {
    /// The certificate.
    pub cert_file: &'static str,
    /// Its key.
    pub key_file: &'static str,
    /// The CAs.
    pub ca_file: &'static str,
}

impl TlsConfig {
    /// Certificate and key belong together: neither is of use without the other.
    pub(super) fn read(reader: &mut Reader, keys: TlsKeys) -> Self {
        let TlsKeys { cert_file: cert_key, key_file: key_key, ca_file: ca_key } = keys;
        let cert = reader.optional(cert_key);
        let key = reader.optional(key_key);
        let ca_file = reader.optional(ca_key);
        match (reader.is_set(cert_key), reader.is_set(key_key)) {
            (true, false) => reader.alone(cert_key, key_key),
            (false, true) => reader.alone(key_key, cert_key),
            (true, true) | (false, false) => {}
        }
        Self { pair: cert.zip(key), ca_file }
    }
}

impl TlsKeys {
    /// The keys of the gRPC listener.
    pub const SERVER: Self = Self {
        cert_file: "server.tls.cert_file",
        key_file: "server.tls.key_file",
        ca_file: "server.tls.client_ca_file",
    };
    /// The keys of the way to Redis.
    pub const REDIS: Self = Self {
        cert_file: "redis.tls.cert_file",
        key_file: "redis.tls.key_file",
        ca_file: "redis.tls.ca_file",
    };

    pub(super) fn set(self, reader: &Reader) -> impl Iterator<Item = &'static str> {
        [self.cert_file, self.key_file, self.ca_file].into_iter().filter(|key| reader.is_set(key))
    }
}

/// The gRPC listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerConfig {
    /// Where it listens.
    pub addr: SocketAddr,
    /// How long a new connection has to finish the HTTP/2 preface, and the head of a request to arrive.
    pub handshake_timeout: Duration,
    /// How long a connection may have no stream.
    pub connection_idle_timeout: Duration,
    /// How long the `v1` protocol is silent at most, and how often its clients are to speak up.
    pub ping_interval: Duration,
    /// How long a client of the `v1` protocol may say nothing, or take nothing, before its stream is
    /// dropped. At least twice the ping interval.
    pub idle_timeout: Duration,
    /// A balancer in front tells by the PROXY protocol whom each connection is from.
    pub proxy_protocol: bool,
    /// The proxies that are believed when they say whom they speak for.
    pub trusted_proxies: Vec<Network>,
    /// How old a v1 stream gets before its client is sent elsewhere; zero for any age.
    pub max_stream_age: Duration,
    /// How old a stream of the chat protocol gets before it is ended; zero for any age.
    pub max_chat_stream_age: Duration,
    /// With a pair the listener speaks TLS; with a CA beside it, clients have to show a certificate.
    pub tls: TlsConfig,
}

impl ServerConfig {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let keys = TlsKeys::SERVER;
        let config = Self {
            addr: reader.required("server.addr"),
            handshake_timeout: reader.within("server.handshake_timeout", millis(100)..=secs(300)),
            connection_idle_timeout: reader
                .within("server.connection_idle_timeout", secs(1)..=secs(86_400)),
            ping_interval: reader.within("server.ping_interval", millis(100)..=secs(29)),
            idle_timeout: reader.within("server.idle_timeout", secs(1)..=secs(3600)),
            proxy_protocol: reader.required("server.proxy_protocol"),
            trusted_proxies: reader.required::<Networks>("server.trusted_proxies").0,
            max_stream_age: reader.within("server.max_stream_age", AGE),
            max_chat_stream_age: reader.within("server.max_chat_stream_age", AGE),
            tls: TlsConfig::read(reader, keys),
        };
        if keys.set(reader).eq([keys.ca_file]) {
            reader.alone(keys.ca_file, keys.cert_file);
        }
        // A client that pings as it is told, and whose ping is late once, is alive.
        if config.idle_timeout < 2 * config.ping_interval {
            let least = shown(&(2 * config.ping_interval));
            let allowed = format!("at least twice server.ping_interval, that is {least}");
            reader.refuse("server.idle_timeout", shown(&config.idle_timeout), allowed);
        }
        config
    }
}

/// The HTTP listener for operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminConfig {
    /// Where it listens.
    pub addr: SocketAddr,
}

impl AdminConfig {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self { addr: reader.required("admin.addr") }
    }
}

/// How long names are held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamesConfig {
    /// How long a name outlives its silent replica.
    pub lease: Duration,
    /// How long a resumable session outlives its stream.
    pub linger: Duration,
}

impl NamesConfig {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            lease: reader.within("names.lease", secs(1)..=secs(600)),
            linger: reader.within("names.linger", secs(0)..=secs(3600)),
        }
    }
}

/// What one client, peer or room can take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitsConfig {
    /// The most bytes of one message's content.
    pub content_bytes: usize,
    /// The most Unicode scalar values of a name.
    pub username_chars: usize,
    /// The most streams of this replica.
    pub streams: usize,
    /// The most streams of one peer address.
    pub streams_per_peer: usize,
    /// The most streams of one subject of tokens.
    pub streams_per_user: usize,
    /// The most streams of one connection.
    pub streams_per_connection: usize,
    /// The most connections of one peer address.
    pub connections_per_peer: usize,
    /// The most rooms in which one peer address has members on this replica.
    pub rooms_per_peer: usize,
    /// The most members that one peer address has in one room on this replica.
    pub room_members_per_peer: usize,
    /// The most bytes that clients have sent and that are not stored.
    pub input_bytes: usize,
    /// The most of them from one peer address.
    pub input_bytes_per_peer: usize,
    /// The most of them on one connection.
    pub input_bytes_per_connection: usize,
    /// The most connections of this replica.
    pub connections: usize,
    /// How many events a reader may be behind its room.
    pub window_events: usize,
    /// How many bytes of events a reader may be behind its room.
    pub window_bytes: usize,
    /// How many bytes may wait for readers: in the windows of all rooms, and as many on their way to single ones.
    pub unread_bytes: usize,
    /// The longest that a message waits for others in a busy room; zero for not at all.
    pub gather: Duration,
    /// The most messages of one session on their way to the log.
    pub inflight: usize,
    /// The most events or members in one page of a unary call.
    pub page_size: usize,
    /// The most members of a room, on all replicas.
    pub members_per_room: usize,
    /// The most rooms on this replica with members here, or that are watched here.
    pub rooms: usize,
    /// The most streams that watch rooms of this replica.
    pub watchers: usize,
    /// The most rooms that all of them watch together.
    pub watched_rooms: usize,
    /// How long one page takes of what a peer address may ask for; zero for no limit.
    pub query_interval: Duration,
    /// How many pages it may ask for at once.
    pub query_burst: usize,
    /// How long one message takes of what a session may say; zero for no limit.
    pub session_interval: Duration,
    /// How many messages a session may say at once.
    pub session_burst: usize,
    /// How long one message takes of what may be said in a room on this replica; zero for no limit.
    pub room_interval: Duration,
    /// How many messages may be said at once in a room on this replica.
    pub room_burst: usize,
    /// How long one short session takes of what one address may bring of them; zero for no limit.
    pub short_session_interval: Duration,
    /// How many short sessions one address may bring at once.
    pub short_session_burst: usize,
    /// How long one takes of the rooms that one address may open here; zero for no limit.
    pub new_room_interval: Duration,
    /// How many rooms one address may open here at once.
    pub new_room_burst: usize,
}

impl LimitsConfig {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            content_bytes: reader.within("limits.content_bytes", CONTENT).0,
            username_chars: reader.within("limits.username_chars", 1..=256),
            streams: reader.within("limits.streams", CAP),
            streams_per_peer: reader.within("limits.streams_per_peer", CAP),
            streams_per_user: reader.within("limits.streams_per_user", CAP),
            streams_per_connection: reader.within("limits.streams_per_connection", 1..=100_000),
            connections: reader.within("limits.connections", CAP),
            connections_per_peer: reader.within("limits.connections_per_peer", CAP),
            rooms_per_peer: reader.within("limits.rooms_per_peer", CAP),
            room_members_per_peer: reader.within("limits.room_members_per_peer", CAP),
            input_bytes: reader.within("limits.input_bytes", INPUT).0,
            input_bytes_per_peer: reader.within("limits.input_bytes_per_peer", INPUT).0,
            input_bytes_per_connection: reader.within("limits.input_bytes_per_connection", INPUT).0,
            window_events: reader.within("limits.window_events", 4096..=1 << 20),
            window_bytes: reader.within("limits.window_bytes", Bytes(2 << 20)..=Bytes(1 << 30)).0,
            unread_bytes: reader.within("limits.unread_bytes", INPUT).0,
            gather: reader.within("limits.gather", GATHER),
            inflight: reader.within("limits.inflight", 1..=4096),
            page_size: reader.within("limits.page_size", 1..=500),
            members_per_room: reader.within("limits.members_per_room", CAP),
            rooms: reader.within("limits.rooms", CAP),
            watchers: reader.within("limits.watchers", CAP),
            watched_rooms: reader.within("limits.watched_rooms", CAP),
            query_interval: reader.within("limits.query_interval", INTERVAL),
            query_burst: reader.within("limits.query_burst", BURST),
            session_interval: reader.within("limits.session_interval", INTERVAL),
            session_burst: reader.within("limits.session_burst", BURST),
            room_interval: reader.within("limits.room_interval", INTERVAL),
            room_burst: reader.within("limits.room_burst", BURST),
            short_session_interval: reader.within("limits.short_session_interval", INTERVAL),
            short_session_burst: reader.within("limits.short_session_burst", BURST),
            new_room_interval: reader.within("limits.new_room_interval", INTERVAL),
            new_room_burst: reader.within("limits.new_room_burst", BURST),
        }
    }
}

/// What a room remembers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryConfig {
    /// About how many events.
    pub length: usize,
    /// About how many bytes of events. There is always room for 32 messages of the largest kind.
    pub bytes: usize,
    /// How many bytes all rooms of the memory backplane keep together; at least twice as many as one.
    pub memory_bytes: usize,
    /// About how long; also how long an empty room is remembered.
    pub age: Duration,
}

impl HistoryConfig {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            length: reader.within("history.length", CAP),
            bytes: reader.within("history.bytes", Bytes(1 << 20)..=Bytes(1 << 40)).0,
            memory_bytes: reader.within("history.memory_bytes", Bytes(1 << 22)..=Bytes(1 << 40)).0,
            age: reader.within("history.age", secs(1)..=secs(30 * 24 * 3600)),
        }
    }
}

/// How a replica ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DrainConfig {
    /// How long it goes on serving after the signal, not ready.
    pub delay: Duration,
    /// How long streams and connections may take to end after that; then the process exits
    /// whatever is open.
    pub deadline: Duration,
}

impl DrainConfig {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            delay: reader.within("drain.delay", secs(0)..=secs(3600)),
            deadline: reader.within("drain.deadline", millis(100)..=secs(3600)),
        }
    }
}

/// What a replica tells of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TelemetryConfig {
    /// Where traces go. `None`: nowhere, and none are made.
    pub otlp_endpoint: Option<Endpoint>,
    /// Which part of traces that begin here is recorded.
    pub sample_ratio: Ratio,
    /// What is logged.
    pub log: LogFilter,
    /// How log lines look.
    pub log_format: LogFormat,
    /// How many sessions of one address may come at once and have audit lines of their own.
    pub audit_burst: usize,
}

impl TelemetryConfig {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            otlp_endpoint: reader.optional("telemetry.otlp_endpoint"),
            sample_ratio: reader.required("telemetry.sample_ratio"),
            log: reader.required("telemetry.log"),
            log_format: reader.required("telemetry.log_format"),
            audit_burst: reader.within("telemetry.audit_burst", CAP),
        }
    }
}
