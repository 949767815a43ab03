//! Compiles `guard/v1.proto` with protox: pure Rust, no `protoc` to install.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=guard/v1.proto");
    let descriptors = protox::compile(["guard/v1.proto"], ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
