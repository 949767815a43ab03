//! The controller, as the commands reach it: over REST, as a person with a token.

mod client;
pub(crate) mod credentials;

pub(crate) use client::{Client, visible};

use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// How to reach the controller.
#[derive(Args, Clone, Debug)]
pub(crate) struct Reach {
    /// The controller, http://HOST:PORT. Default: what `guard up` on this machine wrote for root.
    #[arg(long, env = "GUARD_URL", value_name = "URL", requires = "token")]
    pub(crate) url: Option<String>,
    /// An API token (on the page: Account). Better in GUARD_TOKEN: others can see a command line.
    #[arg(
        long,
        env = "GUARD_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        requires = "url"
    )]
    pub(crate) token: Option<String>,
    /// State directory of `guard up`.
    #[arg(long, env = "GUARD_STATE", value_name = "DIR", default_value = "/var/lib/guard")]
    pub(crate) state: PathBuf,
    /// Send the token unencrypted to a host that is not this one.
    #[arg(long)]
    pub(crate) danger_plain_http: bool,
    /// JSON: one value, or with `approvals watch` one line for each change.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Reach {
    /// Does something with the controller, on a runtime of its own.
    pub(crate) fn block_on<T>(&self, work: impl AsyncFnOnce(Client) -> Result<T>) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { work(Client::new(self)?).await })
    }
}
