//! guard-common's layouts as aya map keys and values.

use guard_common::{
    guardian::Guardian,
    hold::{ActionKey, Config, Grant, HoldRecord, StandingKey},
    label::SelectorKey,
    sent::{SentKey, SentRecord},
};

/// A layout of guard-common; the newtype is ours, so that aya's marker trait can be implemented.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Wire<T>(pub(crate) T);

// SAFETY: `repr(C)` integers with explicit padding, every bit pattern valid, layouts asserted in
// guard-common; `Wire` is transparent.
unsafe impl aya::Pod for Wire<ActionKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<HoldRecord> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<Grant> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<Config> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<Guardian> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<SelectorKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<StandingKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<SentKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<SentRecord> {}
