//! One client against all others: attacks, and bystanders who shall not notice them.
//!
//! Each attack is a test of its own, directly and through Envoy, where attacker and bystanders share
//! one connection to the replica. It is short then, and nothing is timed: nobody is cut off, nothing
//! is lost, and memory has a bound. The whole bench is run by hand, with `tests/attack`: there the
//! attackers go on for longer, and what bystanders feel has a bound, too.
//!
//! Attackers are processes of their own, which give way to everybody else (`nice`).

mod admin;
mod bystanders;
mod caller;
mod cases;
mod flood;
mod floods;
mod holding;
mod outcome;
mod raw;
mod speaking;
mod stage;
mod target;
mod unary;

use self::{
    cases::{CASES, Case},
    outcome::Outcome,
    stage::run,
    target::Target,
};

/// The case that the variable of this name says, against what the other variables say: this is what
/// runs in an attacker's process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the other tests"]
async fn attacker() {
    let Some((case, target)) = Target::from_variables() else { return };
    (case.attack)(target).await;
}

/// Every attack at its full length, one after another; with the variable `ATTACK` only those that
/// it names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a quarter of an hour: tests/attack"]
async fn whole() {
    let chosen = std::env::var("ATTACK").unwrap_or_default();
    let chosen: Vec<&str> = chosen.split([' ', ',']).filter(|name| !name.is_empty()).collect();
    let is_chosen = |case: &&Case| chosen.is_empty() || chosen.contains(&case.name);
    let unknown: Vec<_> =
        chosen.iter().filter(|name| CASES.iter().all(|case| case.name != **name)).collect();
    assert!(unknown.is_empty(), "no such attacks: {unknown:?}");
    let mut broken = vec![];
    println!("{}", Outcome::HEAD);
    for case in CASES.iter().filter(is_chosen) {
        for way in case.ways() {
            let outcome = run(case, *way, false).await;
            println!("{outcome}");
            broken.extend(outcome.broken());
        }
    }
    assert!(broken.is_empty(), "{} bounds are broken:\n{}", broken.len(), broken.join("\n"));
}
