//! Each fact that is in the way is a problem with words and a way out; a good machine has none.

use super::*;
use crate::doctor::kconfig::KernelConfig;
use std::io::{Error, ErrorKind};

fn good() -> Facts {
    let config = "CONFIG_BPF_SYSCALL=y\nCONFIG_BPF_LSM=y\nCONFIG_DEBUG_INFO_BTF=y\n\
                  CONFIG_SECURITYFS=y\nCONFIG_SECURITY_PATH=y\n# CONFIG_X is not set\n";
    Facts {
        machine: "x86_64".into(),
        release: "6.12.9-amd64".into(),
        config: Some(("/boot/config".into(), KernelConfig::parse(config))),
        lsm: Ok("lockdown,capability,yama,bpf".into()),
        cmdline: "quiet".into(),
        lockdown: Some("[none] integrity confidentiality".into()),
        btf: Ok(5_000_000),
        mounts: "bpf /sys/fs/bpf bpf rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n".into(),
        capabilities: u64::MAX,
        uid: 0,
        bpf: Ok(()),
        object: ("/usr/lib/guard/guard-ebpf.o".into(), Ok(100)),
    }
}

fn verdicts(facts: &Facts, verdict: Verdict) -> Vec<&'static str> {
    let all = all(facts);
    for check in &all {
        assert_eq!(check.advice.is_none(), check.verdict == Verdict::Ok, "{check:?}");
        assert!(!check.found.is_empty(), "{check:?}");
    }
    all.iter().filter(|check| check.verdict == verdict).map(|check| check.name).collect()
}

fn problems(change: impl FnOnce(&mut Facts)) -> Vec<&'static str> {
    let mut facts = good();
    change(&mut facts);
    verdicts(&facts, Verdict::Problem)
}

fn errno(number: i32) -> Error {
    Error::from_raw_os_error(number)
}

#[test]
fn a_good_machine_has_no_problem() {
    assert_eq!(verdicts(&good(), Verdict::Problem), [""; 0]);
    assert_eq!(verdicts(&good(), Verdict::Warning), [""; 0]);
}

#[test]
fn everything_that_is_in_the_way_is_one_problem() {
    let not_there = || Error::from(ErrorKind::NotFound);
    assert_eq!(problems(|f| f.release = "5.15.0-100".into()), ["kernel"]);
    assert_eq!(problems(|f| f.machine = "aarch64".into()), ["kernel"]);
    assert_eq!(problems(|f| f.lsm = Ok("capability,yama".into())), ["BPF LSM"]);
    assert_eq!(problems(|f| f.lsm = Ok("capability,nobpf".into())), ["BPF LSM"]);
    assert_eq!(problems(|f| f.lsm = Err(not_there())), ["BPF LSM"]);
    assert_eq!(problems(|f| f.btf = Err(not_there())), ["BTF"]);
    assert_eq!(problems(|f| f.btf = Ok(0)), ["BTF"]);
    assert_eq!(problems(|f| f.mounts.clear()), ["bpffs"]);
    assert_eq!(problems(|f| f.capabilities &= !(1 << 39)), ["capabilities"]);
    assert_eq!(problems(|f| f.bpf = Err(errno(libc::EPERM))), ["bpf(2)"]);
    assert_eq!(problems(|f| f.bpf = Err(errno(libc::ENOSYS))), ["bpf(2)"]);
    assert_eq!(problems(|f| f.object.1 = Err(not_there())), ["eBPF programs"]);
    let lockdown = "none integrity [confidentiality]";
    assert_eq!(problems(|f| f.lockdown = Some(lockdown.into())), ["lockdown"]);
    let no_lsm = KernelConfig::parse("CONFIG_BPF_SYSCALL=y\nCONFIG_BPF_LSM=n\n");
    assert_eq!(problems(|f| f.config = Some(("/c".into(), no_lsm))), ["configuration"]);
}

#[test]
fn what_only_makes_enforcement_poorer_is_a_warning() {
    let mut facts = good();
    facts.config = None;
    facts.mounts = "bpf /sys/fs/bpf bpf rw 0 0\n".into();
    facts.release = "mystery".into();
    assert_eq!(verdicts(&facts, Verdict::Problem), [""; 0]);
    assert_eq!(verdicts(&facts, Verdict::Warning), ["kernel", "configuration", "cgroup v2"]);
}

#[test]
fn the_advice_names_the_whole_boot_parameter() {
    let mut facts = good();
    facts.lsm = Ok("capability,yama".into());
    let advice = lsm(&facts).advice.unwrap();
    assert!(advice.contains("lsm=capability,yama,bpf"), "{advice}");
}

#[test]
fn without_securityfs_the_boot_parameter_and_the_default_list_are_told() {
    let mut facts = good();
    facts.lsm = Err(Error::from(ErrorKind::NotFound));
    let config = KernelConfig::parse("CONFIG_LSM=\"yama,bpf\"\n");
    facts.config = Some(("/c".into(), config));
    let check = lsm(&facts);
    assert!(check.found.contains("not known") && check.found.contains("yama,bpf"), "{check:?}");
    facts.cmdline = "lsm=yama,bpf quiet lsm=yama".into();
    let check = lsm(&facts);
    assert!(check.found.starts_with("not active: the boot parameter"), "{check:?}");
    assert!(check.advice.unwrap().contains("lsm=yama,bpf"));
}

#[test]
fn a_user_without_rights_is_told_to_use_root_and_a_confined_root_is_not() {
    let mut facts = good();
    facts.capabilities = 0;
    facts.uid = 1000;
    facts.bpf = Err(errno(libc::EPERM));
    for check in [capabilities(&facts), bpf(&facts)] {
        assert!(check.advice.unwrap().contains("sudo"));
    }
    facts.uid = 0;
    for check in [capabilities(&facts), bpf(&facts)] {
        assert!(!check.advice.unwrap().contains("sudo"));
    }
}
