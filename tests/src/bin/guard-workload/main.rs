//! What a session does in the VM tests: one subcommand an attempt, exit 0 if every outcome is the
//! expected one. By convention an object whose name contains `deny` is denied, any other is allowed.

mod canary;
mod many;
mod measure;
mod noise;
mod noisy;
mod one;
mod peer;
mod race;
mod reach;
mod signals;
mod stall;
mod uring;

use std::process::ExitCode;

const USAGE: &str = "\
usage: guard-workload COMMAND…
  open PATH            open for reading; prints `ok` or the errno
  loop N PATH          make PATH-0…PATH-(N-1) in a row
  timed N DIR          open DIR/0…N-1 in a row; prints `start end errno` of each (CLOCK_MONOTONIC, ns)
  forks N RATE         N children that exit at once, RATE a second (0: as fast as it goes); prints the ms
  threads N DIR        N threads open DIR/0…N-1 at once (odd ones are named N-deny)
  processes N DIR      the same with processes
  create-exclusive F   open(O_CREAT|O_EXCL|O_WRONLY) makes F, once, and writes to it
  create-truncate F    open(O_CREAT|O_TRUNC|O_WRONLY) on an existing F empties it, if allowed
  tmpfile DIR          open(O_TMPFILE) in DIR, write, read back
  script DIR           write an executable script to DIR and run it
  memfd                run a program from a memfd
  connect ADDR PORT    connect a TCP socket
  connect-unix PATH    connect a UNIX socket
  uring PATH           open through io_uring, inline and by its workers, must fail with EPERM
  flood N DIR          make DIR/flooding, wait for DIR/go, then N refused attempts through io_uring
                       and an open of DIR/secret: all must fail with EPERM
  canary DIR PID N     until DIR/stop is there: forbidden reads of DIR/forbidden, creations of
                       DIR/made-*, signals to PID, N a second; none may pass
  burst N DIR PATH     make DIR/ready, wait for DIR/go, then N refused attempts on PATH through
                       io_uring, as fast as it can
  measure PROGRAM N PASSES DIR
                       times PROGRAM on the objects DIR/0…N-1: a line a pass, ns each
  fanotify PROGRAM DIR READY
                       allows every open or exec in DIR; makes READY when it does
  seccomp PROGRAM N DIR
                       as measure, its system call answered through a seccomp listener
  noisy N DIR SEED     N attempts of many threads and processes below DIR, while `noise` disturbs them
  noise SEED DIR       signals, kills and traces them until DIR/quiet is there (root, no session)
  long-path DIR        open a directory whose path is longer than 4,096 bytes
  stray-sigcont PATH   100 SIGCONTs do not get a held child past its open; exit status of the child
  sigkill PATH         a held child can be killed
  pid-namespace PATH   the init of a new pid namespace opens PATH (root)
  setsid PATH          a double-forked, orphaned process in a session of its own opens PATH
  race-argv N          N execs whose argument changes while they are decided; who ran, was denied, killed
  race-environment N   the same with a variable
  stall-argv READY GO  an exec whose arguments are gone when they are read again, until GO is there; says so in READY
  reach PID DIR        everything that a program can reach for; a line each: its name and errno
  hide PATH            argv[0] and comm of something else, then open
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["open", path] => one::open(path),
        ["loop", n, path] => number(n).and_then(|n| many::in_a_row(n, path)),
        ["timed", n, dir] => number(n).and_then(|n| many::timed(n, dir)),
        ["forks", n, rate] => number(n).and_then(|n| many::forks(n, number(rate)?)),
        ["threads", n, dir] => number(n).and_then(|n| many::threads(n, dir)),
        ["processes", n, dir] => number(n).and_then(|n| many::processes(n, dir)),
        ["create-exclusive", path] => one::create_exclusive(path),
        ["create-truncate", path] => one::create_truncate(path),
        ["tmpfile", dir] => one::tmpfile(dir),
        ["script", dir] => one::script(dir),
        ["memfd"] => one::memfd(),
        ["connect", address, port] => one::connect(address, port),
        ["connect-unix", path] => one::connect_unix(path),
        ["uring", path] => uring::open(path),
        ["flood", n, dir] => number(n).and_then(|n| uring::flood(n, dir)),
        ["canary", dir, victim, n] => number(n).and_then(|n| canary::run(dir, victim, n)),
        ["burst", n, dir, path] => number(n).and_then(|n| uring::burst(n, dir, path)),
        ["measure", program, n, passes, dir] => number(n)
            .and_then(|n| Ok((n, number(passes)?)))
            .and_then(|(n, passes)| measure::run(program, n, passes, dir)),
        ["fanotify", program, dir, ready] => peer::fanotify(program, dir, ready),
        ["seccomp", program, n, dir] => number(n).and_then(|n| peer::seccomp(program, n, dir)),
        ["noisy", n, dir, seed] => number(n)
            .and_then(|n| Ok((n, number(seed)?)))
            .and_then(|(n, seed)| noisy::run(n, dir, seed)),
        ["noise", seed, dir] => number(seed).and_then(|seed| noise::run(seed, dir)),
        ["long-path", dir] => one::long_path(dir),
        ["stray-sigcont", path] => signals::stray_sigcont(path),
        ["sigkill", path] => signals::sigkill(path),
        ["pid-namespace", path] => signals::pid_namespace(path),
        ["setsid", path] => signals::setsid(path),
        ["race-argv", n] => number(n).and_then(race::argv),
        ["race-environment", n] => number(n).and_then(race::environment),
        ["stall-argv", ready, go] => stall::argv(ready, go),
        ["reach", victim, dir] => number(victim).and_then(|victim| reach::run(victim, dir)),
        ["hide", path] => one::hide(path),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            println!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}
