//! REST under `/api/v1`: what the UI's script, `guard` and other programs use.

pub(crate) mod events;
pub(crate) mod evidence;
pub(crate) mod holds;
pub(crate) mod legal_holds;
pub(crate) mod log;
pub(crate) mod openapi;
pub(crate) mod people;
pub(crate) mod schema;
pub(crate) mod search;
pub(crate) mod sessions;
