//! Root outside of every session reaches for what Guard is made of: refused, with evidence, whether
//! guard-agent runs or not; and the next guard-agent is not kept out.

use crate::{
    Trouble,
    answer::How,
    bpf::{BPF_MAP_GET_FD_BY_ID, bpf_fd, info, pinned, pinned_map_to_read, word},
    command::User::Dev,
    guard,
    scenario::{Stage, expect, shell},
    tables,
    verified::PINS,
};
use std::{
    cell::RefCell,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const SECRET: &str = "/home/dev/held/secret";
/// `struct bpf_map_info` begins with type and id.
const MAP_INFO_BYTES: usize = 8;
const MAP_ID: usize = 4;
/// A silent guard-agent is taken for dead after 15 s; emulation is slow.
const TAKEN_FOR_DEAD_WITHIN: Duration = Duration::from_secs(40);

pub(super) fn kept_off(stage: &mut Stage) -> Result<(), Trouble> {
    let held = stage.start(Dev, &["cat", SECRET])?;
    stage.wait_for_pending(1)?;
    let before = objects()?;
    let maps = maps_stay()?;
    pins_stay()?;
    process_stays(stage)?;
    let mut wanted: Vec<Vec<&str>> =
        maps.iter().map(|name| vec!["refused: to open the map", name, "uid 0"]).collect();
    wanted.extend(PINS_AND_PROCESS.map(|what| vec![what]));
    evidence(stage, "guard-guest", wanted)?;
    // While no guard-agent runs, pins stay closed; maps are open, because the next one has to come in.
    stage.guard.kill_agent();
    let alone = pins_stay().and_then(|()| {
        pinned(&map("HOLDS")?).map_err(|error| format!("HOLDS without a guard-agent: {error}"))
    });
    stage.guard.restart_agent()?;
    alone?;
    expect(objects()? == before, "other links and maps than before")?;
    maps_stay()?;
    stage.wait_for_pending(1)?;
    stage.answer(How::Approve);
    held.finish()?.expect_success("the secret")
}

/// One whose end nobody saw, as far as the kernel can tell: it keeps no other guard-agent out for long.
pub(super) fn silent(stage: &mut Stage) -> Result<(), Trouble> {
    let path = map("HOLDS")?;
    stage.guard.stop_agent_process();
    let deadline = Instant::now() + TAKEN_FOR_DEAD_WITHIN;
    let first = refused("a descriptor for writing", pinned(&path));
    let opened = loop {
        match pinned(&path) {
            Ok(_) => break Ok(()),
            Err(error) if Instant::now() > deadline => break Err(format!("HOLDS: {error}")),
            Err(_) => thread::sleep(Duration::from_millis(500)),
        }
    };
    let pins = pins_stay();
    stage.guard.continue_agent_process();
    first.and(opened).and(pins)?;
    let deadline = Instant::now() + TAKEN_FOR_DEAD_WITHIN;
    while pinned(&path).is_ok() {
        expect(Instant::now() < deadline, "guard-agent is not the guardian again")?;
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

fn objects() -> Result<serde_json::Value, Trouble> {
    let objects = guard::status().get("objects").cloned().unwrap_or_default();
    expect(objects.as_array().is_some_and(|objects| objects.len() > 30), format!("{objects}"))?;
    Ok(objects)
}

/// The pin of a map.
fn map(name: &str) -> Result<PathBuf, Trouble> {
    let found = tables::maps(Path::new(PINS)).into_iter().find(|path| path.ends_with(name));
    found.ok_or_else(|| format!("{name} is not pinned below {PINS}"))
}

fn refused<T>(what: &str, result: io::Result<T>) -> Result<(), Trouble> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
        Err(error) => Err(format!("{what}: {error}")),
        Ok(_) => Err(format!("{what}: was not refused")),
    }
}

/// What is told of the attempts of [`pins_stay`] and [`process_stays`].
const PINS_AND_PROCESS: [&str; 8] = [
    "refused: to remove the pin file_open",
    "refused: to remove the pin HOLDS",
    "refused: to remove complete",
    "refused: to rename or replace file_open",
    "refused: to rename or replace guard",
    "refused: to rename or replace complete",
    "refused: to unmount",
    "refused: to trace guard-agent",
];

/// Waits until there is a record for each of these, by `who`, with all its words. The records are read for all at
/// once: a look takes a second or two.
fn evidence(stage: &Stage, who: &str, wanted: Vec<Vec<&str>>) -> Result<(), Trouble> {
    let missing = RefCell::new(wanted);
    let is_last = |record: &serde_json::Value| {
        let told = record["what"].as_str().filter(|what| {
            record["event"] == "tampered" && record["mended"] == true && what.contains(who)
        });
        let mut missing = missing.borrow_mut();
        missing.retain(|words| !told.is_some_and(|told| words.iter().all(|w| told.contains(w))));
        missing.is_empty()
    };
    let found = stage.evidence(is_last).map(drop);
    found.map_err(|why| format!("not told: {:?}: {why}", missing.borrow()))
}

/// No map can be opened for writing; their names.
fn maps_stay() -> Result<Vec<String>, Trouble> {
    let mut names = Vec::new();
    for path in tables::maps(Path::new(PINS)) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(map) = pinned_map_to_read(&path) else { continue };
        let id = word(
            &info::<MAP_INFO_BYTES>(&map).map_err(|error| format!("{name}: {error}"))?,
            MAP_ID,
        );
        refused(&format!("{name} by its pin"), pinned(&path))?;
        refused(&format!("{name} by its id"), bpf_fd(BPF_MAP_GET_FD_BY_ID, &[id.into()]))?;
        names.push(name);
    }
    // Everybody else's maps are everybody else's business.
    foreign_map().map_err(|error| format!("a map of one's own: {error}"))?;
    expect(names.len() == 14, format!("pinned maps that can be read: {names:?}"))?;
    Ok(names)
}

/// Makes a map, and opens it by its id.
fn foreign_map() -> io::Result<()> {
    const BPF_MAP_CREATE: libc::c_int = 0;
    const BPF_MAP_TYPE_ARRAY: u64 = 2;
    const FOUR_BYTES: u64 = 4;
    // Type, size of the key; size of the value, entries.
    let made =
        bpf_fd(BPF_MAP_CREATE, &[BPF_MAP_TYPE_ARRAY | FOUR_BYTES << 32, FOUR_BYTES | 1 << 32])?;
    let id = word(&info::<MAP_INFO_BYTES>(&made)?, MAP_ID);
    bpf_fd(BPF_MAP_GET_FD_BY_ID, &[id.into()]).map(drop)
}

/// Nothing among the pins can be removed, renamed, replaced or unmounted.
fn pins_stay() -> Result<(), Trouble> {
    let link = link()?;
    let folder = link.parent().unwrap_or(Path::new(PINS)).to_path_buf();
    refused("unlink of a link", fs::remove_file(&link))?;
    refused("unlink of a map", fs::remove_file(map("HOLDS")?))?;
    refused("rmdir of the mark", fs::remove_dir(folder.join("complete")))?;
    refused("rename of a link", fs::rename(&link, folder.join("elsewhere")))?;
    refused("rename of all", fs::rename(PINS, "/sys/fs/bpf/gone"))?;
    // What is not Guard's goes as ever, but not in the place of a pin.
    let other = Path::new("/sys/fs/bpf/other");
    fs::create_dir(other).map_err(|error| format!("{}: {error}", other.display()))?;
    let replaced =
        refused("a folder in the place of the mark", fs::rename(other, folder.join("complete")));
    fs::remove_dir(other).map_err(|error| format!("{}: {error}", other.display()))?;
    replaced?;
    refused("unmount", unmount())?;
    // A mount of it that is somebody's own goes.
    shell("mkdir -p /run/own && mount -t bpf bpf /run/own && umount /run/own")?;
    expect(link.exists() && map("HOLDS")?.exists(), "pins are gone")
}

fn unmount() -> io::Result<()> {
    // SAFETY: a constant text.
    let result = unsafe { libc::umount2(c"/sys/fs/bpf".as_ptr(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The pinned link of the program on `file_open`.
fn link() -> Result<PathBuf, Trouble> {
    let found = std::process::Command::new("find").args([PINS, "-name", "file_open"]).output();
    let found = found.map_err(|error| format!("find: {error}"))?;
    let text = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    expect(!text.is_empty() && !text.contains('\n'), format!("links of file_open: {text:?}"))?;
    Ok(text.into())
}

/// guard-agent cannot be traced, nor its memory be written to.
fn process_stays(stage: &Stage) -> Result<(), Trouble> {
    let pid = stage.guard.agent_pid();
    let memory = fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/mem"));
    let denied = memory.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    expect(denied, "the memory of guard-agent was opened")?;
    refused("ptrace", attach(pid))?;
    // What everybody may read of everybody stays readable.
    fs::read(format!("/proc/{pid}/environ")).map(drop).map_err(|error| format!("environ: {error}"))
}

fn attach(pid: u32) -> io::Result<()> {
    // SAFETY: no pointers but null ones, which this request does not read.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_ATTACH,
            pid,
            std::ptr::null_mut::<()>(),
            std::ptr::null_mut::<()>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
