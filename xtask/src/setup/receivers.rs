//! Servers that sinks are tested against, from PyPI: an S3-compatible store (moto) and a Kafka cluster
//! (the mock cluster inside librdkafka, which confluent-kafka brings). Tests only.

use crate::{cache::once, run::quietly};
use anyhow::Result;
use std::{path::Path, process::Command};

/// Exactly these: the tests are about us, not about what changed over there.
const PACKAGES: [&str; 4] =
    ["moto==5.2.5", "flask==3.1.3", "flask-cors==6.0.5", "confluent-kafka==2.16.1"];

/// A virtual environment with them in the cache; tests find it by this name.
pub(crate) fn prepare(cache: &Path) -> Result<()> {
    once(&cache.join("receivers"), "fetching receivers for the tests of sinks (once)", |part| {
        quietly(Command::new("python3").args(["-m", "venv"]).arg(part))?;
        let mut pip = Command::new(part.join("bin/python3"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        quietly(pip.args(PACKAGES)).map(drop)
    })
}
