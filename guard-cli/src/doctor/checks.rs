//! The checks: pure functions from [`Facts`] to a verdict, words, and what to do.

use super::facts::Facts;
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Ok,
    /// Enforcement is possible, with something to know.
    Warning,
    /// Enforcement is not possible.
    Problem,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) verdict: Verdict,
    /// What is there.
    pub(crate) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

/// Oldest kernel whose hooks Guard can hold at (sleepable LSM programs with `bpf_d_path`).
const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// Kernels on which every release is tested.
const TESTED: &str = "6.1, 6.12 and 7.3";

/// Capabilities that guard-agent needs (`include/uapi/linux/capability.h`), and what for.
const CAPABILITIES: [(u32, &str); 5] = [
    (39, "CAP_BPF"),
    (38, "CAP_PERFMON"),
    (21, "CAP_SYS_ADMIN"),
    (19, "CAP_SYS_PTRACE"),
    (5, "CAP_KILL"),
];

/// Options without which nothing can be enforced, and one without which less can.
const OPTIONS: [&str; 4] =
    ["CONFIG_BPF_SYSCALL", "CONFIG_BPF_LSM", "CONFIG_DEBUG_INFO_BTF", "CONFIG_SECURITYFS"];
const PATH_OPTION: &str = "CONFIG_SECURITY_PATH";

/// All of them, in the order in which one would mend things.
pub(crate) fn all(facts: &Facts) -> Vec<Check> {
    [kernel, config, lsm, lockdown, btf, capabilities, bpf, bpffs, cgroup, object]
        .iter()
        .map(|check| check(facts))
        .collect()
}

fn ok(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Ok, found: found.into(), advice: None }
}

fn warning(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Warning, found: found.into(), advice: Some(advice.into()) }
}

fn problem(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Problem, found: found.into(), advice: Some(advice.into()) }
}

fn kernel(facts: &Facts) -> Check {
    let Facts { release, machine, .. } = facts;
    let found = format!("Linux {release} on {machine}");
    if machine != "x86_64" {
        return problem("kernel", found, "the eBPF programs are built for x86_64 only so far");
    }
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST_KERNEL => {
            ok("kernel", format!("{found} (tested: {TESTED})"))
        }
        (Some(Ok(_)), Some(Ok(_))) => {
            problem("kernel", found, "Guard needs Linux 6.1 or later; boot a newer kernel")
        }
        _ => warning("kernel", found, format!("unknown version; Guard is tested on {TESTED}")),
    }
}

fn config(facts: &Facts) -> Check {
    let name = "configuration";
    let Some((path, config)) = &facts.config else {
        let found = "the kernel's build configuration was not found";
        return warning(name, found, "nothing to do: the checks below ask the kernel itself");
    };
    let path = path.display();
    let missing: Vec<&str> = OPTIONS.into_iter().filter(|option| !config.has(option)).collect();
    if !missing.is_empty() {
        let found = format!("{path}: {} not set", missing.join(", "));
        let advice = "boot a kernel that is built with them; the kernels of Debian 12 and later, \
                      Ubuntu 22.04 and later and Fedora are";
        return problem(name, found, advice);
    }
    if !config.has(PATH_OPTION) {
        let found = format!("{path}: {PATH_OPTION} not set");
        return warning(name, found, "file creation is seen at the inode hooks, with less detail");
    }
    ok(name, format!("{path} has all of {} and {PATH_OPTION}", OPTIONS.join(", ")))
}

fn lsm(facts: &Facts) -> Check {
    let name = "BPF LSM";
    let names_bpf = |list: &str| list.split(',').any(|module| module == "bpf");
    match (&facts.lsm, chosen_lsms(facts)) {
        (Ok(list), _) if names_bpf(list) => ok(name, format!("active: {list}")),
        (Ok(list), _) => problem(name, format!("not active: {list}"), boot_with(list)),
        (Err(_), Some((list, whence))) if !names_bpf(&list) => {
            problem(name, format!("not active: {whence} is {list}"), boot_with(&list))
        }
        (Err(error), chosen) => {
            let chosen = chosen
                .map(|(list, whence)| format!(" ({whence} is {list}, which is not proof)"))
                .unwrap_or_default();
            problem(
                name,
                format!("not known to be active: /sys/kernel/security/lsm: {error}{chosen}"),
                "mount -t securityfs securityfs /sys/kernel/security, and look again",
            )
        }
    }
}

/// The list that the kernel was told to start with, and by what.
fn chosen_lsms(facts: &Facts) -> Option<(String, &'static str)> {
    let parameter = facts.cmdline.split(' ').rev().find_map(|word| word.strip_prefix("lsm="));
    if let Some(list) = parameter {
        return Some((list.to_owned(), "the boot parameter lsm="));
    }
    let list = facts.config.as_ref().and_then(|(_, config)| config.text("CONFIG_LSM"));
    list.map(|list| (list.to_owned(), "the kernel's default list, CONFIG_LSM,"))
}

fn boot_with(list: &str) -> String {
    let comma = if list.is_empty() { "" } else { "," };
    format!(
        "boot with lsm={list}{comma}bpf (Debian: GRUB_CMDLINE_LINUX in /etc/default/grub, then \
         update-grub, then reboot)"
    )
}

fn lockdown(facts: &Facts) -> Check {
    let name = "lockdown";
    match facts.lockdown.as_deref() {
        Some(mode) if mode.contains("[confidentiality]") => problem(
            name,
            "confidentiality: the kernel does not let programs read its memory",
            "boot with lockdown=integrity or without lockdown=",
        ),
        Some(mode) => ok(name, mode),
        None => ok(name, "none"),
    }
}

fn btf(facts: &Facts) -> Check {
    match &facts.btf {
        Ok(bytes) if *bytes > 0 => ok("BTF", format!("/sys/kernel/btf/vmlinux, {bytes} bytes")),
        Ok(_) => problem("BTF", "/sys/kernel/btf/vmlinux is empty", BTF_ADVICE),
        Err(error) => problem("BTF", format!("/sys/kernel/btf/vmlinux: {error}"), BTF_ADVICE),
    }
}

const BTF_ADVICE: &str = "boot a kernel with CONFIG_DEBUG_INFO_BTF=y";

fn capabilities(facts: &Facts) -> Check {
    let name = "capabilities";
    let missing: Vec<&str> = CAPABILITIES
        .into_iter()
        .filter(|(bit, _)| facts.capabilities & (1 << bit) == 0)
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        let names: Vec<&str> = CAPABILITIES.iter().map(|(_, name)| *name).collect();
        return ok(name, names.join(", "));
    }
    let found = format!("missing: {}", missing.join(", "));
    if facts.uid == 0 {
        let advice = "this root is confined, by a container or a service manager: start Guard \
                      outside, or give it these capabilities";
        return problem(name, found, advice);
    }
    problem(name, found, "run it as root: sudo guard doctor")
}

fn bpf(facts: &Facts) -> Check {
    let name = "bpf(2)";
    match &facts.bpf {
        Ok(()) => ok(name, "takes a harmless program; LSM programs are tried by `guard up` only"),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && facts.uid != 0 => {
            problem(name, "refuses programs of this user", "run it as root: sudo guard doctor")
        }
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => problem(
            name,
            "refuses a harmless program even to root (EPERM)",
            "this machine forbids eBPF from outside the kernel's own rules: a container's seccomp \
             filter, or the hypervisor of a sandbox; use a machine or VM of your own",
        ),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            problem(name, "is not there", "boot a kernel with CONFIG_BPF_SYSCALL=y")
        }
        Err(error) => problem(name, format!("refuses a harmless program: {error}"), "see dmesg"),
    }
}

fn bpffs(facts: &Facts) -> Check {
    let name = "bpffs";
    if mounted(facts, "bpf").any(|at| at == "/sys/fs/bpf") {
        return ok(name, "/sys/fs/bpf");
    }
    problem(name, "no bpf file system on /sys/fs/bpf", "mount -t bpf bpf /sys/fs/bpf")
}

fn cgroup(facts: &Facts) -> Check {
    let name = "cgroup v2";
    match mounted(facts, "cgroup2").next() {
        Some("/sys/fs/cgroup") => ok(name, "/sys/fs/cgroup"),
        Some(elsewhere) => warning(
            name,
            format!("{elsewhere}, beside version 1"),
            "sessions cannot be selected by systemd unit; boot with \
             systemd.unified_cgroup_hierarchy=1 if you need that",
        ),
        None => warning(
            name,
            "not mounted",
            "sessions cannot be selected by systemd unit; mount -t cgroup2 none /sys/fs/cgroup",
        ),
    }
}

fn object(facts: &Facts) -> Check {
    let name = "eBPF programs";
    let (path, size) = &facts.object;
    let path = path.display();
    match size {
        Ok(bytes) => ok(name, format!("{path}, {bytes} bytes")),
        Err(error) => problem(
            name,
            format!("{path}: {error}"),
            "`cargo xtask build` makes them; give the file with --ebpf-object FILE",
        ),
    }
}

/// Where file systems of a type are mounted.
fn mounted<'a>(facts: &'a Facts, kind: &str) -> impl Iterator<Item = &'a str> {
    facts.mounts.lines().filter_map(move |line| {
        let mut fields = line.split(' ').skip(1);
        let at = fields.next()?;
        (fields.next()? == kind).then_some(at)
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
