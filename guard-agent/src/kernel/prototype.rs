//! Whether a hook takes what its program was written for (K5).
//!
//! The verifier checks what is done with a pointer, but a number that has moved to another place is a number still:
//! the program would decide about something else. So the prototype in the kernel's own BTF is compared with what
//! the program reads, before it is loaded.

use std::collections::HashMap;

/// What a program takes an argument for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// A pointer to this struct.
    Struct(&'static str),
    /// A pointer, whatever to.
    Address,
    /// A number of eight bytes at most, or what is passed like one (`kuid_t`).
    Number,
}

/// A type of the kernel, as far as it matters here.
#[derive(Clone, Copy, Debug)]
struct Type<'a> {
    kind: u32,
    name: &'a str,
    /// Size in bytes, or the type that it refers to.
    size_or_type: u32,
    /// What follows it: the parameters of a function.
    rest: &'a [u8],
}

// include/uapi/linux/btf.h
const MAGIC: u16 = 0xeb9f;
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// Functions that BPF LSM programs are attached to, and types of the functions of tracepoints.
const LSM_PREFIX: &str = "bpf_lsm_";
const TRACEPOINT_PREFIX: &str = "btf_trace_";
/// Bytes of a type without what follows it, and of one parameter.
const TYPE_BYTES: usize = 12;
const PARAMETER_BYTES: usize = 8;
/// Most types between a name and what it stands for: a kernel's are a handful, a cycle has no end.
const DEPTH_MAX: usize = 32;

/// The hooks of a kernel with their types.
pub(super) struct Prototypes<'a> {
    types: Vec<Type<'a>>,
    hooks: HashMap<&'a str, u32>,
}

impl<'a> Prototypes<'a> {
    /// Reads a kernel's BTF.
    pub(super) fn parse(btf: &'a [u8]) -> Result<Self, &'static str> {
        let magic = btf.get(..2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes);
        if magic != Some(MAGIC) {
            return Err("this is no BTF");
        }
        let at = |offset| word(btf, offset).map(|word| word as usize).ok_or("the header is cut");
        let (header, type_at, type_len) = (at(4)?, at(8)?, at(12)?);
        let (text_at, text_len) = (at(16)?, at(20)?);
        let part = |at: usize, len: usize| {
            let from = header.checked_add(at)?;
            btf.get(from..from.checked_add(len)?)
        };
        let mut rest = part(type_at, type_len).ok_or("the types are cut")?;
        let texts = part(text_at, text_len).ok_or("the names are cut")?;
        // Type 0 is void and stands nowhere.
        let mut types = vec![Type { kind: 0, name: "", size_or_type: 0, rest: &[] }];
        let mut hooks = HashMap::new();
        while !rest.is_empty() {
            let one = read(rest, texts)?;
            let is_hook = one.kind == FUNC && one.name.starts_with(LSM_PREFIX)
                || one.kind == TYPEDEF && one.name.starts_with(TRACEPOINT_PREFIX);
            if is_hook {
                hooks.insert(one.name, u32::try_from(types.len()).unwrap_or(u32::MAX));
            }
            rest = rest.get(TYPE_BYTES + one.rest.len()..).ok_or("a type is cut")?;
            types.push(one);
        }
        Ok(Self { types, hooks })
    }

    /// Whether the LSM hook or tracepoint takes what is expected at each place; if not, in words. A hook that the
    /// kernel does not have is not judged here.
    pub(super) fn check(&self, hook: &str, takes: &[(usize, Takes)]) -> Result<(), String> {
        let lsm = self.hooks.get(format!("{LSM_PREFIX}{hook}").as_str());
        let tracepoint = self.hooks.get(format!("{TRACEPOINT_PREFIX}{hook}").as_str());
        // The first parameter of a tracepoint's function is not the program's.
        let Some((id, skipped)) = lsm.map(|id| (*id, 0)).or(tracepoint.map(|id| (*id, 1))) else {
            return Ok(());
        };
        let parameters = self
            .parameters(id)
            .ok_or_else(|| format!("the kernel's types do not say what the hook `{hook}` takes"))?;
        for (place, expected) in takes {
            let found = parameters.get(place + skipped).copied();
            if !found.is_some_and(|id| self.is(id, *expected)) {
                let found = found.map_or_else(|| "nothing".to_owned(), |id| self.told(id));
                return Err(format!(
                    "argument {place} of the hook `{hook}` is {found} on this kernel, and the program was \
                     written for {}",
                    expected.told()
                ));
            }
        }
        Ok(())
    }

    /// The types of a function's parameters.
    fn parameters(&self, id: u32) -> Option<Vec<u32>> {
        let mut found = self.get(id)?;
        for _ in 0..DEPTH_MAX {
            if found.kind == FUNC_PROTO {
                let parameters = found.rest.chunks_exact(PARAMETER_BYTES);
                return parameters.map(|parameter| word(parameter, 4)).collect();
            }
            found = self.get(found.size_or_type)?;
        }
        None
    }

    fn get(&self, id: u32) -> Option<Type<'a>> {
        self.types.get(id as usize).copied()
    }

    /// What a type is without its other names and qualifiers.
    fn plain(&self, id: u32) -> Option<Type<'a>> {
        let mut found = self.get(id)?;
        for _ in 0..DEPTH_MAX {
            if !matches!(found.kind, TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG) {
                return Some(found);
            }
            found = self.get(found.size_or_type)?;
        }
        None
    }

    fn is(&self, id: u32, expected: Takes) -> bool {
        let Some(found) = self.plain(id) else { return false };
        match expected {
            Takes::Address => found.kind == PTR,
            Takes::Number => {
                matches!(found.kind, INT | ENUM | ENUM64 | STRUCT | UNION)
                    && found.size_or_type <= 8
            }
            Takes::Struct(name) => {
                let to = (found.kind == PTR).then(|| self.plain(found.size_or_type)).flatten();
                to.is_some_and(|to| matches!(to.kind, STRUCT | FWD) && to.name == name)
            }
        }
    }

    fn told(&self, id: u32) -> String {
        match self.plain(id) {
            Some(Type { kind: PTR, size_or_type, .. }) => match self.plain(size_or_type) {
                Some(Type { name, .. }) if !name.is_empty() => format!("a pointer to `{name}`"),
                _ => "a pointer".to_owned(),
            },
            Some(Type { name, .. }) if !name.is_empty() => format!("`{name}`"),
            _ => "something else".to_owned(),
        }
    }
}

impl Takes {
    fn told(self) -> String {
        match self {
            Self::Struct(name) => format!("a pointer to `{name}`"),
            Self::Address => "a pointer".to_owned(),
            Self::Number => "a number".to_owned(),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The type that stands first.
fn read<'a>(bytes: &'a [u8], texts: &'a [u8]) -> Result<Type<'a>, &'static str> {
    let at = |offset| word(bytes, offset).ok_or("a type is cut");
    let (name, info, size_or_type) = (at(0)? as usize, at(4)?, at(8)?);
    let (kind, n) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
    let len = match kind {
        PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | DATASEC | ENUM64 => n * 12,
        ENUM | FUNC_PROTO => n * 8,
        _ => return Err("there is a kind of type that this version does not know"),
    };
    let text = texts.get(name..).ok_or("a name is cut")?;
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let rest = bytes.get(TYPE_BYTES..TYPE_BYTES + len).ok_or("a type is cut")?;
    Ok(Type { kind, name: std::str::from_utf8(text).unwrap_or_default(), size_or_type, rest })
}

#[cfg(test)]
mod tests {
    use super::{super::programs::PROGRAMS, *};

    /// A kernel's types, written by hand.
    #[derive(Default)]
    struct Btf {
        types: Vec<u8>,
        texts: Vec<u8>,
        n: u32,
    }

    impl Btf {
        fn add(&mut self, kind: u32, name: &str, n: u32, size_or_type: u32, rest: &[u32]) -> u32 {
            if self.texts.is_empty() {
                self.texts.push(0);
            }
            let at = if name.is_empty() { 0 } else { self.texts.len() as u32 };
            if at > 0 {
                self.texts.extend(name.bytes().chain([0]));
            }
            for word in [at, kind << 24 | n, size_or_type].iter().chain(rest) {
                self.types.extend(word.to_le_bytes());
            }
            self.n += 1;
            self.n
        }

        fn function(&mut self, name: &str, parameters: &[u32]) {
            let rest: Vec<u32> = parameters.iter().flat_map(|id| [0, *id]).collect();
            let proto = self.add(FUNC_PROTO, "", parameters.len() as u32, 0, &rest);
            match name.strip_prefix(TRACEPOINT_PREFIX) {
                Some(_) => {
                    let pointer = self.add(PTR, "", 0, proto, &[]);
                    self.add(TYPEDEF, name, 0, pointer, &[]);
                }
                None => {
                    self.add(FUNC, name, 0, proto, &[]);
                }
            }
        }

        fn bytes(&self) -> Vec<u8> {
            let (types, texts) = (self.types.len() as u32, self.texts.len() as u32);
            let mut bytes = MAGIC.to_le_bytes().to_vec();
            bytes.extend([1, 0]);
            for word in [24, 0, types, types, texts] {
                bytes.extend(u32::to_le_bytes(word));
            }
            bytes.extend(&self.types);
            bytes.extend(&self.texts);
            bytes
        }
    }

    /// A hook like `path_mknod` and a tracepoint.
    fn kernel() -> Vec<u8> {
        let mut btf = Btf::default();
        let int = btf.add(INT, "unsigned short", 0, 2, &[0]);
        let mode = btf.add(TYPEDEF, "umode_t", 0, int, &[]);
        let path = btf.add(STRUCT, "path", 1, 16, &[0, 0, 0]);
        let constant = btf.add(CONST, "", 0, path, &[]);
        let to_path = btf.add(PTR, "", 0, constant, &[]);
        let dentry = btf.add(FWD, "dentry", 0, 0, &[]);
        let to_dentry = btf.add(PTR, "", 0, dentry, &[]);
        let void = btf.add(PTR, "", 0, 0, &[]);
        btf.function("bpf_lsm_path_mknod", &[to_path, to_dentry, mode]);
        btf.function("btf_trace_sched", &[void, to_path, to_dentry]);
        btf.bytes()
    }

    #[test]
    fn a_hook_that_takes_what_the_program_was_written_for_is_good() {
        let bytes = kernel();
        let prototypes = Prototypes::parse(&bytes).expect("types");
        let takes = [(0, Takes::Struct("path")), (1, Takes::Struct("dentry")), (2, Takes::Number)];
        assert_eq!(prototypes.check("path_mknod", &takes), Ok(()));
        assert_eq!(prototypes.check("path_mknod", &[(0, Takes::Address)]), Ok(()));
        assert_eq!(prototypes.check("sched", &[(1, Takes::Struct("dentry"))]), Ok(()));
        assert_eq!(prototypes.check("not_there", &takes), Ok(()));
    }

    #[test]
    fn an_argument_that_has_moved_changed_or_gone_is_named_with_both_types() {
        let bytes = kernel();
        let prototypes = Prototypes::parse(&bytes).expect("types");
        for (takes, words) in [
            (
                (1, Takes::Struct("path")),
                "argument 1 of the hook `path_mknod` is a pointer to `dentry`",
            ),
            ((0, Takes::Number), "written for a number"),
            ((2, Takes::Address), "is `unsigned short` on this kernel"),
            ((3, Takes::Number), "argument 3 of the hook `path_mknod` is nothing"),
        ] {
            let error = prototypes.check("path_mknod", &[takes]).expect_err("it is not so");
            assert!(error.contains(words), "{error}");
        }
        let first = prototypes.check("sched", &[(0, Takes::Struct("dentry"))]);
        assert!(first.is_err(), "a tracepoint's own first parameter was counted");
    }

    #[test]
    fn types_that_are_cut_or_refer_to_one_another_for_ever_are_an_error_and_no_panic() {
        let bytes = kernel();
        for len in 0..bytes.len() {
            if let Ok(prototypes) = Prototypes::parse(&bytes[..len]) {
                let _ = prototypes.check("path_mknod", &[(0, Takes::Number)]);
            }
        }
        let mut btf = Btf::default();
        let own = btf.n + 1;
        btf.add(TYPEDEF, "for ever", 0, own, &[]);
        btf.function("bpf_lsm_endless", &[own]);
        let bytes = btf.bytes();
        let prototypes = Prototypes::parse(&bytes).expect("types");
        assert!(prototypes.check("endless", &[(0, Takes::Number)]).is_err());
    }

    #[test]
    fn a_program_that_reads_arguments_says_which_ones() {
        let silent: Vec<_> =
            PROGRAMS.iter().filter(|spec| spec.takes.is_empty()).map(|spec| spec.program).collect();
        let without = [
            "sched_process_exit",
            "userns_create",
            "perf_event_open",
            "inode_init_security_anon",
            "uring_sqpoll",
            "uring_override_creds",
            "uring_cmd",
            "ipc_permission",
            "shm_alloc_security",
            "sem_alloc_security",
            "msg_queue_alloc_security",
            "shm_shmctl",
            "sem_semctl",
            "msg_queue_msgctl",
            "inode_create",
            "inode_unlink",
            "key_permission",
            "key_alloc",
        ];
        assert_eq!(silent, without);
    }
}
