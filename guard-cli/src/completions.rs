//! `guard completions`: shell completions on stdout.

use anyhow::Result;
use clap::{Args, CommandFactory, ValueEnum};
use std::process::ExitCode;

/// Print completions for a shell.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  guard completions bash | sudo tee /etc/bash_completion.d/guard"
)]
pub(crate) struct Completions {
    /// Which shell.
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub(crate) fn execute<C: CommandFactory>(&self) -> Result<ExitCode> {
        let shell = match self.shell {
            Shell::Bash => clap_complete::Shell::Bash,
            Shell::Zsh => clap_complete::Shell::Zsh,
            Shell::Fish => clap_complete::Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut C::command(), "guard", &mut script);
        crate::output::text(&String::from_utf8(script)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
