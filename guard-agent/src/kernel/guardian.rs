//! guard-agent as the kernel's guardian: while it runs nobody else changes Guard's maps, and nobody else ever
//! removes its pins.

use super::{load::LoadError, sys::obj_get, wire::Wire};
use aya::maps::{Array, Map, MapData, MapError};
use guard_common::guardian::{Guardian, MOUNTS_MAX};
use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Bits of a minor device number in the kernel's own `dev_t` (`include/linux/kdev_t.h`).
const MINOR_BITS: u32 = 20;
/// The map, and its pin in the state directory.
pub(super) const MAP: &str = "GUARDIAN";

/// The guardian's entry in the kernel.
pub(super) struct Seat {
    map: Array<MapData, Wire<Guardian>>,
    pin: PathBuf,
    root: PathBuf,
    protects: bool,
    mountinfos: [String; 2],
}

impl Seat {
    /// Becomes the guardian of the pins below `root`, by the map that is pinned at `pin`.
    pub(super) fn take(pin: &Path, root: &Path, protects: bool) -> Result<Self, LoadError> {
        let failed = |error: MapError| match error {
            MapError::SyscallError(error)
                if error.io_error.kind() == io::ErrorKind::PermissionDenied =>
            {
                LoadError::Guarded { path: pin.to_owned() }
            }
            other => LoadError::Map { map: MAP, why: other.to_string() },
        };
        let map = MapData::from_pin(pin).map_err(|error| match error {
            MapError::PinError { .. } if refused(pin) => {
                LoadError::Guarded { path: pin.to_owned() }
            }
            other => failed(other),
        })?;
        let map = Map::from_map_data(map).and_then(Array::try_from).map_err(failed)?;
        let (pin, root) = (pin.to_owned(), root.to_owned());
        let mut seat = Self { map, pin, root, protects, mountinfos: mountinfos() };
        seat.renew().map_err(|error| LoadError::Map { map: MAP, why: error.to_string() })?;
        if protects && refused(&seat.pin) {
            // The kernel knows this process by another number, and would keep it out of its own maps.
            tracing::error!(
                "guard-agent is not in the initial pid namespace (`hostPID: true` in Kubernetes): its maps \
                 and pins are not protected against other processes"
            );
            seat.protects = false;
            seat.renew().map_err(|error| LoadError::Map { map: MAP, why: error.to_string() })?;
        }
        Ok(seat)
    }

    /// Whether others are kept out.
    pub(super) const fn protects(&self) -> bool {
        self.protects
    }

    /// Looks where the pins are mounted: at the start, and after the file system was mounted anew.
    pub(super) fn look(&mut self) {
        self.mountinfos = mountinfos();
    }

    /// A sign of life, with where the pins are now.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        let directory = fs::metadata(&self.root)?;
        let dev = directory.dev();
        let guardian = Guardian {
            tgid: std::process::id(),
            protects: u32::from(self.protects),
            alive_ns: super::boottime_ns(),
            pins_dev: u64::from(libc::major(dev)) << MINOR_BITS | u64::from(libc::minor(dev)),
            pins_ino: directory.ino(),
            mounts: ids_of(&self.mountinfos, dev),
        };
        self.map.set(0, Wire(guardian), 0).map_err(|error| io::Error::other(error.to_string()))
    }
}

/// Whether the kernel refuses a descriptor of what is pinned there.
fn refused(pin: &Path) -> bool {
    obj_get(pin).is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
}

/// The mounts that guard-agent sees, and those of the host, which are others in a container. One that cannot
/// be read has none.
fn mountinfos() -> [String; 2] {
    ["/proc/self/mountinfo", "/proc/1/mountinfo"]
        .map(|path| fs::read_to_string(path).unwrap_or_default())
}

/// The ids of the mounts of a file system in some `/proc/PID/mountinfo`s, each once.
fn ids_of(mountinfos: &[String], dev: u64) -> [u32; MOUNTS_MAX] {
    let device = format!("{}:{}", libc::major(dev), libc::minor(dev));
    let mut found: Vec<u32> = mountinfos
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let id = fields.next()?.parse().ok()?;
            (fields.nth(1)? == device).then_some(id)
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    let mut ids = [0; MOUNTS_MAX];
    for (to, from) in ids.iter_mut().zip(found) {
        *to = from;
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "\
22 1 0:20 / /sys rw,relatime shared:7 - sysfs sysfs rw
31 22 0:29 / /sys/fs/bpf rw,nosuid shared:11 - bpf bpf rw,mode=700
40 22 0:290 / /x rw - tmpfs tmpfs rw
";

    #[test]
    fn mounts_of_the_file_system_are_found_in_every_namespace_once() {
        let host =
            "31 22 0:29 / /sys/fs/bpf rw - bpf bpf rw\n77 22 0:29 /guard /mnt rw - bpf bpf rw\n";
        let texts = [OWN.to_owned(), host.to_owned(), "rubbish\n".to_owned()];
        assert_eq!(ids_of(&texts, libc::makedev(0, 29)), [31, 77, 0, 0]);
        assert_eq!(ids_of(&texts, libc::makedev(0, 30)), [0; MOUNTS_MAX]);
    }

    #[test]
    fn more_mounts_than_the_kernel_has_room_for_are_left_out() {
        let lines =
            (1..=MOUNTS_MAX + 2).map(|id| format!("{id} 1 0:29 / /m{id} rw - bpf bpf rw\n"));
        let ids = ids_of(&[lines.collect()], libc::makedev(0, 29));
        assert_eq!(ids, [1, 2, 3, 4]);
    }
}
