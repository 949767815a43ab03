//! Guard's eBPF LSM programs. One family a file; every program is `bounded(try_…)` (K1).
//!
//! The programs decide nothing but table look-ups: a labelled task's action is either answered by a
//! grant for exactly this action, or held (`hold.rs`). Unlabelled tasks cost one label look-up.
//!
//! A program that cannot find something out never allows (K3). A reachable panic is an endless loop,
//! which the verifier refuses: what loads cannot panic.

#![no_std]
#![no_main]

mod cache;
mod capability;
mod control;
mod exec;
mod file;
mod guardian;
mod hold;
mod kernel;
mod lineage;
mod map;
mod maps;
mod path;
mod receive;
mod record;
mod sent;
mod socket;
mod system;
mod tasks;
mod verdict;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    #[expect(clippy::empty_loop, reason = "the verifier must refuse a reachable panic")]
    loop {}
}

// bpf_d_path, task storage and signals are helpers for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
