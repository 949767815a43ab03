//! [`Controller`]: everything that the UI, the REST API, `guard up` and the gRPC server may do.

mod api;

pub use api::{Controller, JoinToken, Running};
