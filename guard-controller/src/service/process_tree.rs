//! A session's process tree, from its evidence.

use crate::ProcessView;
use guard_audit::{Event, Record};
use guard_model::{ProcessContext, ProcessNode, RawText, SessionInfo};
use std::collections::{BTreeMap, HashSet};

/// Builds the tree: the session's first process, then children below their parents in order of pid.
/// A process whose parent is not known (its fork is older than the records) stands at the top.
pub(super) fn build(info: &SessionInfo, records: &[Record]) -> Vec<ProcessView> {
    let mut known: BTreeMap<u32, ProcessView> = BTreeMap::new();
    let root = entry(&mut known, info.root_pid);
    root.node.uid = info.uid;
    root.node.cmdline.clone_from(&info.command);
    for record in records {
        apply(&mut known, record);
    }
    let mut ordered = Vec::with_capacity(known.len());
    let mut placed = HashSet::new();
    let tops: Vec<u32> = known
        .values()
        .filter(|process| !known.contains_key(&process.node.ppid))
        .map(|process| process.node.pid)
        .collect();
    for pid in std::iter::once(info.root_pid).chain(tops).chain(known.keys().copied()) {
        place(&known, pid, 0, &mut placed, &mut ordered);
    }
    ordered
}

fn apply(known: &mut BTreeMap<u32, ProcessView>, record: &Record) {
    match &record.event {
        Event::Forked { pid, child_pid, .. } if pid != child_pid => {
            let (uid, exe) = {
                let parent = entry(known, *pid);
                (parent.node.uid, parent.node.exe.clone())
            };
            // A pid that is used again is another process; the newer one is shown.
            known.remove(child_pid);
            let child = entry(known, *child_pid);
            child.node.ppid = *pid;
            child.node.uid = uid;
            child.node.exe = exe;
        }
        Event::Executed { pid, exe } => {
            let process = entry(known, *pid);
            process.node.exe.clone_from(exe);
            process.node.cmdline = Vec::new();
        }
        Event::Exited { pid, tid } if pid == tid => {
            entry(known, *pid).exited_unix_ms = Some(record.unix_ms);
        }
        Event::Decided { process, .. } => describe(known, process),
        Event::Held { request } => describe(known, &request.process),
        _ => {}
    }
}

fn describe(known: &mut BTreeMap<u32, ProcessView>, context: &ProcessContext) {
    let process = entry(known, context.pid);
    let node = &mut process.node;
    node.ppid = if context.ppid == 0 { node.ppid } else { context.ppid };
    node.uid = context.uid;
    keep_if_known(&mut node.exe, &context.exe);
    if !context.cmdline.is_empty() {
        node.cmdline.clone_from(&context.cmdline);
    }
}

fn keep_if_known(old: &mut RawText, new: &RawText) {
    if !new.is_empty() {
        old.clone_from(new);
    }
}

fn entry(known: &mut BTreeMap<u32, ProcessView>, pid: u32) -> &mut ProcessView {
    known.entry(pid).or_insert_with(|| ProcessView {
        node: ProcessNode { pid, labelled: true, ..ProcessNode::default() },
        depth: 0,
        exited_unix_ms: None,
    })
}

fn place(
    known: &BTreeMap<u32, ProcessView>,
    pid: u32,
    depth: u32,
    placed: &mut HashSet<u32>,
    ordered: &mut Vec<ProcessView>,
) {
    // An own stack: evidence comes from a host, and a chain of a million forks must not end ours.
    let mut waiting = vec![(pid, depth)];
    while let Some((pid, depth)) = waiting.pop() {
        let Some(process) = known.get(&pid) else { continue };
        if !placed.insert(pid) {
            continue;
        }
        ordered.push(ProcessView { depth, ..process.clone() });
        let children = known.values().filter(|child| child.node.ppid == pid).rev();
        waiting.extend(children.map(|child| (child.node.pid, depth + 1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_model::{BootId, HostId, SessionId};
    use uuid::Uuid;

    fn record(event: Event) -> Record {
        Record {
            host: HostId(Uuid::nil()),
            boot: BootId(Uuid::nil()),
            sequence: 1,
            boottime_ns: 0,
            unix_ms: 5,
            session: None,
            event,
        }
    }

    fn info() -> SessionInfo {
        SessionInfo {
            id: SessionId(Uuid::nil()),
            name: "a".into(),
            principal: "dev".into(),
            uid: 1000,
            started_unix_ms: 0,
            root_pid: 10,
            command: vec!["bash".into()],
        }
    }

    fn fork(pid: u32, child: u32) -> Record {
        record(Event::Forked { pid, child_pid: child, child_tid: child })
    }

    #[test]
    fn children_stand_below_their_parents_with_what_they_run() {
        let records = [
            fork(10, 12),
            fork(10, 11),
            fork(12, 13),
            record(Event::Executed { pid: 13, exe: "/bin/cat".into() }),
            record(Event::Exited { pid: 13, tid: 13 }),
        ];
        let tree = build(&info(), &records);
        let shape: Vec<_> = tree.iter().map(|p| (p.node.pid, p.depth)).collect();
        assert_eq!(shape, [(10, 0), (11, 1), (12, 1), (13, 2)]);
        assert_eq!(tree[3].node.exe, RawText::from("/bin/cat"));
        assert_eq!(tree[3].exited_unix_ms, Some(5));
    }

    #[test]
    fn a_loop_of_parents_and_an_unknown_parent_still_give_every_process_once() {
        let tree = build(&info(), &[fork(20, 21), fork(21, 20), fork(77, 78)]);
        let mut pids: Vec<_> = tree.iter().map(|p| p.node.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [10, 20, 21, 77, 78]);
    }
}
