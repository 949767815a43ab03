//! The browser tests: a real Chromium against a real controller.

use crate::{run::at_root, setup};
use anyhow::Result;
use std::process::Command;

/// The command that runs them.
pub(crate) fn command() -> Result<Command> {
    setup::for_browser()?;
    let mut cargo = at_root("cargo");
    cargo.args(["nextest", "run", "--locked", "--package", "guard-tests", "--run-ignored", "all"]);
    cargo.args(["--test", "browser"]);
    Ok(cargo)
}
