//! The row `connections`: what ten thousand connections cost that have said one thing and are silent.
//!
//! Owns opening them. Invariant: each has had an answer to ApiVersions before memory is looked at, and none was closed.

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::raw::{Client, key};

use crate::pair::Pair;
use crate::process;
use crate::rows::Bench;
use crate::servers::Kind;
use crate::table::Report;

/// What is allocated for the opening alone is given back by then.
const SETTLED: Duration = Duration::from_secs(3);
/// Beside the connections: files of the server and of this process.
const OTHER_DESCRIPTORS: u64 = 2_000;

pub fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let count = bench.count(10_000);
    let most = process::descriptors_max();
    ensure!(
        most >= count + OTHER_DESCRIPTORS,
        "{count} connections need {} descriptors, the limit is {most}: ulimit -n {}",
        count + OTHER_DESCRIPTORS,
        count + OTHER_DESCRIPTORS
    );
    let (mut each, mut cpu) = (Pair::default(), Pair::default());
    for _ in 0..bench.runs {
        for kind in bench.kinds(Kind::Kafka) {
            let server = bench.start(kind)?;
            let ask = |client: &mut Client| client.ask(key::API_VERSIONS, 0, &[]);
            // the first of all pays for what is made once
            let mut clients = vec![Client::connect(&server.bootstrap())?];
            clients.iter_mut().try_for_each(|client| ask(client).map(drop))?;
            std::thread::sleep(SETTLED);
            let (before, cpu_before) = (process::resident_mb(server.pid())?, process::cpu_seconds(server.pid())?);
            for at in 0..count {
                let mut client = Client::connect(&server.bootstrap()).with_context(|| format!("connection {at}"))?;
                ask(&mut client).with_context(|| format!("connection {at}"))?;
                clients.push(client);
            }
            let cpu_after = process::cpu_seconds(server.pid())?;
            std::thread::sleep(SETTLED);
            let after = process::resident_mb(server.pid())?;
            all_are_open(&clients)?;
            each.push(kind == Kind::Weir, (after - before) * 1e6 / 1024.0 / count as f64);
            cpu.push(kind == Kind::Weir, (cpu_after - cpu_before) / count as f64 * 1e6);
        }
    }
    report.add(each.below(&format!("{count} idle connections: resident for each"), "KiB", 8.0));
    report.add(cpu.told("CPU to accept one and to answer ApiVersions", "µs"));
    Ok(())
}

fn all_are_open(clients: &[Client]) -> Result<()> {
    for (at, client) in clients.iter().enumerate() {
        client.stream.set_nonblocking(true)?;
        let peeked = client.stream.peek(&mut [0]);
        let is_silent = matches!(&peeked, Err(error) if error.kind() == ErrorKind::WouldBlock);
        ensure!(is_silent, "connection {at} is not open and silent: {peeked:?}");
    }
    Ok(())
}
