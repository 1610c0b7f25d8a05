//! Envoy.

use std::{env, fs, net::SocketAddr, process::Command};

use tempfile::TempDir;

use crate::process::{Process, StartError};

/// A running Envoy. Killed when dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    _dir: TempDir,
}

impl Envoy {
    /// The program, which the variable `ENVOY_BIN` may name. Several may run on one machine.
    pub fn command() -> Command {
        let mut command = Command::new(env::var_os("ENVOY_BIN").unwrap_or_else(|| "envoy".into()));
        // With hot restart, two of them would want the same shared memory.
        command.arg("--disable-hot-restart");
        command
    }

    /// Starts one with this configuration, in YAML or JSON, and so many worker threads, and waits until it listens at
    /// this address of the configuration's.
    pub async fn start(config: &str, workers: u32, addr: SocketAddr) -> Result<Self, StartError> {
        let dir = tempfile::tempdir().expect("a directory for Envoy");
        let file = dir.path().join("envoy.yaml");
        fs::write(&file, config).expect("write Envoy's configuration");
        let mut command = Self::command();
        command
            .args(["--log-level", "error", "--concurrency", &workers.to_string(), "--config-path"])
            .arg(&file);
        let mut process = Process::start(command)?;
        process.until_listening(addr).await?;
        Ok(Self { process, _dir: dir })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
