//! Loading: the object's programs one by one, their maps and links pinned, coverage told.
//!
//! Links and maps live under `/sys/fs/bpf/guard/`, so enforcement outlives guard-agent (H9); `pins.rs` says
//! where. A start with the same object finds the links of the last one and attaches nothing. With another
//! object, of another ABI too, the new programs are attached and pinned before the old links go: for that
//! instant both generations check every action, which can hold one twice but never let one pass.

use super::{
    ebpf::Ebpf,
    guardian::{self, Seat},
    keeper::{self, Keeper},
    pins::{self, Generation},
    programs::{PROGRAMS, PROTECTION, Spec},
    prototype::Prototypes,
    quirk::loses_task_storage,
    ring::EventSource,
    unseen,
    wire::Wire,
};
use aya::{
    Btf, BtfError, EbpfLoader, Endianness,
    maps::{Map, MapData},
    programs::{Program, ProgramError, links::FdLink},
};
use guard_common::hold::Config;
use guard_model::{Coverage, CoverageState};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

/// Where bpffs is by convention.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Lists the active LSMs.
const LSM_LIST: &str = "/sys/kernel/security/lsm";
/// The kernel's own types.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// Maps that every ABI shares, pinned apart: what running sessions rest upon.
const STATE_MAPS: [&str; 5] = ["LABELS", "BACKUPS", "COUNTERS", "SELECTORS", guardian::MAP];
/// The other maps, pinned with their ABI.
const ABI_MAPS: [&str; 9] =
    ["PASSES", "STATES", "HOLDS", "GRANTS", "STANDING", "DECISIONS", "SENT", "EVENTS", "CONFIG"];
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
    /// The kernel hashes the content of what sessions execute.
    pub hash_content: bool,
    /// Other processes may change Guard's maps and remove its pins.
    pub danger_no_self_protection: bool,
    /// Tests only: pin as if these programs were of another ABI.
    pub danger_pin_version: Option<u32>,
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
    /// The kernel's BTF does not say what its hooks take.
    #[error("kernel type information at {path} is unusable: {why}")]
    Prototypes {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
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
    /// Sessions of another version of Guard may run, and this one cannot read their labels.
    #[error(
        "{path} holds the labels of another version of Guard, which this one cannot read: end the \
         sessions, then `guard-agent stop --reason …` with that version, then start this one"
    )]
    State {
        /// The other version's state.
        path: PathBuf,
    },
    /// Another process is the guardian of the pins.
    #[error(
        "the kernel refuses {path}: another guard-agent runs on this host, or did until some seconds ago; \
         stop that one first"
    )]
    Guarded {
        /// The pin.
        path: PathBuf,
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

pub(super) fn load(config: &EbpfConfig) -> Result<(Ebpf, EventSource, Vec<Coverage>), LoadError> {
    check_kernel()?;
    let root = &config.pin_root;
    check_bpffs(root)?;
    let abi = pins::abi(config.danger_pin_version);
    let directory = pins::abi_directory(root, abi);
    let place = Place { state: pins::state_directory(root), maps: directory.join("maps") };
    let failed = pin_failed(root);
    if let Some(path) = pins::foreign_state(root).map_err(&failed)? {
        return Err(LoadError::State { path });
    }
    fs::create_dir_all(&place.state).map_err(&failed)?;
    fs::create_dir_all(&place.maps).map_err(&failed)?;
    let seat_pin = place.of(guardian::MAP);
    let take_seat = || Seat::take(&seat_pin, root, !config.danger_no_self_protection);
    // Before anything is removed: the kernel lets nobody else.
    keeper::recover(root, &place.state, &[guardian::MAP]).map_err(&failed)?;
    if seat_pin.exists() {
        take_seat()?;
    }
    pins::drop_parts(root).map_err(&failed)?;
    keeper::recover(root, &place.state, &STATE_MAPS).map_err(&failed)?;
    keeper::recover(&directory, &place.maps, &ABI_MAPS).map_err(&failed)?;
    let programs = PROGRAMS.iter().map(|spec| spec.program);
    let found = Generation::find(&directory, &config.object, programs).map_err(&failed)?;
    let mut coverage = Vec::new();
    let generation = match found {
        Some(generation) => {
            adopted(&generation, &mut coverage);
            generation
        }
        None => attach_all(config, &directory, &place, &mut coverage)?,
    };
    let seat = take_seat()?;
    let dropped = pins::drop_others(root, abi, &generation).map_err(&failed)?;
    let map = |name: &'static str| open_map(&place, name);
    configure(config, map("CONFIG")?)?;
    let events = EventSource::new(map("EVENTS")?)?;
    let keeper = Keeper::open(root, generation, &place.all(), PROGRAMS.iter().map(|s| s.program));
    let keeper = keeper.map_err(&failed)?;
    unseen::tell(&mut coverage, &release());
    if !seat.protects() {
        tracing::warn!("self-protection is off: other processes can change what enforces");
        unprotected(&mut coverage);
    }
    let kernel = Ebpf::new(map, config.policy_epoch, keeper, seat, dropped.other_abis > 0)?;
    Ok((kernel, events, coverage))
}

/// Where maps are pinned.
struct Place {
    state: PathBuf,
    maps: PathBuf,
}

impl Place {
    fn of(&self, map: &str) -> PathBuf {
        let directory = if STATE_MAPS.contains(&map) { &self.state } else { &self.maps };
        directory.join(map)
    }

    /// Every map with its pin.
    fn all(&self) -> Vec<(&'static str, PathBuf)> {
        STATE_MAPS.iter().chain(&ABI_MAPS).map(|name| (*name, self.of(name))).collect()
    }
}

fn pin_failed(path: &Path) -> impl Fn(io::Error) -> LoadError {
    move |error| LoadError::Pin { path: path.to_owned(), why: error.to_string() }
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
    if keeper::is_bpffs(parent) {
        return Ok(());
    }
    Err(LoadError::NoBpffs { path: parent.to_owned() })
}

/// What a former guard-agent with the same object left; nothing is attached.
fn adopted(generation: &Generation, coverage: &mut Vec<Coverage>) {
    let has = |name: &str| generation.has(name);
    let is_elsewhere =
        |spec: &Spec| spec.newer || spec.counterpart().is_some_and(|other| has(other.program));
    for spec in PROGRAMS.iter().filter(|spec| has(spec.program) || !is_elsewhere(spec)) {
        let (state, reason) = if has(spec.program) {
            (CoverageState::Enforced, "")
        } else {
            (CoverageState::Absent, "refused by the kernel when these programs were first loaded")
        };
        coverage.push(covered(spec, state, reason.into()));
    }
}

/// Says that the programs that keep others off are attached, and refuse nothing.
fn unprotected(coverage: &mut [Coverage]) {
    for one in coverage.iter_mut().filter(|one| one.action == PROTECTION) {
        one.state = CoverageState::Absent;
        "switched off by --danger-no-self-protection, or guard-agent does not see the host's process ids"
            .clone_into(&mut one.reason);
    }
}

fn covered(spec: &Spec, state: CoverageState, reason: String) -> Coverage {
    Coverage { action: spec.action.into(), hook: spec.hook.into(), state, reason }
}

fn attach_all(
    config: &EbpfConfig,
    directory: &Path,
    place: &Place,
    coverage: &mut Vec<Coverage>,
) -> Result<Generation, LoadError> {
    let failed = pin_failed(directory);
    let generation = Generation::create(directory, &config.object).map_err(&failed)?;
    let types = fs::read(BTF).map_err(LoadError::NoBtf)?;
    let btf = Btf::parse(&types, Endianness::default()).map_err(LoadError::BadBtf)?;
    let prototypes =
        Prototypes::parse(&types).map_err(|why| LoadError::Prototypes { path: BTF.into(), why })?;
    let mut loader = EbpfLoader::new();
    loader.btf(Some(&btf)).allow_unsupported_maps();
    loader.map_max_entries("EVENTS", config.ring_bytes);
    for (name, path) in place.all() {
        loader.map_pin_path(name, path);
    }
    let mut object =
        loader.load(&config.object).map_err(|error| LoadError::Object(chain(&error)))?;
    // The hash key has to be there before the first hook runs.
    configure(config, open_map(place, "CONFIG")?)?;
    let fits = |spec: &Spec| prototypes.check(spec.hook, spec.takes).is_ok();
    for spec in &PROGRAMS {
        if !fits(spec) && spec.counterpart().is_some_and(fits) {
            generation.without(spec.program).map_err(&failed)?;
            continue;
        }
        let start = Instant::now();
        let attached = prototypes
            .check(spec.hook, spec.takes)
            .map_err(Refused::from)
            .and_then(|()| attach(&mut object, spec.program, spec.hook, &btf, &generation));
        tracing::debug!(program = spec.program, took_ms = start.elapsed().as_millis(), "tried");
        match attached {
            Ok(()) => {
                coverage.push(covered(spec, CoverageState::Enforced, String::new()));
            }
            Err(Refused { no_hook: true, .. }) if spec.newer => {
                generation.without(spec.program).map_err(&failed)?;
            }
            Err(Refused { why, .. }) if spec.essential => {
                return Err(LoadError::Lineage { program: spec.program, why });
            }
            Err(Refused { why, .. }) => {
                tracing::error!(program = spec.program, why, "the kernel refused a program");
                coverage.push(covered(spec, CoverageState::Absent, why));
                generation.without(spec.program).map_err(&failed)?;
            }
        }
    }
    generation.complete().map_err(&failed)?;
    Ok(generation)
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
    generation: &Generation,
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
    link.pin(generation.link(name)).map_err(|error| chain(&error))?;
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

fn open_map(place: &Place, name: &'static str) -> Result<Map, LoadError> {
    let failed = |error: aya::maps::MapError| LoadError::Map { map: name, why: chain(&error) };
    Map::from_map_data(MapData::from_pin(place.of(name)).map_err(failed)?).map_err(failed)
}

fn configure(config: &EbpfConfig, map: Map) -> Result<(), LoadError> {
    let failed = |why: String| LoadError::Map { map: "CONFIG", why };
    let mut map = aya::maps::Array::<_, Wire<Config>>::try_from(map)
        .map_err(|error| failed(chain(&error)))?;
    let Wire(old) = map.get(&0, 0).map_err(|error| failed(chain(&error)))?;
    // Pending holds were made with the old key.
    let hash_key = if old.hash_key == [0, 0] { config.hash_key } else { old.hash_key };
    let EbpfConfig { hold_ttl_ns, policy_epoch, hash_content, .. } = *config;
    let backups = u32::from(loses_task_storage(&release()));
    let hash_content = hash_content.into();
    let new = Config { hold_ttl_ns, hash_key, policy_epoch, backups, hash_content, _pad: 0 };
    map.set(0, Wire(new), 0).map_err(|error| failed(chain(&error)))
}

/// `uname -r`.
fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}
