//! How many files and sockets this process may have open, and how they are shared out.
//!
//! A process that has none left is worse than full: connections to Redis that break cannot be opened
//! anew, and nobody answers `/livez`. So clients get only what is left once those have theirs.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

/// What the process needs for itself beside connections: standard streams, the runtime's, listeners,
/// files that are read for a moment, a collector of spans.
const OWN: usize = 64;

/// Raises the limit to what the system allows, and returns how many there may be.
pub fn raise() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return usize::MAX };
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            warn!(%error, soft, hard, "the limit on open files cannot be raised");
            soft
        }
    };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// How many connections of clients fit beside `others` of `limit` descriptors. Where they are so few
/// that others would need most of them, clients get half.
pub fn for_clients(limit: usize, others: usize) -> usize {
    let kept = others.saturating_add(OWN).min(limit / 2);
    limit - kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_is_left_and_at_least_half() {
        assert_eq!(for_clients(1024, 270), 1024 - 270 - OWN);
        assert_eq!(for_clients(128, 270), 64);
        assert_eq!(for_clients(usize::MAX, 270), usize::MAX - 270 - OWN);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise() as u64, hard);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
