//! A request as a line and in full. Whatever the session chose is shown escaped.

use super::HoldItem;
use crate::controller::visible;
use crate::output::{ago, columns, duration, now_unix_ms};
use guard_model::{Action, FileRef, ProcessNode, RawText};
use std::fmt::Write as _;

/// Characters of an id in a list.
const ID_CHARS: usize = 8;

/// Id, state, time left or past, session, host, what.
pub(super) fn row(item: &HoldItem) -> [String; 6] {
    let hold = &item.hold;
    let id = hold.request.hold_id.to_string();
    let time = if hold.state.is_open() {
        left(hold.request.deadline_unix_ms)
    } else {
        ago(hold.decided_unix_ms.unwrap_or(hold.received_unix_ms))
    };
    [
        id.chars().take(ID_CHARS).collect(),
        hold.state.name().to_owned(),
        time,
        visible(&hold.request.session.name),
        visible(&hold.hostname),
        item.line.clone(),
    ]
}

fn left(deadline_unix_ms: u64) -> String {
    match deadline_unix_ms.saturating_sub(now_unix_ms()) {
        0 => "deadline passed".to_owned(),
        ms => format!("{} left", duration(ms)),
    }
}

/// Everything that an approver should see.
pub(super) fn in_full(item: &HoldItem) -> String {
    let (hold, request) = (&item.hold, &item.hold.request);
    let (session, process) = (&request.session, &request.process);
    let mut rows = vec![
        ["request", request.hold_id.to_string().as_str()].map(str::to_owned),
        ["state", &state(item)].map(str::to_owned),
        ["what", &item.line].map(str::to_owned),
    ];
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
    for statement in &request.statements {
        let reason = statement.reason.as_deref().unwrap_or("no reason given");
        let place = format!("{} ({}:{})", statement.id, statement.file, statement.line);
        row("held by", visible(&format!("{place}: {reason}")));
    }
    row("who decides", visible(&request.terms.approver_groups.join(" and ")));
    let name = visible(&session.name);
    let started = ago(session.started_unix_ms);
    row("session", format!("{name}, for {}, started {started}", visible(&session.principal)));
    row("command", format!("{} (its own claim)", words(&session.command)));
    row("host", visible(&hold.hostname));
    row("process", format!("{}, pid {}, uid {}", process.exe, process.pid, process.uid));
    row("command line", format!("{} (its own claim)", words(&process.cmdline)));
    row("directory", process.cwd.visible());
    row("cgroup", process.cgroup.visible());
    row("capabilities", visible(&process.cap_eff));
    action_rows(&request.action, &mut row);
    row("digest", request.digest.to_string());
    row("if approved", "this one action goes on, once".to_owned());
    row("if denied", "it fails with EPERM; so it does when the deadline passes".to_owned());
    if !item.may_decide && hold.state.is_open() {
        row("you", visible(item.why_not.as_deref().unwrap_or("may not decide it")));
    }
    let mut out = columns(&rows);
    out.push_str(&tree(&process.ancestors));
    if !request.recent.is_empty() {
        out.push_str("\njust before:\n");
        for line in &request.recent {
            let _ = writeln!(out, "  {}", visible(line));
        }
    }
    out
}

fn state(item: &HoldItem) -> String {
    let hold = &item.hold;
    let mut out = hold.state.name().to_owned();
    if hold.state.is_open() {
        let _ = write!(out, ", {}", left(hold.request.deadline_unix_ms));
    }
    if let Some(by) = &hold.decided_by {
        let _ = write!(out, ", by {}", visible(by));
    }
    if let Some(reason) = &hold.reason {
        let _ = write!(out, ": {}", visible(reason));
    }
    if hold.hasty {
        out.push_str(" (hasty: within a second of opening it)");
    }
    out
}

fn words(words: &[RawText]) -> String {
    words.iter().map(RawText::visible).collect::<Vec<_>>().join(" ")
}

fn action_rows(action: &Action, row: &mut impl FnMut(&str, String)) {
    let mut file_row = |name: &str, file: &FileRef| {
        let FileRef { dev, ino, owner_uid, mode, .. } = file;
        let about =
            format!("{file} (device {dev:#x}, inode {ino}, uid {owner_uid}, mode {mode:o})");
        row(name, about);
    };
    match action {
        Action::Exec { program, argv, argv_complete, .. } => {
            file_row("program", &program.file);
            if let Some(sha256) = &program.sha256 {
                row("sha-256", visible(sha256));
            }
            for (number, argument) in argv.iter().enumerate() {
                row(&format!("argv[{number}]"), argument.visible());
            }
            if !argv_complete {
                row("argv", "INCOMPLETE: it was cut or could not be read".to_owned());
            }
        }
        Action::Open { file, .. } | Action::Receive { file, .. } => file_row("file", file),
        Action::Map { program, .. } => file_row("library", &program.file),
        Action::Connect { endpoint, socket_type, protocol }
        | Action::Socket { endpoint, socket_type, protocol, .. } => {
            row("endpoint", format!("{endpoint} (type {socket_type}, protocol {protocol})"));
        }
        Action::Change { file, to, detail, .. } => {
            file_row("file", file);
            if let Some(to) = to {
                row("new name", to.to_string());
            }
            detail_row(detail, row);
        }
        Action::Task { target, detail, .. } => {
            row("process", target.to_string());
            detail_row(detail, row);
        }
        Action::System { file, detail, .. } => {
            if let Some(file) = file {
                file_row("file", file);
            }
            detail_row(detail, row);
        }
    }
}

fn detail_row(detail: &RawText, row: &mut impl FnMut(&str, String)) {
    if !detail.is_empty() {
        row("detail", detail.visible());
    }
}

/// The process and its ancestors, the oldest first.
fn tree(ancestors: &[ProcessNode]) -> String {
    if ancestors.is_empty() {
        return String::new();
    }
    let mut out = "\nprocess tree (* in the session):\n".to_owned();
    for (depth, node) in ancestors.iter().rev().enumerate() {
        let mark = if node.labelled { '*' } else { ' ' };
        let indent = "  ".repeat(depth);
        let _ = writeln!(out, "{mark} {indent}{} {} (uid {})", node.pid, node.exe, node.uid);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_controller::HoldView;
    use guard_model::{
        ActionDigest, BootId, DecisionTerms, FileAccess, HoldId, HoldRequest, HoldState, HostId,
        ProcessContext, SessionId, SessionInfo, text::is_deceptive,
    };
    use uuid::Uuid;

    /// Escapes, an escape sequence, a right-to-left mark and a line break.
    const EVIL: &str = "x\u{1b}[2K\u{202e}\ny";

    fn item() -> HoldItem {
        let (host, boot) = (HostId(Uuid::from_u128(1)), BootId(Uuid::from_u128(2)));
        let evil = || RawText::from(EVIL);
        let action = Action::Open {
            file: FileRef {
                path: evil(),
                path_error: None,
                dev: 1,
                ino: 2,
                generation: 0,
                owner_uid: 0,
                mode: 0o100_600,
            },
            access: FileAccess { read: true, ..FileAccess::default() },
        };
        let line = format!("{} {}", action.verb_line(), action.object_line());
        let request = HoldRequest {
            hold_id: HoldId::derive(host, boot, 1),
            host,
            boot,
            session: SessionInfo {
                id: SessionId(Uuid::from_u128(3)),
                name: "bot".into(),
                principal: EVIL.into(),
                uid: 1000,
                started_unix_ms: 0,
                root_pid: 1,
                command: vec![evil(), evil()],
            },
            process: ProcessContext {
                exe: evil(),
                cmdline: vec![evil()],
                cwd: evil(),
                ancestors: vec![ProcessNode { exe: evil(), ..ProcessNode::default() }],
                ..ProcessContext::default()
            },
            action,
            digest: ActionDigest([0; 32]),
            statements: guard_policy::Policy::default_policy()
                .statements()
                .iter()
                .filter(|statement| statement.id == "guard-itself")
                .cloned()
                .collect(),
            terms: DecisionTerms {
                approver_groups: vec!["approvers".into()],
                quorum: 1,
                ttl_ms: 1,
                scope: "once".into(),
                stepup: None,
            },
            recent: vec![EVIL.into()],
            held_at_unix_ms: 0,
            deadline_unix_ms: 0,
        };
        let hold = HoldView {
            number: 1,
            request,
            state: HoldState::Pending,
            hostname: EVIL.into(),
            received_unix_ms: 0,
            opened_unix_ms: None,
            verdict: None,
            decided_by: None,
            reason: Some(EVIL.into()),
            decided_unix_ms: None,
            deliberation_ms: None,
            hasty: false,
            finished: false,
        };
        HoldItem { hold, line, may_decide: false, why_not: Some(EVIL.into()) }
    }

    #[test]
    fn nothing_that_a_session_chose_reaches_the_terminal_unescaped() {
        let text = in_full(&item());
        for line in text.lines() {
            assert!(!line.chars().any(is_deceptive), "{line:?}");
        }
        let row = row(&item()).join(" ");
        assert!(!row.chars().any(is_deceptive), "{row:?}");
        assert!(text.contains("x\\u{1b}[2K\\u{202e}\\ny"), "{text}");
    }

    #[test]
    fn a_request_in_full_names_the_rule_the_file_and_what_happens_next() {
        let text = in_full(&item());
        for part in ["guard-itself (default.cedar:", "inode 2", "if approved", "process tree"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn what_the_api_gives_is_read_back() {
        let json = serde_json::to_string(&item()).unwrap();
        let read: HoldItem = serde_json::from_str(&json).unwrap();
        assert_eq!(read.hold, item().hold);
    }
}
