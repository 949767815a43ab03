//! P8's second half: from an event to the durable spool, beside the same bytes in a plain file.
//! `cargo xtask bench --only evidence` runs it: `spool DIR SECONDS`. One line of JSON.
//!
//! The first half, the ring buffer, needs a kernel that loads our programs: `--only kernel`.

#![expect(clippy::unwrap_used, reason = "a failure is the result")]

use guard_agent::spool::{LIMIT_DEFAULT, QUEUE_MAX, Spool, SpoolConfig};
use guard_audit::Event;
use guard_model::{BootId, HostId};
use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// As many as the ring buffer can have at once, and as the queue takes.
const BURST: u64 = 100_000;

/// Records that the spool flushes at once, at most.
const GROUP: u64 = 1024;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("DIR");
    let seconds: u64 = arguments.next().expect("SECONDS").parse().unwrap();
    let dir = Path::new(&dir);
    fs::create_dir_all(dir).unwrap();
    // First, while this process is small.
    let (burst_lost, burst_rss_mb) = burst(dir);
    let per_s = rate(dir, Duration::from_secs(seconds));
    let plain_per_s = plain(dir, Duration::from_secs(seconds));
    println!(
        "{{\"per_s\":{per_s:.0},\"plain_per_s\":{plain_per_s:.0},\"burst_lost\":{burst_lost},\
         \"burst_rss_mb\":{burst_rss_mb:.1}}}"
    );
}

fn config(dir: &Path, boot: u128) -> SpoolConfig {
    SpoolConfig {
        root: dir.join(format!("spool-{boot}")),
        limit_bytes: LIMIT_DEFAULT,
        host: HostId(Uuid::from_u128(1)),
        boot: BootId(Uuid::from_u128(boot)),
    }
}

/// What the ring buffer brings most of.
fn event(number: u64) -> Event {
    Event::Forked { pid: 4242, child_pid: 4243, child_tid: u32::try_from(number).unwrap_or(0) }
}

/// How many of a burst are lost, and how large this process became.
fn burst(dir: &Path) -> (u64, f64) {
    assert!(QUEUE_MAX as u64 >= BURST);
    let config = config(dir, 1);
    let spool = Spool::open(&config).unwrap();
    for number in 0..BURST {
        spool.record(1, 1, None, event(number));
    }
    spool.close();
    let kept = last(&config);
    (BURST.saturating_sub(kept), peak_rss_mb())
}

/// Events a second that are durable.
fn rate(dir: &Path, time: Duration) -> f64 {
    let config = config(dir, 2);
    let spool = Spool::open(&config).unwrap();
    let reader = spool.reader();
    let acknowledger = reader.acknowledger();
    let started = Instant::now();
    let (mut number, mut acked) = (0, 0);
    while started.elapsed() < time {
        // Held back as the driver is by the ring buffer: what is lost is not fast.
        for _ in 0..GROUP {
            spool.record(1, 1, None, event(number));
            number += 1;
        }
        // What the controller has makes room. It has what is durable: on a slow disk that is less than was
        // recorded, and nobody acknowledges what is not there.
        loop {
            acked += unacknowledged(&spool);
            acknowledger.ack(config.boot, acked).unwrap();
            if !spool.is_full() {
                break;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    spool.close();
    let kept = last(&config);
    kept as f64 / started.elapsed().as_secs_f64()
}

/// Records that are durable and not acknowledged.
fn unacknowledged(spool: &Spool) -> u64 {
    let is = |(name, _): &(String, u64)| name == "spool_unacknowledged_records";
    spool.figures().into_iter().find(is).map_or(0, |(_, value)| value)
}

/// The same bytes, flushed in the same groups, without sequence, checksum and segments.
fn plain(dir: &Path, time: Duration) -> f64 {
    let mut file = File::create(dir.join("plain")).unwrap();
    let line = serde_json::to_vec(&event(1)).unwrap();
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < time {
        let mut group = Vec::new();
        for _ in 0..GROUP {
            // A record has some 150 bytes besides its event.
            group.extend_from_slice(&[b' '; 150]);
            group.extend_from_slice(&line);
        }
        file.write_all(&group).unwrap();
        file.sync_data().unwrap();
        count += GROUP;
    }
    count as f64 / started.elapsed().as_secs_f64()
}

/// The last sequence that is on the disk.
fn last(config: &SpoolConfig) -> u64 {
    let disk = guard_agent::spool::disk::Disk::open(&config.root, config.boot).unwrap();
    disk.boots.values().find(|log| log.boot == config.boot).map_or(0, |log| log.last)
}

/// The most memory that this process has had.
fn peak_rss_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
