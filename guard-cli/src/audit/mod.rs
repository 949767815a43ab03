//! `guard audit`: the evidence log, verified and read offline or searched through the controller.

mod admin;
mod bundle;
mod entry;
mod hold;
mod keys;
mod place;
mod search;
mod verify;

use anyhow::Result;
use clap::Subcommand;
use std::process::ExitCode;

/// Verify, read, prove, export and search evidence.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    Verify(verify::Verify),
    Show(entry::Show),
    Prove(entry::Prove),
    Bundle(bundle::Bundle),
    Search(search::Search),
    Reindex(admin::Reindex),
    Erase(admin::Erase),
    #[command(subcommand)]
    Hold(hold::Hold),
    #[command(subcommand)]
    Keys(admin::Keys),
}

impl Audit {
    pub(crate) fn execute(self) -> Result<ExitCode> {
        match self {
            Self::Verify(verify) => verify.execute(),
            Self::Show(show) => show.execute(),
            Self::Prove(prove) => prove.execute(),
            Self::Bundle(bundle) => bundle.execute(),
            Self::Search(search) => search.execute(),
            Self::Reindex(reindex) => reindex.execute(),
            Self::Erase(erase) => erase.execute(),
            Self::Hold(hold) => hold.execute(),
            Self::Keys(keys) => keys.execute(),
        }
    }
}
