//! The scripted coding agent of `cargo xtask demo`, and the way from outside to the page.

use crate::{
    Trouble,
    command::{self, Ended},
    ports::Ports,
    relay,
};
use guard_vm_wire::{Job, UI_PORT};
use std::{fs, net::SocketAddr, path::Path, thread, time::Duration};

const AGENT: &str = include_str!("../../../demo/agent.sh");
/// Where the agent stands; root's: nothing that the session wrote.
const AGENT_PATH: &str = "/usr/local/bin/coding-agent";
/// The agent notes each step's exit status here.
const STEPS: &str = "/tmp/guard-demo-steps";
/// The VM's address on QEMU's network, where the forwarded port arrives.
const OUTSIDE: [u8; 4] = [10, 0, 2, 15];

/// Makes the page reachable from the machine that runs the VM.
pub(crate) fn open_page() -> Result<(), Trouble> {
    let from = SocketAddr::from((OUTSIDE, UI_PORT));
    relay::start(from, SocketAddr::from(([127, 0, 0, 1], UI_PORT)))
}

/// Runs the agent, then keeps the page up for `linger_s` seconds.
pub(crate) fn run(ports: &mut Ports, job: &Job, linger_s: u64) -> Result<Ended, Trouble> {
    fs::write(AGENT_PATH, AGENT).map_err(|error| format!("{AGENT_PATH}: {error}"))?;
    let argv = ["/bin/bash", AGENT_PATH, STEPS].map(str::to_owned);
    let ended = command::run(ports, job, &argv, Some("coding-agent"))?;
    ports.send_file("demo-steps.txt", Path::new(STEPS));
    if linger_s > 0 {
        ports.note("the agent has ended; the page stays until you press Ctrl-C");
        thread::sleep(Duration::from_secs(linger_s));
    }
    Ok(ended)
}
