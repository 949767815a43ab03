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
        if self.directory.join("updated").exists() {
            if let Ok(answer) = ask(self) {
                return Ok(answer);
            }
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
    pub(crate) fn download(&self, packages: &[&str], to: &Path) -> Result<()> {
        fs::create_dir_all(to)?;
        let mut command = self.command("apt-get");
        quietly(command.current_dir(to).args(["-q", "download"]).args(packages)).map(drop)
    }

    /// Downloads packages and all that they depend on, as for a machine that has nothing; the files.
    pub(crate) fn download_with_dependencies(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let install = ["-q", "-y", "--allow-unauthenticated=false", "install"];
        let mut command = self.command("apt-get");
        command.args(["-o", "Debug::NoLocking=1"]).args(install);
        quietly(command.args(["--download-only"]).args(packages))?;
        let mut command = self.command("apt-get");
        let listed =
            quietly(command.args(install).args(["--print-uris", "--reinstall"]).args(packages))?;
        // Everything is in the archive already: what is left to print are the names that apt wants.
        let archives = self.directory.join("archives");
        let mut files = Vec::new();
        for entry in fs::read_dir(&archives)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                files.push(path);
            }
        }
        if files.is_empty() {
            bail!("apt downloaded nothing for {}; it said: {listed}", packages.join(" "));
        }
        Ok(files)
    }
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
                word.starts_with("http") && word.trim_end_matches('/').ends_with("debian")
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
