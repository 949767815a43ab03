//! Fuzz targets: one for every decoder of kernel, socket, wire and file input.
//!
//! A target takes any bytes and must not panic, hang or take much memory. Beyond that each states what has
//! to hold of what it accepted: that it is written as it was read, or that a proof is not of anything else.
//! The same functions run over the committed corpus as ordinary tests, and under libFuzzer with
//! `cargo xtask fuzz`.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a panic is how a target reports"
)]

pub mod seeds;
mod targets;

/// A decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its corpus directory too.
    pub name: &'static str,
    /// Longest input that libFuzzer makes, bytes: enough for everything that the decoder looks at.
    pub max_len: usize,
    /// Takes one input; whether it was accepted. Panics if anything is wrong.
    pub run: fn(&[u8]) -> bool,
}

const fn target(name: &'static str, max_len: usize, run: fn(&[u8]) -> bool) -> Target {
    Target { name, max_len, run }
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    target("ring", 12_000, targets::ring::run),
    target("request", 4096, targets::socket::run),
    target("selector", 512, targets::socket::selector),
    target("spool", 4096, targets::spool::run),
    target("record", 8192, targets::spool::record),
    target("wire", 8192, targets::wire::run),
    target("decision", 1024, targets::wire::decision),
    target("proof", 4096, targets::log::proof),
    target("bundle", 32_768, targets::log::bundle),
    target("log", 512, targets::log::directory),
    target("policy", 2048, targets::policy::run),
];

/// The target with this name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
