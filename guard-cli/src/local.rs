//! guard-agent's local socket, as the commands use it.

use clap::Args;
use guard_agent::socket::{
    PATH_DEFAULT,
    client::{ClientError, ask},
    protocol::{Reply, Request},
};
use std::path::PathBuf;

/// Where guard-agent listens.
#[derive(Args, Clone, Debug)]
pub(crate) struct LocalSocket {
    /// guard-agent's socket.
    #[arg(long, env = "GUARD_SOCKET", value_name = "PATH", default_value = PATH_DEFAULT)]
    pub(crate) socket: PathBuf,
}

impl LocalSocket {
    pub(crate) fn ask(&self, request: &Request) -> Result<Reply, ClientError> {
        ask(&self.socket, request)
    }
}

/// guard-agent answered something else than what was asked.
pub(crate) fn unexpected() -> anyhow::Error {
    anyhow::anyhow!("guard-agent answered something else; is it another version than this command?")
}
