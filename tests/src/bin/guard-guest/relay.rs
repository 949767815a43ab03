//! A TCP relay: Guard's page listens on loopback only, and QEMU forwards to the VM's own address.

use crate::Trouble;
use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Connections at once; a browser opens six to one host, and a few people may look.
const CONNECTIONS_MAX: usize = 64;

/// Relays every connection to `from` on to `to`, until the process ends.
pub(crate) fn start(from: SocketAddr, to: SocketAddr) -> Result<(), Trouble> {
    let listener = TcpListener::bind(from).map_err(|error| format!("listen on {from}: {error}"))?;
    let open = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for outside in listener.incoming().flatten() {
            if open.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
                continue;
            }
            open.fetch_add(1, Ordering::Relaxed);
            let open = open.clone();
            thread::spawn(move || {
                let _ = both_ways(&outside, to);
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(())
}

fn both_ways(outside: &TcpStream, to: SocketAddr) -> io::Result<()> {
    let inside = TcpStream::connect(to)?;
    let (from_outside, to_inside) = (outside.try_clone()?, inside.try_clone()?);
    let up = thread::spawn(move || one_way(from_outside, to_inside));
    one_way(inside, outside.try_clone()?);
    let _ = up.join();
    Ok(())
}

fn one_way(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn what_one_side_says_reaches_the_other_until_it_closes() {
        let inside = TcpListener::bind("127.0.0.1:0").unwrap();
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let from = probe.local_addr().unwrap();
        drop(probe);
        start(from, inside.local_addr().unwrap()).unwrap();
        let mut client = TcpStream::connect(from).unwrap();
        let (mut server, _) = inside.accept().unwrap();
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        assert_eq!(text, "question");
        server.write_all(b"answer").unwrap();
        drop(server);
        text.clear();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "answer");
    }
}
