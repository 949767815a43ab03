//! Packages of other Debian suites, through a private apt configuration: nothing on the machine changes.

use crate::run::{quietly, say};
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with lists and archives of its own.
pub(crate) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Writes the configuration; fetches lists only when something is asked for that they lack.
    pub(crate) fn new(cache: &Path) -> Result<Self> {
        let directory = cache.join("apt");
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(directory.join(part))?;
        }
        let at = directory.display();
        fs::write(directory.join("status"), "")?;
        let config = format!(
            "Dir::Etc::sourcelist \"{at}/sources.list\"; Dir::Etc::sourceparts \"-\";\n\
             Dir::State::lists \"{at}/lists\"; Dir::State::status \"{at}/status\";\n\
             Dir::Cache::archives \"{at}/archives\"; Dir::Cache::pkgcache \"\";\n\
             Dir::Cache::srcpkgcache \"\"; APT::Sandbox::User \"root\";\n\
             APT::Install-Recommends \"false\"; Acquire::Retries \"3\"; APT::Architecture \"amd64\";\n"
        );
        fs::write(directory.join("apt.conf"), config)?;
        Ok(Self { directory })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.directory.join("apt.conf"));
        command
    }

    fn update(&self) -> Result<()> {
        let mirror = mirror()?;
        let suites = ["bookworm", "trixie", "trixie-backports"];
        let sources: String = suites
            .iter()
            .map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
            .collect();
        fs::write(self.directory.join("sources.list"), sources)?;
        say("fetching Debian's package lists");
        quietly(self.command("apt-get").args(["-q", "update"]))?;
        fs::write(self.directory.join("updated"), "")?;
        Ok(())
    }

    /// Runs `ask` on the lists that are there; if that fails, on fresh ones.
    pub(crate) fn with_lists<T>(&self, ask: impl Fn(&Self) -> Result<T>) -> Result<T> {
        if self.directory.join("updated").exists()
            && let Ok(answer) = ask(self)
        {
            return Ok(answer);
        }
        self.update()?;
        ask(self)
    }

    /// Names of packages that match the regular expression.
    pub(crate) fn search(&self, names: &str) -> Result<Vec<String>> {
        let text = quietly(self.command("apt-cache").args(["search", "--names-only", names]))?;
        Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }

    /// Versions of a package, newest first.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>> {
        let text = quietly(self.command("apt-cache").args(["madison", package]))?;
        let second = |line: &str| line.split('|').nth(1).map(|field| field.trim().to_owned());
        Ok(text.lines().filter_map(second).collect())
    }

    /// Downloads packages, without their dependencies, into `to`.
    pub(crate) fn download(&self, packages: &[String], to: &Path) -> Result<()> {
        fs::create_dir_all(to)?;
        let mut command = self.command("apt-get");
        quietly(command.current_dir(to).args(["-q", "download"]).args(packages)).map(drop)
    }

    /// Downloads packages and all that they depend on, as for a machine that has nothing; the files.
    pub(crate) fn download_with_dependencies(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let install = |options: &[&str]| {
            let mut command = self.command("apt-get");
            // Without this, apt takes the machine's own dpkg lock.
            command.args(["-q", "-y", "-o", "Debug::NoLocking=1"]).args(options);
            quietly(command.arg("install").args(packages))
        };
        install(&["--download-only"])?;
        // The archive may hold older versions too: which files are meant is what apt would fetch into
        // an empty one.
        let empty = self.directory.join("empty");
        fs::create_dir_all(empty.join("partial"))?;
        let elsewhere = format!("Dir::Cache::archives={}", empty.display());
        let listed = install(&["--print-uris", "-o", &elsewhere])?;
        let archives = self.directory.join("archives");
        let files: Vec<PathBuf> = deb_names(&listed).map(|name| archives.join(name)).collect();
        match files.iter().find(|file| !file.is_file()) {
            Some(file) => bail!("apt did not download {}", file.display()),
            None if files.is_empty() => bail!("apt named nothing for {}", packages.join(" ")),
            None => Ok(files),
        }
    }
}

/// `'http://…/bash_5.2.deb' bash_5.2_amd64.deb 1234 SHA256:…` → `bash_5.2_amd64.deb`.
fn deb_names(listed: &str) -> impl Iterator<Item = &str> {
    let uris = listed.lines().filter(|line| line.starts_with('\''));
    uris.filter_map(|line| line.split(' ').nth(1)).filter(|name| name.ends_with(".deb"))
}

/// Unpacks a package without running anything of it.
pub(crate) fn unpack(deb: &Path, to: &Path) -> Result<()> {
    quietly(Command::new("dpkg-deb").arg("-x").arg(deb).arg(to)).map(drop)
}

/// The mirror that this machine uses.
fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("GUARD_DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mirror = text
            .lines()
            .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
            .flat_map(str::split_ascii_whitespace)
            .find(|word| {
                word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian")
            });
        if let Some(mirror) = mirror {
            return Ok(mirror.to_owned());
        }
    }
    if Path::new(KEYRING).exists() {
        bail!("no Debian mirror in /etc/apt: set GUARD_DEBIAN_MIRROR to one");
    }
    Err(anyhow::anyhow!("{KEYRING} is missing"))
        .context("kernels and the VM's root tree come from Debian: install debian-archive-keyring")
}

#[cfg(test)]
mod tests {
    use super::deb_names;

    #[test]
    fn the_files_that_apt_names_are_found() {
        let listed = "Reading package lists...\n'http://m/bash_5.2%3a1.deb' bash_5.2%3a1_amd64.deb 9 \
                      SHA256:00\nAfter this operation, 9 MB\n";
        assert_eq!(deb_names(listed).collect::<Vec<_>>(), ["bash_5.2%3a1_amd64.deb"]);
    }
}
