//! One attack, from before it to after it.

use std::{fmt, process::Stdio, time::Duration};

use tokio::time::{Instant, sleep};

use super::{bystanders::Bystanders, cases::Case, outcome::Outcome, target::Target};
use crate::harness::{Authority, Cluster, Dialect, Endpoint, Proxy, SOON, get};

/// What is attacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Setting {
    /// A replica with default limits.
    Usual,
    /// The same, and its admin port.
    Admin,
    /// One that speaks TLS.
    Tls,
    /// One that may have few files and sockets.
    FewDescriptors,
}

/// How attackers and bystanders get to the replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Direct,
    /// All on one connection of Envoy's.
    Envoy,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Envoy => "Envoy",
        })
    }
}

/// How long each part of it takes.
struct Times {
    before: Duration,
    attack: Duration,
    /// How long the replica may take to give memory back.
    after: Duration,
}

const WHOLE: Times = Times {
    before: Duration::from_secs(2),
    attack: Duration::from_secs(8),
    after: Duration::from_secs(10),
};

const SMALL: Times =
    Times { before: Duration::from_millis(200), attack: Duration::from_millis(1_500), after: SOON };

/// How often memory and the admin port are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What a replica may have kept when it is looked at no more.
const ROUGHLY: u64 = 16 << 20;

/// Descriptors of a replica that has few: more than Redis, listeners and bystanders need.
const FEW: u32 = 256;

/// From another address than attackers, so that what is counted by address is not theirs.
const BYSTANDERS: [u8; 4] = [127, 0, 0, 2];

/// Attacks, and looks on.
pub(super) async fn run(case: &Case, way: Way, small: bool) -> Outcome {
    let times = if small { SMALL } else { WHOLE };
    let authority = Authority::new("servers");
    let mut plan = Cluster::redis(1).with_default_limits();
    match case.setting {
        Setting::Usual | Setting::Admin => {}
        Setting::FewDescriptors => plan = plan.with_descriptors(FEW),
        Setting::Tls => {
            let files = authority.issue_files("server");
            plan = plan.with("ROOMCAST_SERVER__TLS__CERT_FILE", &files.cert);
            plan = plan.with("ROOMCAST_SERVER__TLS__KEY_FILE", &files.key);
        }
    }
    if way == Way::Envoy {
        // As in what operators are handed: whose a stream is, Envoy says.
        plan = plan.with("ROOMCAST_SERVER__TRUSTED_PROXIES", "127.0.0.1");
    }
    if !small {
        plan = plan.alone();
    }
    let cluster = plan.start().await;
    let replica = &cluster.replicas[0];
    let proxy = match way {
        Way::Direct => None,
        Way::Envoy => Some(Proxy::start_with_two_workers(&cluster).await),
    };
    let addr = proxy.as_ref().map_or(replica.grpc(), Proxy::addr);
    let mut endpoint = Endpoint::at(addr, Dialect::Typed).coming_from(BYSTANDERS);
    if case.setting == Setting::Tls {
        endpoint = endpoint.over_tls(authority.trusted());
    }
    let bystanders = Bystanders::enter(endpoint).await;
    let began = Instant::now();
    sleep(times.before).await;

    let mut memory = [replica.resident_bytes(); 3];
    let (logged, came) = (replica.log().bytes(), bystanders.newcomers());
    let attacked = Instant::now();
    let mut attacker = Target::attacker(case, addr, replica.admin(), times.attack, small);
    let attacker = attacker.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let attacker = attacker.expect("start the attacker").wait_with_output();
    let said = async {
        let output = tokio::time::timeout(times.attack + 2 * SOON, attacker).await;
        let output = output.expect("the attacker ends").expect("its output");
        assert!(output.status.success(), "the attacker failed: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines().find_map(|line| line.strip_prefix("attack: ")).unwrap_or("").to_owned()
    };
    let mut livez = Some(Duration::ZERO);
    let mut most = memory[0];
    let looking = async {
        loop {
            most = most.max(replica.resident_bytes());
            let asked = Instant::now();
            let answer = get(replica.admin(), "/livez").await;
            let took = answer.is_ok().then(|| asked.elapsed());
            livez = livez.zip(took).map(|(longest, took)| longest.max(took));
            sleep(LOOK).await;
        }
    };
    let said = tokio::select! {
        said = said => said,
        () = looking => unreachable!("it looks on until the attacker is gone"),
    };
    let over = Instant::now();
    let logged = u32::try_from(replica.log().bytes() - logged).expect("less than 4 GiB of log");
    let log = f64::from(logged) / attacked.elapsed().as_secs_f64();
    let all_came = bystanders.newcomers();
    memory[1] = most;
    while over.elapsed() < times.after && replica.resident_bytes() > memory[0] + ROUGHLY {
        sleep(LOOK).await;
    }
    memory[2] = replica.resident_bytes();
    let report = bystanders.leave().await;
    Outcome {
        case: case.name,
        way,
        before: report.p99(began.into_std(), attacked.into_std()),
        during: report.p99(attacked.into_std(), over.into_std()),
        cut: report.cut,
        newcomers: (all_came.0 - came.0, all_came.1 - came.1),
        memory,
        log,
        livez,
        errors: replica.log().errors(),
        attacker: said,
    }
}
