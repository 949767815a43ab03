//! What one decision under the default pack costs:
//! `cargo run -p guard-policy --example decide_cost`.

use guard_model::{
    Action, Endpoint, FileAccess, FileRef, ProcessContext, ProgramRef, SessionId, SessionInfo,
};
use guard_policy::{Attempt, Policy};
use std::time::Instant;

const ROUNDS: u32 = 5_000;

fn main() {
    let policy = Policy::default_policy();
    let session = SessionInfo {
        id: SessionId::derive(
            guard_model::HostId(uuid::Uuid::nil()),
            guard_model::BootId(uuid::Uuid::nil()),
            1,
        ),
        name: "agent".into(),
        principal: "dev".into(),
        uid: 1000,
        started_unix_ms: 0,
        root_pid: 1,
        command: Vec::new(),
    };
    let process = ProcessContext { uid: 1000, cwd: "/home/dev".into(), ..Default::default() };
    let open = |path: &str| Action::Open {
        file: file(path),
        access: FileAccess { read: true, ..FileAccess::default() },
    };
    let exec = Action::Exec {
        program: ProgramRef { file: file("/usr/bin/git"), sha256: None },
        argv: vec!["git".into(), "status".into()],
        argv_complete: true,
        interpreter: false,
        unnamed: false,
        loader: false,
        gains: false,
        environment: Vec::new(),
    };
    let endpoint = Endpoint::Inet { ip: [203, 0, 113, 9].into(), port: 443, mapped: false };
    let connect = Action::Connect { endpoint, socket_type: 1, protocol: 6 };
    for (name, action) in [
        ("open, allowed", open("/home/dev/work/src/deep/down/main.rs")),
        ("open, held", open("/home/dev/.ssh/id_ed25519")),
        ("exec, allowed", exec),
        ("connect, held", connect),
    ] {
        let attempt =
            Attempt { session: &session, process: &process, action: &action, host: "host" };
        let start = Instant::now();
        for _ in 0..ROUNDS {
            std::hint::black_box(policy.decide(std::hint::black_box(&attempt)));
        }
        println!("{name}: {:.1} µs", start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
    }
}

fn file(path: &str) -> FileRef {
    FileRef {
        path: path.into(),
        path_error: None,
        dev: 1,
        ino: 2,
        generation: 0,
        owner_uid: 0,
        mode: 0o100_755,
    }
}
