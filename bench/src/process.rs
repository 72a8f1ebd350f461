//! What a process has used, from /proc.

use std::fs;

use anyhow::{Context, Result};

/// Enough for ten thousand connections and every file of any row.
const DESCRIPTORS: u64 = 200_000;

/// Ticks of utime and stime in a second; fixed for user space on Linux.
const TICKS: f64 = 100.0;

/// CPU seconds, user and system, of one process with all its threads.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    // The command name may hold blanks and brackets: count from its last bracket.
    let after = stat.rsplit(')').next().context("no command in stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("stat is short")?.parse::<f64>()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

/// CPU seconds by the scheduler's own count (nanoseconds), summed over the threads alive now: for short spans.
pub fn cpu_seconds_fine(pid: u32) -> Result<f64> {
    let mut total = 0.0;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(entry?.path().join("schedstat")).unwrap_or_default();
        total += stat.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9;
    }
    Ok(total)
}

/// Open descriptors and mapped regions.
pub fn descriptors_and_maps(pid: u32) -> Result<(usize, usize)> {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok((open, fs::read_to_string(format!("/proc/{pid}/maps"))?.lines().count()))
}

/// How many mapped regions a process may have.
pub fn maps_max() -> Result<usize> {
    Ok(fs::read_to_string("/proc/sys/vm/max_map_count")?.trim().parse()?)
}

/// Lets this process and those that it starts open as many files as the system allows at all.
pub fn raise_descriptors() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.map_or(DESCRIPTORS, |maximum| maximum.max(DESCRIPTORS));
    // Only root may raise the upper bound; others get all that is below it.
    if setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: now.maximum.map(|_| most) }).is_err() {
        setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })?;
    }
    Ok(())
}

/// How many files this process, and so a server started by it, may open.
pub fn descriptors_max() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Resident memory in MB (10^6 bytes).
pub fn resident_mb(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number in VmRSS")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// Bytes that a process has had written to the disk, as the kernel counts them when pages become dirty or go out directly.
pub fn disk_bytes(pid: u32) -> Result<f64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).context("no write_bytes")?;
    Ok(line.trim().parse()?)
}

/// Bytes that a process has had read from the disk: the page cache did not have them.
pub fn disk_bytes_read(pid: u32) -> Result<f64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = io.lines().find_map(|line| line.strip_prefix("read_bytes: ")).context("no read_bytes")?;
    Ok(line.trim().parse()?)
}

/// Busy and stolen CPU seconds of the whole machine.
pub fn machine_seconds() -> Result<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0.0)).collect();
    let at = |index: usize| ticks.get(index).copied().unwrap_or(0.0) / TICKS;
    Ok((at(0) + at(1) + at(2) + at(5) + at(6), at(7)))
}
