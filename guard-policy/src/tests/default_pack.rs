//! Every statement of the shipped pack, both ways: what it stops and what it must let through.

use super::support::*;
use crate::Policy;
use guard_model::{Action, ChangeOperation, Endpoint, RawText, SocketOperation, SystemOperation};

fn check(uid: u32, action: &Action, expected: &str) {
    let policy = Policy::default_policy();
    assert_eq!(verdict(&policy, uid, action), expected, "uid {uid}: {action:?}");
}

fn check_opens(uid: u32, how: &str, expected: &str, paths: &[&str]) {
    for path in paths {
        check(uid, &open(path, how), expected);
    }
}

#[test]
fn ordinary_work_is_not_held() {
    check_opens(
        DEV,
        "read",
        "allow",
        &[
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/etc/passwd",
            "/etc/ld.so.cache",
            "/etc/resolv.conf",
            "/etc/gitconfig",
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/ssl/certs/ISRG_Root_X1.pem",
            "/usr/lib/python3/dist-packages/certifi/cacert.pem",
            "/home/dev/venv/lib/python3.11/site-packages/certifi/cacert.pem",
            "/home/dev/work/src/main.rs",
            "/home/dev/.gitconfig",
            "/home/dev/.bashrc",
            "/proc/self/status",
            "/proc/101/maps",
            "/proc/meminfo",
            "/dev/urandom",
            "/sys/fs/cgroup/cpu.max",
        ],
    );
    check_opens(
        DEV,
        "write create",
        "allow",
        &[
            "/home/dev/work/src/new.rs",
            "/home/dev/work/.git/objects/ab/cdef",
            "/home/dev/work/.git/config.lock",
            "/home/dev/work/etc/settings",
            "/tmp/scratch",
            "/home/dev/.cache/pip/x",
            "/home/dev/.cargo/registry/cache/x.crate",
        ],
    );
    check_opens(DEV, "read write", "allow", &["/dev/null", "/dev/tty", "/dev/pts/3"]);
    check_opens(DEV, "read write tmpfile", "allow", &["/tmp", "/home/dev/work"]);
    for program in ["/usr/bin/git", "/usr/bin/python3.11", "/usr/bin/gcc", "/usr/local/bin/node"] {
        check(DEV, &exec(program, 0, 0o755), "allow");
    }
}

#[test]
fn a_root_session_may_do_ordinary_work_too() {
    for program in ["/usr/bin/cat", "/bin/sh", "/sbin/ip", "/usr/local/bin/x", "/opt/tool/bin/x"] {
        check(0, &exec(program, 0, 0o755), "allow");
    }
    check_opens(0, "read", "allow", &["/etc/passwd", "/usr/bin/cat", "/root/notes"]);
    check_opens(0, "write create", "allow", &["/tmp/x", "/root/work/x", "/var/log/x"]);
}

#[test]
fn system_secrets_are_held_for_everybody() {
    for uid in [DEV, 0] {
        for path in [
            "/etc/shadow",
            "/etc/gshadow-",
            "/etc/sudoers",
            "/etc/sudoers.d/dev",
            "/etc/ssl/private/site.crt",
            "/etc/ssh/ssh_host_ed25519_key",
        ] {
            check(uid, &open(path, "read"), "hold system-secrets");
        }
        check_opens(uid, "read", "allow", &["/etc/ssh/ssh_host_ed25519_key.pub", "/etc/shadows"]);
    }
}

#[test]
fn keys_are_held_and_what_is_public_is_not() {
    check_opens(DEV, "read", "hold ssh-keys", &["/home/dev/.ssh/config", "/root/.ssh/a/b"]);
    check_opens(DEV, "read", "hold ssh-keys private-keys", &["/home/dev/.ssh/id_ed25519"]);
    check_opens(DEV, "write", "hold ssh-keys", &["/home/dev/.ssh/known_hosts"]);
    check_opens(DEV, "append", "hold ssh-keys", &["/home/dev/.ssh/authorized_keys"]);
    check_opens(
        DEV,
        "read",
        "hold private-keys",
        &["/home/dev/work/server.pem", "/home/dev/work/tls.key", "/mnt/backup/id_rsa.old"],
    );
    check_opens(
        DEV,
        "read",
        "allow",
        &[
            "/home/dev/.ssh/known_hosts",
            "/home/dev/.ssh/id_ed25519.pub",
            "/home/dev/.sshrc",
            "/usr/share/doc/x/test.pem",
            "/home/dev/work/node_modules/tls/test/a.pem",
        ],
    );
}

#[test]
fn credentials_are_held_by_whole_components() {
    check_opens(
        DEV,
        "read",
        "hold credentials",
        &[
            "/home/dev/.aws/credentials",
            "/home/dev/.kube/config",
            "/home/dev/.docker/config.json",
            "/home/dev/.config/gcloud/credentials.db",
            "/home/dev/.config/gh/hosts.yml",
            "/home/dev/.gnupg/pubring.kbx",
            "/home/dev/.netrc",
            "/home/dev/.git-credentials",
            "/home/dev/.cargo/credentials.toml",
            "/home/dev/.mozilla/firefox/x/logins.json",
        ],
    );
    check_opens(
        DEV,
        "read",
        "allow",
        &["/home/dev/x.aws/credentials", "/home/dev/.docker/config.json.md", "/home/dev/netrc"],
    );
}

#[test]
fn env_files_are_held_but_examples_and_directories_are_not() {
    check_opens(
        DEV,
        "read",
        "hold env-files",
        &["/home/dev/work/.env", "/home/dev/work/.env.production"],
    );
    check_opens(DEV, "read", "allow", &["/home/dev/work/.env.example", "/home/dev/work/x.env"]);
    let venv =
        Action::Open { file: file("/home/dev/.env", DEV, 0o040_755), access: access("read") };
    check(DEV, &venv, "allow");
    check(
        DEV,
        &Action::Open {
            // A creation reports its directory's mode.
            file: file("/home/dev/work/.env", DEV, 0o040_755),
            access: access("write create"),
        },
        "hold env-files",
    );
}

#[test]
fn the_inside_of_other_processes_is_closed_and_nobody_is_asked() {
    for path in ["/proc/1/environ", "/proc/1/mem", "/proc/1/task/1/environ", "/proc/1011/mem"] {
        for uid in [DEV, 0] {
            check(uid, &open(path, "read"), "deny process-secrets");
        }
    }
    // The process is 101.
    check_opens(DEV, "read", "allow", &["/proc/101/environ", "/proc/101/task/101/mem"]);
    check_opens(DEV, "read", "allow", &["/proc/1/cmdline", "/proc/meminfo", "/home/dev/environ"]);
}

#[test]
fn configuration_of_the_machine_may_be_read_but_not_changed() {
    let paths =
        ["/etc/hosts", "/etc/cron.d/x", "/etc/systemd/system/x.service", "/proc/sys/kernel/panic"];
    for path in paths {
        check(0, &open(path, "write create"), "hold machine-configuration");
        check(0, &open(path, "read"), "allow");
    }
    check(0, &open("/var/spool/cron/crontabs/root", "append"), "hold machine-configuration");
}

#[test]
fn a_root_session_does_not_quietly_install_what_it_then_runs() {
    for path in ["/usr/bin/x", "/usr/local/bin/x", "/opt/x", "/lib64/x"] {
        check(0, &open(path, "write create"), "hold installed-software");
    }
    check(DEV, &open("/opt/mine/x", "write"), "allow");
    check(0, &open("/usr2/x", "write"), "allow");
}

#[test]
fn files_that_run_at_login_are_held_for_writing() {
    for path in [
        "/home/dev/.bashrc",
        "/home/dev/.profile",
        "/home/dev/.zshenv",
        "/home/dev/.gitconfig",
        "/home/dev/.config/systemd/user/x.service",
        "/home/dev/.config/autostart/x.desktop",
    ] {
        check(DEV, &open(path, "write truncate"), "hold login-files");
        check(DEV, &open(path, "write create"), "hold login-files");
        check(DEV, &open(path, "read"), "allow");
    }
}

#[test]
fn git_hooks_are_held_and_gits_own_samples_are_not() {
    for path in ["/home/dev/work/.git/hooks/pre-commit", "/w/.git/modules/x/hooks/post-merge"] {
        check(DEV, &open(path, "write create"), "hold git-hooks");
        check(DEV, &open(path, "read"), "allow");
    }
    check(DEV, &open("/w/.git/hooks/pre-commit.sample", "write create"), "allow");
}

#[test]
fn connections_outside_the_list_are_held() {
    for (ip, port) in [
        ("203.0.113.9", 443),
        ("198.51.100.11", 443),
        ("10.0.0.1", 53),
        ("169.254.169.254", 80),
        ("0.0.0.0", 80),
        ("2001:db8::1", 443),
        ("::", 80),
    ] {
        check(DEV, &inet(ip, port), "hold network");
    }
    for (ip, port) in [("127.0.0.1", 53), ("127.0.0.53", 53), ("::1", 8080), ("198.51.100.10", 443)]
    {
        check(DEV, &inet(ip, port), "allow");
    }
}

#[test]
fn a_mapped_address_is_judged_as_the_ipv4_address() {
    let mapped =
        |ip: &str| connect(Endpoint::Inet { ip: ip.parse().unwrap(), port: 443, mapped: true });
    check(DEV, &mapped("203.0.113.9"), "hold network");
    check(DEV, &mapped("198.51.100.10"), "allow");
}

#[test]
fn loopback_services_that_run_commands_are_held_and_guards_own_is_closed() {
    check(DEV, &inet("127.0.0.1", 22), "hold loopback-doors");
    check(DEV, &inet("::1", 2375), "hold loopback-doors");
    check(DEV, &inet("127.0.0.1", 7443), "deny guard-ui");
    check(DEV, &inet("127.0.0.2", 7444), "deny guard-ui");
}

#[test]
fn daemon_sockets_are_held_under_any_spelling() {
    for path in [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/run/user/../docker.sock",
        "../../../run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/dbus/system_bus_socket",
        "/run/user/1000/bus",
        "/run/systemd/private",
        "/run/user/1000/systemd/private",
    ] {
        check(DEV, &unix(path), "hold daemon-sockets");
    }
    for path in ["/run/nscd/socket", "/dev/log", "/tmp/app.sock", "/run/guard/session.sock"] {
        check(DEV, &unix(path), "allow");
    }
    let shim = Endpoint::Abstract { name: "/containerd-shim/x.sock".into() };
    check(DEV, &connect(shim), "hold daemon-sockets");
    check(DEV, &connect(Endpoint::Abstract { name: "/tmp/.X11-unix/X0".into() }), "allow");
}

#[test]
fn agents_that_use_a_persons_keys_are_held() {
    for path in ["/tmp/ssh-XXabc/agent.12", "/run/user/1000/gnupg/S.gpg-agent"] {
        check(DEV, &unix(path), "hold key-agents");
    }
}

#[test]
fn an_unknown_address_family_is_held() {
    let other = |number| connect(Endpoint::Other { number, address_hex: String::new() });
    for number in [17, 38, 40, 200] {
        check(DEV, &other(number), "hold other-families");
    }
    check(DEV, &other(16), "allow");
    check(DEV, &connect(Endpoint::Unspec), "allow");
}

#[test]
fn a_program_that_the_session_could_have_written_is_held() {
    check(DEV, &exec("/home/dev/work/a.out", DEV, 0o755), "hold written-program");
    check(DEV, &exec("/tmp/x", 1001, 0o777), "hold written-program");
    check(DEV, &exec("/srv/x", 0, 0o775), "hold written-program");
    check(DEV, &exec("/srv/x", 0, 0o755), "allow");
    check(DEV, &exec("/srv/x", 1001, 0o755), "allow");
    check(0, &exec("/root/x", 0, 0o755), "hold written-program");
    check(0, &exec("/usrx/x", 0, 0o755), "hold written-program");
}

#[test]
fn a_session_that_root_started_as_another_user_counts_as_both() {
    let policy = Policy::default_policy();
    let (session, process) = (session(0), process(DEV));
    for (path, owner) in [("/srv/x", 0), ("/usr/bin/x", DEV)] {
        let action = exec(path, owner, 0o755);
        let attempt =
            crate::Attempt { session: &session, process: &process, action: &action, host: "h" };
        assert!(matches!(policy.decide(&attempt), crate::Outcome::Hold { .. }), "{path}");
    }
}

#[test]
fn an_unnamed_program_is_held() {
    let Action::Exec { program, argv, .. } = exec("/memfd:x (deleted)", 0, 0o555) else {
        unreachable!()
    };
    let action = Action::Exec {
        program,
        argv,
        argv_complete: true,
        interpreter: false,
        unnamed: true,
        loader: false,
        gains: false,
        environment: Vec::new(),
    };
    check(DEV, &action, "hold unnamed-program");
}

#[test]
fn programs_with_other_powers_are_held() {
    for name in ["su", "sudo", "pkexec", "nsenter", "unshare", "systemd-run", "crontab", "docker"] {
        check(DEV, &exec(&format!("/usr/bin/{name}"), 0, 0o755), "hold other-powers");
    }
    check(DEV, &exec("/usr/bin/sum", 0, 0o755), "allow");
}

#[test]
fn the_loader_run_as_a_program_is_held() {
    let path = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
    check(DEV, &exec(path, 0, 0o755), "hold loader");
    check(DEV, &open(path, "read"), "allow");
}

#[test]
fn guards_state_and_raw_memory_are_denied_outright() {
    for path in ["/var/lib/guard/guard.db", "/sys/fs/bpf/guard/1/holds"] {
        check(0, &open(path, "read"), "deny guard-itself");
    }
    check(0, &open("/dev/mem", "read"), "deny raw-memory-and-disks");
    let disk = Action::Open { file: file("/dev/vda", 0, 0o060_660), access: access("read") };
    check(0, &disk, "deny raw-memory-and-disks");
}

#[test]
fn every_statement_has_an_id_and_every_restriction_a_reason() {
    for statement in Policy::default_policy().statements() {
        assert!(!statement.id.starts_with("policy"), "{statement:?}");
        let is_permit = ["work", "approved-powers"].contains(&statement.id.as_str());
        assert!(statement.reason.is_some() || is_permit, "{statement:?}");
    }
}

#[test]
fn cut_arguments_do_not_hold_because_the_pack_reads_none() {
    let Action::Exec { program, argv, .. } = exec("/usr/bin/gcc", 0, 0o755) else { unreachable!() };
    let action = Action::Exec {
        program,
        argv,
        argv_complete: false,
        interpreter: false,
        unnamed: false,
        loader: false,
        gains: false,
        environment: Vec::new(),
    };
    check(DEV, &action, "allow");
}

fn change(operation: ChangeOperation, path: &str, to: Option<&str>, detail: &str) -> Action {
    Action::Change {
        operation,
        file: file(path, DEV, 0o100_644),
        to: to.map(|to| file(to, u32::MAX, 0)),
        detail: RawText::from(detail),
    }
}

#[test]
fn the_file_tree_may_be_changed_where_nothing_of_worth_lies() {
    use ChangeOperation::{Chmod, Link, Mkdir, Rename, Rmdir, Symlink, Truncate, Unlink};
    for operation in [Unlink, Mkdir, Rmdir, Symlink, Chmod, Truncate] {
        check(DEV, &change(operation, "/home/dev/work/a", None, "mode 0755"), "allow");
    }
    let lock = Some("/home/dev/work/.git/config");
    check(DEV, &change(Rename, "/home/dev/work/.git/config.lock", lock, ""), "allow");
    check(DEV, &change(Link, "/tmp/a", Some("/tmp/b"), ""), "allow");
}

#[test]
fn a_secret_gets_no_other_name_and_a_guarded_name_no_other_file() {
    use ChangeOperation::{Chmod, Link, Rename, Symlink, Unlink};
    let here = Some("/home/dev/work/x");
    check(0, &change(Link, "/etc/shadow", here, ""), "hold system-secrets machine-configuration");
    check(DEV, &change(Rename, "/home/dev/.ssh/id_rsa", here, ""), "hold ssh-keys private-keys");
    check(
        DEV,
        &change(Rename, "/home/dev/work/x", Some("/home/dev/.bashrc"), ""),
        "hold login-files",
    );
    check(DEV, &change(Rename, "/home/dev/.ssh", here, ""), "hold moved-directories");
    check(DEV, &change(Rename, "/home/dev", Some("/home/x"), ""), "hold moved-directories");
    check(DEV, &change(Symlink, "/home/dev/work/.git/hooks", None, "x"), "hold moved-directories");
    check(DEV, &change(Unlink, "/home/dev/.bashrc", None, ""), "hold login-files");
    check(0, &change(Chmod, "/etc/passwd", None, "mode 0666"), "hold machine-configuration");
    check(0, &change(Unlink, "/var/lib/guard/x", None, ""), "deny guard-itself");
}

#[test]
fn special_rights_are_held() {
    use ChangeOperation::{Chmod, Mknod, Xattr};
    check(DEV, &change(Chmod, "/home/dev/a", None, "mode 4755"), "hold special-rights");
    check(DEV, &change(Chmod, "/home/dev/a", None, "mode 1777"), "allow");
    check(0, &change(Xattr, "/tmp/a", None, "security.capability"), "hold special-rights");
    check(DEV, &change(Xattr, "/tmp/a", None, "user.x"), "allow");
    check(0, &change(Mknod, "/tmp/a", None, "block device"), "hold special-rights");
    check(DEV, &change(Mknod, "/tmp/a", None, "fifo"), "allow");
}

fn socket(operation: SocketOperation, endpoint: Endpoint, socket_type: u32) -> Action {
    Action::Socket { operation, endpoint, socket_type, protocol: 0 }
}

#[test]
fn doors_to_the_outside_and_raw_sockets_are_held() {
    let at = |ip: &str, port| Endpoint::Inet { ip: ip.parse().unwrap(), port, mapped: false };
    let family = |number| Endpoint::Family { number };
    check(DEV, &socket(SocketOperation::Bind, at("127.0.0.1", 8080), 1), "allow");
    check(DEV, &socket(SocketOperation::Bind, at("0.0.0.0", 0), 2), "allow");
    check(DEV, &socket(SocketOperation::Bind, at("0.0.0.0", 8080), 1), "hold open-doors");
    check(DEV, &socket(SocketOperation::Listen, at("0.0.0.0", 0), 1), "hold unbound-doors");
    check(DEV, &socket(SocketOperation::Listen, at("127.0.0.1", 8080), 1), "allow");
    check(DEV, &socket(SocketOperation::Send, at("203.0.113.9", 53), 2), "hold network");
    check(DEV, &socket(SocketOperation::Create, family(2), 1), "allow");
    check(DEV, &socket(SocketOperation::Create, family(2), 3), "hold raw-sockets");
    check(DEV, &socket(SocketOperation::Create, family(17), 3), "hold other-families");
}

#[test]
fn every_use_of_the_kernel_itself_by_root_is_held_but_for_notes_about_files() {
    for operation in SystemOperation::ALL {
        let action =
            Action::System { operation: *operation, detail: RawText::default(), file: None };
        let needs_nobody = *operation == SystemOperation::Metadata;
        check(0, &action, if needs_nobody { "allow" } else { "hold powers" });
    }
}

#[test]
fn what_programs_of_one_user_share_is_theirs_but_root_would_share_with_everybody() {
    for operation in [SystemOperation::Ipc, SystemOperation::Keyring] {
        let action = Action::System { operation, detail: RawText::default(), file: None };
        check(DEV, &action, "allow");
        check(0, &action, "hold powers");
    }
}
