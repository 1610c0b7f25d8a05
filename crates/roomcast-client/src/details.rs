//! What a status says for programs.

use std::time::Duration;

use tonic::Status;
use tonic_types::StatusExt as _;

use roomcast_proto::room::ErrorReason;

/// Whose reasons are understood.
const DOMAIN: &str = "roomcast";

/// What a server's status says for programs. Nothing, where another server sent it, or a proxy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Details {
    /// Why, as one of `roomcast.v1.ErrorReason`, or of a later version; empty when it does not say.
    pub reason: String,
    /// Whether the same request would only be refused again, if it says.
    pub is_final: Option<bool>,
    /// Another replica may well do what this one refuses.
    pub try_another: bool,
    /// When to try again, if that is known.
    pub retry_after: Option<Duration>,
}

impl Details {
    /// Those of a status.
    pub(super) fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let Some(info) = details.error_info().filter(|info| info.domain == DOMAIN) else {
            return Self::default();
        };
        Self {
            reason: info.reason.clone(),
            is_final: info.metadata.get("final").and_then(|it| it.parse().ok()),
            try_another: info.metadata.get("try_another").is_some_and(|it| it == "true"),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }

    /// The reason, if it is one that this version knows.
    pub(super) fn known(&self) -> Option<ErrorReason> {
        ErrorReason::from_str_name(&self.reason)
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    fn read(domain: &str) -> Details {
        let metadata = [("final", "false"), ("try_another", "true"), ("later", "x")];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut details = ErrorDetails::with_error_info("SHUTTING_DOWN", domain, metadata);
        details.set_retry_info(Some(Duration::from_millis(1500)));
        Details::of(&Status::with_error_details(Code::Unavailable, "away", details))
    }

    #[test]
    fn details_are_read_from_roomcast_and_nobody_else() {
        let details = read("roomcast");
        let expected = Details {
            reason: "SHUTTING_DOWN".to_owned(),
            is_final: Some(false),
            try_another: true,
            retry_after: Some(Duration::from_millis(1500)),
        };
        assert_eq!(details, expected);
        assert_eq!(details.known(), Some(ErrorReason::ShuttingDown));
        assert_eq!(read("example.com"), Details::default());
        assert_eq!(Details::of(&Status::unavailable("no details")), Details::default());
        let garbage = Status::with_details(Code::Unavailable, "", vec![0xff; 9].into());
        assert_eq!(Details::of(&garbage), Details::default());
        let later = Details { reason: "OF_A_LATER_VERSION".to_owned(), ..Details::default() };
        assert_eq!(later.known(), None);
    }
}
