//! What every process tells of itself, under the names that are usual for it.
//!
//! Source: <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use std::fmt;

use procfs::{
    ProcResult, WithCurrentSystemInfo as _, boot_time_secs, process::Process, ticks_per_second,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

/// A registry without a prefix that reads the process table when it is asked.
pub(super) fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(OwnProcess));
    registry
}

#[derive(Debug)]
struct OwnProcess;

struct Figures {
    cpu_seconds: f64,
    start_time_seconds: f64,
    resident_bytes: u64,
    open_fds: u64,
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "ticks and seconds are far below 2^52")]
    fn read() -> ProcResult<Self> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks = ticks_per_second() as f64;
        Ok(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            start_time_seconds: boot_time_secs()? as f64 + stat.starttime as f64 / ticks,
            resident_bytes: stat.rss_bytes().get(),
            open_fds: process.fd_count()? as u64,
        })
    }
}

impl Collector for OwnProcess {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        // A sandbox may hide the process table; then these are absent.
        let Ok(figures) = Figures::read() else { return Ok(()) };
        let mut put =
            |name, help, unit, metric: &dyn Encode| metric.encode(&mut encoder, name, help, unit);
        let cpu = ConstCounter::new(figures.cpu_seconds);
        put("process_cpu", "CPU time of user and system", Some(Unit::Seconds), &cpu)?;
        let start = ConstGauge::new(figures.start_time_seconds);
        let help = "When the process started, since the Unix epoch";
        put("process_start_time", help, Some(Unit::Seconds), &start)?;
        let resident = ConstGauge::new(figures.resident_bytes);
        put("process_resident_memory", "Resident memory", Some(Unit::Bytes), &resident)?;
        let fds = ConstGauge::new(figures.open_fds);
        put("process_open_fds", "Open file descriptors", None, &fds)
    }
}

/// Any metric, with its description.
trait Encode {
    fn encode(
        &self,
        encoder: &mut DescriptorEncoder,
        name: &str,
        help: &str,
        unit: Option<Unit>,
    ) -> fmt::Result;
}

impl<M: EncodeMetric> Encode for M {
    fn encode(
        &self,
        encoder: &mut DescriptorEncoder,
        name: &str,
        help: &str,
        unit: Option<Unit>,
    ) -> fmt::Result {
        EncodeMetric::encode(
            self,
            encoder.encode_descriptor(name, help, unit.as_ref(), self.metric_type())?,
        )
    }
}
