//! 1007 Process Activity, and the process objects of the other classes.

use super::{
    Class, OcsfEvent,
    action::{Activity, PROCESS_TERMINATE},
    base::Base,
    disposition::Disposition,
    file,
    words::{command_line, file_name},
};
use guard_model::{ProcessContext, ProgramRef, RawText};
use serde_json::{Value, json};

pub(super) const LAUNCH: Activity = (1, "Launch");

/// A program is executed. `process` is what it becomes, the actor's pid with the new image.
pub(super) fn launch(
    base: Base,
    program: &ProgramRef,
    argv: &[RawText],
    disposition: Disposition,
) -> OcsfEvent {
    let process = json!({
        "name": file_name(&program.file.path),
        "path": program.file.path.to_exact(),
        "cmd_line": command_line(argv),
        "file": file::program(program),
        "uid": program.file.path.to_exact(),
    });
    exec(base.event(Class::PROCESS, LAUNCH, disposition).with("process", process))
}

fn exec(event: OcsfEvent) -> OcsfEvent {
    event.with("launch_type_id", 3.into()).with("launch_type", "Exec".into())
}

/// Something is done to another process.
pub(super) fn target(
    base: Base,
    activity: Activity,
    target_pid: u32,
    disposition: Disposition,
) -> OcsfEvent {
    base.event(Class::PROCESS, activity, disposition).with("process", json!({ "pid": target_pid }))
}

/// A process or thread was made.
pub(super) fn forked(base: Base, pid: u32, child_pid: u32, child_tid: u32) -> OcsfEvent {
    let actor = actor_of_pid(pid, pid, base.session.as_deref());
    let is_process = child_pid == child_tid;
    let activity = if is_process { LAUNCH } else { (99, "Thread") };
    let event = base
        .event(Class::PROCESS, activity, Disposition::OBSERVED)
        .with("actor", actor)
        .with("process", json!({ "pid": child_pid, "tid": child_tid }));
    if !is_process {
        return event;
    }
    event.with("launch_type_id", 2.into()).with("launch_type", "Fork".into())
}

/// A new image runs.
pub(super) fn executed(base: Base, pid: u32, exe: &RawText) -> OcsfEvent {
    let actor = actor_of_pid(pid, pid, base.session.as_deref());
    let process = json!({ "pid": pid, "name": file_name(exe), "path": exe.to_exact() });
    exec(base.event(Class::PROCESS, LAUNCH, Disposition::OBSERVED))
        .with("actor", actor)
        .with("process", process)
}

/// A process or thread exited by itself or was ended.
pub(super) fn exited(base: Base, pid: u32, tid: u32) -> OcsfEvent {
    let actor = actor_of_pid(pid, tid, base.session.as_deref());
    base.event(Class::PROCESS, PROCESS_TERMINATE, Disposition::OBSERVED)
        .with("actor", actor)
        .with("process", json!({ "pid": pid, "tid": tid }))
}

/// The actor, as far as `/proc` told.
pub(super) fn actor(process: &ProcessContext, session: Option<&str>) -> Value {
    let uid = process.uid.to_string();
    let mut object = json!({
        "pid": process.pid,
        "tid": process.tid,
        "name": file_name(&process.exe),
        "path": process.exe.to_exact(),
        "cmd_line": command_line(&process.cmdline),
        "working_directory": process.cwd.to_exact(),
        "user": { "uid": uid, "type_id": if process.uid == 0 { 2 } else { 1 } },
        "parent_process": { "pid": process.ppid },
    });
    // The first is the process itself.
    let ancestry: Vec<Value> = process
        .ancestors
        .iter()
        .skip(1)
        .map(|node| {
            json!({
                "pid": node.pid,
                "name": file_name(&node.exe),
                "path": node.exe.to_exact(),
                "cmd_line": command_line(&node.cmdline),
            })
        })
        .collect();
    if !ancestry.is_empty() {
        object["ancestry"] = ancestry.into();
    }
    of_session(json!({ "process": object, "user": { "uid": uid } }), session)
}

/// The actor of which only the pid is known.
pub(super) fn actor_of_pid(pid: u32, tid: u32, session: Option<&str>) -> Value {
    of_session(json!({ "process": { "pid": pid, "tid": tid } }), session)
}

fn of_session(mut actor: Value, session: Option<&str>) -> Value {
    if let Some(session) = session {
        actor["session"] = json!({ "uid": session });
    }
    actor
}
