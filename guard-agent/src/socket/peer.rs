//! Who is at the other end of the local socket: by pidfd, not by number.

use crate::kernel;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::{
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};
use tokio::net::UnixStream;

/// `SO_PEERPIDFD` of `include/uapi/asm-generic/socket.h`, Linux 6.5 and later; libc lacks it.
const SO_PEERPIDFD: libc::c_int = 77;
/// Kernel ticks per second in `/proc/PID/stat`: fixed in every Linux ABI.
const USER_HZ: u64 = 100;

/// The process that connected.
#[derive(Debug)]
pub struct Peer {
    /// In guard-agent's pid namespace.
    pub pid: u32,
    /// Its user when it connected.
    pub uid: u32,
    /// It itself.
    pub pidfd: OwnedFd,
}

/// Identifies the peer.
///
/// Before 6.5 a pidfd is opened by number, and the process must have started before the connection
/// was accepted at `accepted_ns` (`CLOCK_BOOTTIME`): a number that was reused since names a
/// younger one.
///
/// # Errors
/// It is gone, is in another pid namespace, or is younger than its connection.
pub fn identify(stream: &UnixStream, accepted_ns: u64) -> io::Result<Peer> {
    let credentials = getsockopt(stream, PeerCredentials)?;
    let pid = u32::try_from(credentials.pid()).unwrap_or(0);
    if pid == 0 {
        return Err(io::Error::other("the caller is in another pid namespace"));
    }
    let pidfd = match peer_pidfd(stream) {
        Ok(pidfd) => pidfd,
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            let pidfd = kernel::pidfd_open(pid)?;
            if started_ns(pid)? > accepted_ns {
                return Err(io::Error::other("the caller is gone"));
            }
            pidfd
        }
        Err(error) => return Err(error),
    };
    Ok(Peer { pid, uid: credentials.uid(), pidfd })
}

fn peer_pidfd(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut fd: libc::c_int = -1;
    let mut len = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default();
    // SAFETY: `fd` and `len` are writable and of the size that the option writes.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the option has made a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Start of a process, ns since boot, rounded down to a tick.
fn started_ns(pid: u32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything, parentheses and blanks included.
    let end = stat.iter().rposition(|byte| *byte == b')').unwrap_or(0);
    let rest = String::from_utf8_lossy(stat.get(end + 1..).unwrap_or_default()).into_owned();
    // Field 22 of proc(5); the first after the name is field 3.
    let ticks = rest.split_whitespace().nth(22 - 3).and_then(|field| field.parse::<u64>().ok());
    ticks
        .map(|ticks| ticks.saturating_mul(1_000_000_000 / USER_HZ))
        .ok_or_else(|| io::Error::other("unexpected /proc/PID/stat"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test]
    async fn the_peer_is_the_process_that_connected() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = identify(&ours, clock::boottime_ns()).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, nix::unistd::getuid().as_raw());
    }

    #[test]
    fn a_process_started_after_boot_and_before_now() {
        let started = started_ns(std::process::id()).unwrap();
        assert!(started > 0 && started <= clock::boottime_ns());
    }
}
