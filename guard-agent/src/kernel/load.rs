//! Loading: the object's programs one by one, their maps and links pinned, coverage told.
//!
//! Links and maps live under `/sys/fs/bpf/guard/<abi version>/`, so enforcement outlives guard-agent
//! (H9). A start with the same object finds the links of the last one and attaches nothing. With another
//! object the new programs are attached and pinned before the old links go: for that instant both
//! generations check every action, which can hold one twice but never let one pass.

use super::{
    ebpf::Ebpf,
    programs::{PROGRAMS, Spec},
    quirk::loses_task_storage,
    ring::EventSource,
    wire::Wire,
};
use aya::{
    Btf, BtfError, EbpfLoader,
    maps::{Map, MapData},
    programs::{
        Program, ProgramError,
        links::{FdLink, PinnedLink},
    },
};
use guard_common::{ABI_VERSION, hold::Config};
use guard_model::{Coverage, CoverageState};
use sha2::{Digest as _, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

/// Where bpffs is by convention.
pub const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// Lists the active LSMs.
const LSM_LIST: &str = "/sys/kernel/security/lsm";
/// The kernel's own types.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// Our maps, all pinned.
const MAPS: [&str; 11] = [
    "LABELS",
    "BACKUPS",
    "PASSES",
    "HOLDS",
    "GRANTS",
    "STANDING",
    "DECISIONS",
    "SELECTORS",
    "EVENTS",
    "COUNTERS",
    "CONFIG",
];
/// Most of a verifier log that is kept in a coverage reason, characters.
const REASON_CHARS_MAX: usize = 600;

/// What to load, and how.
#[derive(Clone, Debug)]
pub struct EbpfConfig {
    /// The compiled `guard-ebpf.o`.
    pub object: Vec<u8>,
    /// bpffs directory of all pins; [`BPFFS`]`/guard` but in tests.
    pub pin_root: PathBuf,
    /// Size of the ring buffer, bytes: a power of two and whole pages. Maps that are there keep theirs.
    pub ring_bytes: u32,
    /// How long the kernel keeps a hold, ns.
    pub hold_ttl_ns: u64,
    /// Random per load of fresh maps; kept when the maps are adopted.
    pub hash_key: [u64; 2],
    /// Number of the policy in force: another number empties the kernel's decision cache.
    pub policy_epoch: u32,
}

/// Why nothing can be enforced here.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The BPF LSM is not active.
    #[error(
        "the BPF LSM is not active ({LSM_LIST} says `{active}`): boot with the kernel parameter \
         `lsm={active},bpf` (on Debian: GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub, \
         then reboot)"
    )]
    NoBpfLsm {
        /// The active LSMs.
        active: String,
    },
    /// securityfs is not there to say.
    #[error(
        "cannot read {LSM_LIST}, so the BPF LSM is not known to be active: mount securityfs \
         (`mount -t securityfs none /sys/kernel/security`) and boot with `lsm=…,bpf`"
    )]
    NoLsmList(#[source] io::Error),
    /// The kernel has no BTF.
    #[error("no kernel type information at {BTF}: a kernel with CONFIG_DEBUG_INFO_BTF=y is needed")]
    NoBtf(#[source] io::Error),
    /// The kernel's BTF could not be used.
    #[error("kernel type information at {BTF} is unusable")]
    BadBtf(#[source] BtfError),
    /// bpffs is not there.
    #[error("{path} is not a bpf file system: `mount -t bpf bpf {BPFFS}`")]
    NoBpffs {
        /// The directory.
        path: PathBuf,
    },
    /// The object could not be loaded at all.
    #[error("guard-ebpf.o: {0}")]
    Object(String),
    /// Lineage cannot be enforced, so nothing can.
    #[error("the kernel refused `{program}`, without which no session can be followed: {why}")]
    Lineage {
        /// The program.
        program: &'static str,
        /// What the kernel said.
        why: String,
    },
    /// A pin could not be made or read.
    #[error("pin {path}: {why}")]
    Pin {
        /// The pin.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// A map is not what this guard-agent expects.
    #[error("map {map}: {why}")]
    Map {
        /// The map.
        map: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// The pin directory of this ABI.
#[must_use]
pub fn pin_directory(root: &Path) -> PathBuf {
    root.join(ABI_VERSION.to_string())
}

pub(super) fn load(config: &EbpfConfig) -> Result<(Ebpf, EventSource, Vec<Coverage>), LoadError> {
    check_kernel()?;
    let directory = pin_directory(&config.pin_root);
    check_bpffs(&config.pin_root)?;
    let maps = directory.join("maps");
    let links = directory.join(links_name(&config.object));
    for path in [&maps, &links] {
        fs::create_dir_all(path)
            .map_err(|error| LoadError::Pin { path: path.clone(), why: error.to_string() })?;
    }
    let mut coverage = Vec::new();
    if !adopt(&links, &mut coverage) {
        attach_all(config, &maps, &links, &mut coverage)?;
    }
    drop_other_generations(&directory, &links)?;
    let map = |name: &'static str| open_map(&maps, name);
    configure(config, map("CONFIG")?)?;
    let events = EventSource::new(map("EVENTS")?)?;
    let kernel = Ebpf::new(map, config.policy_epoch)?;
    Ok((kernel, events, coverage))
}

/// Ends enforcement: links first, then maps. Holds that are still there are let go by the kernel's
/// restart of the system call, unchecked: only for a deliberate, recorded unload.
///
/// # Errors
/// A pin could not be removed; some may be gone already.
pub fn danger_unload(pin_root: &Path) -> Result<(), LoadError> {
    let directory = pin_directory(pin_root);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LoadError::Pin { path: directory, why: error.to_string() })
        }
        _ => Ok(()),
    }
}

fn check_kernel() -> Result<(), LoadError> {
    let active = fs::read_to_string(LSM_LIST).map_err(LoadError::NoLsmList)?;
    if !active.trim().split(',').any(|lsm| lsm == "bpf") {
        return Err(LoadError::NoBpfLsm { active: active.trim().to_owned() });
    }
    fs::metadata(BTF).map_err(LoadError::NoBtf)?;
    Ok(())
}

fn check_bpffs(pin_root: &Path) -> Result<(), LoadError> {
    let parent = pin_root.parent().unwrap_or(pin_root);
    let magic = nix::sys::statfs::statfs(parent).map(|found| found.filesystem_type().0);
    if magic.is_ok_and(|magic| magic == BPF_FS_MAGIC) {
        return Ok(());
    }
    Err(LoadError::NoBpffs { path: parent.to_owned() })
}

/// Links of one object: the same object finds them again, another one does not.
fn links_name(object: &[u8]) -> String {
    let digest = hex::encode(Sha256::digest(object));
    format!("links-{}", &digest[..16])
}

/// Whether a former guard-agent with the same object left all its links; then nothing is attached.
fn adopt(links: &Path, coverage: &mut Vec<Coverage>) -> bool {
    let pinned = |name: &str| links.join(name).exists();
    // `complete` is pinned last, so a start that was killed half-way is not taken for a whole one.
    if !pinned(COMPLETE) {
        return false;
    }
    for spec in PROGRAMS.iter().filter(|spec| !spec.newer || pinned(spec.program)) {
        let (state, reason) = if pinned(spec.program) {
            (CoverageState::Enforced, "")
        } else {
            (CoverageState::Absent, "refused by the kernel when these programs were first loaded")
        };
        coverage.push(covered(spec, state, reason.into()));
    }
    true
}

/// Marks a whole set of links.
const COMPLETE: &str = "complete";

fn covered(spec: &Spec, state: CoverageState, reason: String) -> Coverage {
    Coverage { action: spec.action.into(), hook: spec.hook.into(), state, reason }
}

fn attach_all(
    config: &EbpfConfig,
    maps: &Path,
    links: &Path,
    coverage: &mut Vec<Coverage>,
) -> Result<(), LoadError> {
    clear(links)?;
    let btf = Btf::from_sys_fs().map_err(LoadError::BadBtf)?;
    let mut loader = EbpfLoader::new();
    loader.btf(Some(&btf)).allow_unsupported_maps();
    loader.map_max_entries("EVENTS", config.ring_bytes);
    for name in MAPS {
        loader.map_pin_path(name, maps.join(name));
    }
    let mut object =
        loader.load(&config.object).map_err(|error| LoadError::Object(chain(&error)))?;
    // The hash key has to be there before the first hook runs.
    configure(config, open_map(maps, "CONFIG")?)?;
    for spec in &PROGRAMS {
        let start = Instant::now();
        let attached = attach(&mut object, spec.program, spec.hook, &btf, links);
        tracing::debug!(program = spec.program, took_ms = start.elapsed().as_millis(), "tried");
        match attached {
            Ok(()) => {
                coverage.push(covered(spec, CoverageState::Enforced, String::new()));
            }
            Err(Refused { no_hook: true, .. }) if spec.newer => {}
            Err(Refused { why, .. }) if spec.essential => {
                return Err(LoadError::Lineage { program: spec.program, why });
            }
            Err(Refused { why, .. }) => {
                tracing::error!(program = spec.program, why, "the kernel refused a program");
                coverage.push(covered(spec, CoverageState::Absent, why));
            }
        }
    }
    let path = links.join(COMPLETE);
    fs::create_dir(&path).map_err(|error| LoadError::Pin { path, why: error.to_string() })
}

/// Why a program is not attached.
struct Refused {
    /// What the kernel said, cut to be readable.
    why: String,
    /// The kernel has no such hook.
    no_hook: bool,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { why, no_hook: false }
    }
}

/// Loads, attaches and pins one program.
fn attach(
    object: &mut aya::Ebpf,
    name: &str,
    hook: &str,
    btf: &Btf,
    links: &Path,
) -> Result<(), Refused> {
    let missing = || "not in guard-ebpf.o".to_owned();
    let program = object.program_mut(name).ok_or_else(missing)?;
    let link: Result<FdLink, ProgramError> = (|| match program {
        Program::Lsm(lsm) => {
            lsm.load(hook, btf)?;
            let id = lsm.attach()?;
            Ok(lsm.take_link(id)?.into())
        }
        Program::BtfTracePoint(tracepoint) => {
            tracepoint.load(hook, btf)?;
            let id = tracepoint.attach()?;
            Ok(tracepoint.take_link(id)?.into())
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    })();
    let link = link.map_err(|error| Refused {
        why: cut(&chain(&error)),
        no_hook: matches!(error, ProgramError::Btf(BtfError::UnknownBtfTypeName { .. })),
    })?;
    link.pin(links.join(name)).map_err(|error| chain(&error))?;
    Ok(())
}

/// The end of a verifier log says why, but for its statistics.
fn cut(text: &str) -> String {
    let text = text.split("verification time").next().unwrap_or(text);
    let skip = text.chars().count().saturating_sub(REASON_CHARS_MAX);
    text.chars().skip(skip).collect()
}

/// An error with its sources on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Removes what a start that was killed half-way has pinned: its programs are attached again at once.
fn clear(links: &Path) -> Result<(), LoadError> {
    let failed = |error: io::Error| LoadError::Pin { path: links.into(), why: error.to_string() };
    for entry in fs::read_dir(links).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) }
            .map_err(failed)?;
    }
    Ok(())
}

/// The new generation is attached: the old ones go.
fn drop_other_generations(directory: &Path, current: &Path) -> Result<(), LoadError> {
    let failed =
        |error: io::Error| LoadError::Pin { path: directory.into(), why: error.to_string() };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_links =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("links-"));
        if is_links && path != current {
            tracing::info!(pins = %path.display(), "dropping the former programs");
            fs::remove_dir_all(&path).map_err(failed)?;
        }
    }
    Ok(())
}

fn open_map(maps: &Path, name: &'static str) -> Result<Map, LoadError> {
    let failed = |error: aya::maps::MapError| LoadError::Map { map: name, why: chain(&error) };
    Map::from_map_data(MapData::from_pin(maps.join(name)).map_err(failed)?).map_err(failed)
}

fn configure(config: &EbpfConfig, map: Map) -> Result<(), LoadError> {
    let failed = |why: String| LoadError::Map { map: "CONFIG", why };
    let mut map = aya::maps::Array::<_, Wire<Config>>::try_from(map)
        .map_err(|error| failed(chain(&error)))?;
    let Wire(old) = map.get(&0, 0).map_err(|error| failed(chain(&error)))?;
    // Pending holds were made with the old key.
    let hash_key = if old.hash_key == [0, 0] { config.hash_key } else { old.hash_key };
    let EbpfConfig { hold_ttl_ns, policy_epoch, .. } = *config;
    let backups = u32::from(loses_task_storage(&release()));
    let new = Config { hold_ttl_ns, hash_key, policy_epoch, backups };
    map.set(0, Wire(new), 0).map_err(|error| failed(chain(&error)))
}

/// `uname -r`.
fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Whether the pin still names a live link.
#[must_use]
pub fn links_alive(pin_root: &Path, object: &[u8]) -> bool {
    let links = pin_directory(pin_root).join(links_name(object));
    PROGRAMS
        .iter()
        .filter(|spec| spec.essential)
        .all(|spec| PinnedLink::from_pin(links.join(spec.program)).is_ok())
}
