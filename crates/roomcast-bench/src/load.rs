//! A run: everybody joins, senders send, everything is counted.
#![expect(clippy::cast_precision_loss, reason = "figures for people have a few digits")]

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{sleep, sleep_until},
};

use super::{
    Error, Faults,
    check::{self, Heard},
    member::{self, Member, Tally},
    plan::Plan,
    shared::{Phase, Shared},
    usage::{Process, Usage},
};

/// How often it is looked whether all have joined, or all has arrived.
const LOOK: Duration = Duration::from_millis(20);
/// How long the clients rest once they have joined, so that what they cost idle can be seen.
const REST: Duration = Duration::from_millis(500);
/// How many clients of each room join at a time: everybody there is told of each of them, so
/// that a whole crowd at once would overrun its own queues.
const WAVE: u32 = 100;
/// How long joining may take, and a second more for so many clients and for so many notices
/// that somebody has joined.
const JOIN_PATIENCE: Duration = Duration::from_secs(15);
const JOINS_PER_SECOND: u64 = 200;
const NOTICES_PER_SECOND: u64 = 50_000;
/// How long after the last message nothing may arrive before the rest counts as lost.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// How long all of it may take to arrive.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// What a run came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) plan: Plan,
    /// The measured window as it was.
    pub(super) window: Duration,
    /// Deliveries within it.
    pub(super) delivered: u64,
    /// Deliveries of the whole run.
    pub(super) checked: u64,
    /// Microseconds from sending to receipt.
    pub(super) delays: Histogram<u32>,
    /// The most a message was sent after it was due.
    pub(super) late: Duration,
    pub(super) processes: Vec<Measured>,
    /// CPU seconds of the load program within the window.
    pub(super) own_cpu: f64,
    pub(super) faults: Faults,
}

impl Outcome {
    /// Resident KiB of the first server for each client, beyond what it has without any.
    pub(super) fn kib_per_client(&self, of: fn(&Measured) -> u64) -> f64 {
        let server = &self.processes[0];
        let clients = server.clients.unwrap_or(self.plan.clients as usize);
        (of(server) as f64 - server.before as f64) / clients as f64
    }
}

/// One process over a run.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) process: Process,
    /// Its clients, if it is a server.
    pub(super) clients: Option<usize>,
    /// CPU seconds within the measured window.
    pub(super) cpu: f64,
    /// Resident KiB before anybody came.
    pub(super) before: u64,
    /// The same once all had joined.
    pub(super) joined: u64,
    /// The same at the end of the load.
    pub(super) after: u64,
}

type Tallies = Vec<Arc<Mutex<Tally>>>;

/// Drives the servers of the plan and measures the processes.
pub(super) async fn run(plan: Plan, processes: Vec<Process>) -> Result<Outcome, Error> {
    let own = Process::own();
    let before = usages(&processes)?;
    let shared = Arc::new(Shared {
        plan,
        phase: watch::Sender::new(Phase::Joining),
        admitted: watch::Sender::new(0),
        base: Instant::now(),
        joined: AtomicU32::new(0),
        window: (AtomicU64::new(u64::MAX), AtomicU64::new(0)),
    });
    let mut connections = JoinSet::new();
    let tallies = join(&shared, &mut connections).await?;
    sleep(REST).await;
    let joined = usages(&processes)?;

    let plan = &shared.plan;
    let start = Instant::now() + LOOK;
    shared.window.0.store(shared.micros(start + plan.warmup), Relaxed);
    shared.window.1.store(shared.micros(start + plan.sending()), Relaxed);
    shared.phase.send_replace(Phase::Running(start));
    let snapshot = async |at: Instant| {
        sleep_until(at.into()).await;
        Ok((Instant::now(), delivered(&tallies), usages(&processes)?, own.usage()?))
    };
    let (opened, delivered_first, first, own_first) = snapshot(start + plan.warmup).await?;
    let (closed, delivered_last, last, own_last) = snapshot(start + plan.sending()).await?;
    let checked = drain(&shared, &tallies).await;

    let (delays, late, faults) = judge(&shared, &tallies);
    let measured = processes.into_iter().enumerate().map(|(index, process)| Measured {
        process,
        clients: (index < plan.addrs.len()).then(|| plan.clients_on(index)),
        cpu: last[index].cpu - first[index].cpu,
        before: before[index].resident,
        joined: joined[index].resident,
        after: last[index].resident,
    });
    Ok(Outcome {
        processes: measured.collect(),
        plan: plan.clone(),
        window: closed - opened,
        delivered: delivered_last - delivered_first,
        checked,
        delays,
        late,
        own_cpu: own_last.cpu - own_first.cpu,
        faults,
    })
}

fn usages(processes: &[Process]) -> Result<Vec<Usage>, Error> {
    processes.iter().map(Process::usage).collect()
}

/// Opens all connections and lets clients join, a wave at a time, until every one of them has
/// heard something in its room.
async fn join(shared: &Arc<Shared>, connections: &mut JoinSet<()>) -> Result<Tallies, Error> {
    let plan = &shared.plan;
    let (clients, notices) = (u64::from(plan.clients), plan.join_notices());
    let patience = JOIN_PATIENCE
        + Duration::from_secs(clients / JOINS_PER_SECOND + notices / NOTICES_PER_SECOND);
    let begun = Instant::now();
    let mut tallies = Tallies::new();
    for index in 0..plan.connections {
        let addr = plan.addr_of(index);
        let unreachable =
            |error: std::io::Error| Error::Unreachable { addr, reason: error.to_string() };
        let socket = TcpStream::connect(addr).await.map_err(unreachable)?;
        socket.set_nodelay(true).map_err(unreachable)?;
        let tally = Arc::new(Mutex::new(Tally::new(shared, index)));
        tallies.push(Arc::clone(&tally));
        connections.spawn(member::connection(Arc::clone(shared), tally, socket, index));
    }
    loop {
        let joined = shared.joined.load(Relaxed);
        if let Some(reason) = tallies.iter().find_map(|tally| first_end(&lock(tally))) {
            return Err(Error::NotJoined(reason));
        }
        if joined == plan.clients {
            return Ok(tallies);
        }
        if joined == *shared.admitted.borrow() {
            let wave = WAVE.saturating_mul(plan.rooms);
            shared.admitted.send_replace(joined.saturating_add(wave).min(plan.clients));
        }
        if begun.elapsed() > patience {
            return Err(Error::JoinTimeout { joined, clients: plan.clients, waited: patience });
        }
        sleep(LOOK).await;
    }
}

/// Waits until all that was sent has arrived, or nothing arrives any more.
async fn drain(shared: &Shared, tallies: &Tallies) -> u64 {
    let plan = &shared.plan;
    let begun = Instant::now();
    let mut seen = (delivered(tallies), begun);
    // A sender may still be behind its schedule, so what is expected grows.
    while seen.0 < expected(plan, tallies)
        && seen.1.elapsed() < DRAIN_PATIENCE
        && begun.elapsed() < DRAIN_LIMIT
    {
        sleep(LOOK).await;
        let now = delivered(tallies);
        if now != seen.0 {
            seen = (now, Instant::now());
        }
    }
    delivered(tallies)
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn delivered(tallies: &Tallies) -> u64 {
    tallies.iter().map(|tally| lock(tally).delivered).sum()
}

fn expected(plan: &Plan, tallies: &Tallies) -> u64 {
    let clients = tallies.iter().zip(0..).flat_map(|(tally, connection)| {
        let tally = lock(tally);
        let sent = plan.on_connection(connection).zip(tally.members.iter());
        sent.map(|(client, member)| {
            u64::from(member.sent) * u64::from(plan.members(plan.room_of(client)) - 1)
        })
        .collect::<Vec<_>>()
    });
    clients.sum()
}

fn first_end(tally: &Tally) -> Option<String> {
    tally.members.iter().find_map(|member| member.ended.clone())
}

/// Adds up delays and judges all receipts, room by room.
fn judge(shared: &Shared, tallies: &Tallies) -> (Histogram<u32>, Duration, Faults) {
    let plan = &shared.plan;
    let tallies: Vec<_> = tallies.iter().map(|tally| lock(tally)).collect();
    let mut delays = Histogram::new_with_bounds(1, 60_000_000, 2).expect("the bounds are sound");
    let mut late = Duration::ZERO;
    let mut faults = Faults::default();
    let member = |client: u32| {
        let (connection, slot) = (client % plan.connections, client / plan.connections);
        &tallies[connection as usize].members[slot as usize]
    };
    for tally in &tallies {
        delays.add(&tally.delays).expect("the bounds are the same");
        for member in &tally.members {
            late = late.max(member.late);
            faults.strayed += member.strayed;
            faults.ended += u32::from(member.ended.is_some());
        }
        faults.first_end = faults.first_end.take().or_else(|| first_end(tally));
    }
    for room in 0..plan.rooms {
        let clients: Vec<Heard<'_>> = (room..plan.clients)
            .step_by(plan.rooms as usize)
            .map(|client| {
                let own = plan.sender(client).map(|sender| plan.place_of(sender));
                let Member { receipts, ended, .. } = member(client);
                Heard { receipts, own, ended: ended.is_some() }
            })
            .collect();
        let sent: Vec<u32> =
            plan.senders_in(room).map(|sender| member(plan.client_of(sender)).sent).collect();
        faults.add(&check::judge(&clients, &sent));
    }
    (delays, late, faults)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::{baseline, plan};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_that_is_sent_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async { baseline::serve_on(listener).await.unwrap() });

        let plan = Plan { addrs: vec![addr], ..plan::tests::plan(20, 3, 4, 2) };
        let outcome = run(plan, vec![Process::find(std::process::id()).unwrap()]).await.unwrap();
        assert_eq!(outcome.faults, Faults::default());
        // 480 messages, each to the nine others of its room.
        assert_eq!(outcome.checked, 480 * 9);
        assert_eq!(outcome.delays.len(), 480 * 9);
        assert_eq!(outcome.processes[0].clients, Some(20));
    }

    #[tokio::test]
    async fn who_is_not_let_in_is_quoted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plan =
            Plan { addrs: vec![listener.local_addr().unwrap()], ..plan::tests::plan(2, 1, 1, 1) };
        let mut server = JoinSet::new();
        server.spawn(async move { while listener.accept().await.is_ok() {} });
        let error = run(plan, Vec::new()).await.unwrap_err();
        assert!(matches!(error, Error::NotJoined(_)), "{error}");
    }
}
