//! guard-agent's evidence as the scenarios look at it: again and again, so that each record is parsed once. Under
//! emulation reading all of it anew took longer than what most scenarios try.

use crate::guard;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// What was parsed so far.
struct Known {
    /// The first line of it: another one is other evidence, or some was removed, and all is parsed anew.
    first: String,
    records: Vec<Arc<Value>>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { first: String::new(), records: Vec::new() });

/// All records that guard-agent has now.
pub(crate) fn records() -> Vec<Arc<Value>> {
    let text = guard::agent_evidence();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let first = text.lines().next().unwrap_or_default();
    if known.first != first {
        *known = Known { first: first.to_owned(), records: Vec::new() };
    }
    let seen = known.records.len();
    let new = text.lines().skip(seen).map_while(|line| serde_json::from_str(line).ok());
    known.records.extend(new.map(Arc::new));
    known.records.clone()
}

/// Whether there is such a record: among what is known, or now.
pub(crate) fn any(is: impl Fn(&Value) -> bool) -> bool {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).records.clone();
    known.iter().any(|record| is(record)) || records().iter().any(|record| is(record))
}

/// How many such records there are now.
pub(crate) fn count(is: impl Fn(&Value) -> bool) -> usize {
    records().iter().filter(|record| is(record)).count()
}
