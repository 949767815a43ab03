//! `guard audit verify`: what a log, a bundle or a proof shows, and what it does not.

use super::{
    keys,
    place::{self, when},
};
use crate::{
    controller::visible,
    exit::{FAILED, NOT_VERIFIED, WithCode},
    output,
};
use anyhow::{Context as _, Result};
use clap::Args;
use guard_audit::log::{
    CosignerKey, Dir, NOT_PROVEN, PROVEN, PROVEN_OF_ONE, Report, VerifierKey, bundle_keys,
    own_keys, verify, verify_bundle, verify_proof,
};
use serde::Serialize;
use std::{
    fmt::Write as _,
    fs::File,
    io::{BufReader, Read as _, Seek as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

/// Longest tlog-proof, bytes: a leaf of 64 KiB in base64, and a checkpoint with many cosignatures.
const PROOF_BYTES_MAX: u64 = 1 << 20;

/// First bytes of a tlog-proof.
const PROOF_START: &[u8] = b"c2sp.org/tlog-proof@";

/// Verify a log's directory, a bundle or a proof of one entry, offline.
///
/// Says what was proven and what cannot be, names the file and the place of any damage. Trust comes
/// from the key that you give and got over another channel.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  sudo guard audit verify\n  \
    guard audit verify bundle.tar --key 'guard/log/4f…+1234abcd+AQ…'\n  \
    guard audit verify /backup/log --key log.pub --witness witnesses.pub --quorum 2 --json\n\n\
    Exit codes: 0 all of it holds; 1 something does not; 2 nothing was verified: no key was given, \
    or there is no log.")]
pub(crate) struct Verify {
    /// A log's directory, a bundle (tar) or a tlog-proof. Default: the log of this machine, by its
    /// own key.
    path: Option<PathBuf>,
    /// The log's verifier key (NAME+ID+KEY), or a file with one on each line; repeatable.
    #[arg(long, value_name = "KEY|FILE")]
    key: Vec<String>,
    /// A witness's key, or a file with one on each line; repeatable.
    #[arg(long, value_name = "KEY|FILE")]
    witness: Vec<String>,
    /// How many of these witnesses must have cosigned.
    #[arg(
        long,
        value_name = "COUNT",
        requires = "witness",
        default_value_t = 0,
        hide_default_value = true
    )]
    quorum: usize,
    /// State directory of `guard up`, for the default.
    #[arg(long, env = "GUARD_STATE", value_name = "DIR", default_value = "/var/lib/guard")]
    state: PathBuf,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// What is to be verified.
enum Subject {
    Log(Arc<Dir>),
    Bundle(File),
    Proof(String),
}

/// How it came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Proven,
    Refuted,
    /// It agrees with itself, but nobody whom we know has signed it.
    NoKey,
}

#[derive(Serialize)]
struct Answer<'a> {
    verdict: Verdict,
    /// Keys that were trusted.
    keys: Vec<&'a str>,
    /// Keys that it names itself: no reason to believe it.
    names_itself: Vec<&'a str>,
    proven: &'a [&'static str],
    not_proven: &'a [&'static str],
    #[serde(flatten)]
    report: &'a Report,
}

impl Verify {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        let not_verified =
            |error: anyhow::Error| WithCode { code: NOT_VERIFIED, error: format!("{error:#}") };
        let (subject, mut keys) = self.subject().map_err(not_verified)?;
        keys.extend(keys::verifiers(&self.key).map_err(not_verified)?);
        let witnesses = keys::cosigners(&self.witness).map_err(not_verified)?;
        let own = subject.own_keys();
        let trusted = if keys.is_empty() { &own } else { &keys };
        let mut report = subject.verify(trusted, &witnesses);
        if report.witnesses.len() < self.quorum {
            let (seen, quorum) = (report.witnesses.len(), self.quorum);
            report.refute(format!("{seen} of these witnesses cosigned, not {quorum}"));
        }
        let verdict = match (report.is_sound(), keys.is_empty()) {
            (false, _) => Verdict::Refuted,
            (true, true) => Verdict::NoKey,
            (true, false) => Verdict::Proven,
        };
        let answer = Answer {
            verdict,
            keys: keys.iter().map(VerifierKey::as_str).collect(),
            names_itself: own.iter().map(VerifierKey::as_str).collect(),
            proven: if verdict == Verdict::Proven { subject.proven() } else { &[] },
            not_proven: &NOT_PROVEN,
            report: &report,
        };
        if self.json {
            output::json(&answer)?;
        } else {
            output::text(&answer.text())?;
        }
        Ok(match verdict {
            Verdict::Proven => ExitCode::SUCCESS,
            Verdict::Refuted => ExitCode::from(FAILED),
            Verdict::NoKey => ExitCode::from(NOT_VERIFIED),
        })
    }

    /// What to verify, and the keys that are trusted without being given.
    fn subject(&self) -> Result<(Subject, Vec<VerifierKey>)> {
        let Some(path) = &self.path else {
            let own = match self.key[..] {
                [] => keys::of_this_machine(&self.state),
                _ => None,
            };
            return Ok((Subject::log(&self.state)?, own.into_iter().collect()));
        };
        let shown = || path.display().to_string();
        if std::fs::metadata(path).with_context(shown)?.is_dir() {
            return Ok((Subject::log(path)?, Vec::new()));
        }
        let mut file = File::open(path).with_context(shown)?;
        let mut start = Vec::new();
        (&mut file).take(PROOF_START.len() as u64).read_to_end(&mut start).with_context(shown)?;
        file.rewind().with_context(shown)?;
        if start != PROOF_START {
            return Ok((Subject::Bundle(file), Vec::new()));
        }
        let mut text = String::new();
        file.take(PROOF_BYTES_MAX).read_to_string(&mut text).with_context(shown)?;
        Ok((Subject::Proof(text), Vec::new()))
    }
}

impl Subject {
    fn log(dir: &Path) -> Result<Self> {
        // Its checkpoint may be what is damaged: that is for the verification to say.
        Ok(Self::Log(Arc::new(Dir::new(place::locate(dir)?))))
    }

    fn own_keys(&self) -> Vec<VerifierKey> {
        match self {
            Self::Log(dir) => own_keys(&**dir).unwrap_or_default(),
            Self::Bundle(file) => rewound(file).map(bundle_keys).unwrap_or_default(),
            Self::Proof(_) => Vec::new(),
        }
    }

    fn verify(&self, keys: &[VerifierKey], witnesses: &[CosignerKey]) -> Report {
        match self {
            Self::Log(dir) => verify(&**dir, keys, witnesses),
            Self::Bundle(file) => match rewound(file) {
                Ok(file) => verify_bundle(file, keys, witnesses),
                Err(error) => {
                    let mut report = Report::default();
                    report.refute(format!("the bundle: {error}"));
                    report
                }
            },
            Self::Proof(text) => verify_proof(text, keys, witnesses),
        }
    }

    fn proven(&self) -> &'static [&'static str] {
        match self {
            Self::Log(_) | Self::Bundle(_) => &PROVEN,
            Self::Proof(_) => &PROVEN_OF_ONE,
        }
    }
}

fn rewound(mut file: &File) -> std::io::Result<BufReader<&File>> {
    file.rewind()?;
    Ok(BufReader::new(file))
}

/// A report that refutes, as text.
pub(super) fn describe(report: &Report) -> String {
    let verdict = Verdict::Refuted;
    let (keys, names_itself, proven, not_proven) = (Vec::new(), Vec::new(), &[], &NOT_PROVEN);
    Answer { verdict, keys, names_itself, proven, not_proven, report }.text()
}

impl Answer<'_> {
    fn text(&self) -> String {
        let Report { origin, size, root, from, entries, erased, .. } = self.report;
        let mut out = match self.verdict {
            Verdict::Proven => "PROVEN: all of it holds.\n\n".to_owned(),
            Verdict::Refuted => "NOT PROVEN: something does not hold.\n\n".into(),
            Verdict::NoKey => {
                "NOT PROVEN: it agrees with itself, but no key was given, and whoever \
                               made it chose its keys.\n\n"
                    .into()
            }
        };
        if !origin.is_empty() {
            let _ = writeln!(out, "Log        {}", visible(origin));
            let _ = writeln!(out, "Tree       {size} entries, root {root}");
            let last = from + entries.saturating_sub(1);
            let _ =
                writeln!(out, "Looked at  {entries} entries ({from} to {last}), {erased} erased");
        }
        if let (Some(first), Some(last)) = (self.report.first_unix_ms, self.report.last_unix_ms) {
            let _ = writeln!(out, "Logged     {} to {}", when(first), when(last));
        }
        for key in &self.keys {
            let _ = writeln!(out, "Key        {}", visible(key));
        }
        if self.keys.is_empty() {
            for key in &self.names_itself {
                let _ =
                    writeln!(out, "Names      {} (compare it over another channel)", visible(key));
            }
        }
        for (name, (seen, unix_s)) in &self.report.witnesses {
            let at = when(unix_s.saturating_mul(1000));
            let _ = writeln!(out, "Witness    {} saw {seen} entries, {at}", visible(name));
        }
        for (id, host) in &self.report.hosts {
            let _ =
                writeln!(out, "Host       {id}: {} entries, {} boots", host.entries, host.boots);
        }
        self.section(&mut out, "Problems", &self.report.problems.lines, self.report.problems.count);
        self.section(&mut out, "Proven", self.proven, self.proven.len() as u64);
        self.section(&mut out, "Never proven", self.not_proven, self.not_proven.len() as u64);
        self.section(
            &mut out,
            "To look at",
            &self.report.findings.lines,
            self.report.findings.count,
        );
        out
    }

    fn section<T: AsRef<str>>(&self, out: &mut String, title: &str, lines: &[T], count: u64) {
        if count == 0 {
            return;
        }
        let _ = writeln!(out, "\n{title}:");
        for line in lines {
            let _ = writeln!(out, "  - {}", visible(line.as_ref()));
        }
        let more = count.saturating_sub(lines.len() as u64);
        if more > 0 {
            let _ = writeln!(out, "  … and {more} more");
        }
    }
}
