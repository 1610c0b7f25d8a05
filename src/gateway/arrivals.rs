//! How often one address may come. Who stays costs nothing of it: it is for those who come and go.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{ADDRESSES, admission::Full};
use crate::{
    domain::origin,
    room::{Rate, RateLimiters},
};

/// What lasts no longer counts.
const SHORT: Duration = Duration::from_secs(2);

/// How often one address may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArrivalRates {
    /// With sessions that last no longer than two seconds.
    pub short_sessions: Rate,
    /// Into rooms that nobody is in on this replica.
    pub new_rooms: Rate,
}

/// Keeps to them.
#[derive(Debug)]
pub(super) struct Arrivals {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    short_sessions: RateLimiters<IpAddr>,
    new_rooms: RateLimiters<IpAddr>,
}

impl Arrivals {
    pub(super) fn new(rates: ArrivalRates) -> Arc<Self> {
        let state = State {
            short_sessions: RateLimiters::new(rates.short_sessions, ADDRESSES),
            new_rooms: RateLimiters::new(rates.new_rooms, ADDRESSES),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Whether an address may bring one more session, and open a room for it if need be.
    pub(super) fn may_come(&self, peer: IpAddr, opens: bool) -> Result<(), Full> {
        let (peer, now) = (origin(peer), Instant::now());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let refuse = |limit| move |wait| Full::TooOften { limit, wait };
        let sessions = state.short_sessions.ready(&peer, now);
        sessions.map_err(refuse("limits.short_session_interval"))?;
        if opens {
            state.new_rooms.take(peer, now).map_err(refuse("limits.new_room_interval"))?;
        }
        Ok(())
    }
}

/// A session that came in. Counted when it is dropped, if that is soon.
#[derive(Debug)]
pub(super) struct Came {
    arrivals: Arc<Arrivals>,
    peer: IpAddr,
    at: Instant,
}

impl Came {
    pub(super) fn now(arrivals: Arc<Arrivals>, peer: IpAddr) -> Self {
        Self { arrivals, peer, at: Instant::now() }
    }
}

impl Drop for Came {
    fn drop(&mut self) {
        if self.at.elapsed() <= SHORT {
            let mut state = self.arrivals.state.lock().unwrap_or_else(PoisonError::into_inner);
            // Also where there is nothing left: as many as liked may have come in before the first one went.
            state.short_sessions.charge(origin(self.peer), 1, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn arrivals() -> Arc<Arrivals> {
        let rate = |burst| Rate { interval: HOUR, burst };
        Arrivals::new(ArrivalRates { short_sessions: rate(3), new_rooms: rate(2) })
    }

    #[test]
    fn who_stays_costs_nothing_and_who_goes_soon_does() {
        let (arrivals, one) = (arrivals(), IpAddr::from([10, 0, 0, 1]));
        let came = || {
            assert_eq!(arrivals.may_come(one, false), Ok(()));
            Came::now(arrivals.clone(), one)
        };
        let staying: Vec<_> = (0..100).map(|_| came()).collect();
        for _ in 0..3 {
            drop(came());
        }
        let refused = arrivals.may_come(one, false);
        let limit = "limits.short_session_interval";
        assert!(matches!(refused, Err(Full::TooOften { limit: it, .. }) if it == limit));
        assert_eq!(arrivals.may_come([10, 0, 0, 2].into(), false), Ok(()));
        drop(staying);
    }

    #[test]
    fn those_who_came_in_together_all_count() {
        let arrivals = arrivals();
        let one = IpAddr::from([10, 0, 0, 1]);
        for round in [1, 2] {
            let together: Vec<_> = (0..50).map(|_| Came::now(arrivals.clone(), one)).collect();
            drop(together);
            let Err(Full::TooOften { wait, .. }) = arrivals.may_come(one, false) else {
                panic!("round {round}: 47 of them are not counted")
            };
            // More than for the next one.
            assert!(wait > HOUR, "{wait:?}");
        }
    }

    #[test]
    fn rooms_are_opened_so_often_by_one_address() {
        let (arrivals, one) = (arrivals(), IpAddr::from([10, 0, 0, 1]));
        assert_eq!(arrivals.may_come(one, true), Ok(()));
        assert_eq!(arrivals.may_come(one, true), Ok(()));
        let refused = arrivals.may_come(one, true);
        let limit = "limits.new_room_interval";
        assert!(matches!(refused, Err(Full::TooOften { limit: it, .. }) if it == limit));
        assert_eq!(arrivals.may_come(one, false), Ok(()), "rooms that are open take more");
        assert_eq!(arrivals.may_come([10, 0, 0, 2].into(), true), Ok(()));
    }
}
