//! guard-agent: the daemon on each host.

pub mod kernel;
