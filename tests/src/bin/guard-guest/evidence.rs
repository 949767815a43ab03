//! guard-agent's evidence as the scenarios look at it: again and again, so that each record is read once. Under
//! emulation reading all of it anew took longer than what most scenarios try.

use crate::guard;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// What was read so far.
static KNOWN: Mutex<Vec<Arc<Value>>> = Mutex::new(Vec::new());

/// All records that guard-agent has now. They are of one boot, and no scenario takes any away.
pub(crate) fn records() -> Vec<Arc<Value>> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let last = known.last().and_then(|record| record["sequence"].as_u64()).unwrap_or(0);
    let text = guard::agent_evidence_after(last);
    known.extend(text.lines().map_while(|line| serde_json::from_str(line).ok()).map(Arc::new));
    known.clone()
}

/// Whether there is such a record: among what is known, or now.
pub(crate) fn any(is: impl Fn(&Value) -> bool) -> bool {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    known.iter().any(|record| is(record)) || records().iter().any(|record| is(record))
}

/// How many such records there are now.
pub(crate) fn count(is: impl Fn(&Value) -> bool) -> usize {
    records().iter().filter(|record| is(record)).count()
}
