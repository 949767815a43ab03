//! The ring buffer as an asynchronous source of events.

use super::{KernelEvent, LoadError, convert};
use aya::maps::{Map, MapData, RingBuf};
use tokio::io::unix::AsyncFd;

/// Events in the order in which the kernel reserved them.
pub struct EventSource {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl EventSource {
    pub(super) fn new(map: Map) -> Result<Self, LoadError> {
        let failed = |why: String| LoadError::Map { map: "EVENTS", why };
        let ring = RingBuf::try_from(map).map_err(|error| failed(error.to_string()))?;
        // SAFETY: the ring buffer owns its map's descriptor, gives out no other, and is owned by the
        // `AsyncFd` until both are dropped together.
        let ring = unsafe { AsyncFd::register(ring) };
        let ring = ring.map_err(|error| failed(error.to_string()))?;
        Ok(Self { ring })
    }

    /// The next event; `None` only if the ring buffer can no longer be waited for.
    pub async fn next(&mut self) -> Option<KernelEvent> {
        loop {
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            self.ring.readable_mut().await.ok()?.clear_ready();
            // Something may have come between the last look and `clear_ready`: look again first.
        }
    }

    /// The next event if there is one now.
    pub fn try_next(&mut self) -> Option<KernelEvent> {
        let item = self.ring.get_mut().next()?;
        Some(convert::event(&item).unwrap_or_else(|error| {
            tracing::error!(%error, "a ring buffer record could not be decoded");
            convert::lost("undecodable", 1)
        }))
    }
}

/// Most that a ring buffer may take of the kernel's memory, MiB: more is a mistake.
const RING_MIB_MAX: u32 = 1024;

/// Reads the size of a ring buffer, MiB.
///
/// # Errors
/// Not a power of two from 1 to 1,024, in words.
pub fn parse_mib(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(mib) if mib.is_power_of_two() && mib <= RING_MIB_MAX => Ok(mib),
        _ => Err(format!("a power of two from 1 to {RING_MIB_MAX} is needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_mib;

    #[test]
    fn a_ring_has_a_power_of_two_of_mebibytes_and_no_more_than_a_gibibyte() {
        assert_eq!(parse_mib("1"), Ok(1));
        assert_eq!(parse_mib("1024"), Ok(1024));
        for wrong in ["0", "3", "2048", "-2", "16M", ""] {
            assert!(parse_mib(wrong).is_err(), "{wrong}");
        }
    }
}
