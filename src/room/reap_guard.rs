//! Who may declare others gone.

use std::time::Duration;

use crate::domain::Contact;

/// Judges for how long this replica's contact with the backplane has been unbroken, by what the
/// backplane's clock told it.
///
/// Only if that is long enough may it reap: after an outage of the backplane, or of the way to it, or
/// after a pause of this process, everybody first gets the time to renew, or to come back. Else the
/// first one back would declare all others gone. The backplane's own clock shows a backplane that stood
/// still, and one that was set forth, which ends leases as well.
#[derive(Clone, Debug)]
pub struct ReapGuard {
    lease: Duration,
    /// Since when, and the last time that was told.
    contact: Option<(Duration, Duration)>,
}

impl ReapGuard {
    /// Nothing is known yet.
    pub fn new(lease: Duration) -> Self {
        Self { lease, contact: None }
    }

    /// The backplane told its time. Answers may come in another order than they were given.
    pub fn told(&mut self, at: Duration) {
        self.contact = match self.contact {
            Some((since, last)) if at.abs_diff(last) <= self.patience() => {
                Some((since, last.max(at)))
            }
            _ => Some((at, at)),
        };
    }

    /// The backplane did not answer, or this replica was late itself.
    pub fn failed(&mut self) {
        self.contact = None;
    }

    /// The same, as if it had lasted for no longer than that.
    #[must_use]
    pub fn at_most(mut self, time: Duration) -> Self {
        self.contact =
            self.contact.map(|(since, last)| (since.max(last.saturating_sub(time)), last));
        self
    }

    /// The contact as it stands, by which the backplane judges.
    pub fn contact(&self) -> Option<Contact> {
        let (since, last) = self.contact?;
        Some(Contact { since, until: last + self.patience() })
    }

    /// The contact, if it has lasted for so long; else how much is missing.
    pub fn lasted(&self, time: Duration) -> Result<Contact, Duration> {
        let (Some((since, last)), Some(contact)) = (self.contact, self.contact()) else {
            return Err(time);
        };
        let missing = (since + time).saturating_sub(last);
        if missing.is_zero() { Ok(contact) } else { Err(missing) }
    }

    /// The longest silence that does not count as a break: leases that were renewed in time before it, a
    /// third of a lease earlier at the most, are good for a while after it.
    fn patience(&self) -> Duration {
        self.lease / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(12);

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Contact from one second to another, told every second.
    fn steady(from: u64, to: u64) -> ReapGuard {
        let mut steady = ReapGuard::new(LEASE);
        (from..=to).for_each(|at| steady.told(secs(at)));
        steady
    }

    #[test]
    fn a_fresh_replica_waits_for_as_long_as_others_need() {
        assert_eq!(ReapGuard::new(LEASE).lasted(LEASE), Err(LEASE));
        assert_eq!(ReapGuard::new(LEASE).contact(), None);
        let steady = steady(100, 108);
        let contact = Contact { since: secs(100), until: secs(114) };
        assert_eq!(steady.lasted(LEASE), Err(secs(4)));
        assert_eq!(steady.lasted(secs(8)), Ok(contact));
        assert_eq!(steady.contact(), Some(contact));
    }

    #[test]
    fn a_contact_that_was_broken_elsewhere_is_shorter() {
        let broken = steady(100, 120).at_most(secs(5));
        assert_eq!(broken.lasted(LEASE), Err(secs(7)));
        assert_eq!(broken.contact(), Some(Contact { since: secs(115), until: secs(126) }));
        assert!(steady(100, 120).at_most(secs(60)).lasted(LEASE).is_ok());
        assert_eq!(ReapGuard::new(LEASE).at_most(secs(60)).contact(), None);
    }

    #[test]
    fn a_silence_starts_the_wait_anew() {
        let mut steady = steady(100, 120);
        assert!(steady.lasted(LEASE).is_ok());
        // Short enough for all leases to outlive it.
        steady.told(secs(126));
        assert_eq!(steady.contact(), Some(Contact { since: secs(100), until: secs(132) }));
        // Stopped for a while: not even the first look after it may reap.
        steady.told(secs(133));
        assert_eq!(steady.lasted(LEASE), Err(LEASE));
        (133..=145).for_each(|at| steady.told(secs(at)));
        assert!(steady.lasted(LEASE).is_ok());
        steady.failed();
        assert_eq!(steady.lasted(LEASE), Err(LEASE));
    }

    #[test]
    fn a_clock_that_is_set_starts_the_wait_anew() {
        for set in [50, 200] {
            let mut steady = steady(100, 120);
            steady.told(secs(set));
            assert_eq!(steady.lasted(LEASE), Err(LEASE), "{set}");
        }
        // An answer that was overtaken by a later one does not.
        let mut steady = steady(100, 120);
        steady.told(secs(119));
        assert_eq!(steady.contact(), Some(Contact { since: secs(100), until: secs(126) }));
    }
}
