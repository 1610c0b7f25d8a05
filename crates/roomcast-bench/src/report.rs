//! The table that a run prints.
#![expect(clippy::cast_precision_loss, reason = "figures for people have a few digits")]

use std::{fmt, time::Duration};

use super::load::{Measured, Outcome};

/// An outcome for people.
pub(super) struct Table<'a>(pub(super) &'a Outcome);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { plan, window, delivered, checked, delays, late, own_cpu, faults, .. } =
            self.0;
        let plural =
            |count: u32, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        writeln!(
            f,
            "{} on {} in {}, {} sending {} messages/s of {} B\n",
            plural(plan.clients, "client"),
            plural(plan.connections, "connection"),
            plural(plan.rooms, "room"),
            plan.senders,
            plan.rate,
            plan.content_bytes,
        )?;
        let rate = *delivered as f64 / window.as_secs_f64();
        writeln!(
            f,
            "deliveries  {delivered} in {:.1} s, {rate:.0}/s, after {:.0} s of warm-up",
            window.as_secs_f64(),
            plan.warmup.as_secs_f64()
        )?;
        let delay =
            |quantile: f64| Millis(Duration::from_micros(delays.value_at_quantile(quantile)));
        writeln!(
            f,
            "delay       p50 {}, p99 {}, p99.9 {}, max {}",
            delay(0.5),
            delay(0.99),
            delay(0.999),
            Millis(Duration::from_micros(delays.max()))
        )?;
        writeln!(f, "senders     at most {} behind their schedule", Millis(*late))?;
        writeln!(f, "checked     {checked} receipts: {faults}\n")?;

        writeln!(
            f,
            "{:<24}{:>8}{:>14}{:>12}{:>12}{:>12}{:>14}{:>14}",
            "process",
            "CPU s",
            "CPU s/million",
            "KiB before",
            "KiB joined",
            "KiB after",
            "KiB/client",
            "after load"
        )?;
        for measured in &self.0.processes {
            self.process(f, measured)?;
        }
        write!(f, "{:<24}{own_cpu:>8.2}{:>14.2}", "load program", self.per_million(*own_cpu))
    }
}

impl Table<'_> {
    fn process(&self, f: &mut fmt::Formatter<'_>, measured: &Measured) -> fmt::Result {
        let Measured { process, clients, cpu, before, joined, after } = measured;
        let name = format!("{} ({})", process.name, process.pid);
        write!(f, "{name:<24}{cpu:>8.2}{:>14.2}", self.per_million(*cpu))?;
        write!(f, "{before:>12}{joined:>12}{after:>12}")?;
        if let Some(clients) = clients {
            let each = |kib: u64| (kib as f64 - *before as f64) / *clients as f64;
            write!(f, "{:>14.1}{:>14.1}", each(*joined), each(*after))?;
        }
        writeln!(f)
    }

    /// CPU seconds per million deliveries.
    fn per_million(&self, cpu: f64) -> f64 {
        cpu * 1e6 / self.0.delivered as f64
    }
}

/// A duration in milliseconds.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ms", self.0.as_secs_f64() * 1e3)
    }
}
