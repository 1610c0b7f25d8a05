//! What processes cost, from Linux's process table.

use std::{fs, process};

use super::Error;

/// Clock ticks a second in `/proc`, on every Linux that there is.
///
/// Source: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>.
const TICKS: f64 = 100.0;

/// A process to measure.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Its command's name.
    pub(super) name: String,
}

/// What a process has cost so far.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Usage {
    /// CPU seconds of all its threads, its own and the kernel's on its behalf.
    pub(super) cpu: f64,
    /// Resident KiB.
    pub(super) resident: u64,
}

impl Process {
    /// A process that runs.
    pub(super) fn find(pid: u32) -> Result<Self, Error> {
        let name = read(pid, "comm")?.trim_end().to_owned();
        Ok(Self { pid, name })
    }

    /// This one.
    pub(super) fn own() -> Self {
        Self { pid: process::id(), name: "load program".to_owned() }
    }

    /// What it has cost so far.
    pub(super) fn usage(&self) -> Result<Usage, Error> {
        let odd = || Error::Process { pid: self.pid, reason: "its entry is unreadable".to_owned() };
        Ok(Usage {
            cpu: cpu_seconds(&read(self.pid, "stat")?).ok_or_else(odd)?,
            resident: resident_kib(&read(self.pid, "status")?).ok_or_else(odd)?,
        })
    }
}

fn read(pid: u32, file: &str) -> Result<String, Error> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
        .map_err(|error| Error::Process { pid, reason: error.to_string() })
}

/// Fields 14 and 15, counted from behind the name, which may contain anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_writes() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 900 0 0 0 150 25 3 4 20 0 5 0 100 1 2";
        assert_eq!(cpu_seconds(stat), Some(1.75));
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t   4321 kB\nThreads:\t1\n"), Some(4321));
        assert_eq!(resident_kib("Name:\tkthread\n"), None);
    }

    #[test]
    fn finds_itself_and_nobody_else() {
        assert!(Process::own().usage().unwrap().resident > 0);
        let error = Process::find(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("4294967295"), "{error}");
    }
}
