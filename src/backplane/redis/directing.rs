//! How scripts are told what all replicas are to do about subjects, and how they tell it.

use std::sync::Arc;

use jiff::Timestamp;
use redis::Value;

use super::{
    Redis,
    arguments::text,
    op::Work,
    reply::{self, ReplyError},
    script_name::ScriptName,
    scripts::millis,
};
use crate::{
    backplane::{DIRECTIVES, DirectError, Directives, Unavailable},
    domain::Directive,
};

/// The partition that keeps them, in every deployment.
const PARTITION: usize = 0;

impl Redis {
    /// See [`crate::backplane::Backplane::direct`].
    pub(super) async fn keep_directive(
        &self,
        subject: &str,
        directive: &Directive,
    ) -> Result<(), DirectError> {
        let (kind, what) = encode(directive);
        let field = format!("{kind}{subject}").into_bytes();
        let args = vec![field, text(millis(directive.kept_for())), what, text(DIRECTIVES)];
        let keys = vec![self.keys().directives(PARTITION)];
        let work = Work::Upkeep { name: ScriptName::Direct, keys, args };
        let kept = self.ask(self.upkeep(PARTITION), work, |reply| Ok(reply.int(0)? == 1)).await?;
        if kept { Ok(()) } else { Err(DirectError::Full) }
    }

    /// See [`crate::backplane::Backplane::directives`].
    pub(super) async fn directives_since(
        &self,
        known: u64,
    ) -> Result<Option<Directives>, Unavailable> {
        let (keys, args) = (vec![self.keys().directives(PARTITION)], vec![text(known)]);
        let work = Work::Upkeep { name: ScriptName::Directives, keys, args };
        self.ask(self.upkeep(PARTITION), work, |reply| {
            let version = std::str::from_utf8(reply.bytes(0)?).ok().and_then(|it| it.parse().ok());
            let version: u64 = version.ok_or(ReplyError::Unexpected("a count of changes"))?;
            if version == known {
                return Ok(None);
            }
            // One of a kind that a later version invents is not for this one.
            let all = reply.rest[1..].chunks_exact(2).filter_map(|pair| decode(&pair[0], &pair[1]));
            Ok(Some(Directives { version, all: all.collect() }))
        })
        .await
    }
}

/// The letter of its kind, and what it says: when, in milliseconds since the Unix epoch; and whether its clients may
/// return, and why.
fn encode(directive: &Directive) -> (char, Vec<u8>) {
    match directive {
        Directive::Revoke { issued_before } => ('r', text(issued_before.as_millisecond())),
        Directive::Disconnect { at, may_return, reason } => {
            let returns = u8::from(*may_return);
            ('d', format!("{} {returns} {reason}", at.as_millisecond()).into_bytes())
        }
    }
}

fn decode(field: &Value, value: &Value) -> Option<(Arc<str>, Directive)> {
    let field = std::str::from_utf8(reply::as_bytes(field)?).ok()?;
    let value = std::str::from_utf8(reply::as_bytes(value)?).ok()?;
    let time = |millis: &str| Timestamp::from_millisecond(millis.parse().ok()?).ok();
    if let Some(subject) = field.strip_prefix('r') {
        return Some((subject.into(), Directive::Revoke { issued_before: time(value)? }));
    }
    let subject = field.strip_prefix('d')?;
    let mut parts = value.splitn(3, ' ');
    let (at, may_return) = (time(parts.next()?)?, parts.next()? == "1");
    let reason = parts.next()?.into();
    Some((subject.into(), Directive::Disconnect { at, may_return, reason }))
}
