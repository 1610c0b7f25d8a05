//! The kustomizations, as `kubectl` builds them: base, overlays, and overlays with components.
//!
//! What has to agree is written as rules that complain, so that [`mutations`] can show that each of
//! them does when a number is wrong.

mod custom;
mod files;
mod mutations;
mod network;
mod pods;
mod redis;
mod resources;

use std::{collections::BTreeSet, fs};

use self::resources::{Resources, VARIANTS, Variant};
use super::{run, tool};

/// What a rule finds wrong.
type Complaints = Vec<String>;

/// Complains, in the words that follow, unless the condition holds.
macro_rules! demand {
    ($complaints:ident, $condition:expr, $($words:tt)+) => {
        if !$condition {
            $complaints.push(format!($($words)+));
        }
    };
}
use demand;

type Rule = fn(&Resources, &mut Complaints);

/// Everything that has to agree, wherever it occurs.
const RULES: [Rule; 23] = [
    pods::drain_fits,
    pods::ports_agree,
    pods::probes_ask_the_right_port,
    pods::rolls_without_loss_of_capacity,
    pods::has_no_privileges,
    pods::traces_name_the_place,
    files::references_lead_somewhere,
    files::settings_name_mounted_files,
    files::settings_are_accepted,
    network::selectors_select,
    network::services_lead_to_ports,
    network::policy_lets_through_what_is_needed,
    network::autoscaler_fits,
    network::envoy_is_the_one_of_compose,
    network::policies_let_in_who_is_let_out,
    redis::url_leads_to_redis,
    redis::redis_is_the_one_of_compose,
    redis::scripts_are_those_of_compose,
    redis::servers_do_not_go_together,
    custom::monitor_scrapes,
    custom::alerts_are_the_tested_ones,
    custom::gateway_routes,
    custom::gateway_windows_fit,
];

fn complaints(resources: &Resources) -> Complaints {
    let mut complaints = Complaints::new();
    for rule in RULES {
        rule(resources, &mut complaints);
    }
    complaints
}

#[test]
fn everything_agrees() {
    let found = VARIANTS.iter().flat_map(|variant| {
        complaints(&variant.build()).into_iter().map(move |it| format!("{variant}: {it}"))
    });
    assert_eq!(found.collect::<Vec<_>>(), Vec::<String>::new());
}

/// Every resource fits the schema of the newest Kubernetes that the validator knows, and has no
/// field beside it. The validator passes over kinds that it does not know, so what it passed is
/// counted; the custom ones are held to their fields by [`custom`].
#[test]
fn resources_are_valid() {
    // Most resources are the same in several variants.
    let rendered: Vec<_> = VARIANTS.iter().map(Variant::render).collect();
    let documents: BTreeSet<_> =
        rendered.iter().flat_map(|it| it.trim().split("\n---\n")).collect();
    let is_custom = |document: &&str| {
        document.lines().any(|it| custom::KINDS.iter().any(|kind| it == format!("kind: {kind}")))
    };
    let custom = documents.iter().filter(|it| is_custom(it)).count();
    assert!(documents.len() > 25 && custom > 3, "{} documents, {custom} custom", documents.len());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resources.yaml");
    let all: Vec<_> = documents.iter().copied().collect();
    fs::write(&file, all.join("\n---\n")).unwrap();
    let mut validate = tool("KUBERNETES_VALIDATE_BIN", "kubernetes-validate");
    let said = String::from_utf8(run(validate.arg("--strict").arg(&file)).stdout).unwrap();
    let passed = said.lines().filter(|it| it.starts_with("INFO") && it.contains(" passed "));
    assert_eq!(passed.count(), documents.len() - custom, "{said}");
}

#[test]
fn custom_resources_have_only_fields_of_their_kind() {
    let mut seen = vec![];
    for variant in &VARIANTS {
        for resource in variant.build().all() {
            let mut complaints = Complaints::new();
            seen.extend(custom::fields_exist(resource, &mut complaints));
            assert!(complaints.is_empty(), "{variant}: {complaints:#?}");
        }
    }
    for kind in custom::KINDS {
        assert!(seen.contains(&kind), "no {kind} was looked at");
    }
}
