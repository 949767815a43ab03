//! What the service manager is told: ready, alive, status, stopping (sd_notify(3)).
//!
//! The protocol is one datagram of `KEY=VALUE` lines to the socket that `NOTIFY_SOCKET` names; without one,
//! nothing is said. Who calls [`Notifier::alive`] does so only after work was really done: a service manager
//! that hears nothing for `WatchdogSec=` kills guard-agent and starts it again, and enforcement goes on
//! meanwhile (H9).

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::Path,
};

/// Tells the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier(Option<UnixDatagram>);

impl Notifier {
    /// To the socket that the environment names. One that cannot be reached is said once and forgotten:
    /// enforcement does not depend on it.
    #[must_use]
    pub fn from_env() -> Self {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        Self::to(Path::new(&path)).unwrap_or_else(|error| {
            tracing::warn!(%error, "the service manager's NOTIFY_SOCKET cannot be used");
            Self::default()
        })
    }

    /// To this socket; `@name` is an abstract one.
    ///
    /// # Errors
    /// It is not there.
    pub fn to(path: &Path) -> io::Result<Self> {
        let address = match path.as_os_str().as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A manager that does not read must not stop us.
        socket.set_nonblocking(true)?;
        Ok(Self(Some(socket)))
    }

    /// Everything is there: what is ordered behind guard-agent may start.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// Work is really done.
    pub fn alive(&self, status: &str) {
        self.say(&format!("WATCHDOG=1\nSTATUS={}", one_line(status)));
    }

    /// It ends in order.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    fn say(&self, text: &str) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(text.as_bytes())
        {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let n = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..n].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_hears_each_word_and_no_line_is_smuggled_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(&path).unwrap();
        notifier.ready("all\nWATCHDOG_USEC=0");
        assert_eq!(heard(&manager), "READY=1\nSTATUS=all WATCHDOG_USEC=0");
        notifier.alive("2 holds wait");
        assert_eq!(heard(&manager), "WATCHDOG=1\nSTATUS=2 holds wait");
        notifier.stopping();
        assert_eq!(heard(&manager), "STOPPING=1");
    }

    #[test]
    fn an_abstract_socket_is_reached_and_a_missing_one_is_an_error() {
        let name = format!("guard-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::to(Path::new(&format!("@{name}"))).unwrap().stopping();
        assert_eq!(heard(&manager), "STOPPING=1");
        assert!(Notifier::to(Path::new("/nowhere/notify")).is_err());
        Notifier::default().ready("nobody listens");
    }

    #[test]
    fn a_manager_that_does_not_read_does_not_stop_us() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(&path).unwrap();
        (0..10_000).for_each(|_| notifier.alive("x"));
    }
}
