//! `guard-fuzz`: runs one target over files, writes the seeds, or hands a target to libFuzzer. People call
//! `cargo xtask fuzz`.

#[cfg(feature = "libfuzzer")]
mod driver;

use anyhow::{Context as _, Result, bail};
use guard_fuzz::{TARGETS, Target, find, seeds};
use std::{fs, path::Path};

const USAGE: &str = "\
usage: guard-fuzz targets                 names and longest inputs
       guard-fuzz replay TARGET FILE…     runs TARGET over the files
       guard-fuzz seeds DIR               writes valid inputs to DIR/TARGET/
       guard-fuzz new-bundle DIR          makes the bundle of the target `bundle` anew, and its key
       guard-fuzz fuzz TARGET OPTION…     libFuzzer (built by `cargo xtask fuzz` only)";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["targets"] => {
            for Target { name, max_len, .. } in TARGETS {
                println!("{name} {max_len}");
            }
            Ok(())
        }
        ["replay", name, files @ ..] => replay(known(name)?, files),
        ["seeds", directory] => write_seeds(Path::new(directory)),
        ["new-bundle", directory] => {
            let (bundle, key) = seeds::new_bundle();
            write(&Path::new(directory).join("corpus/bundle/whole"), &bundle)?;
            write(&Path::new(directory).join("bundle.vkey"), format!("{key}\n").as_bytes())
        }
        ["fuzz", name, options @ ..] => fuzz(known(name)?, options),
        _ => bail!(USAGE),
    }
}

fn known(name: &str) -> Result<Target> {
    let names = TARGETS.map(|target| target.name).join(", ");
    find(name).with_context(|| format!("no target `{name}`; there are {names}"))
}

fn replay(target: Target, files: &[&str]) -> Result<()> {
    for file in files {
        let bytes = fs::read(file).with_context(|| (*file).to_owned())?;
        let accepted = (target.run)(&bytes);
        println!("{file}: {}", if accepted { "accepted" } else { "refused" });
    }
    Ok(())
}

fn write_seeds(directory: &Path) -> Result<()> {
    // The bundle is what its target compares with: `new-bundle` alone makes it.
    for Target { name, .. } in TARGETS.into_iter().filter(|target| target.name != "bundle") {
        for (seed, bytes) in seeds::of(name) {
            write(&directory.join(name).join(seed), &bytes)?;
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))
        .with_context(|| path.display().to_string())?;
    fs::write(path, bytes).with_context(|| path.display().to_string())
}

#[cfg(feature = "libfuzzer")]
fn fuzz(target: Target, options: &[&str]) -> Result<()> {
    driver::run(target, options)
}

#[cfg(not(feature = "libfuzzer"))]
fn fuzz(target: Target, _: &[&str]) -> Result<()> {
    bail!("built without libFuzzer: run `cargo xtask fuzz --target {}`", target.name)
}
