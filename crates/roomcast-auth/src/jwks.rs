//! Key sets from elsewhere, kept fresh in the background.

mod endpoint;
mod error;
mod file;
mod schedule;
mod source;

pub use self::{
    error::{JwksError, JwksUrlError},
    schedule::RefreshPolicy,
    source::{JwksSource, JwksStatus},
};

#[cfg(test)]
mod tests;
