//! Execs whose content the kernel does not tell.

use super::*;
use crate::mounts::kernel_dev;
use guard_model::{ProgramRef, RawText};
use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
};

/// `printf program | sha256sum`
const PROGRAM: &str = "1310ca2c8932dbd118668bd97442558a3e1f546b5e15c69699dfbd6024f548d8";

/// A driver under a policy that lets nothing below `pinned` run but [`PROGRAM`], and who hashes.
struct Pinned {
    bench: Bench,
    session: u64,
    hashed: mpsc::Receiver<Hashed>,
}

impl Pinned {
    fn new() -> Self {
        let policy = format!(
            "@id(\"all\") permit (principal, action, resource);\n\
             @id(\"pinned\") forbid (principal, action == Guard::Action::\"exec\", resource)\n\
             when {{ resource.path like \"*/pinned/*\" }} unless {{ context.sha256 == \"{PROGRAM}\" }};"
        );
        let (contents, hashed) = Contents::start().unwrap();
        // A file system whose files are hashed, wherever the tests run.
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::create_dir(folder.path().join("pinned")).unwrap();
        let mut bench = Bench::with(folder, FakeKernel::default(), &policy, Some(contents));
        bench.news(FromLink::Up);
        let session = bench.start_session();
        Self { bench, session, hashed }
    }

    /// A new file in the driver's folder.
    fn file(&self, name: &str, content: &str) -> FileRef {
        let path = self.bench.folder.path().join(name);
        fs::write(&path, content).unwrap();
        let meta = fs::metadata(&path).unwrap();
        FileRef {
            path: RawText::new(path.as_os_str().as_bytes()),
            path_error: None,
            dev: kernel_dev(libc::major(meta.dev()), libc::minor(meta.dev())),
            ino: meta.ino(),
            generation: 0,
            owner_uid: 0,
            mode: 0o100_755,
        }
    }

    /// The kernel holds the exec of a file.
    fn exec(&mut self, hold: u64, file: FileRef) {
        let action = Action::Exec {
            program: ProgramRef { file, sha256: None },
            argv: vec!["program".into()],
            argv_complete: true,
            interpreter: false,
            unnamed: false,
            loader: false,
            gains: false,
            environment: vec![],
        };
        let body = KernelBody::Held {
            key: Box::new(key()),
            action: Box::new(action),
            deadline_ns: clock::boottime_ns() + 600_000_000_000,
        };
        self.bench.event(KernelEvent { header: header(self.session, hold), body });
    }

    /// What was asked for is hashed and told to the driver.
    async fn hash(&mut self) {
        let hashed = tokio::time::timeout(Duration::from_secs(60), self.hashed.recv()).await;
        self.bench.driver.hashed(hashed.unwrap().unwrap());
        self.bench.driver.settle();
    }

    /// Under which statements a person was asked, last.
    fn asked(&mut self) -> Vec<String> {
        let mut statements = Vec::new();
        while let Ok(said) = self.bench.said.try_recv() {
            if let ToLink::Request(request) = said {
                statements = request.statements.into_iter().map(|statement| statement.id).collect();
            }
        }
        statements
    }
}

#[tokio::test]
async fn an_exec_is_judged_by_the_content_that_guard_agent_has_hashed() {
    let mut pinned = Pinned::new();
    let (good, bad) = (pinned.file("pinned/good", "program"), pinned.file("pinned/bad", "other"));
    pinned.exec(1, good.clone());
    // Announced again meanwhile, as after a resume in vain: it is hashed once.
    pinned.exec(1, good);
    assert_eq!(pinned.bench.kernel.verdicts(), []);
    pinned.hash().await;
    assert_eq!(pinned.bench.kernel.verdicts(), [(1, VERDICT_ALLOW)]);
    pinned.exec(2, bad);
    pinned.hash().await;
    assert_eq!(pinned.bench.kernel.verdicts(), [(1, VERDICT_ALLOW), (2, VERDICT_DENY)]);
    assert!(pinned.hashed.try_recv().is_err());
    let (records, _folder) = pinned.bench.end();
    let is_known = |event: &Event| {
        matches!(event, Event::Decided { action: Action::Exec { program, .. }, .. }
            if program.sha256.as_deref() == Some(PROGRAM))
    };
    assert_eq!(count(&records, is_known), 1);
}

#[tokio::test]
async fn a_content_that_is_not_found_out_or_not_in_time_is_a_persons_to_judge() {
    let mut pinned = Pinned::new();
    let (file, slow) = (pinned.file("file", "program"), pinned.file("slow", "program"));
    // The path leads to another file by now.
    pinned.exec(1, FileRef { ino: file.ino + 1, ..file });
    pinned.hash().await;
    assert_eq!(pinned.asked(), ["guard:content-unknown"]);
    pinned.exec(2, slow);
    pinned.bench.driver.give_up_on_contents(clock::boottime_ns());
    pinned.bench.driver.settle();
    assert_eq!(pinned.asked(), [""; 0]);
    pinned.bench.driver.give_up_on_contents(clock::boottime_ns() + 31_000_000_000);
    pinned.bench.driver.settle();
    assert_eq!(pinned.asked(), ["guard:content-unknown"]);
    // What comes too late changes nothing.
    pinned.hash().await;
    assert_eq!(pinned.bench.kernel.verdicts(), []);
}
