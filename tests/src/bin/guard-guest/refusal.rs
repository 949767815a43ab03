//! A kernel that was started without the BPF LSM: nothing can be enforced, so Guard has to refuse, to
//! say which boot parameter would change that, and to leave nothing behind.

use crate::{
    Trouble,
    ports::Ports,
    scenario::expect,
    system::{PATH, boot_ns},
    took_ms,
};
use guard_vm_wire::{PAYLOAD_DIR, Report, WITHOUT_BPF_LSM};
use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Instant,
};

/// The security modules that run.
const LSM_LIST: &str = "/sys/kernel/security/lsm";
/// Exit code of all programs of Guard: this machine cannot enforce.
const CANNOT_ENFORCE: i32 = 3;
const SOCKET: &str = "/run/guard/agent.sock";
const PINS: &str = "/sys/fs/bpf/guard";

/// Plays the one scenario of this machine.
pub(crate) fn run(ports: &mut Ports) -> Result<(), Trouble> {
    ports.report(&Report::Ready { after_ms: crate::system::uptime_ms(), sign_in: None });
    let (start, from_ns) = (Instant::now(), boot_ns());
    let problem = play().err().unwrap_or_default();
    let failed = !problem.is_empty();
    let name = WITHOUT_BPF_LSM.to_owned();
    let (took_ms, to_ns) = (took_ms(start), boot_ns());
    ports.report(&Report::Scenario { name, problem, took_ms, from_ns, to_ns });
    ports.report(&Report::Exit { status: u8::from(failed), timed_out: false });
    Ok(())
}

fn play() -> Result<(), Trouble> {
    let active = fs::read_to_string(LSM_LIST).map_err(|error| format!("{LSM_LIST}: {error}"))?;
    let active = active.trim();
    let has_bpf = active.split(',').any(|lsm| lsm == "bpf");
    expect(!active.is_empty() && !has_bpf, format!("this kernel's LSMs are `{active}`"))?;
    let parameter = format!("lsm={active},bpf");
    let object = format!("{PAYLOAD_DIR}/guard-ebpf.o");
    let object = ["--ebpf-object", object.as_str()];
    let agent = [&["--state", "/var/lib/guard/agent", "--socket", SOCKET], &object[..]].concat();
    let up = [&["up", "--state", "/var/lib/guard/up", "--socket", SOCKET], &object[..]].concat();
    let doctor = [&["doctor"], &object[..]].concat();
    for (program, args) in [("guard-agent", agent), ("guard", up), ("guard", doctor)] {
        let output = Command::new(format!("{PAYLOAD_DIR}/bin/{program}"))
            .args(&args)
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{program}: {error}"))?;
        refused(&output, &parameter).map_err(|seen| format!("{program} {args:?}: {seen}"))?;
    }
    for left in [SOCKET, PINS] {
        expect(!Path::new(left).exists(), format!("{left} was left behind"))?;
    }
    Ok(())
}

fn refused(output: &Output, parameter: &str) -> Result<(), Trouble> {
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let code = output.status.code();
    expect(code == Some(CANNOT_ENFORCE), format!("ended with {}: {said}", output.status))?;
    expect(said.contains(parameter), format!("`{parameter}` is not named: {said}"))
}
