//! Tests of the whole crate: the default pack, errors, hold semantics, approval, properties.

mod approve;
mod default_pack;
mod errors;
mod hold;
mod other;
mod properties;
pub(crate) mod support;
