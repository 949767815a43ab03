//! What it costs to look for other names of a file under the default pack, and the first walk for hard links:
//! `cargo run -p guard-agent --example names_cost`.

use guard_agent::names::Names;
use guard_model::{Action, FileAccess, FileRef, ProcessContext};
use guard_policy::Policy;
use std::{io, os::unix::fs::MetadataExt as _, sync::Arc, time::Instant};

const ROUNDS: u32 = 20_000;
const PATH: &str = "/etc/hostname";
/// Bits of a minor device number in the kernel's own `dev_t`.
const MINOR_BITS: u32 = 20;

fn main() -> io::Result<()> {
    let start = Instant::now();
    let names = Names::start(Arc::new(Policy::default_policy()))?;
    names.wait();
    println!("the first walk: {:.2} s", start.elapsed().as_secs_f64());
    let metadata = std::fs::metadata(PATH)?;
    let dev = metadata.dev();
    let file = FileRef {
        path: PATH.into(),
        path_error: None,
        dev: u64::from(libc::major(dev)) << MINOR_BITS | u64::from(libc::minor(dev)),
        ino: metadata.ino(),
        generation: 0,
        owner_uid: metadata.uid(),
        mode: metadata.mode(),
    };
    let action = Action::Open { file, access: FileAccess { read: true, ..FileAccess::default() } };
    let pid = std::process::id();
    let process = ProcessContext { pid, tid: pid, ..ProcessContext::default() };
    let start = Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(names.of(&process, std::hint::black_box(&action)));
    }
    println!("a look: {:.1} µs", start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
    Ok(())
}
