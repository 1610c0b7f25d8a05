//! Log lines on standard error.

use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    registry,
    registry::LookupSpan,
};

use crate::config::{LogFormat, TelemetryConfig};

/// How many lines wait to be written; more are dropped.
const LINES: usize = 16_384;

/// Where lines go: to a thread of its own. Somebody who does not read our standard error costs log
/// lines, beyond some ten thousand of them, but holds up nothing.
pub(super) fn writer() -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(LINES)
        .lossy(true)
        .thread_name("log")
        .finish(io::stderr())
}

/// Logs as the configuration says.
pub(super) fn logging(
    config: &TelemetryConfig,
    writer: NonBlocking,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync {
    let layout = Layout::of(config.log_format, io::stderr().is_terminal());
    subscriber(layout, config.log.filter(), writer)
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
    filter: EnvFilter,
    writer: W,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer);
    let lines = match layout {
        Layout::Json => lines.json().boxed(),
        Layout::Text { colours } => lines.with_ansi(colours).boxed(),
    };
    registry().with(lines.with_filter(filter))
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
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber(layout, EnvFilter::new(directives), move || writer.clone());
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
    fn auto_is_text_for_people_and_json_for_machines() {
        assert_eq!(Layout::of(LogFormat::Auto, true), Layout::Text { colours: true });
        assert_eq!(Layout::of(LogFormat::Auto, false), Layout::Json);
        assert_eq!(Layout::of(LogFormat::Text, false), Layout::Text { colours: false });
        assert_eq!(Layout::of(LogFormat::Json, true), Layout::Json);
    }
}
