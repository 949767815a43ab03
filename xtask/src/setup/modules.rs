//! Kernel modules by name, with what they depend on, in the order in which they must be inserted.

use anyhow::{Context as _, Result, bail};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Deepest folder below `kernel/` that is looked into.
const DEPTH_MAX: u32 = 16;

/// A module's name and its uncompressed image.
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) image: Vec<u8>,
}

/// The wanted modules of a kernel and all below them. What is built in is left out; a module that is
/// neither there nor built in is an error.
pub(crate) fn load_order(modules: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    // 7.3's packages have no such list: there, what is no module is taken for built in, and a VM that
    // lacks it says so at once.
    let builtin = fs::read_to_string(modules.join("modules.builtin")).ok();
    let mut resolver = Resolver {
        files: BTreeMap::new(),
        builtin: builtin.map(|list| list.lines().map(|line| name_of(Path::new(line))).collect()),
        done: BTreeSet::new(),
        order: Vec::new(),
    };
    collect(&modules.join("kernel"), DEPTH_MAX, &mut resolver.files)?;
    for name in wanted {
        resolver.add(name)?;
    }
    Ok(resolver.order)
}

struct Resolver {
    files: BTreeMap<String, PathBuf>,
    builtin: Option<BTreeSet<String>>,
    done: BTreeSet<String>,
    order: Vec<Module>,
}

impl Resolver {
    fn add(&mut self, name: &str) -> Result<()> {
        let builtin = match &self.builtin {
            Some(builtin) => builtin.contains(name),
            None => !self.files.contains_key(name),
        };
        if builtin || !self.done.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self.files.get(name).with_context(|| format!("no kernel module {name}"))?;
        let image = read(path)?;
        for dependency in dependencies(&image) {
            self.add(&dependency).with_context(|| format!("which {name} needs"))?;
        }
        self.order.push(Module { name: name.to_owned(), image });
        Ok(())
    }
}

fn collect(folder: &Path, depth: u32, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let Some(depth) = depth.checked_sub(1) else {
        bail!("{} is nested too deeply", folder.display())
    };
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), depth, files)?;
        } else {
            files.insert(name_of(&entry.path()), entry.path());
        }
    }
    Ok(())
}

/// `…/virtio-net.ko.xz` → `virtio_net`.
fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(".ko").next().unwrap_or_default().replace('-', "_")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let unpack = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return fs::read(path).with_context(|| format!("read {}", path.display())),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => bail!("{} is compressed in a way that xtask does not know", path.display()),
    };
    let output = Command::new(unpack).arg("-dcq").arg(path).output();
    let output = output.with_context(|| format!("cannot run {unpack}"))?;
    if !output.status.success() {
        bail!("`{unpack} -dcq {}` failed: {}", path.display(), output.status);
    }
    Ok(output.stdout)
}

/// The `depends=` line of the module's `.modinfo` section.
fn dependencies(image: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = image.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = image[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(value);
    text.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_depend_on() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = dir.path().join("kernel/fs");
        fs::create_dir_all(&kernel).unwrap();
        fs::write(dir.path().join("modules.builtin"), "kernel/lib/crc-c.ko\n").unwrap();
        fs::write(kernel.join("top-fs.ko"), b"ELF\0depends=base,crc_c\0x").unwrap();
        fs::write(kernel.join("base.ko"), b"ELF\0depends=\0").unwrap();
        let order = load_order(dir.path(), &["top_fs", "base"]).unwrap();
        let names: Vec<&str> = order.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["base", "top_fs"]);
        let error = load_order(dir.path(), &["absent"]).err().unwrap();
        assert!(error.to_string().contains("absent"), "{error}");
    }
}
