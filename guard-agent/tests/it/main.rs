//! guard-agent's user space, whole, against the real controller; only the kernel side is a fake.

#![expect(clippy::unwrap_used, reason = "tests")]

mod link;
mod support;
