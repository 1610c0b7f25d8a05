//! A member's way in: under a name that is free, or back to a session.

use std::{
    sync::{Arc, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use super::{Hub, Member, Membership, event_now, keeper, membership::Coming};
use crate::{
    backplane::{Eviction, Hold, Join, JoinError, Joined, ReapStep, Seated, Takeover, Unavailable},
    domain::{
        EventKind, FencingToken, Identity, Position, RoomName, RoomRole, SecretHash, SessionId,
        Until, Username,
    },
    room::LogCursor,
    wakers::ReaderWaker,
};

/// How often a join is tried anew because a member was found overdue. The second try evicts it;
/// the others are for the name's next holder being overdue by then too.
const EVICTION_ROUNDS: usize = 4;

/// Who comes in, and what for.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The room.
    pub room: RoomName,
    /// The name.
    pub name: Username,
    /// Whom decisions of moderators are about that concern it.
    pub identity: Option<Identity>,
    /// Its role, unless another was set for it in the room.
    pub role: RoomRole,
    /// Its session.
    pub session: SessionClaim,
    /// What the member is to get of the past.
    pub since: StartFrom,
    /// How long its session outlives its stream; zero to end with it.
    pub linger: Duration,
    /// The number of its client's attempt; zero where the client does not count.
    pub attempt: u64,
    /// Whether its client was told of its session. One that nobody can resume ends with its stream.
    pub told: Arc<AtomicBool>,
}

/// Which session: its id, and the hash of what a client has to know to resume it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionClaim {
    /// A new one, which nobody can resume.
    Plain,
    /// A new one.
    New(SessionId, SecretHash),
    /// One that has begun.
    Resumed(SessionId, SecretHash),
}

/// What a member is to get of the past.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartFrom {
    /// Nothing.
    Now,
    /// Everything after this position; see [`LogCursor::claimed`].
    After(Position),
    /// So many of the latest events, and what tells of its own coming.
    Latest(u32),
}

/// Somebody is in.
#[derive(Debug)]
pub struct Arrived {
    /// The membership.
    pub membership: Membership,
    /// The room's head when it came in.
    pub head: Position,
    /// A session goes on: nobody was told.
    pub resumed: bool,
    /// The last client sequence of the session that is in the log.
    pub client_seq: u64,
}

/// Why nobody got in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EnterError {
    /// Somebody holds that name, or its holder's lease has not ended yet.
    #[error("the name is taken")]
    Taken {
        /// After so long it is free at the latest, should its holder be gone.
        at_most: Duration,
    },
    /// The room has as many members as it may have.
    #[error("the room has {max} members already")]
    Full {
        /// As many as it may have.
        max: usize,
    },
    /// The room is not open here, and as many rooms are as may be.
    #[error("this replica has {max} rooms already")]
    TooManyRooms {
        /// As many as there may be.
        max: usize,
    },
    /// There is no such session, or no more.
    #[error("the session has ended")]
    NoSession,
    /// A moderator has banned whoever asks.
    #[error("banned")]
    Banned(Until),
    /// Whoever asks has no role in the room.
    #[error("no access to the room")]
    Forbidden,
    /// The session went to yet another stream meanwhile.
    #[error("the session moved meanwhile")]
    Moved,
    /// The session has seen a later attempt of its client.
    #[error("the session has seen a later attempt")]
    StaleAttempt,
    /// The session is not the caller's.
    #[error("the session's secret is another one")]
    WrongSecret,
    /// The backplane does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The hub drains.
    #[error("this replica is shutting down")]
    Draining,
}

impl Hub {
    /// Comes in. What happens in the room from then on can be taken from the member, whose reader is
    /// woken through `reader`.
    pub async fn enter(
        self: &Arc<Self>,
        claim: Claim,
        reader: ReaderWaker,
    ) -> Result<Arrived, EnterError> {
        // Counted before the look, so that nobody slips in behind a hub that drains.
        let counted = self.stays.token();
        if self.draining.is_cancelled() {
            return Err(EnterError::Draining);
        }
        let room_ref = self.take_room_ref(&claim.room)?;
        if let Some(after) = room_ref.room.open(&*self.backplane).await? {
            self.report_read(&room_ref.room, after);
        }
        let (hold, takeover) = match claim.session {
            SessionClaim::Resumed(session, secret) => {
                let (hold, takeover) = self.resumable(&claim, session, secret).await?;
                (hold, Some(takeover))
            }
            SessionClaim::Plain | SessionClaim::New(..) => (self.new_hold(&claim), None),
        };
        let misses_nothing = claim.session != SessionClaim::Plain;
        let member = Member::new(hold.clone(), room_ref.room.number(), reader, misses_nothing);
        // From here on the name may be taken, whether or not anybody waits for the answer.
        let mut membership = Membership::new(Arc::new(member), room_ref, counted);
        membership.set_linger(claim.linger, claim.told.clone());
        let joined = match takeover {
            Some(takeover) => self.take_over(&hold, takeover).await,
            None => self.join(&hold, 0, Coming::Anew).await,
        };
        match joined {
            Ok(joined) => {
                membership.admit(joined.position, place(&claim, &joined));
                membership.member().set_role(joined.set_role);
                membership.room().note_joined(joined.position.epoch, joined.takeovers);
                membership.count_in(takeover.is_some());
                self.watch(&claim.room).await;
                let (head, client_seq) = (joined.written, joined.client_seq);
                Ok(Arrived { membership, head, resumed: takeover.is_some(), client_seq })
            }
            // Who was put out may come again, as somebody new.
            Err(JoinError::Ended | JoinError::Kicked { .. }) => {
                membership.lose_name();
                Err(EnterError::NoSession)
            }
            Err(JoinError::Banned(until)) => {
                membership.lose_name();
                Err(EnterError::Banned(until))
            }
            Err(JoinError::Forbidden) => {
                membership.lose_name();
                Err(EnterError::Forbidden)
            }
            Err(JoinError::Full { max, .. }) => {
                membership.lose_name();
                Err(EnterError::Full { max })
            }
            // Nobody knows of a new session, so it can neither have ended nor moved.
            Err(JoinError::Taken) => {
                membership.lose_name();
                Err(EnterError::Taken { at_most: self.config.held_at_most })
            }
            // Yet another stream was faster. It may be a newer one, so nothing is taken from it.
            Err(JoinError::Moved) => {
                membership.lose_name();
                Err(EnterError::Moved)
            }
            // The client has gone on to that one.
            Err(JoinError::Overtaken { .. }) => {
                membership.lose_name();
                Err(EnterError::StaleAttempt)
            }
            Err(JoinError::Overdue(_) | JoinError::Unavailable(_)) => Err(Unavailable.into()),
        }
    }

    /// A hold that nobody has taken yet.
    fn new_hold(&self, claim: &Claim) -> Hold {
        let (session, secret) = match claim.session {
            SessionClaim::New(session, secret) | SessionClaim::Resumed(session, secret) => {
                (session, Some(secret))
            }
            SessionClaim::Plain => (SessionId::from_bytes(rand::random()), None),
        };
        Hold {
            room: claim.room.clone(),
            name: claim.name.clone(),
            session,
            since: jiff::Timestamp::now(),
            secret,
            linger: claim.linger,
            attempt: claim.attempt,
            token: FencingToken::from_bytes(rand::random()),
            replica: self.replica,
            identity: claim.identity.clone(),
            role: claim.role,
            confirmed: None,
        }
    }

    /// The hold with which a session goes on, if it is there and the caller's.
    async fn resumable(
        &self,
        claim: &Claim,
        session: SessionId,
        secret: SecretHash,
    ) -> Result<(Hold, Takeover), EnterError> {
        let seated = self.backplane.lookup(&claim.room, &claim.name).await?;
        let seated = seated.filter(|seated| seated.member.session == session);
        let Some(Seated { member, secret: own, since, stream, attempt: seen, .. }) = seated else {
            return Err(EnterError::NoSession);
        };
        if own != Some(secret) {
            return Err(EnterError::WrongSecret);
        }
        let attempt = match claim.attempt {
            // The streams of a client that does not count its attempts are counted here.
            0 => seen.saturating_add(1),
            attempt if attempt < seen => return Err(EnterError::StaleAttempt),
            attempt => attempt,
        };
        // As it was spelled when the session began.
        let name = claim.name.clone().spelled(member.name);
        let hold = Hold { name, since, attempt, ..self.new_hold(claim) };
        Ok((hold, Takeover { from: stream }))
    }

    /// Takes a session over from the stream that was seen to have it.
    async fn take_over(&self, hold: &Hold, takeover: Takeover) -> Result<Joined, JoinError> {
        let event = event_now(hold, EventKind::Joined);
        let (takeover, contact) = (Some(takeover), None);
        let join = Join { takeover, contact, ..Join::new(hold, event) };
        self.backplane.join(join).await
    }

    /// Joins. Whoever is found overdue under the name, and may be reaped, is evicted in the same step; where the room
    /// is full and somebody may be overdue, that is looked after first, once.
    pub(super) async fn join(
        &self,
        hold: &Hold,
        appended: u64,
        coming: Coming,
    ) -> Result<Joined, JoinError> {
        let silent = coming == Coming::AgainUnheard;
        let event = event_now(hold, EventKind::Joined);
        let mut evict: Option<Eviction> = None;
        let mut reaps = true;
        for _ in 0..EVICTION_ROUNDS {
            let partition = self.backplane.partition(&hold.room);
            let (event, contact) = (event.clone(), self.reap_guard(partition).contact());
            let evicted = evict.as_ref();
            let join = Join { appended, silent, contact, evict: evicted, ..Join::new(hold, event) };
            match self.backplane.join(join).await {
                Err(JoinError::Overdue(overdue)) => {
                    evict = self.evictions(std::slice::from_ref(&overdue)).pop();
                    if evict.is_none() {
                        // Whoever has it is here, and only late.
                        return Err(JoinError::Taken);
                    }
                }
                Err(JoinError::Full { overdue: true, .. }) if std::mem::take(&mut reaps) => {
                    self.make_room(&hold.room).await?;
                }
                Ok(joined) => {
                    self.metrics.reaped.inc_by(u64::from(evict.is_some()));
                    return Ok(joined);
                }
                Err(error) => return Err(error),
            }
        }
        Err(Unavailable.into())
    }
}

impl Hub {
    /// Has those reaped who are overdue in a room's partition. Whoever waits for another one to have done it is
    /// content with that.
    async fn make_room(&self, room: &RoomName) -> Result<(), Unavailable> {
        let partition = self.backplane.partition(room);
        let turn = {
            let mut turns = self.making_room.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(partition).or_default().clone()
        };
        let Ok(_turn) = turn.try_lock() else {
            drop(turn.lock().await);
            return Ok(());
        };
        keeper::reap(self, partition, ReapStep::BeginNow).await.map(drop)
    }
}

/// Where the reader of somebody who is in begins.
fn place(claim: &Claim, joined: &Joined) -> LogCursor {
    let role = joined.set_role.unwrap_or(claim.role);
    let hidden = joined.settings.history_hidden && role < RoomRole::Moderator;
    // Of what happened before it came it sees nothing.
    let first = Position::new(joined.position.epoch, joined.began.saturating_sub(1));
    match claim.since {
        StartFrom::After(position) if hidden && position.seq < joined.began => {
            LogCursor::after(first)
        }
        StartFrom::Latest(_) if hidden => LogCursor::after(first),
        StartFrom::Now => LogCursor::after(joined.position),
        StartFrom::After(position) => LogCursor::claimed(position),
        StartFrom::Latest(events) => {
            // Of a new session the last one is its own coming.
            let own = u64::from(!matches!(claim.session, SessionClaim::Resumed(..)));
            LogCursor::latest(joined.position, u64::from(events) + own)
        }
    }
}
