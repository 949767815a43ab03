//! What an open finds: the durable tree, and the commits of the journal that lead on to the head.

use super::{
    Hash, Head, LogError, Storage, TILE_WIDTH,
    files::{list, require},
    journal::{self, Commit},
    payload, read,
    tree::{Edge, leaf_hash, tile_name},
};
use std::collections::HashMap;

/// The durable tree, the commits from it to `head`, and all journals that there are.
pub(super) fn recover<S: Storage + ?Sized>(
    storage: &S,
    head: Head,
) -> Result<(Head, Vec<Commit>, Vec<String>), LogError> {
    let names = list(storage, journal::DIR)?;
    let mut base: Option<Head> = None;
    let mut commits: HashMap<(u64, Hash), Commit> = HashMap::new();
    let mut torn = String::new();
    for name in &names {
        let path = format!("{}/{name}", journal::DIR);
        let bytes = require(storage, &path)?;
        let Some(scanned) = journal::scan(&bytes) else {
            torn = format!("; {path} has no readable header");
            continue;
        };
        if base.is_none_or(|base| scanned.base.size < base.size) {
            base = Some(scanned.base);
        }
        if let Some((offset, problem)) = scanned.torn {
            torn = format!("; {path}, byte {offset}: {problem}");
        }
        for commit in scanned.commits {
            commits.insert((commit.after.size, commit.after.root), commit);
        }
    }
    let Some(base) = base else {
        return Err(LogError::Missing { name: format!("{}/*{torn}", journal::DIR) });
    };
    let mut chain = Vec::new();
    let mut at = head;
    while at != base {
        let Some(commit) = commits.remove(&(at.size, at.root)).filter(|_| at.size > base.size)
        else {
            let problem = format!(
                "acknowledged entries {} to {} are not in it{torn}",
                base.size,
                head.size.saturating_sub(1)
            );
            return Err(LogError::damaged("the journal", problem));
        };
        at = commit.before;
        chain.push(commit);
    }
    chain.reverse();
    Ok((base, chain, names))
}

/// The right edge of the durable tree, checked against its root.
pub(super) fn load_edge<S: Storage + ?Sized>(storage: &S, base: Head) -> Result<Edge, LogError> {
    let mut levels = Vec::new();
    for (level, (number, width)) in (0_u8..).zip(Edge::shape(base.size)) {
        levels.push(read::tile(storage, level, number, width)?);
    }
    let edge = Edge::new(base.size, levels);
    if edge.root() != base.root {
        let name = tile_name(0, base.size / TILE_WIDTH, (base.size % TILE_WIDTH).max(1));
        let problem = format!(
            "the tiles at the right edge of {} entries (this one or one above \
                               it) do not give the root",
            base.size
        );
        return Err(LogError::damaged(name, problem));
    }
    Ok(edge)
}

/// The entries of the incomplete bundle, checked against the tiles.
pub(super) fn load_bundle<S: Storage + ?Sized>(
    storage: &S,
    size: u64,
) -> Result<Vec<u8>, LogError> {
    let (number, width) = (size / TILE_WIDTH, size % TILE_WIDTH);
    if width == 0 {
        return Ok(Vec::new());
    }
    let (name, bytes) = read::bundle(storage, number, width)?;
    let entries = read::split_bundle(&name, number, &bytes)?;
    let leaves = read::tile(storage, 0, number, width)?;
    let mut len = 0;
    for (at, leaf) in leaves.iter().enumerate() {
        let entry = entries.get(at).copied().unwrap_or_default();
        if leaf_hash(entry) != *leaf {
            let index = number * TILE_WIDTH + at as u64;
            return Err(LogError::damaged(name, format!("entry {index} is not what was logged")));
        }
        len += 2 + entry.len();
    }
    Ok(bytes[..len].to_vec())
}

/// Bytes of the incomplete payload file that count.
pub(super) fn load_payload_len<S: Storage + ?Sized>(
    storage: &S,
    size: u64,
) -> Result<u64, LogError> {
    let (number, width) = (size / TILE_WIDTH, size % TILE_WIDTH);
    if width == 0 {
        return Ok(0);
    }
    let name = payload::file_name(number);
    let bytes = require(storage, &name)?;
    Ok(payload::prefix_len(&name, &bytes, width)? as u64)
}
