//! The machine: mounts, network, names, power.

use crate::Trouble;
use guard_vm_wire::{PAYLOAD_DIR, PAYLOAD_SERIAL};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// Directory of the test server's pages.
const WWW: &str = "/run/www";
/// Addresses of the test server: the first is on the default policy's list, the others are not.
const ADDRESSES: [&str; 3] = ["198.51.100.10/32", "198.51.100.7/32", "2001:db8::7/128"];

/// Mounts what a systemd machine would have; those that the initramfs made already are kept.
pub(crate) fn mount_all() -> Result<(), Trouble> {
    for (kind, at, options) in [
        ("proc", "/proc", ""),
        ("sysfs", "/sys", ""),
        ("devtmpfs", "/dev", ""),
        ("devpts", "/dev/pts", ""),
        ("tmpfs", "/dev/shm", ""),
        ("securityfs", "/sys/kernel/security", ""),
        ("bpf", "/sys/fs/bpf", ""),
        ("cgroup2", "/sys/fs/cgroup", ""),
        ("tmpfs", "/run", "mode=755"),
        ("tmpfs", "/tmp", "mode=1777"),
    ] {
        mount(kind, kind, at, options)?;
    }
    for (link, to) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        // There already where devtmpfs made it.
        let _ = std::os::unix::fs::symlink(to, link);
    }
    Ok(())
}

/// Guard's state in memory: emulation makes each write to a disk dear, and no scenario is about the disk.
pub(crate) fn keep_state_in_memory() -> Result<(), Trouble> {
    mount("state", "tmpfs", "/var/lib/guard", "mode=755,size=60%")
}

fn mount(source: &str, kind: &str, at: &str, options: &str) -> Result<(), Trouble> {
    if is_mount_of(kind, at) {
        return Ok(());
    }
    fs::create_dir_all(at).map_err(|error| format!("{at}: {error}"))?;
    let c = |text: &str| std::ffi::CString::new(text).unwrap_or_default();
    let (source, kind_c, target, data) = (c(source), c(kind), c(at), c(options));
    // SAFETY: four NUL-terminated strings that outlive the call.
    let result = unsafe {
        let data = data.as_ptr().cast();
        libc::mount(source.as_ptr(), target.as_ptr(), kind_c.as_ptr(), 0, data)
    };
    if result == 0 {
        return Ok(());
    }
    Err(format!("mount {kind} on {at}: {}", io::Error::last_os_error()))
}

fn is_mount_of(kind: &str, at: &str) -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(at) && fields.next() == Some(kind)
    })
}

/// Payload disk, network, host name.
pub(crate) fn prepare() -> Result<(), Trouble> {
    mount_payload()?;
    // SAFETY: the name's length is given.
    unsafe { libc::sethostname(c"guard-vm".as_ptr(), 8) };
    tool("ip", &["link", "set", "lo", "up"])?;
    for address in ADDRESSES {
        tool("ip", &["addr", "add", address, "dev", "lo", "nodad"])
            .or_else(|_| tool("ip", &["addr", "add", address, "dev", "lo"]))?;
    }
    // QEMU's user network; absent where the job needs none.
    if Path::new("/sys/class/net/eth0").exists() {
        tool("ip", &["link", "set", "eth0", "up"])?;
        tool("ip", &["addr", "add", "10.0.2.15/24", "dev", "eth0"])?;
    }
    fs::create_dir_all("/run/guard").map_err(|error| format!("/run/guard: {error}"))?;
    test_server()
}

/// Finds a disk by its serial: names depend on the order of probing.
fn mount_payload() -> Result<(), Trouble> {
    if Path::new(PAYLOAD_DIR).join(guard_vm_wire::JOB_FILE).exists() {
        return Ok(());
    }
    for _ in 0..100 {
        if let Some(disk) = disk_with_serial(PAYLOAD_SERIAL) {
            fs::create_dir_all(PAYLOAD_DIR).map_err(|error| format!("{PAYLOAD_DIR}: {error}"))?;
            return tool("mount", &["-o", "ro", &disk.to_string_lossy(), PAYLOAD_DIR]);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("no disk with the serial {PAYLOAD_SERIAL}"))
}

fn disk_with_serial(serial: &str) -> Option<PathBuf> {
    fs::read_dir("/sys/block").ok()?.flatten().find_map(|entry| {
        let found = fs::read_to_string(entry.path().join("serial")).ok()?;
        (found.trim() == serial).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

/// `busybox httpd` on every test address.
fn test_server() -> Result<(), Trouble> {
    fs::create_dir_all(WWW).map_err(|error| format!("{WWW}: {error}"))?;
    let page = format!("{WWW}/index.html");
    fs::write(&page, "hello from guard's test server\n")
        .map_err(|error| format!("{page}: {error}"))?;
    for address in ADDRESSES {
        let host = address.split('/').next().unwrap_or_default();
        let at = if host.contains(':') { format!("[{host}]:80") } else { format!("{host}:80") };
        tool("busybox", &["httpd", "-p", &at, "-h", WWW])?;
    }
    Ok(())
}

/// Runs a program of the root tree to its end.
pub(crate) fn tool(program: &str, args: &[&str]) -> Result<(), Trouble> {
    let output = Command::new(program)
        .args(args)
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}: {}", args.join(" "), output.status, said.trim()))
}

/// Where everything in the VM finds its programs.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `uname -r`.
pub(crate) fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Milliseconds since boot.
pub(crate) fn uptime_ms() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
    (seconds * 1000.0) as u64
}

/// The clock that evidence has its times by: since boot, ns, suspension included.
pub(crate) fn boot_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable, and the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Writes a file for all to execute.
pub(crate) fn install(from: &Path, to: &Path) -> Result<(), Trouble> {
    let failed = |error: io::Error| format!("{} to {}: {error}", from.display(), to.display());
    fs::copy(from, to).map_err(failed)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).map_err(failed)
}

/// Ends the machine.
pub(crate) fn power_off() -> ! {
    // SAFETY: no pointers.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    loop {
        thread::park();
    }
}

/// While it lives, the machine has one CPU.
///
/// QEMU's emulation of several CPUs now and then runs a breakpoint instruction that the kernel has already
/// replaced: attaching a program to a hook that another CPU runs at that moment then ends in `Oops: int3`
/// (seen on 7.3 at `bpf_lsm_file_open`). Programs are therefore replaced under load with one CPU, which still
/// switches between guard-agent and the session at every tick and every wait.
pub(crate) struct OneCpu(());

/// The second CPU of the VM.
const SECOND_CPU: &str = "/sys/devices/system/cpu/cpu1/online";

impl OneCpu {
    pub(crate) fn enter() -> Result<Self, Trouble> {
        if Path::new(SECOND_CPU).exists() {
            fs::write(SECOND_CPU, "0").map_err(|error| format!("{SECOND_CPU}: {error}"))?;
        }
        Ok(Self(()))
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        let _ = fs::write(SECOND_CPU, "1");
    }
}
