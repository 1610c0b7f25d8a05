//! What an attacker is told.

use std::{env, net::SocketAddr, time::Duration};

use tokio::{
    process::Command,
    time::{Instant, sleep_until, timeout_at},
};

use super::cases::{CASES, Case};

/// Whom to attack, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// The replica, or the proxy in front of it.
    pub(super) addr: SocketAddr,
    /// The replica's admin port.
    pub(super) admin: SocketAddr,
    /// When the attack is over.
    pub(super) until: Instant,
    /// It only has to be shown that nothing breaks.
    pub(super) small: bool,
}

impl Target {
    /// The attacker's process, which ends by itself when the attack is over.
    pub(super) fn attacker(
        case: &Case,
        addr: SocketAddr,
        admin: SocketAddr,
        long: Duration,
        small: bool,
    ) -> Command {
        let mut command = Command::new("nice");
        command
            .args(["-n", "19"])
            .arg(env::current_exe().expect("this program"))
            .args(["--exact", "attack::attacker", "--ignored", "--nocapture"])
            .env("ATTACK_CASE", case.name)
            .env("ATTACK_ADDR", addr.to_string())
            .env("ATTACK_ADMIN", admin.to_string())
            .env("ATTACK_MILLIS", long.as_millis().to_string())
            .env("ATTACK_SMALL", if small { "yes" } else { "no" })
            .kill_on_drop(true);
        command
    }

    /// What this process was started for.
    pub(super) fn from_variables() -> Option<(&'static Case, Self)> {
        let case = env::var("ATTACK_CASE").ok()?;
        let case = CASES.iter().find(|it| it.name == case).expect("a known case");
        let given = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is missing"));
        let millis = given("ATTACK_MILLIS").parse().expect("a number");
        let target = Self {
            addr: given("ATTACK_ADDR").parse().expect("an address"),
            admin: given("ATTACK_ADMIN").parse().expect("an address"),
            until: Instant::now() + Duration::from_millis(millis),
            small: given("ATTACK_SMALL") == "yes",
        };
        Some((case, target))
    }

    /// Whether the attack is over.
    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.until
    }

    /// So many, or a part of them.
    pub(super) fn some(self, many: usize) -> usize {
        if self.small { many.div_ceil(20) } else { many }
    }

    /// Waits until the attack is over.
    pub(super) async fn hold(self) {
        sleep_until(self.until).await;
    }

    /// Does this, for as long as the attack lasts.
    pub(super) async fn until_over<T>(self, what: impl Future<Output = T>) -> Option<T> {
        // What never waits would never be timed out.
        if self.is_over() {
            return None;
        }
        timeout_at(self.until, what).await.ok()
    }
}

/// What an attacker tells of what it did.
pub(super) fn tell(what: &str) {
    println!("attack: {what}");
}
