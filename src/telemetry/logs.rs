//! Log lines on standard error.

use std::io::{self, IsTerminal as _};

use tracing::{Metadata, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, LevelFilter, filter_fn},
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    registry,
    registry::LookupSpan,
};

use super::throttle::{AUDIT, Throttle};
use crate::{
    config::{LogFormat, TelemetryConfig},
    metrics::Metrics,
};

/// How many lines wait to be written; more are dropped.
const LINES: usize = 16_384;

/// Where lines go: to a thread of its own. Somebody who does not read our standard error costs log
/// lines, beyond some ten thousand of them, but holds up nothing.
pub(super) fn writer(metrics: &Metrics) -> (NonBlocking, WorkerGuard) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES)
        .lossy(true)
        .thread_name("log")
        .finish(io::stderr());
    let dropped = writer.error_counter();
    metrics.follow_log_lines_dropped(move || dropped.dropped_lines() as u64);
    (writer, guard)
}

/// Logs as the configuration says.
pub(super) fn logging(
    config: &TelemetryConfig,
    writer: NonBlocking,
    throttle: Throttle,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync {
    let layout = Layout::of(config.log_format, io::stderr().is_terminal());
    subscriber(layout, || config.log.filter(), writer, throttle)
}

/// How lines are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layout {
    /// An object per line, an event's own fields under `fields`.
    Json,
    /// Text, in colours or not.
    Text { colours: bool },
}

impl Layout {
    fn of(format: LogFormat, terminal: bool) -> Self {
        match (format, terminal) {
            (LogFormat::Json, _) | (LogFormat::Auto, false) => Self::Json,
            (LogFormat::Text, _) | (LogFormat::Auto, true) => Self::Text { colours: terminal },
        }
    }
}

fn subscriber<W>(
    layout: Layout,
    filter: impl Fn() -> EnvFilter,
    writer: W,
    throttle: Throttle,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Clone + Send + Sync + 'static,
{
    let is_audit = |metadata: &Metadata<'_>| metadata.is_event() && metadata.target() == AUDIT;
    let (lines, audit) =
        (fmt::layer().with_writer(writer.clone()), fmt::layer().with_writer(writer));
    let (lines, audit) = match layout {
        Layout::Json => {
            // An audit line says for itself whom it is about.
            let audit = audit.json().with_current_span(false).with_span_list(false);
            (lines.json().boxed(), audit.boxed())
        }
        Layout::Text { colours } => {
            (lines.with_ansi(colours).boxed(), audit.with_ansi(colours).boxed())
        }
    };
    // Without a hint, libraries would make spans of every level for each write, only to drop them.
    let any = LevelFilter::TRACE;
    let other = filter_fn(move |it| !is_audit(it)).with_max_level_hint(any);
    let audits = filter_fn(is_audit).with_max_level_hint(any);
    registry()
        .with(lines.with_filter(filter().and(other).and(throttle)))
        .with(audit.with_filter(filter().and(audits)))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(layout: Layout, directives: &str, log: impl FnOnce()) -> String {
        logged_by(Throttle::default(), layout, directives, log)
    }

    fn logged_by(
        throttle: Throttle,
        layout: Layout,
        directives: &str,
        log: impl FnOnce(),
    ) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let filter = || EnvFilter::new(directives);
        let subscriber = subscriber(layout, filter, move || writer.clone(), throttle);
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(std::mem::take(&mut *buffer.0.lock().unwrap())).unwrap()
    }

    #[test]
    fn json_has_fields_and_spans() {
        let line = logged(Layout::Json, "info", || {
            let span = tracing::info_span!("stream", username = "bob");
            let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 41234));
            span.in_scope(|| tracing::info!(listener = "grpc", %addr, "listening"));
        });
        for part in [
            r#""level":"INFO""#,
            r#""fields":{"message":"listening","listener":"grpc","addr":"127.0.0.1:41234"}"#,
            r#""span":{"username":"bob","name":"stream"}"#,
        ] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn an_audit_line_is_there_once_and_speaks_for_itself() {
        let audit = || {
            let span = tracing::info_span!("stream", username = "bob");
            span.in_scope(|| tracing::info!(target: "audit", parent: None, user = "bob", "left"));
        };
        for directives in ["info", "warn,audit=info"] {
            let lines = logged(Layout::Json, directives, audit);
            assert_eq!(lines.matches("bob").count(), 1, "{lines}");
            assert_eq!(lines.lines().count(), 1, "{lines}");
        }
        assert_eq!(logged(Layout::Json, "info,audit=off", audit), "");
    }

    #[test]
    fn text_has_colours_only_if_wanted() {
        let log = || tracing::info!(listener = "grpc", "listening");
        let plain = logged(Layout::Text { colours: false }, "info", log);
        assert!(plain.contains("listening listener=\"grpc\""), "{plain}");
        assert!(logged(Layout::Text { colours: true }, "info", log).contains("\u{1b}["));
    }

    #[test]
    fn the_filter_decides() {
        let log = || {
            tracing::info!("quiet");
            tracing::warn!("loud");
        };
        let lines = logged(Layout::Text { colours: false }, "warn", log);
        assert!(lines.contains("loud") && !lines.contains("quiet"), "{lines}");
    }

    #[test]
    fn what_is_logged_again_and_again_is_counted() {
        let throttle = Throttle::default();
        let lines = logged_by(throttle.clone(), Layout::Json, "debug", || {
            for number in 0..1000 {
                tracing::warn!(number, "somebody knocks");
                tracing::info!(target: "audit", number, "joined");
                tracing::debug!(number, "details");
            }
            tracing::warn!("another line");
            throttle.tell();
            throttle.tell();
        });
        let times = |text: &str| lines.matches(text).count();
        let knocks = times(r#""message":"somebody knocks""#);
        assert!((20..30).contains(&knocks), "{knocks}");
        assert_eq!(times("another line"), 1);
        assert_eq!((times(r#""message":"joined""#), times(r#""message":"details""#)), (1000, 1000));
        let count = format!(r#""count":{},"line":"somebody knocks""#, 1000 - knocks);
        assert_eq!(times(&count), 1, "{count} in {lines}");
        assert_eq!(times("more of such lines"), 1, "{lines}");
    }

    /// What is below the level costs a comparison and no more, however hot the path that it is on.
    #[test]
    fn the_filters_level_is_known_beforehand() {
        for (directives, level) in [
            ("info", LevelFilter::INFO),
            ("warn", LevelFilter::WARN),
            ("info,roomcast::hub=debug", LevelFilter::DEBUG),
        ] {
            let filter = || EnvFilter::new(directives);
            let subscriber = subscriber(Layout::Json, filter, io::sink, Throttle::default());
            assert_eq!(subscriber.max_level_hint(), Some(level), "{directives}");
        }
    }

    #[test]
    fn auto_is_text_for_people_and_json_for_machines() {
        assert_eq!(Layout::of(LogFormat::Auto, true), Layout::Text { colours: true });
        assert_eq!(Layout::of(LogFormat::Auto, false), Layout::Json);
        assert_eq!(Layout::of(LogFormat::Text, false), Layout::Text { colours: false });
        assert_eq!(Layout::of(LogFormat::Json, true), Layout::Json);
    }
}
