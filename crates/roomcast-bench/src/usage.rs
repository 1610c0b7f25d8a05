//! What processes cost, as Linux counts it.

use std::process;

use procfs::{ProcError, ProcResult, process::Process as Entry};

use super::Error;

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
        let name = read(pid, |entry| Ok(entry.stat()?.comm))?;
        Ok(Self { pid, name })
    }

    /// This one.
    pub(super) fn own() -> Self {
        Self { pid: process::id(), name: "load program".to_owned() }
    }

    /// What it has cost so far.
    #[expect(clippy::cast_precision_loss, reason = "figures for people have a few digits")]
    pub(super) fn usage(&self) -> Result<Usage, Error> {
        read(self.pid, |entry| {
            let stat = entry.stat()?;
            let cpu = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
            // More exact than what `stat` has; a process that has ended has none.
            let resident = entry.status()?.vmrss;
            let ended = || ProcError::Other("it has no memory any more".to_owned());
            Ok(Usage { cpu, resident: resident.ok_or_else(ended)? })
        })
    }
}

fn read<T>(pid: u32, of: impl FnOnce(Entry) -> ProcResult<T>) -> Result<T, Error> {
    let failed = |error: String| Error::Process { pid, reason: error };
    let number = i32::try_from(pid).map_err(|error| failed(error.to_string()))?;
    Entry::new(number).and_then(of).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_itself_and_nobody_else() {
        let own = Process::find(process::id()).unwrap();
        assert!(own.usage().unwrap().resident > 0);
        let error = Process::find(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("4294967295"), "{error}");
    }
}
