//! What the kernel knows of a process.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::resource::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

/// A process that is measured.
#[derive(Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// User and system time, in seconds, of all its threads, those that have ended among them. By the process's own
    /// clock, which counts nanoseconds, where `/proc/PID/stat` counts ticks of 10 ms.
    pub(crate) fn cpu_time(self) -> Result<f64> {
        let pid = Pid::from_raw(i32::try_from(self.0)?);
        let clock = clock_getcpuclockid(pid).context("the server is gone")?;
        let time: Duration = clock_gettime(clock).context("the server is gone")?.into();
        Ok(time.as_secs_f64())
    }

    /// The resident memory in bytes.
    pub(crate) fn resident(self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).context("the server is gone")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes << 10)
    }
}

/// The same of this process.
pub(crate) fn own_cpu_time() -> Result<f64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?).as_secs_f64())
}

/// Raises the limit of open files, for this process and those it starts, as far as is allowed.
pub(crate) fn raise_file_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Leaves the first CPU to the servers, and keeps this thread, and those it will start, to the others. The number of
/// the server's CPU; `None` if there is only one, which all share then.
pub(crate) fn leave_a_cpu_to_servers() -> Result<Option<usize>> {
    let this = Pid::from_raw(0);
    let mut cpus = sched_getaffinity(this)?;
    let mut allowed = (0..CpuSet::count()).filter(|cpu| cpus.is_set(*cpu).unwrap_or(false));
    let (Some(first), Some(_)) = (allowed.next(), allowed.next()) else { return Ok(None) };
    cpus.unset(first)?;
    sched_setaffinity(this, &cpus)?;
    Ok(Some(first))
}
