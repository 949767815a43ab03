//! Paths by text: ancestors, last component, normal form. The kernel has resolved file paths
//! already; only the paths of UNIX sockets are as the session gave them.

/// All ancestor directories of an absolute path, nearest first, `/` last. Empty for anything else.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path.starts_with('/').then_some(path).filter(|path| *path != "/");
    std::iter::from_fn(move || {
        let current = rest?;
        let parent = match current.rfind('/')? {
            0 => "/",
            at => &current[..at],
        };
        rest = (parent != "/").then_some(parent);
        Some(parent)
    })
}

/// Directory and last component.
pub(crate) fn split(path: &str) -> (&str, &str) {
    match path.rfind('/') {
        None => ("", path),
        Some(0) => ("/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
    }
}

/// `path`, made absolute with `cwd`, without empty, `.` and `..` components, by text alone.
pub(crate) fn normal(path: &str, cwd: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { cwd };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether `path` lies below `dir` (whole components).
pub(crate) fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_are_whole_components_up_to_the_root() {
        let of = |path| ancestors(path).collect::<Vec<_>>();
        assert_eq!(of("/a/b/c"), ["/a/b", "/a", "/"]);
        assert_eq!(of("/a"), ["/"]);
        assert_eq!(of("/"), [""; 0]);
        assert_eq!(of("a/b"), [""; 0]);
        assert_eq!(of(""), [""; 0]);
    }

    #[test]
    fn a_path_splits_at_its_last_slash() {
        assert_eq!(split("/a/b"), ("/a", "b"));
        assert_eq!(split("/a"), ("/", "a"));
        assert_eq!(split("/"), ("/", ""));
        assert_eq!(split(""), ("", ""));
    }

    #[test]
    fn the_normal_form_removes_dots_and_cannot_leave_the_root() {
        assert_eq!(normal("/var/run/../lock/./x//y", "/"), "/var/lock/x/y");
        assert_eq!(normal("../docker.sock", "/run/user"), "/run/docker.sock");
        assert_eq!(normal("/../../x", "/a"), "/x");
    }

    #[test]
    fn below_compares_whole_components() {
        assert!(is_below("/usr/bin/x", "/usr"));
        assert!(!is_below("/usr2/x", "/usr"));
        assert!(!is_below("/usr", "/usr"));
    }
}
