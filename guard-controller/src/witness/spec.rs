//! Which witnesses are asked, as configured.

use crate::sinks::{SinkError, TlsFiles};
use guard_audit::log::{CosignerKey, InvalidKey};
use serde::Deserialize;
use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Witnesses of one log: each is asked for every checkpoint, and each line stands in the file.
pub const WITNESSES_MAX: usize = 32;

/// Longest file of witnesses, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is wrong with the configuration of witnesses.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The file.
    #[error("{path}: cannot be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is in it.
    #[error("{path}: not a list of witnesses")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Line, column, and what was expected.
        #[source]
        source: serde_json::Error,
    },
    /// A key.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// How many there are, and how many are needed.
    #[error(
        "{count} witnesses, of which {quorum} must cosign: expected 1 to {WITNESSES_MAX}, and a quorum of 1 to as many"
    )]
    Count {
        /// How many.
        count: usize,
        /// How many must cosign.
        quorum: usize,
    },
    /// One counts once.
    #[error("two witnesses are called `{0}`")]
    Twice(String),
    /// Its URL or its TLS files.
    #[error("a witness cannot be asked")]
    Url(#[source] Box<SinkError>),
}

/// The file of `--witnesses`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessesFile {
    /// How many of them must have cosigned for a checkpoint to count as witnessed.
    pub quorum: usize,
    /// All of them.
    pub witnesses: Vec<WitnessSpec>,
}

/// One witness (C2SP tlog-witness).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessSpec {
    /// Its submission prefix: `/add-checkpoint` is below it. Plain http is fine: what it says is
    /// signed, and a checkpoint tells nothing but a size and a hash.
    pub url: String,
    /// Its public key, NAME+ID+KEY.
    pub key: String,
    /// Certificates of authorities that may have signed its own; without it, the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

impl WitnessesFile {
    /// Reads and checks it.
    ///
    /// # Errors
    /// [`WitnessError`] names the file and what is wrong.
    pub fn load(path: &Path) -> Result<Self, WitnessError> {
        let failed = |source| WitnessError::File { path: path.into(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(failed)?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        let syntax = |source| WitnessError::Syntax { path: path.into(), source };
        let file: Self = serde_json::from_str(&text).map_err(syntax)?;
        file.keys()?;
        Ok(file)
    }

    /// Their keys, checked; none if no witness is configured.
    pub(super) fn keys(&self) -> Result<Vec<CosignerKey>, WitnessError> {
        let (count, quorum) = (self.witnesses.len(), self.quorum);
        if (count, quorum) == (0, 0) {
            return Ok(Vec::new());
        }
        if count == 0 || count > WITNESSES_MAX || quorum == 0 || quorum > count {
            return Err(WitnessError::Count { count, quorum });
        }
        let keys = self.witnesses.iter().map(|witness| CosignerKey::parse(&witness.key));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let mut names = HashSet::new();
        match keys.iter().find(|key| !names.insert(key.name())) {
            Some(twice) => Err(WitnessError::Twice(twice.name().to_owned())),
            None => Ok(keys),
        }
    }
}

impl WitnessSpec {
    pub(super) fn tls(&self) -> TlsFiles {
        TlsFiles { ca_file: self.ca_file.clone(), ..TlsFiles::default() }
    }
}
