//! What a program does not see although it is attached: its action is enforced, and not in full. SPECIFICATION.md, *Not
//! enforced yet*, has the reasons at length.

use super::quirk::is_before;
use guard_model::{Coverage, CoverageState};

/// A way past an attached program.
struct Unseen {
    action: &'static str,
    hook: &'static str,
    /// The first release of Linux that does not have it; none yet.
    until: Option<(u32, u32)>,
    what: &'static str,
}

const UNSEEN: [Unseen; 5] = [
    Unseen {
        action: "exec",
        hook: "bprm_check_security",
        until: None,
        what: "an interpreter opens its script by name after the exec was decided: by then it can be another file, \
               which is asked about as an `open`",
    },
    Unseen {
        action: "open",
        hook: "file_open",
        until: None,
        what: "a hard link that somebody outside of sessions makes to a file below a protected directory is known \
               within a minute; what overlayfs or FUSE shows of a protected file is another file",
    },
    Unseen {
        action: "map",
        hook: "mmap_file",
        until: None,
        what: "executable memory without a file is not asked about, and a library that was approved can be changed by \
               whoever may write to it",
    },
    Unseen {
        action: "send",
        hook: "socket_sendmsg",
        // `MSG_SPLICE_PAGES` took the place of `sendpage`, which no hook sees.
        until: Some((6, 5)),
        what: "what `sendfile` and `splice` write to a connected socket is not in the sums of what is sent",
    },
    Unseen {
        action: "setid",
        hook: "task_fix_setgid",
        until: None,
        what: "supplementary groups (`setgroups`) are not asked about",
    },
];

/// Says of programs that are attached what they do not see on this release of Linux.
pub(super) fn tell(coverage: &mut [Coverage], release: &str) {
    let attached = coverage.iter_mut().filter(|row| row.state == CoverageState::Enforced);
    for row in attached {
        let is_this = |unseen: &&Unseen| unseen.action == row.action && unseen.hook == row.hook;
        if let Some(unseen) = UNSEEN.iter().find(is_this)
            && unseen.until.is_none_or(|until| is_before(release, until))
        {
            row.state = CoverageState::Degraded;
            unseen.what.clone_into(&mut row.reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::programs::PROGRAMS, *};

    fn rows(state: CoverageState) -> Vec<Coverage> {
        let row = |(action, hook): (&str, &str)| Coverage {
            action: action.into(),
            hook: hook.into(),
            state,
            reason: String::new(),
        };
        PROGRAMS.iter().map(|spec| row((spec.action, spec.hook))).collect()
    }

    fn told(coverage: &[Coverage]) -> Vec<&str> {
        let degraded = coverage.iter().filter(|row| row.state == CoverageState::Degraded);
        degraded.inspect(|row| assert!(!row.reason.is_empty())).map(|row| &*row.action).collect()
    }

    #[test]
    fn what_an_attached_program_does_not_see_is_said_for_the_release() {
        for (release, has_sendpage) in [
            ("6.1.0-50-cloud-amd64", true),
            ("6.4.12", true),
            ("6.5.0", false),
            ("6.12.117+deb13-cloud-amd64", false),
            ("7.3.4+deb13-cloud-amd64", false),
            ("linux", true),
        ] {
            let mut coverage = rows(CoverageState::Enforced);
            tell(&mut coverage, release);
            let mut expected = vec!["exec", "open", "map", "send", "setid"];
            expected.retain(|action| *action != "send" || has_sendpage);
            assert_eq!(told(&coverage), expected, "{release}");
        }
    }

    #[test]
    fn what_is_not_attached_stays_absent() {
        let mut coverage = rows(CoverageState::Absent);
        tell(&mut coverage, "6.1.0");
        assert_eq!(coverage, rows(CoverageState::Absent));
    }
}
