//! QEMU, with software emulation.

use super::Request;
use crate::setup::{Boot, Kernel};
use anyhow::{Context as _, Result, bail};
use guard_vm_wire::{PAYLOAD_SERIAL, Port, ROOT_SERIAL, UI_PORT};
use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
};

/// File name of the console's output in the scratch directory and in `--out`.
pub(crate) const CONSOLE: &str = "console.log";
/// Memory of a VM: Guard, Python and git with room to spare.
const MEMORY: &str = "1024";
/// The security modules that a VM starts with, but for `bpf`: Debian's own list.
const LSMS: &str = "landlock,lockdown,yama";

/// Kernel parameters of a VM that nobody measures: one of the CPU models asks for page tables apart for the kernel, and an
/// emulated CPU forgets all addresses at each change between them. System calls took twice as long.
const FASTER: &str = " nopti";
/// The same for the CPU: where it clears and copies memory by the byte, emulation does each byte alone.
const FASTER_CPU: &str = ",-erms";

/// A running VM; killed when dropped.
pub(crate) struct Machine {
    qemu: Child,
    errors: std::path::PathBuf,
}

impl Machine {
    /// Starts the VM.
    ///
    /// Emulation only: /dev/kvm exists on some machines and does not work there.
    pub(crate) fn boot(
        kernel: Kernel,
        boot: &Boot,
        payload: &Path,
        scratch: &Path,
        request: &Request,
    ) -> Result<Self> {
        let bpf = if request.bpf_lsm { ",bpf" } else { "" };
        let hash = if request.hashes_otherwise { " ima_hash=sha1" } else { "" };
        let mut parameters = format!("console=ttyS0 quiet panic=-1 lsm={LSMS}{bpf}{hash}");
        let mut cpu = kernel.cpu().to_owned();
        let mut qemu = Command::new("qemu-system-x86_64");
        if request.counts_instructions {
            // An idle CPU's clock jumps to its next timer: nobody waits, and nothing depends on this machine.
            qemu.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-smp", "1"]);
        } else {
            qemu.args(["-accel", "tcg,thread=multi", "-smp", "2"]);
            parameters.push_str(FASTER);
            cpu.push_str(FASTER_CPU);
        }
        qemu.args(["-cpu", &cpu, "-m", MEMORY])
            .args(["-nodefaults", "-display", "none", "-no-reboot", "-monitor", "none"])
            .arg("-kernel")
            .arg(&boot.vmlinuz)
            .arg("-initrd")
            .arg(&boot.initramfs)
            .args(["-append", &parameters])
            .args(["-serial", &format!("file:{}", scratch.join(CONSOLE).display())]);
        // What a session writes to the root disk is gone with the VM.
        disk(&mut qemu, "root", &boot.root, "snapshot=on", ROOT_SERIAL);
        disk(&mut qemu, "payload", payload, "readonly=on", PAYLOAD_SERIAL);
        qemu.args(["-device", "virtio-serial-pci,max_ports=8"]);
        for port in Port::ALL {
            let (name, path) = (port.name(), scratch.join(port.name()));
            qemu.args(["-chardev", &format!("file,id={name},path={}", path.display())]);
            qemu.args(["-device", &format!("virtserialport,chardev={name},name={name}")]);
        }
        let forward = request
            .ui_port
            .map(|port| format!(",hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:{UI_PORT}"))
            .unwrap_or_default();
        // restrict=on: the VM reaches nothing outside itself.
        qemu.args(["-nic", &format!("user,model=virtio-net-pci,restrict=on{forward}")]);
        let errors = scratch.join("qemu.log");
        let log = File::create(&errors).with_context(|| errors.display().to_string())?;
        let qemu = qemu
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start qemu-system-x86_64")?;
        Ok(Self { qemu, errors })
    }

    /// Whether it still runs; QEMU's own failure is an error.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        match self.qemu.try_wait()? {
            None => Ok(true),
            Some(status) if status.success() => Ok(false),
            Some(status) => {
                let said = std::fs::read_to_string(&self.errors).unwrap_or_default();
                let said: Vec<&str> =
                    said.lines().filter(|line| !line.contains("warning:")).collect();
                bail!("QEMU ended with {status}: {}", said.join("; "))
            }
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

fn disk(qemu: &mut Command, id: &str, image: &Path, option: &str, serial: &str) {
    let image = image.display();
    qemu.args(["-drive", &format!("file={image},if=none,id={id},format=raw,{option}")]);
    qemu.args(["-device", &format!("virtio-blk-pci,drive={id},serial={serial}")]);
}
