//! guard-agent as the kernel's guardian: while it runs nobody else changes Guard's maps, and nobody else ever
//! removes its pins.

use super::{load::LoadError, sys::obj_get, wire::Wire};
use crate::mounts::{MOUNTS, Mount, kernel_dev, mounts};
use aya::maps::{Array, Map, MapData, MapError};
use guard_common::guardian::{Guardian, MOUNTS_MAX};
use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The map, and its pin in the state directory.
pub(super) const MAP: &str = "GUARDIAN";

/// The mounts of the host, which are others than guard-agent's own where that runs in a container.
const HOST_MOUNTS: &str = "/proc/1/mountinfo";

/// The guardian's entry in the kernel.
pub(super) struct Seat {
    map: Array<MapData, Wire<Guardian>>,
    root: PathBuf,
    guardian: Guardian,
}

impl Seat {
    /// Becomes the guardian of the pins below `root`, by the map that is pinned at `pin`.
    pub(super) fn take(pin: &Path, root: &Path, protects: bool) -> Result<Self, LoadError> {
        if refused(pin) {
            return Err(LoadError::Guarded { path: pin.to_owned() });
        }
        let failed = |error: MapError| LoadError::Map { map: MAP, why: error.to_string() };
        let map = MapData::from_pin(pin).and_then(Map::from_map_data).and_then(Array::try_from);
        let guardian = Guardian {
            tgid: std::process::id(),
            protects: u32::from(protects),
            ..Guardian::default()
        };
        let mut seat = Self { map: map.map_err(failed)?, root: root.to_owned(), guardian };
        let failed = |error: io::Error| LoadError::Map { map: MAP, why: error.to_string() };
        seat.look().and_then(|()| seat.renew()).map_err(failed)?;
        if protects && refused(pin) {
            // The kernel knows this process by another number, and would keep it out of its own maps.
            tracing::error!(
                "guard-agent is not in the initial pid namespace (`hostPID: true` in Kubernetes): its maps \
                 and pins are not protected against other processes"
            );
            seat.guardian.protects = 0;
            seat.renew().map_err(failed)?;
        }
        Ok(seat)
    }

    /// Whether others are kept out.
    pub(super) const fn protects(&self) -> bool {
        self.guardian.protects != 0
    }

    /// Looks where the pins are: at the start, and after something was not in its place.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let directory = fs::metadata(&self.root)?;
        let dev = directory.dev();
        let guardian = &mut self.guardian;
        guardian.pins_dev = kernel_dev(libc::major(dev), libc::minor(dev));
        guardian.pins_ino = directory.ino();
        // What cannot be read has none.
        let all = [MOUNTS, HOST_MOUNTS].map(|path| mounts(path).unwrap_or_default());
        guardian.mounts = ids_of(all.iter().flatten(), guardian.pins_dev);
        Ok(())
    }

    /// A sign of life.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        self.guardian.alive_ns = super::boottime_ns();
        let written = self.map.set(0, Wire(self.guardian), 0);
        written.map_err(|error| io::Error::other(error.to_string()))
    }
}

/// Whether the kernel refuses a descriptor of what is pinned there.
fn refused(pin: &Path) -> bool {
    obj_get(pin).is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
}

/// The ids of the mounts of a file system, each once, as many as the kernel has room for.
fn ids_of<'a>(mounts: impl Iterator<Item = &'a Mount>, dev: u64) -> [u32; MOUNTS_MAX] {
    let of_it = mounts.filter(|mount| mount.dev == dev);
    let found: BTreeSet<u32> = of_it.filter_map(|mount| u32::try_from(mount.id).ok()).collect();
    let mut ids = [0; MOUNTS_MAX];
    for (to, from) in ids.iter_mut().zip(found) {
        *to = from;
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, minor: u32) -> Mount {
        let (root, at, kind) = ("/".into(), "/sys/fs/bpf".into(), "bpf".to_owned());
        Mount { id, dev: kernel_dev(0, minor), root, at, kind }
    }

    #[test]
    fn mounts_of_the_file_system_are_found_in_every_namespace_once() {
        let own = [mount(22, 20), mount(31, 29), mount(40, 290)];
        let host = [mount(31, 29), mount(77, 29)];
        let ids = |minor| ids_of(own.iter().chain(&host), kernel_dev(0, minor));
        assert_eq!(ids(29), [31, 77, 0, 0]);
        assert_eq!(ids(30), [0; MOUNTS_MAX]);
    }

    #[test]
    fn more_mounts_than_the_kernel_has_room_for_are_left_out() {
        let all: Vec<_> = (1..=MOUNTS_MAX as u64 + 2).map(|id| mount(id, 29)).collect();
        assert_eq!(ids_of(all.iter(), kernel_dev(0, 29)), [1, 2, 3, 4]);
    }
}
