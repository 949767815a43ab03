//! Whose session it is: the name of the person or service behind a user id.

use crate::context::Proc;
use std::{fs::File, io::Read as _};

/// Most bytes of `/etc/passwd` that are read.
const PASSWD_MAX: u64 = 4 << 20;

/// The principal of a session that process `pid` of user `uid` starts: the user's name. Where
/// `sudo` made it root, the user who logged in: root's sessions belong to the person behind them,
/// who must not approve them.
#[must_use]
pub fn of_process(proc: &Proc, pid: u32, uid: u32) -> String {
    let person = if uid == 0 { proc.login_uid(pid).unwrap_or(0) } else { uid };
    name_of(person)
}

/// The name of a user, or `uid:N`. `/etc/passwd` is read, not NSS: a statically linked guard-agent
/// has no NSS, and a directory service that is down must not block decisions.
fn name_of(uid: u32) -> String {
    let mut text = Vec::new();
    let read =
        File::open("/etc/passwd").and_then(|file| file.take(PASSWD_MAX).read_to_end(&mut text));
    read.ok()
        .and_then(|_| find(&String::from_utf8_lossy(&text), uid))
        .unwrap_or_else(|| format!("uid:{uid}"))
}

fn find(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(uid) && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_and_an_unknown_one_is_numbered() {
        assert_eq!(name_of(0), "root");
        assert_eq!(name_of(3_999_999_999), "uid:3999999999");
        assert_eq!(find("bad line\ndev:x:1000:1000::/home/dev:/bin/sh", 1000).unwrap(), "dev");
    }

    #[test]
    fn a_root_session_belongs_to_the_person_who_logged_in() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("7")).unwrap();
        std::fs::write(directory.path().join("7/loginuid"), "3999999999").unwrap();
        let proc = Proc::new(directory.path());
        assert_eq!(of_process(&proc, 7, 0), "uid:3999999999");
        assert_eq!(of_process(&proc, 8, 0), "root");
        assert_eq!(of_process(&proc, 7, 3_999_999_998), "uid:3999999998");
    }
}
