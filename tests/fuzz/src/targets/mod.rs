//! The targets, by where their bytes come from.

pub(crate) mod log;
pub(crate) mod policy;
pub(crate) mod ring;
pub(crate) mod socket;
pub(crate) mod spool;
pub(crate) mod wire;

use serde::{Serialize, de::DeserializeOwned};

/// What was accepted is read again as it is written.
fn survives_json<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let text = serde_json::to_vec(value).unwrap();
    let again: T = serde_json::from_slice(&text).unwrap();
    assert_eq!(&again, value, "written and read again");
}
