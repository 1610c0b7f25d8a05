//! What pods refer to by name: config maps, secrets, accounts, images, and files in volumes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use roomcast_testkit::Authority;

use super::{
    super::{accepts, read, text, variables},
    Complaints, Resources, demand, redis,
};

/// What is made beforehand: secrets by name, with the keys that the documented commands give them.
fn made_beforehand() -> BTreeMap<String, BTreeSet<String>> {
    let tls = read("k8s/components/tls/kustomization.yaml");
    assert!(tls.contains("create secret tls roomcast-tls "));
    // What a secret of that type always has.
    let pair = ["tls.crt", "tls.key"].map(str::to_owned).into();
    let mut made = BTreeMap::from([("roomcast-tls".to_owned(), pair)]);
    for (secret, directory) in redis::EXAMPLES {
        let command = read(&format!("k8s/{directory}/kustomization.yaml"));
        let keys = command.split("--from-file=").skip(1).filter_map(|it| it.split_once('='));
        let keys: BTreeSet<_> = keys.map(|(key, _)| key.to_owned()).collect();
        let makes = command.contains(&format!("create secret generic {secret} "));
        assert!(makes && !keys.is_empty(), "{directory} does not say how to make {secret}");
        made.insert(secret.to_owned(), keys);
    }
    made
}

/// The keys of a secret, whether it is part of the manifests or made beforehand.
fn keys(resources: &Resources, secret: &str) -> Option<BTreeSet<String>> {
    let made = resources.find("Secret", secret);
    let made = made.map(|secret| variables(secret, "/data").into_keys().collect());
    made.or_else(|| made_beforehand().remove(secret))
}

/// What a pod refers to by name is there.
pub(super) fn references_lead_somewhere(resources: &Resources, complaints: &mut Complaints) {
    let replicas = resources.roomcast();
    let account = text(replicas.pod(), "/serviceAccountName");
    let known = resources.find("ServiceAccount", account).is_some();
    demand!(complaints, known, "there is no account {account}");
    let image = text(replicas.container(), "/image");
    let tested = concat!("roomcast:", env!("CARGO_PKG_VERSION"));
    demand!(complaints, image == tested, "the image is {image}, not {tested}");
    for workload in resources.workloads() {
        let name = workload.name();
        for (mount, volume) in workload.mounts() {
            // The kubelet never updates such a file.
            demand!(complaints, mount.get("subPath").is_none(), "{name} mounts a subPath: {mount}");
            let Some(volume) = volume else {
                complaints.push(format!("{name} mounts what is no volume: {mount}"));
                continue;
            };
            if let Some(secret) = volume.pointer("/secret/secretName").and_then(|it| it.as_str()) {
                let known = keys(resources, secret).is_some();
                demand!(complaints, known, "nobody makes the secret {secret} of {name}");
            }
            if let Some(map) = volume.pointer("/configMap/name").and_then(|it| it.as_str()) {
                let known = resources.find("ConfigMap", map).is_some();
                demand!(complaints, known, "there is no config map {map} for {name}");
            }
        }
    }
}

/// Every file that a replica is told to read is a key of a secret that is mounted there.
pub(super) fn settings_name_mounted_files(resources: &Resources, complaints: &mut Complaints) {
    for (variable, file) in resources.settings() {
        if !variable.ends_with("_FILE") {
            continue;
        }
        let (directory, key) = file.rsplit_once('/').expect("an absolute path");
        let mut mounts = resources.roomcast().mounts();
        let mount = mounts.find(|(mount, _)| text(mount, "/mountPath") == directory);
        let secret = mount.and_then(|(_, volume)| volume?.pointer("/secret/secretName"));
        let keys = secret.and_then(|secret| keys(resources, secret.as_str()?));
        let there = keys.is_some_and(|keys| keys.contains(key));
        demand!(complaints, there, "{variable} is {file}, which is no key of a mounted secret");
    }
}

/// The binary itself finds the settings good, with files in the place of those in the pod.
pub(super) fn settings_are_accepted(resources: &Resources, complaints: &mut Complaints) {
    let directory = tempfile::tempdir().unwrap();
    let identity = Authority::new("roomcast").issue("roomcast");
    let mut settings = resources.settings();
    for (variable, file) in settings.iter_mut().filter(|(name, _)| name.ends_with("_FILE")) {
        let local = directory.path().join(Path::new(file).file_name().expect("a file"));
        let content = match variable.as_str() {
            "ROOMCAST_REDIS__URL_FILE" => redis::url(resources),
            "ROOMCAST_SERVER__TLS__KEY_FILE" => identity.key.clone(),
            _ => identity.cert.clone(),
        };
        fs::write(&local, content).unwrap();
        *file = local.display().to_string();
    }
    if let Err(problem) = accepts(&settings) {
        complaints.push(problem);
    }
}
