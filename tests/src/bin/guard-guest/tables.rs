//! How many entries the kernel's tables have, counted key by key.
//!
//! Labels and passes are task storage, which has no keys to count: they go with their task.

use crate::{
    Trouble,
    bpf::{info, next_key, pinned_map_to_read, word},
    verified::PINS,
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Tables that hold something for single tasks: each entry has to go with what it is for.
const OF_TASKS: [&str; 3] = ["HOLDS", "GRANTS", "BACKUPS"];
/// `struct bpf_map_info` begins with type, id and the sizes of key and value.
const MAP_INFO_BYTES: usize = 16;
/// `key_size` in it.
const KEY_SIZE: usize = 8;
/// More than any of the tables has room for: a table that changes meanwhile may begin anew.
const KEYS_MAX: u64 = 1 << 20;

/// Entries by table.
pub(crate) fn of_tasks() -> Result<BTreeMap<String, u64>, Trouble> {
    let mut counts = BTreeMap::new();
    for path in maps(Path::new(PINS)) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if OF_TASKS.contains(&name.as_str()) {
            let failed = |error: io::Error| format!("{}: {error}", path.display());
            *counts.entry(name).or_default() += count(&path).map_err(failed)?;
        }
    }
    if counts.len() == OF_TASKS.len() {
        return Ok(counts);
    }
    Err(format!("not all of {OF_TASKS:?} are pinned below {PINS}: {:?}", counts.keys()))
}

/// What is pinned as a map: `state-N/NAME` and `ABI/maps/NAME`.
pub(crate) fn maps(pins: &Path) -> Vec<PathBuf> {
    let below = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let tops = below(pins);
    tops.iter().flat_map(|top| [below(top), below(&top.join("maps"))].concat()).collect()
}

fn count(path: &Path) -> io::Result<u64> {
    let map = pinned_map_to_read(path)?;
    let size = word(&info::<MAP_INFO_BYTES>(&map)?, KEY_SIZE) as usize;
    let (mut key, mut next, mut count) = (vec![0; size], vec![0; size], 0);
    while next_key(&map, (count > 0).then_some(&key[..]), &mut next)? && count < KEYS_MAX {
        std::mem::swap(&mut key, &mut next);
        count += 1;
    }
    Ok(count)
}
