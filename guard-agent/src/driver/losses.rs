//! Loss counters of the kernel: a difference since the last look is evidence (H7), also over a
//! restart.

use guard_common::counter::{
    COUNTERS, DENIED_LABEL, DENIED_RING_FULL, EVENTS_LOST, SENT_UNCOUNTED, name,
};
use guard_model::BootId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// What happened without a record of its own.
const LOSS_COUNTERS: [u32; 4] = [EVENTS_LOST, DENIED_RING_FULL, DENIED_LABEL, SENT_UNCOUNTED];

/// Key of [`PROGRAMS_SKIPPED`] among the counters, whose indices are small.
const SKIPPED: u32 = u32::MAX;
/// How often the kernel met a hook and did not run its program.
pub(super) const PROGRAMS_SKIPPED: &str = "programs_skipped";

/// The counters as they were last.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Losses {
    boot: Option<BootId>,
    seen: BTreeMap<u32, u64>,
}

impl Losses {
    /// What an earlier guard-agent of this boot saw last. Without its word everything counts as
    /// new: said twice is better than not at all.
    pub(super) fn load(path: &Path, boot: BootId) -> Self {
        let saved: Option<Self> =
            std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        saved.filter(|saved| saved.boot == Some(boot)).unwrap_or_default()
    }

    pub(super) fn save(&mut self, path: &Path, boot: BootId) {
        self.boot = Some(boot);
        let written = serde_json::to_vec(self).map_err(std::io::Error::from).and_then(|text| {
            let new = path.with_extension("new");
            std::fs::write(&new, text)?;
            std::fs::rename(&new, path)
        });
        if let Err(error) = written {
            tracing::error!(path = %path.display(), %error, "loss counters could not be kept");
        }
    }

    /// Which counters have moved since the last look, and by how much, with `skipped` programs among them. A
    /// counter that fell belongs to fresh maps or programs and starts again from zero.
    pub(super) fn moved(&mut self, counters: &[u64], skipped: u64) -> Vec<(&'static str, u64)> {
        let mut moved = Vec::new();
        let value = |counter: u32| counters.get(counter as usize).copied().unwrap_or(0);
        let all = LOSS_COUNTERS.map(|counter| (counter, name(counter), value(counter)));
        for (counter, name, now) in all.into_iter().chain([(SKIPPED, PROGRAMS_SKIPPED, skipped)]) {
            let before = self.seen.insert(counter, now).filter(|before| *before <= now);
            let by = now - before.unwrap_or(0);
            if by > 0 {
                moved.push((name, by));
            }
        }
        moved
    }
}

/// Whether tasks may have come or gone unseen, where `counter` has moved.
pub(super) fn may_hide_tasks(counter: &str) -> bool {
    counter != name(SENT_UNCOUNTED)
}

/// All counters that have a name.
pub(super) fn named(counters: &[u64]) -> BTreeMap<String, u64> {
    (0..COUNTERS)
        .zip(counters)
        .filter(|(index, _)| name(*index) != "reserved")
        .map(|(index, value)| (name(index).to_owned(), *value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn only_a_loss_of_sums_hides_no_task() {
        let hiding: Vec<_> = (LOSS_COUNTERS.into_iter().map(name).chain([PROGRAMS_SKIPPED]))
            .filter(|counter| may_hide_tasks(counter))
            .collect();
        assert_eq!(hiding, ["events_lost", "denied_ring_full", "denied_label", PROGRAMS_SKIPPED]);
    }

    #[test]
    fn a_moved_loss_counter_is_said_once_even_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("losses.json");
        let boot = BootId(Uuid::from_u128(1));
        let mut counters = vec![0; COUNTERS as usize];
        let mut losses = Losses::load(&path, boot);
        assert!(losses.moved(&counters, 0).is_empty());
        counters[EVENTS_LOST as usize] = 3;
        assert_eq!(losses.moved(&counters, 0), [("events_lost", 3)]);
        losses.save(&path, boot);
        let mut losses = Losses::load(&path, boot);
        assert!(losses.moved(&counters, 0).is_empty());
        counters[EVENTS_LOST as usize] = 5;
        assert_eq!(losses.moved(&counters, 0), [("events_lost", 2)]);
        // Fresh maps.
        counters[EVENTS_LOST as usize] = 1;
        assert_eq!(losses.moved(&counters, 0), [("events_lost", 1)]);
        assert_eq!(losses.moved(&counters, 2), [("programs_skipped", 2)]);
        assert!(losses.moved(&counters, 2).is_empty());
        // Other programs.
        assert_eq!(losses.moved(&counters, 1), [("programs_skipped", 1)]);
        let mut other_boot = Losses::load(&path, BootId(Uuid::from_u128(2)));
        assert_eq!(other_boot.moved(&counters, 0), [("events_lost", 1)]);
    }
}
