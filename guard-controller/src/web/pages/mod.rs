//! The pages: view models and handlers. Templates stand in `guard-controller/templates/`.

pub(crate) mod account;
pub(crate) mod evidence;
pub(crate) mod history;
pub(crate) mod hold;
pub(crate) mod hosts;
pub(crate) mod layout;
pub(crate) mod queue;
pub(crate) mod sessions;
pub(crate) mod sign_in;
pub(crate) mod timeline;
pub(crate) mod users;
