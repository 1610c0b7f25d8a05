//! Reads keys from the merged layers, and keeps what is wrong instead of stopping at it.

use std::{ops::RangeInclusive, path::Path};

use figment::{Figment, Profile, value::Value};

use super::{
    Origin, Problem,
    layers::Layer,
    values::{Setting, shown},
};

/// One key, in the order of reading.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: &'static str,
    /// The value as TOML, secrets hidden, and its source.
    pub(super) set: Option<(String, Origin)>,
}

pub(super) struct Reader {
    figment: Figment,
    defaults: Figment,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
    /// Keys whose value in force is not the one that was asked for.
    spoilt: Vec<&'static str>,
}

impl Reader {
    /// Later layers go first. The first one is the defaults.
    pub(super) fn new(layers: &[Layer]) -> Self {
        Self {
            figment: layers.iter().fold(Figment::new(), Figment::merge),
            defaults: layers.first().map(Figment::from).unwrap_or_default(),
            entries: Vec::new(),
            problems: Vec::new(),
            spoilt: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> (Vec<Entry>, Vec<Problem>) {
        (self.entries, self.problems)
    }

    /// A key that has a default.
    pub(super) fn required<T: Setting>(&mut self, key: &'static str) -> T {
        self.optional(key).unwrap_or_else(|| self.default(key))
    }

    /// A key that has a default and a range.
    pub(super) fn within<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> T
    where
        T: Setting + PartialOrd,
    {
        let value = self.required::<T>(key);
        if range.contains(&value) {
            return value;
        }
        let allowed = format!("{} to {}", shown(range.start()), shown(range.end()));
        self.refuse(key, shown(&value), allowed);
        self.default(key)
    }

    /// A key that need not be set. A value that cannot be used counts as none.
    pub(super) fn optional<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        let raw = self.figment.find_value(key).ok();
        let value = raw.as_ref().and_then(|raw| match T::read(raw) {
            Ok(value) => Some(value),
            Err(unfit) => {
                self.refuse(key, T::got(raw), unfit.0.into_owned());
                None
            }
        });
        let origin = raw.map(|_| self.origin(key));
        self.entries.push(Entry { key, set: value.as_ref().map(shown).zip(origin) });
        value
    }

    /// A value that is in force by way of a file that a key names, trimmed of its line's end.
    pub(super) fn content_of<T: Setting>(&mut self, key: &'static str, path: &Path) -> Option<T> {
        let origin = self.origin(key);
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) => {
                let path = path.to_owned();
                self.problems.push(Problem::Unreadable { path, origin, source });
                return None;
            }
        };
        let raw = Value::from(text.trim_end_matches(['\r', '\n']));
        T::read(&raw)
            .map_err(|unfit| {
                let got = format!("the content of {}, {}", path.display(), T::got(&raw));
                self.refuse(key, got, unfit.0.into_owned());
            })
            .ok()
    }

    /// Refuses a value that is in force, for a reason that only its section knows.
    pub(super) fn refuse(&mut self, key: &'static str, got: String, allowed: String) {
        let origin = self.origin(key);
        self.spoilt.push(key);
        self.problems.push(Problem::Invalid { key, got, origin, allowed });
    }

    /// Refuses that a key has a value at all.
    pub(super) fn refuse_presence(&mut self, key: &'static str, allowed: &str) {
        let shown = self.entries.iter().find(|entry| entry.key == key);
        // A value that is no good has been refused already.
        if let Some((got, _)) = shown.and_then(|entry| entry.set.clone()) {
            self.refuse(key, got, allowed.to_owned());
        }
    }

    /// Whether a key has a value, good or bad.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.figment.contains(key)
    }

    /// At most one of two keys may be set.
    pub(super) fn exclude(&mut self, first: &'static str, second: &'static str) {
        if self.is_set(first) && self.is_set(second) {
            self.conflict(first, second);
        }
    }

    /// Two keys say the same thing twice.
    pub(super) fn conflict(&mut self, first: &'static str, second: &'static str) {
        let (first_origin, second_origin) = (self.origin(first), self.origin(second));
        self.problems.push(Problem::Conflict { first, first_origin, second, second_origin });
    }

    /// A key is of no use without another.
    pub(super) fn alone(&mut self, key: &'static str, needs: &'static str) {
        let origin = self.origin(key);
        self.problems.push(Problem::Alone { key, origin, needs });
    }

    fn default<T: Setting>(&self, key: &str) -> T {
        let default = self.defaults.find_value(key).ok();
        default.and_then(|value| T::read(&value).ok()).expect("a test reads every default")
    }

    fn origin(&self, key: &str) -> Origin {
        let keys = key.split('.').collect::<Vec<_>>();
        let metadata = self.figment.find_metadata(key);
        Origin(metadata.map_or_else(
            || "not set".to_owned(),
            |metadata| metadata.interpolate(&Profile::Default, &keys),
        ))
    }
}
