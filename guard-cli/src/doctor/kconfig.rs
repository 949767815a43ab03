//! The kernel's build configuration, where the distribution left it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// `CONFIG_*` lines.
#[derive(Debug)]
pub(crate) struct KernelConfig(BTreeMap<String, String>);

impl KernelConfig {
    /// Of the running kernel, if it can be found.
    pub(crate) fn find(release: &str) -> Option<(PathBuf, Self)> {
        let plain = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
        for path in plain.map(PathBuf::from) {
            if let Ok(text) = fs::read_to_string(&path) {
                return Some((path, Self::parse(&text)));
            }
        }
        let path = Path::new("/proc/config.gz");
        // Every Linux system has gzip; a decompressor of our own for one file is not worth its
        // code.
        let output = path.exists().then(|| Command::new("gzip").arg("-dc").arg(path).output());
        let output = output?.ok().filter(|output| output.status.success())?;
        Some((path.to_owned(), Self::parse(&String::from_utf8_lossy(&output.stdout))))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    /// A text option, without its quotation marks.
    pub(crate) fn text(&self, option: &str) -> Option<&str> {
        self.0.get(option).map(|value| value.trim_matches('"'))
    }

    /// Whether an option is built in. For `bool` options that is the same as "on".
    pub(crate) fn has(&self, option: &str) -> bool {
        self.0.get(option).is_some_and(|value| value == "y")
    }
}
