//! Single attempts.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::{
            fs::{OpenOptionsExt as _, PermissionsExt as _},
            net::UnixStream,
        },
    },
    process::Command,
};

/// What a session may see of an error: never the kernel's own 513.
pub(crate) fn told(error: &io::Error) -> String {
    format!("errno {}: {error}", error.raw_os_error().unwrap_or(0))
}

fn outcome<T>(result: io::Result<T>) -> Result<String, String> {
    match result {
        Ok(_) => Ok("ok".to_owned()),
        Err(error) => Err(told(&error)),
    }
}

pub(crate) fn open(path: &str) -> Result<String, String> {
    outcome(File::open(path))
}

pub(crate) fn create_exclusive(path: &str) -> Result<String, String> {
    let result = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = result.map_err(|error| told(&error))?;
    file.write_all(b"made once\n").map_err(|error| told(&error))?;
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok("ok".to_owned()),
        other => Err(format!("the second creation: {other:?}")),
    }
}

pub(crate) fn create_truncate(path: &str) -> Result<String, String> {
    let flags = libc::O_CREAT | libc::O_TRUNC;
    let result = OpenOptions::new().write(true).custom_flags(flags).mode(0o600).open(path);
    let length = std::fs::metadata(path).map_err(|error| told(&error))?.len();
    match result {
        Ok(_) if length == 0 => Ok("ok".to_owned()),
        Ok(_) => Err(format!("opened, but {length} bytes are left")),
        Err(error) if length == 0 => Err(format!("refused, but truncated: {}", told(&error))),
        Err(error) => Err(told(&error)),
    }
}

pub(crate) fn tmpfile(dir: &str) -> Result<String, String> {
    let result = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(dir);
    let mut file = result.map_err(|error| told(&error))?;
    let mut text = String::new();
    let done = file
        .write_all(b"unnamed")
        .and_then(|()| file.rewind())
        .and_then(|()| file.read_to_string(&mut text));
    match done {
        Ok(_) if text == "unnamed" => Ok("ok".to_owned()),
        Ok(_) => Err(format!("read back {text:?}")),
        Err(error) => Err(told(&error)),
    }
}

pub(crate) fn script(dir: &str) -> Result<String, String> {
    let path = format!("{dir}/script-{}", std::process::id());
    let write = || -> io::Result<()> {
        std::fs::write(&path, "#!/bin/sh\necho \"script says $1\"\n")?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
    };
    write().map_err(|error| told(&error))?;
    let output = Command::new(&path).arg("hello").output().map_err(|error| told(&error))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if said == "script says hello\n" { Ok("ok".to_owned()) } else { Err(format!("{output:?}")) }
}

pub(crate) fn memfd() -> Result<String, String> {
    // SAFETY: a NUL-terminated name and no pointers beyond it.
    let fd = unsafe { libc::memfd_create(c"payload".as_ptr(), 0) };
    if fd < 0 {
        return Err(told(&io::Error::last_os_error()));
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let mut file = unsafe { File::from_raw_fd(fd) };
    let program = std::fs::read("/bin/true").map_err(|error| told(&error))?;
    file.write_all(&program).map_err(|error| told(&error))?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    outcome(Command::new(path).status())
}

pub(crate) fn connect(address: &str, port: &str) -> Result<String, String> {
    let target = format!("{address}:{port}");
    let address = target.to_socket_addrs().map_err(|error| told(&error))?.next();
    outcome(TcpStream::connect(address.ok_or("no address")?))
}

pub(crate) fn connect_unix(path: &str) -> Result<String, String> {
    outcome(UnixStream::connect(path))
}

pub(crate) fn hide(path: &str) -> Result<String, String> {
    let name = CString::new("systemd").map_err(|error| error.to_string())?;
    // SAFETY: PR_SET_NAME reads a NUL-terminated string of at most 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    open(path)
}

pub(crate) fn long_path(dir: &str) -> Result<String, String> {
    let level = "x".repeat(200);
    let deeper =
        |at: &str| std::fs::create_dir_all(at).and_then(|()| std::env::set_current_dir(at));
    std::env::set_current_dir(dir).map_err(|error| told(&error))?;
    for _ in 0..25 {
        deeper(&level).map_err(|error| told(&error))?;
    }
    open(".")
}
