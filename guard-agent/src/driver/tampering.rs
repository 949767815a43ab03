//! What the kernel refused to somebody who reached for Guard itself, in words.

use guard_common::{
    event::Header,
    guardian::{
        TAMPER_MAP, TAMPER_RENAME, TAMPER_RMDIR, TAMPER_TRACE, TAMPER_UNLINK, TAMPER_UNMOUNT,
    },
};

/// The attempt: what, of what, by whom. Names are what the processes call themselves: for people only.
pub(super) fn refused(header: &Header, what: u32, name: &str) -> String {
    let attempt = match what {
        TAMPER_MAP => format!("to open the map {name} for writing"),
        TAMPER_UNLINK => format!("to remove the pin {name}"),
        TAMPER_RMDIR => format!("to remove {name} among the pins"),
        TAMPER_RENAME => format!("to rename or replace {name} among the pins"),
        TAMPER_UNMOUNT => "to unmount the bpf file system with the pins".to_owned(),
        TAMPER_TRACE => "to trace guard-agent, or reach into it".to_owned(),
        other => format!("something unknown ({other}) to {name}"),
    };
    let comm = header.comm.split(|byte| *byte == 0).next().unwrap_or_default();
    let comm = String::from_utf8_lossy(comm);
    let (pid, uid) = (header.tgid, header.uid);
    format!("refused: {attempt}, by {comm} (pid {pid}, uid {uid})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_says_what_and_who() {
        let mut header = Header { tgid: 7, uid: 0, ..Header::default() };
        header.comm[..2].copy_from_slice(b"rm");
        let said = refused(&header, TAMPER_UNLINK, "file_open");
        assert_eq!(said, "refused: to remove the pin file_open, by rm (pid 7, uid 0)");
        let kinds = [TAMPER_MAP, TAMPER_RMDIR, TAMPER_RENAME, TAMPER_UNMOUNT, TAMPER_TRACE, 99];
        let said: std::collections::BTreeSet<_> =
            kinds.iter().map(|what| refused(&header, *what, "x")).collect();
        assert_eq!(said.len(), kinds.len());
    }
}
