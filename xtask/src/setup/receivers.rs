//! Servers that sinks are tested against. From PyPI an S3-compatible store (moto) and a Kafka cluster (the
//! mock cluster inside librdkafka, which confluent-kafka brings); from Debian rsyslog. Tests only.

use super::debian::{Apt, unpack};
use crate::{cache::once, run::quietly};
use anyhow::Result;
use std::{path::Path, process::Command};

/// Exactly these: the tests are about us, not about what changed over there.
const PACKAGES: [&str; 4] =
    ["moto==5.2.5", "flask==3.1.3", "flask-cors==6.0.5", "confluent-kafka==2.16.1"];

/// With all that they need, the C library too: unpacked, not installed, so that no service is started and
/// any distribution can run it.
const SYSLOG: [&str; 2] = ["rsyslog", "rsyslog-openssl"];

/// A virtual environment and a tree of Debian's in the cache; tests find them by these names.
pub(crate) fn prepare(cache: &Path) -> Result<()> {
    once(&cache.join("rsyslog"), "fetching rsyslog for the tests of sinks (once)", |part| {
        let apt = Apt::new(cache)?;
        let debs = apt.with_lists(|apt| apt.download_with_dependencies(&SYSLOG))?;
        debs.iter().try_for_each(|deb| unpack(deb, part))
    })?;
    once(&cache.join("receivers"), "fetching receivers for the tests of sinks (once)", |part| {
        quietly(Command::new("python3").args(["-m", "venv"]).arg(part))?;
        let mut pip = Command::new(part.join("bin/python3"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        quietly(pip.args(PACKAGES)).map(drop)
    })
}
