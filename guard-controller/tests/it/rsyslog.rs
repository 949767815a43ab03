//! Debian's rsyslog, over TLS, as the receiver: what it makes of our messages, not what we think of them.

use crate::{
    killed::killed_while_it_delivers, program::cache, receivers::sequence, support::eventually,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path, process::Stdio};
use tokio::process::{Child, Command};

/// Starts it, with its own C library, on a free port; the port and its output are in `dir`.
async fn start(dir: &Path) -> (Child, u16) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let at = dir.display();
    let config = format!(
        r#"global(workDirectory="{at}" maxMessageSize="1m" defaultNetstreamDriver="ossl"
            defaultNetstreamDriverCAFile="{at}/cert.pem" defaultNetstreamDriverCertFile="{at}/cert.pem"
            defaultNetstreamDriverKeyFile="{at}/key.pem")
        module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
        input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{at}/port")
        template(name="all" type="list") {{ property(name="jsonmesg") constant(value="\n") }}
        action(type="omfile" file="{at}/out" template="all" flushOnTXEnd="on")
        "#
    );
    fs::write(dir.join("rsyslog.conf"), config).unwrap();
    let root = cache().join("rsyslog/usr");
    let libraries = root.join("lib/x86_64-linux-gnu");
    assert!(libraries.exists(), "{}: run `cargo xtask setup` first", libraries.display());
    let child = Command::new(libraries.join("ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(&libraries)
        .arg(root.join("sbin/rsyslogd"))
        .args(["-n", "-f", "rsyslog.conf", "-i"])
        .arg(dir.join("pid"))
        .arg("-M")
        .arg(libraries.join("rsyslog"))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("errors")).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let port = || fs::read_to_string(dir.join("port")).ok()?.trim().parse().ok();
    eventually("rsyslog listens", || async { port().is_some() }).await;
    (child, port().unwrap())
}

/// What it has written: each message as it has taken it apart.
fn written(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("out")).unwrap_or_default();
    // The last line may be under way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn index_of(message: &Value) -> u64 {
    // It keeps RFC 5424's byte order mark in the text.
    let text = message["msg"].as_str().unwrap().trim_start_matches('\u{feff}');
    sequence(&serde_json::from_str(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_rsyslog_reads_every_message_over_kill_9_of_the_sender() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = dir.path().join("rsyslog");
    fs::create_dir(&receiver).unwrap();
    let (_child, port) = start(&receiver).await;
    let to = json!({ "kind": "syslog", "address": format!("localhost:{port}"),
        "tls": { "ca_file": receiver.join("cert.pem") } });
    let sinks = json!({ "sinks": [{ "name": "s", "to": to }] });
    let size = killed_while_it_delivers(dir.path(), &sinks).await;
    let indexes = || written(&receiver).iter().map(index_of).collect::<BTreeSet<_>>();
    eventually("rsyslog has written everything", || async {
        let there = indexes();
        (0..size).all(|index| there.contains(&index))
    })
    .await;
    for message in written(&receiver) {
        let of = |name: &str| message[name].as_str().unwrap().to_owned();
        let head = ["app-name", "protocol-version", "syslogfacility", "procid", "structured-data"];
        assert_eq!(head.map(of), ["guard", "1", "13", "-", "-"], "{message}");
        let event: Value = serde_json::from_str(of("msg").trim_start_matches('\u{feff}')).unwrap();
        assert_eq!(event["metadata"]["event_code"], of("msgid"));
        assert!(!of("hostname").is_empty());
    }
}
