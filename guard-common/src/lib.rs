//! The ABI between the eBPF programs and guard-agent: map keys and values, ring buffer records.
//!
//! Everything here crosses the kernel boundary, so it is `#[repr(C)]`, made of fixed-width integers
//! with explicit padding, and asserted at compile time: the same source is compiled for
//! `bpfel-unknown-none` and for the host. No `bool` and no `enum` crosses; a raw value becomes a
//! Rust enum only through `TryFrom`.
//!
//! A change of any layout here must bump [`ABI_VERSION`]: it names the pin directory, so that an old
//! program never meets a new map.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "tests"))]

pub mod counter;
pub mod decode;
pub mod event;
pub mod guardian;
pub mod hold;
pub mod label;
pub mod sent;
pub mod siphash;

/// Version of every layout in this crate; part of the pin path `/sys/fs/bpf/guard/<version>/`.
pub const ABI_VERSION: u32 = 7;

/// Version of what running sessions rest upon and every [`ABI_VERSION`] shares: the layouts of
/// [`label::Label`], [`label::TaskKey`], [`label::SelectorKey`] and [`guardian::Guardian`], and the meaning
/// of the counters, whose indices are never used again for something else. Part of the pin path
/// `/sys/fs/bpf/guard/state-<version>/`.
///
/// A guard-agent that finds another version's refuses to start: sessions that run would be free. So new
/// fields go into `Label::flags`, or into a map of the ABI's own.
pub const STATE_VERSION: u32 = 1;
