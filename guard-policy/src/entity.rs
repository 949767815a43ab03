//! From an attempt to Cedar's request: principal, action, resource, context, and few entities.

use crate::{
    decide::Attempt,
    names::{ACTIONS, NAMES, uid},
    path,
};
use cedar_policy::{
    Context, Entities, Entity, EntityTypeName, EntityUid, Request, RestrictedExpression,
};
use guard_model::{
    Action, ChangeOperation, Endpoint, FileAccess, FileRef, ProcessContext, RawText, SessionInfo,
    TaskRef,
};
use std::collections::{HashMap, HashSet};

/// Directories whose programs a root session counts as installed rather than written by itself. The
/// default pack holds a root session's writes to them.
pub(crate) const SYSTEM_DIRS: [&str; 12] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/libexec",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/snap",
];

type Attributes = HashMap<String, RestrictedExpression>;

/// A request that Cedar cannot take; the reason names the part.
#[derive(Debug, thiserror::Error)]
#[error("the {part} cannot be given to Cedar: {reason}")]
pub(crate) struct Unrepresentable {
    pub(crate) part: &'static str,
    pub(crate) reason: String,
}

/// What Cedar needs for one attempt, apart from whether it is approved.
pub(crate) struct Question {
    principal: EntityUid,
    pub(crate) action: EntityUid,
    resource: EntityUid,
    context: Vec<(String, RestrictedExpression)>,
    pub(crate) entities: Entities,
}

impl Question {
    /// One question an object: a rename or link has two.
    pub(crate) fn all(attempt: &Attempt<'_>) -> Result<Vec<Self>, Unrepresentable> {
        Self::under(attempt, attempt.action)
    }

    /// The same for an attempt under another name; `own` is the action under the name that was used. Whether the
    /// session could have written a program is told by that one: seen from the host, what a container has
    /// installed stands somewhere below `/var/lib`.
    pub(crate) fn under(attempt: &Attempt<'_>, own: &Action) -> Result<Vec<Self>, Unrepresentable> {
        let mut questions = vec![Self::of(attempt, resource(attempt, own)?, false)?];
        if let Action::Change { to: Some(to), .. } = attempt.action {
            let destination = file_entity(&NAMES.file, to, true, [])?;
            questions.push(Self::of(attempt, destination, true)?);
        }
        Ok(questions)
    }

    fn of(
        attempt: &Attempt<'_>,
        resource: Entity,
        destination: bool,
    ) -> Result<Self, Unrepresentable> {
        let session = session_entity(attempt.session, attempt.host)?;
        let mut context = context_of(attempt);
        if let Action::Change { file, to, .. } = attempt.action {
            let other = if destination { Some(file) } else { to.as_ref() };
            let other = other.filter(|other| path_is_known(other));
            let other = other.map(|other| other.path.to_exact()).unwrap_or_default();
            context.push(("other".to_owned(), text(&other)));
            context.push(("changes".to_owned(), flag(true)));
            context.push(("destination".to_owned(), flag(destination)));
        }
        let action = NAMES.action(attempt.action.name());
        let (principal, subject) = (session.uid(), resource.uid());
        let grouped = ACTIONS.get(&action).cloned();
        Ok(Self {
            principal,
            entities: entities([session, resource].into_iter().chain(grouped))?,
            action,
            resource: subject,
            context,
        })
    }

    pub(crate) fn request(&self, approved: bool) -> Result<Request, Unrepresentable> {
        let approved = ("approved".to_owned(), flag(approved));
        let pairs = self.context.iter().cloned().chain([approved]);
        let context =
            Context::from_pairs(pairs).map_err(|error| unrepresentable("context", error))?;
        self.with(context)
    }

    fn with(&self, context: Context) -> Result<Request, Unrepresentable> {
        let (principal, action) = (self.principal.clone(), self.action.clone());
        Request::new(principal, action, self.resource.clone(), context, None)
            .map_err(|error| unrepresentable("request", error))
    }
}

fn resource(attempt: &Attempt<'_>, own: &Action) -> Result<Entity, Unrepresentable> {
    match attempt.action {
        Action::Exec { program, .. } | Action::Map { program, .. } => {
            let file = own.file().unwrap_or(&program.file);
            let writable = writable_by_session(attempt.session, attempt.process, file);
            let extra = [("writable_by_session", flag(writable))];
            file_entity(&NAMES.program, &program.file, false, extra)
        }
        Action::Open { file, access } | Action::Receive { file, access } => {
            file_entity(&NAMES.file, file, access.create, [])
        }
        Action::Change { operation, file, .. } => {
            let made = matches!(
                operation,
                ChangeOperation::Mkdir | ChangeOperation::Mknod | ChangeOperation::Symlink
            );
            file_entity(&NAMES.file, file, made, [])
        }
        Action::Connect { endpoint, .. } | Action::Socket { endpoint, .. } => {
            endpoint_entity(endpoint, attempt.process)
        }
        Action::Task { target, .. } => task_entity(target),
        Action::System { detail, file, .. } => system_entity(detail, file.as_ref()),
    }
}

fn task_entity(target: &TaskRef) -> Result<Entity, Unrepresentable> {
    let values = attributes([
        ("pid", number(target.pid)),
        ("uid", number(target.uid)),
        ("name", text(&target.comm.to_exact())),
        ("own_session", flag(target.own_session)),
    ]);
    entity("task", uid(&NAMES.task, &target.pid.to_string()), values, HashSet::new())
}

fn system_entity(detail: &RawText, file: Option<&FileRef>) -> Result<Entity, Unrepresentable> {
    let known = file.is_none_or(path_is_known);
    let path = file.filter(|_| known).map(|file| file.path.to_exact()).unwrap_or_default();
    let values = attributes([
        ("detail", text(&detail.to_exact())),
        ("path", text(&path)),
        ("has_file", flag(file.is_some())),
        ("path_known", flag(known)),
    ]);
    entity("system", uid(&NAMES.system, "kernel"), values, HashSet::new())
}

pub(crate) fn unrepresentable(part: &'static str, error: impl ToString) -> Unrepresentable {
    Unrepresentable { part, reason: error.to_string() }
}

pub(crate) fn entities(
    entities: impl IntoIterator<Item = Entity>,
) -> Result<Entities, Unrepresentable> {
    Entities::from_entities(entities, None).map_err(|error| unrepresentable("entities", error))
}

pub(crate) fn entity(
    part: &'static str,
    id: EntityUid,
    attributes: Attributes,
    parents: HashSet<EntityUid>,
) -> Result<Entity, Unrepresentable> {
    Entity::new(id, attributes, parents).map_err(|error| unrepresentable(part, error))
}

fn session_entity(session: &SessionInfo, host: &str) -> Result<Entity, Unrepresentable> {
    let attributes = attributes([
        ("name", text(&session.name)),
        ("principal", text(&session.principal)),
        ("uid", number(session.uid)),
        ("host", text(host)),
    ]);
    let id = uid(&NAMES.session, &session.id.to_string());
    entity("session", id, attributes, HashSet::new())
}

fn file_entity<const N: usize>(
    kind: &EntityTypeName,
    file: &FileRef,
    create: bool,
    extra: [(&str, RestrictedExpression); N],
) -> Result<Entity, Unrepresentable> {
    let known = path_is_known(file);
    let path = if known { file.path.to_exact() } else { String::new() };
    let (dir, name) = path::split(&path);
    let mut attributes = attributes([
        ("path", text(&path)),
        ("name", text(name)),
        ("dir", text(dir)),
        ("path_known", flag(known)),
        ("kind", text(if create { "file" } else { kind_of(file.mode) })),
        ("dev", long(file.dev)),
        ("ino", long(file.ino)),
        ("owner_uid", number(file.owner_uid)),
        ("mode", number(file.mode & 0o7777)),
    ]);
    attributes.extend(extra.map(|(name, value)| (name.to_owned(), value)));
    let parents = path::ancestors(&path).map(|dir| uid(&NAMES.directory, dir)).collect();
    entity("file", uid(kind, &path), attributes, parents)
}

/// An absolute path without an error. Anything else is not known, whatever stands in it.
pub(crate) fn path_is_known(file: &FileRef) -> bool {
    file.path_error.is_none() && file.path.as_bytes().starts_with(b"/")
}

fn kind_of(mode: u32) -> &'static str {
    match mode & libc_mode::TYPE {
        0o100_000 => "file",
        0o040_000 => "directory",
        0o120_000 => "symlink",
        0o140_000 => "socket",
        0o010_000 => "fifo",
        0o020_000 => "char",
        0o060_000 => "block",
        _ => "unknown",
    }
}

mod libc_mode {
    /// `S_IFMT`.
    pub(super) const TYPE: u32 = 0o170_000;
}

/// Whether the session could have written the program: it owns it, others or the group may write
/// it, or the session is root and the program is not in a [`SYSTEM_DIRS`].
fn writable_by_session(session: &SessionInfo, process: &ProcessContext, file: &FileRef) -> bool {
    let uids = [session.uid, process.uid];
    let path = file.path.to_exact();
    let installed = path_is_known(file) && SYSTEM_DIRS.iter().any(|dir| path::is_below(&path, dir));
    let owned = file.owner_uid != 0 && uids.contains(&file.owner_uid);
    let open_to_others = file.mode & 0o022 != 0;
    owned || open_to_others || (uids.contains(&0) && !installed)
}

/// By the process id of the initial namespace. In a namespace of its own a session sees only
/// itself, so a number that means another process there means no stranger.
fn is_own_process(file: &FileRef, process: &ProcessContext) -> bool {
    let own = format!("/proc/{}", process.pid);
    path_is_known(file) && path::is_below(&file.path.to_exact(), &own)
}

fn endpoint_entity(
    endpoint: &Endpoint,
    process: &ProcessContext,
) -> Result<Entity, Unrepresentable> {
    let mut values = Attributes::new();
    let mut set = |name: &str, value| values.insert(name.to_owned(), value);
    let (family, address_family) = match endpoint {
        Endpoint::Inet { ip, port, .. } | Endpoint::Inet6 { ip, port } => {
            // Whatever it came as: a mapped address means the IPv4 address.
            let ip = ip.to_canonical();
            set("ip", RestrictedExpression::new_ip(ip.to_string()));
            set("port", number(*port));
            if ip.is_ipv4() { ("inet", 2) } else { ("inet6", 10) }
        }
        Endpoint::Unix { path } => {
            let given = path.to_exact();
            let normal = path::normal(&given, &process.cwd.to_exact());
            set("path_exact", flag(given == normal));
            set("path", text(&normal));
            ("unix", 1)
        }
        Endpoint::Abstract { name } => {
            set("name", text(&name.to_exact()));
            ("abstract", 1)
        }
        Endpoint::Unspec => ("unspec", 0),
        Endpoint::Family { number } => (family_name(*number), *number),
        Endpoint::Other { number, .. } => ("other", *number),
    };
    set("family", text(family));
    set("number", number(address_family));
    entity("endpoint", uid(&NAMES.endpoint, &endpoint.to_string()), values, HashSet::new())
}

fn family_name(number: u16) -> &'static str {
    match number {
        0 => "unspec",
        1 => "unix",
        2 => "inet",
        10 => "inet6",
        _ => "other",
    }
}

fn context_of(attempt: &Attempt<'_>) -> Vec<(String, RestrictedExpression)> {
    let process = attempt.process;
    let mut pairs = vec![
        ("uid", number(process.uid)),
        ("gid", number(process.gid)),
        ("exe", text(&process.exe.to_exact())),
        ("cwd", text(&process.cwd.to_exact())),
    ];
    match attempt.action {
        Action::Exec {
            argv,
            argv_complete,
            interpreter,
            unnamed,
            loader,
            gains,
            environment,
            program,
        } => {
            let exact: Vec<String> = argv.iter().map(RawText::to_exact).collect();
            let names = environment.iter().map(|name| text(name));
            pairs.extend([
                ("argv0", text(exact.first().map_or("", String::as_str))),
                ("args", text(&exact.get(1..).unwrap_or_default().join(" "))),
                ("argc", long(argv.len() as u64)),
                ("argv_complete", flag(*argv_complete)),
                ("interpreter", flag(*interpreter)),
                ("unnamed", flag(*unnamed)),
                ("loader", flag(*loader)),
                ("gains", flag(*gains)),
                ("environment", RestrictedExpression::new_set(names)),
                ("sha256", text(program.sha256.as_deref().unwrap_or_default())),
            ]);
        }
        Action::Map { unnamed, writable, program: _ } => {
            pairs.extend([("unnamed", flag(*unnamed)), ("writable", flag(*writable))]);
        }
        Action::Open { file, access } | Action::Receive { file, access } => {
            let FileAccess { read, write, append, truncate, create, tmpfile } = *access;
            pairs.extend([
                ("read", flag(read)),
                ("write", flag(write)),
                ("append", flag(append)),
                ("truncate", flag(truncate)),
                ("create", flag(create)),
                ("tmpfile", flag(tmpfile)),
                ("changes", flag(write || append || truncate || create || tmpfile)),
                ("own_process", flag(is_own_process(file, process))),
            ]);
        }
        Action::Connect { socket_type, protocol, endpoint: _ }
        | Action::Socket { socket_type, protocol, operation: _, endpoint: _ } => {
            pairs.extend([("socket_type", number(*socket_type)), ("protocol", number(*protocol))]);
        }
        Action::Change { detail, .. } | Action::Task { detail, .. } => {
            pairs.push(("detail", text(&detail.to_exact())));
        }
        Action::System { .. } => {}
    }
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

pub(crate) fn attributes<const N: usize>(pairs: [(&str, RestrictedExpression); N]) -> Attributes {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

pub(crate) fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

pub(crate) fn flag(value: bool) -> RestrictedExpression {
    RestrictedExpression::new_bool(value)
}

pub(crate) fn number(value: impl Into<i64>) -> RestrictedExpression {
    RestrictedExpression::new_long(value.into())
}

/// Device and inode numbers above `i64::MAX` keep their bits.
fn long(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(value.cast_signed())
}
