//! Joining: a token works once, for an hour, for one host; and a certificate is that host alone.

use crate::support::{Agent, Enrolled, boot, channel, enrol, enrolled, events, sql, start};
use guard_audit::Event;
use guard_proto::v1::{RenewRequest, host_client::HostClient};
use rcgen::{CertificateParams, KeyPair};
use tonic::{Code, transport::Identity};

#[tokio::test]
async fn a_join_token_enrols_one_host_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (rpc, ca) = (running.rpc_addr, running.controller.ca_pem().to_owned());
    let token = running.controller.new_join_token().await.unwrap().token;
    let joined = enrol(rpc, &ca, &token).await.unwrap();
    assert_eq!(joined.decision_key, running.controller.decision_public_key());
    let again = enrol(rpc, &ca, &token).await.err().unwrap();
    assert_eq!(again.code(), Code::PermissionDenied);
    let hosts = running.controller.hosts().await.unwrap();
    assert_eq!(hosts.iter().map(|host| host.id).collect::<Vec<_>>(), [joined.host]);
    let enrolled = Event::Enrolled { enrolled: joined.host, hostname: "box-1".into() };
    assert!(events(&running.controller).await.contains(&enrolled));
    running.shutdown().await;
}

#[tokio::test]
async fn a_wrong_an_expired_or_an_oversize_token_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (rpc, ca) = (running.rpc_addr, running.controller.ca_pem().to_owned());
    let token = running.controller.new_join_token().await.unwrap().token;
    sql(dir.path(), "UPDATE join_tokens SET expires_unix_ms = 1").await;
    for bad in ["", "guard-join-x", &token, &"a".repeat(300)] {
        let refused = enrol(rpc, &ca, bad).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied, "{bad}");
    }
    let huge = enrol(rpc, &ca, &"a".repeat(100_000)).await.err().unwrap();
    assert_eq!(huge.code(), Code::OutOfRange);
    assert_eq!(running.controller.hosts().await.unwrap(), []);
    running.shutdown().await;
}

#[tokio::test]
async fn a_link_without_our_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let ca = running.controller.ca_pem().to_owned();
    let mut client = HostClient::new(channel(running.rpc_addr, &ca, None).await.unwrap());
    let none = client.renew(RenewRequest::default()).await.unwrap_err();
    assert_eq!(none.code(), Code::Unauthenticated);
    // A certificate of somebody else's CA with the right name in it.
    let other_dir = tempfile::tempdir().unwrap();
    let other = start(other_dir.path()).await;
    let stranger = Enrolled { ca_pem: ca.clone(), ..enrolled(&other).await };
    let identity = Identity::from_pem(&stranger.certificate_pem, &stranger.key_pem);
    let refused = match channel(running.rpc_addr, &ca, Some(identity)).await {
        Err(_) => true,
        Ok(channel) => HostClient::new(channel).renew(RenewRequest::default()).await.is_err(),
    };
    assert!(refused, "the handshake or the first call fails");
    assert_eq!(running.controller.hosts().await.unwrap(), []);
    other.shutdown().await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_host_renews_its_certificate_until_it_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    let old = agent.enrolled.clone();
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let identity = Identity::from_pem(&old.certificate_pem, &old.key_pem);
    let channel = channel(running.rpc_addr, &old.ca_pem, Some(identity)).await.unwrap();
    let mut client = HostClient::new(channel);
    let renewed = client.renew(RenewRequest { csr_pem: csr.clone() }).await.unwrap().into_inner();
    assert_eq!(renewed.host_id, old.host.to_string());
    let new = Enrolled {
        certificate_pem: renewed.certificate_pem,
        key_pem: key.serialize_pem(),
        ..old.clone()
    };
    assert!(running.controller.revoke_host(old.host, "admin").await.unwrap());
    assert_eq!(agent.end().await.code(), Code::Aborted);
    for identity in [old, new] {
        let refused = Agent::silent(running.rpc_addr, &identity, boot()).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    let refused = client.renew(RenewRequest { csr_pem: csr }).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    running.shutdown().await;
}
