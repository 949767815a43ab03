//! `cargo xtask demo`: a scripted coding agent in a VM, its holds in a web page.

mod auto;
mod native;
mod page;
mod plan;

use crate::{
    build,
    cache::repository,
    run::{have, say},
    setup::{self, Kernel},
    vm,
};
use anyhow::{Context as _, Result};
use guard_vm_wire::{Job, Report, Task};
use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

/// The agent's time where a person decides: as long as somebody may take to read, seconds.
const PATIENT_TIMEOUT_S: u64 = 3600;
/// The agent's time where `--auto` decides, seconds.
const AUTO_TIMEOUT_S: u64 = 300;

/// `cargo xtask demo`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask demo              sign in with the link that is printed, decide in the page
  cargo xtask demo --auto       decide by itself through the page, check every outcome
  sudo -E cargo xtask demo --native
                                on this machine, where its kernel accepts LSM programs")]
pub(crate) struct Arguments {
    /// Decide by itself through the page's own API and check every outcome; exits with 0 or 1
    #[arg(long)]
    auto: bool,
    /// Run on this machine instead of in a VM; refused where its kernel cannot enforce
    #[arg(long)]
    native: bool,
    /// Kernel of the VM: 6.1, 6.12 or 7.3
    #[arg(long, value_name = "V", default_value = "7.3", conflicts_with = "native")]
    kernel: Kernel,
    /// Port of the page on 127.0.0.1; by default one that is free
    #[arg(long)]
    port: Option<u16>,
    /// Open the page in this machine's browser
    #[arg(long, conflicts_with = "auto")]
    open: bool,
    /// Directory for evidence.ndjson, logs and result.json (default: out/demo)
    #[arg(long, value_name = "DIR", conflicts_with = "native")]
    out: Option<PathBuf>,
}

/// Runs the demo.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let port = free_port(arguments.port)?;
    if arguments.native {
        return native::run(port, arguments.auto);
    }
    let boot = setup::for_vm(arguments.kernel)?;
    let built = build::everything(setup::for_build()?)?;
    let out = arguments.out.clone().unwrap_or_else(|| repository().join("out/demo"));
    let mut auto = None;
    let ended = vm::boot_and_run(
        arguments.kernel,
        &boot,
        &built,
        &request(arguments.auto, port),
        Some(&out),
        &mut |report| {
            let Report::Ready { sign_in: Some(path), .. } = report else { return };
            let link = format!("http://127.0.0.1:{port}{path}");
            if arguments.auto {
                auto = Some(auto::Auto::start(port, path.clone()));
            } else {
                invite(&link, arguments.open);
            }
        },
    )?;
    if !arguments.auto {
        return Ok(ExitCode::from(ended.status));
    }
    let answers = auto.context("the page never came up")?.finish()?;
    let steps = out.join("demo-steps.txt");
    let steps = std::fs::read_to_string(&steps).with_context(|| steps.display().to_string())?;
    Ok(plan::judge(&steps, &answers))
}

fn request(auto: bool, port: u16) -> vm::Request {
    let linger_s = if auto { 0 } else { PATIENT_TIMEOUT_S };
    let timeout_s = if auto { AUTO_TIMEOUT_S } else { PATIENT_TIMEOUT_S };
    let job = Job { page: true, ..Job::new(Task::Demo { linger_s }, timeout_s) };
    vm::Request { ui_port: Some(port), ..vm::Request::new(job) }
}

/// Tells the person where to decide.
pub(crate) fn invite(link: &str, open: bool) {
    say("Guard is ready. Open this link and sign in; it works once:");
    eprintln!("\n    {link}\n");
    say(
        "the agent starts now: ordinary work goes on by itself, the rest waits for you in the page",
    );
    if open {
        if have("xdg-open") {
            let mut browser = Command::new("xdg-open");
            let _ = browser.arg(link).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        } else {
            say("there is no xdg-open here: open the link yourself");
        }
    }
}

/// The wanted port if it is free, or some free one.
pub(crate) fn free_port(wanted: Option<u16>) -> Result<u16> {
    let address = (Ipv4Addr::LOCALHOST, wanted.unwrap_or(0));
    let listener = TcpListener::bind(address)
        .with_context(|| format!("port {} of 127.0.0.1: choose another --port", address.1))?;
    Ok(listener.local_addr()?.port())
}
