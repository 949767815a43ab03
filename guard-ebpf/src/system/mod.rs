//! Uses of the kernel that reach beyond files and sockets: namespaces, mounts, code for the kernel,
//! identities and clocks. Held where the caller hands our error on as it is; where it does not, answered
//! at once by a standing permission.

mod code;
mod identity;
mod mount;
pub mod namespace;
