//! The right edge of the tree: what has to be in memory to append and to know the root.

use super::{Hash, TILE_WIDTH};
use tlog_tiles::{Hash as TlogHash, Tile};

/// Height of a tile: 256 hashes.
const TILE_HEIGHT: u8 = 8;

/// The root of the empty tree (RFC 6962, 2.1).
pub const EMPTY_ROOT: Hash = tlog_tiles::EMPTY_HASH.0;

/// The hash of a leaf (RFC 6962, 2.1).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    tlog_tiles::record_hash(entry).0
}

pub(super) fn node(left: Hash, right: Hash) -> Hash {
    tlog_tiles::node_hash(TlogHash(left), TlogHash(right)).0
}

/// The root of 2^k hashes.
pub(super) fn subtree(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => EMPTY_ROOT,
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            node(subtree(left), subtree(right))
        }
    }
}

/// Name of the file of a tile, below the log's directory (C2SP tlog-tiles).
pub(super) fn tile_name(level: u8, number: u64, width: u64) -> String {
    let width = u32::try_from(width).unwrap_or(u32::MAX);
    let path = Tile::new(TILE_HEIGHT, level, number, width, false).path();
    // The crate has Go's older paths, with the height in them.
    format!("tile/{}", path.trim_start_matches("tile/8/"))
}

/// Name of the file of an entry bundle.
pub(super) fn bundle_name(number: u64, width: u64) -> String {
    format!("tile/entries/{}", tile_name(0, number, width).trim_start_matches("tile/0/"))
}

/// A tile that is new.
#[derive(Debug, PartialEq)]
pub(super) struct NewTile {
    pub(super) level: u8,
    pub(super) number: u64,
    pub(super) hashes: Vec<Hash>,
}

impl NewTile {
    pub(super) fn name(&self) -> String {
        tile_name(self.level, self.number, self.hashes.len() as u64)
    }
}

/// The incomplete tile of every level; its hashes are roots of complete subtrees of 256^level.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Edge {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// Widths of the incomplete tiles of a tree of `size`, level by level: (tile number, width).
    pub(super) fn shape(size: u64) -> Vec<(u64, u64)> {
        let mut shape = Vec::new();
        let mut count = size;
        while count > 0 {
            shape.push((count / TILE_WIDTH, count % TILE_WIDTH));
            count /= TILE_WIDTH;
        }
        shape
    }

    pub(super) fn new(size: u64, levels: Vec<Vec<Hash>>) -> Self {
        Self { size, levels }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; complete tiles come out through `full`.
    pub(super) fn push(&mut self, leaf: Hash, full: &mut Vec<NewTile>) {
        self.size += 1;
        let (mut hash, mut count) = (leaf, self.size);
        for level in 0_u8.. {
            let at = usize::from(level);
            if self.levels.len() <= at {
                self.levels.push(Vec::with_capacity(256));
            }
            self.levels[at].push(hash);
            if count % TILE_WIDTH != 0 {
                return;
            }
            let hashes = std::mem::take(&mut self.levels[at]);
            hash = subtree(&hashes);
            count /= TILE_WIDTH;
            full.push(NewTile { level, number: count - 1, hashes });
        }
    }

    /// The incomplete tiles that differ from those of `old_size`.
    pub(super) fn partial(&self, old_size: u64) -> Vec<NewTile> {
        let old = Self::shape(old_size);
        let shape = Self::shape(self.size);
        let levels = (0_u8..).zip(shape.iter().zip(&self.levels)).enumerate();
        levels
            .filter(|(at, (_, (shape, _)))| shape.1 > 0 && old.get(*at) != Some(*shape))
            .map(|(_, (level, ((number, _), hashes)))| NewTile {
                level,
                number: *number,
                hashes: hashes.clone(),
            })
            .collect()
    }

    /// The root hash (RFC 6962, 2.1).
    pub(super) fn root(&self) -> Hash {
        let mut root: Option<Hash> = None;
        for hashes in &self.levels {
            let mut end = hashes.len();
            while end > 0 {
                // The smallest complete subtree at the end is the lowest bit of the width.
                let width = 1 << end.trailing_zeros();
                let left = subtree(&hashes[end - width..end]);
                root = Some(root.map_or(left, |right| node(left, right)));
                end -= width;
            }
        }
        root.unwrap_or(EMPTY_ROOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962, 2.1, word for word.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => EMPTY_ROOT,
            1 => leaves[0],
            n => {
                let k = n.next_power_of_two() / 2;
                node(mth(&leaves[..k]), mth(&leaves[k..]))
            }
        }
    }

    #[test]
    fn the_root_is_that_of_rfc_6962_at_every_size() {
        let mut edge = Edge::default();
        let mut leaves = Vec::new();
        let mut full = Vec::new();
        for n in 0_u32..1300 {
            assert_eq!(edge.root(), mth(&leaves), "size {n}");
            let leaf = leaf_hash(&n.to_be_bytes());
            leaves.push(leaf);
            edge.push(leaf, &mut full);
        }
        assert_eq!(full.iter().filter(|tile| tile.level == 0).count(), 5);
        for tile in full.iter().filter(|tile| tile.level == 0) {
            let from = usize::try_from(tile.number).unwrap() * 256;
            assert_eq!(tile.hashes, leaves[from..from + 256]);
        }
        assert_eq!(Edge::shape(1300), [(5, 20), (0, 5)]);
        assert_eq!(edge.partial(1299).len(), 1);
        assert_eq!(edge.partial(1279).len(), 2);
    }

    #[test]
    fn a_full_tile_fills_the_level_above() {
        let mut edge = Edge::default();
        let mut full = Vec::new();
        for n in 0_u32..65_536 {
            edge.push(leaf_hash(&n.to_be_bytes()), &mut full);
        }
        let of_level = |level| full.iter().filter(|tile| tile.level == level).count();
        assert_eq!((of_level(0), of_level(1), of_level(2)), (256, 1, 0));
        assert_eq!(Edge::shape(65_536), [(256, 0), (1, 0), (0, 1)]);
        assert_eq!(edge.partial(65_535).len(), 1);
        assert_eq!(edge.root(), edge.levels[2][0]);
    }

    #[test]
    fn files_have_the_public_names() {
        assert_eq!(tile_name(0, 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(tile_name(2, 0, 8), "tile/2/000.p/8");
        assert_eq!(bundle_name(273, 112), "tile/entries/273.p/112");
        assert_eq!(bundle_name(1000, 256), "tile/entries/x001/000");
    }
}
