//! Errors in words for people, in one line.

use std::error::Error as StdError;

use roomcast_common::text::sanitise;
use roomcast_tls::fault;

/// What is behind an error: a failure of TLS, or the innermost source, where the operating system's
/// word is.
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    if let Some(fault) = fault(error) {
        return sanitise(&fault.words);
    }
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    let reason = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason);
    if reason == Some(h2::Reason::FRAME_SIZE_ERROR) {
        return "it does not speak plain HTTP/2".to_owned();
    }
    sanitise(&error.to_string())
}
