//! What all replicas are told about subjects.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;

use super::leases::later;
use crate::{
    backplane::{DIRECTIVES, DirectError, Directives},
    domain::Directive,
};

/// All that holds, by subject and kind.
#[derive(Debug, Default)]
pub(super) struct Kept {
    version: u64,
    all: HashMap<(Arc<str>, bool), (Directive, Instant)>,
}

impl Kept {
    /// See [`crate::backplane::Backplane::direct`].
    pub(super) fn direct(
        &mut self,
        subject: &str,
        directive: &Directive,
        now: Instant,
    ) -> Result<(), DirectError> {
        let key = (Arc::from(subject), matches!(directive, Directive::Revoke { .. }));
        if self.all.len() >= DIRECTIVES && !self.all.contains_key(&key) {
            self.all.retain(|_, (_, ends)| *ends > now);
            if self.all.len() >= DIRECTIVES {
                return Err(DirectError::Full);
            }
        }
        self.version += 1;
        self.all.insert(key, (directive.clone(), later(now, directive.kept_for())));
        Ok(())
    }

    /// See [`crate::backplane::Backplane::directives`].
    pub(super) fn since(&self, known: u64, now: Instant) -> Option<Directives> {
        let held = self.all.iter().filter(|(_, (_, ends))| *ends > now);
        let all = || held.map(|((subject, _), (it, _))| (Arc::clone(subject), it.clone()));
        let version = self.version;
        (version != known).then(|| Directives { version, all: all().collect() })
    }
}
