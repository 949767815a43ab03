//! Exec selectors: programs, users and cgroups whose processes are sessions from the first instruction
//! of their image, without `guard run`.
//!
//! A [`Selector`] is what a person writes (`--select`); [`Selectors`] is what the kernel is told: the
//! device and inode, user id or cgroup id behind each, and a number by which its record says which one it
//! was. They are looked up again with every heartbeat, because a package upgrade gives a program another
//! inode, and a restarted unit another cgroup.

mod lookup;

use crate::socket::protocol::{InvalidRequest, is_session_name};
use guard_common::label::{SELECT_UID, SELECTORS_MAX, SelectorKey};
use sha2::{Digest as _, Sha256};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Which processes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// That run this program.
    Program(PathBuf),
    /// Of this real user id.
    Uid(u32),
    /// In exactly this cgroup (v2).
    Cgroup(PathBuf),
}

/// One `--select`: which processes, and what their sessions are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    what: What,
    name: String,
}

/// A `--select` that is none, in words that say what to write.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSelector {
    /// Neither of the three kinds.
    #[error("write program=PATH,as=NAME or uid=N,as=NAME or cgroup=PATH,as=NAME")]
    Kind,
    /// No name.
    #[error("it does not say what the session is called: add ,as=NAME")]
    Unnamed,
    /// A name that cannot be one.
    #[error("`{0}` is no name: {error}", error = InvalidRequest::Name)]
    Name(String),
    /// Not a number.
    #[error("`{0}` is no user id: write the number that `id -u USER` prints")]
    Uid(String),
    /// Root.
    #[error(
        "uid=0 would make a session of everything that the system starts, guard-agent's own next start \
         included: select a program or a cgroup, or run agents as an account of their own"
    )]
    Root,
    /// A path that depends on where one stands.
    #[error("`{path}` is relative: write the whole path, as `command -v {path}` prints it", path = .0.display())]
    Relative(PathBuf),
}

/// A selector that selects nothing on this machine, or too much.
#[derive(Debug, thiserror::Error)]
pub enum SelectorError {
    /// The program or cgroup is not there.
    #[error("--select {selector}: cannot read {path} ({advice})")]
    Missing {
        /// The selector, as written.
        selector: String,
        /// What was looked at.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// It is there, and cannot be selected.
    #[error("--select {selector}: {problem}")]
    Unfit {
        /// The selector, as written.
        selector: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Two selectors are one.
    #[error("--select {first} and --select {second} are the same processes: keep one of them")]
    Twice {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// More than the kernel's table holds.
    #[error("{0} selectors, and at most {SELECTORS_MAX} are taken")]
    TooMany(usize),
}

impl FromStr for Selector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = text.split_once('=').ok_or(InvalidSelector::Kind)?;
        if !["program", "uid", "cgroup"].contains(&kind) {
            return Err(InvalidSelector::Kind);
        }
        // The last one: a path may have commas.
        let (value, name) = rest.rsplit_once(",as=").ok_or(InvalidSelector::Unnamed)?;
        if !is_session_name(name) {
            return Err(InvalidSelector::Name(name.to_owned()));
        }
        let what = match kind {
            "program" => What::Program(absolute(value)?),
            "uid" => What::Uid(uid(value)?),
            _ => What::Cgroup(absolute(value)?),
        };
        Ok(Self { what, name: name.to_owned() })
    }
}

fn absolute(text: &str) -> Result<PathBuf, InvalidSelector> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err(InvalidSelector::Relative(path)) }
}

fn uid(text: &str) -> Result<u32, InvalidSelector> {
    match text.parse() {
        Ok(0) => Err(InvalidSelector::Root),
        // -1 is no user, but "do not change it" to the kernel.
        Ok(uid) if uid != u32::MAX => Ok(uid),
        _ => Err(InvalidSelector::Uid(text.to_owned())),
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.what {
            What::Program(path) => write!(f, "program={},as={name}", path.display()),
            What::Uid(uid) => write!(f, "uid={uid},as={name}"),
            What::Cgroup(path) => write!(f, "cgroup={},as={name}", path.display()),
        }
    }
}

impl Selector {
    /// What the kernel compares.
    fn look_up(&self) -> Result<SelectorKey, SelectorError> {
        match &self.what {
            What::Program(path) => lookup::program(self, path),
            What::Uid(uid) => {
                Ok(SelectorKey { kind: SELECT_UID, _pad: 0, dev: 0, id: u64::from(*uid) })
            }
            What::Cgroup(path) => lookup::cgroup(self, path),
        }
    }

    /// The number in the kernel's record of a session that it started. From the name and not from the
    /// place in the configuration: a record may be read by the next guard-agent, with another one.
    fn number(&self) -> u64 {
        let digest = Sha256::digest(self.name.as_bytes());
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn unfit(&self, problem: impl Into<String>) -> SelectorError {
        SelectorError::Unfit { selector: self.to_string(), problem: problem.into() }
    }

    fn missing(&self, path: &Path, source: io::Error, advice: &'static str) -> SelectorError {
        SelectorError::Missing { selector: self.to_string(), path: path.into(), source, advice }
    }
}

/// All selectors of this host, looked up.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    configured: Vec<Selector>,
    active: Vec<(SelectorKey, u64)>,
    /// What could not be looked up last time, so that it is said once.
    problems: Vec<String>,
}

impl Selectors {
    /// Looks all of them up.
    ///
    /// # Errors
    /// [`SelectorError`]: one of them selects nothing here, or what it must not.
    pub fn resolve(configured: Vec<Selector>) -> Result<Self, SelectorError> {
        if configured.len() > SELECTORS_MAX as usize {
            return Err(SelectorError::TooMany(configured.len()));
        }
        let mut found: Vec<(SelectorKey, &Selector)> = Vec::new();
        for selector in &configured {
            let key = selector.look_up()?;
            if let Some((_, first)) = found.iter().find(|(taken, _)| *taken == key) {
                let (first, second) = (first.to_string(), selector.to_string());
                return Err(SelectorError::Twice { first, second });
            }
            found.push((key, selector));
        }
        let active = found.into_iter().map(|(key, selector)| (key, selector.number())).collect();
        Ok(Self { configured, active, problems: Vec::new() })
    }

    /// What the kernel's table is to hold: everything else goes.
    #[must_use]
    pub fn active(&self) -> &[(SelectorKey, u64)] {
        &self.active
    }

    /// Looks everything up again; whether [`Selectors::active`] is another one now. What is not there any
    /// more selects nothing until it is back: its inode or cgroup id may be something else's by then.
    pub fn refresh(&mut self) -> bool {
        let (mut active, mut problems) = (Vec::new(), Vec::new());
        for selector in &self.configured {
            match selector.look_up() {
                Ok(key) => active.push((key, selector.number())),
                Err(error) => problems.push(format!("{:#}", anyhow::Error::new(error))),
            }
        }
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::error!("{problem}; it selects nothing now");
        }
        self.problems = problems;
        std::mem::replace(&mut self.active, active) != self.active
    }

    /// The name of sessions that the kernel started by the selector with this number.
    #[must_use]
    pub fn name(&self, number: u64) -> Option<&str> {
        let selector = self.configured.iter().find(|selector| selector.number() == number);
        selector.map(|selector| selector.name.as_str())
    }
}

impl fmt::Display for Selectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.configured.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_common::label::SELECT_PROGRAM;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    fn parse(text: &str) -> Result<Selector, InvalidSelector> {
        text.parse()
    }

    fn program(path: &Path, name: &str) -> Selector {
        parse(&format!("program={},as={name}", path.display())).unwrap()
    }

    /// Memory, because the temporary directory of a container may be on an overlay.
    fn directory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").unwrap()
    }

    /// A program of our own: `/bin/true` under another name.
    fn make_program(directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(name);
        fs::copy("/bin/true", &path).unwrap();
        path
    }

    #[test]
    fn a_selector_is_read_as_it_is_shown() {
        for text in [
            "program=/usr/bin/claude,as=claude",
            "program=/opt/a,b/run,as=a.b_c-1",
            "uid=1001,as=bots",
            "cgroup=/agents.slice,as=agents",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_what_to_write() {
        for (text, words) in [
            ("", "program=PATH,as=NAME"),
            ("gid=5,as=x", "cgroup=PATH,as=NAME"),
            ("/usr/bin/claude", "program=PATH,as=NAME"),
            ("uid=1001", "add ,as=NAME"),
            ("program=/usr/bin/claude", "add ,as=NAME"),
            ("uid=1001,as=", "is no name"),
            ("uid=1001,as=a b", "A-Z a-z 0-9"),
            ("uid=dev,as=x", "`id -u USER`"),
            ("uid=-1,as=x", "`id -u USER`"),
            ("uid=4294967295,as=x", "`id -u USER`"),
            ("uid=0,as=x", "account of their own"),
            ("program=claude,as=x", "`command -v claude`"),
            ("cgroup=agents.slice,as=x", "is relative"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_program_that_the_kernel_would_not_see_as_itself_is_refused_in_words() {
        let directory = directory();
        let script = directory.path().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let plain = make_program(directory.path(), "plain");
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
        let own = std::env::current_exe().unwrap();
        for (path, words) in [
            (directory.path().join("absent"), "install it first"),
            (directory.path().to_owned(), "is not a file"),
            (script, "is a script"),
            (plain, "is not executable"),
            (own, "guard-agent's own program"),
        ] {
            let error = Selectors::resolve(vec![program(&path, "x")]).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("--select program="), "{error}");
        }
    }

    #[test]
    fn a_program_is_its_inode_under_whatever_name() {
        let directory = directory();
        let path = make_program(directory.path(), "tool");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let selectors = Selectors::resolve(vec![program(&link, "bot")]).unwrap();
        let (key, number) = selectors.active()[0];
        let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
        assert_eq!((key.kind, key.id), (SELECT_PROGRAM, inode));
        assert_eq!(selectors.name(number), Some("bot"));
        assert_eq!(selectors.name(number ^ 1), None);
        let twice = vec![program(&path, "a"), program(&link, "b")];
        let error = Selectors::resolve(twice).unwrap_err().to_string();
        assert!(error.contains("are the same processes"), "{error}");
    }

    #[test]
    fn a_replaced_program_is_selected_again_and_a_removed_one_is_not() {
        let directory = directory();
        let path = make_program(directory.path(), "tool");
        let mut selectors = Selectors::resolve(vec![program(&path, "bot")]).unwrap();
        assert!(!selectors.refresh());
        let before = selectors.active().to_vec();
        fs::rename(make_program(directory.path(), "new"), &path).unwrap();
        assert!(selectors.refresh());
        let after = selectors.active().to_vec();
        assert_ne!(before[0].0, after[0].0);
        assert_eq!(before[0].1, after[0].1);
        fs::remove_file(&path).unwrap();
        assert!(selectors.refresh());
        assert_eq!(selectors.active(), []);
    }

    #[test]
    fn a_cgroup_that_is_not_there_is_refused_with_what_to_do() {
        let selector = parse("cgroup=/no-such.slice,as=x").unwrap();
        let error = Selectors::resolve(vec![selector]).unwrap_err().to_string();
        let told = error.contains("start its unit first") || error.contains("mount -t cgroup2");
        assert!(told && error.contains("no-such.slice"), "{error}");
    }
}
