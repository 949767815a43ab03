//! Who this host is to its controller, and what of its state belongs to that identity.

use super::{AgentError, Config, ControllerConfig, State, file};
use crate::{
    clock,
    link::{
        enrol::{Join, enrol, enrol_patiently},
        identity::Identity,
    },
};
use guard_model::HostId;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// This host's identity with its controller: the one on file, or a new one. None without a
/// controller.
pub(super) async fn identify(
    config: &Config,
    state: &State,
    hostname: &str,
) -> Result<Option<Identity>, AgentError> {
    let Some(controller) = &config.controller else { return Ok(None) };
    let path = state.path("identity.json");
    if let Some(identity) = Identity::load(&path)? {
        let expired = identity.expires_unix_ms <= clock::unix_ms();
        return Ok(Some(if expired {
            rejoin(controller, identity, &path, hostname).await?
        } else {
            identity
        }));
    }
    let url = controller.url.clone();
    let Some((token, ca_pin)) = controller.join.clone() else {
        return Err(AgentError::NotJoined { url });
    };
    let identity = enrol_patiently(&Join { url, token, ca_pin }, hostname).await?;
    // A crash before this line wastes the token, and nothing else.
    identity.save(&path)?;
    tracing::info!(host = %identity.host, "joined");
    Ok(Some(identity))
}

/// A host that was away for longer than its certificate is good for: it joins anew if it was given
/// a token. If it cannot, it goes on under its old identity, without a link: deciding by policy
/// must not wait for the controller (H10).
async fn rejoin(
    controller: &ControllerConfig,
    old: Identity,
    path: &Path,
    hostname: &str,
) -> Result<Identity, AgentError> {
    let url = controller.url.clone();
    let Some((token, ca_pin)) = controller.join.clone() else {
        tracing::error!(url, "this host's certificate has expired: give it a new join token");
        return Ok(old);
    };
    match enrol(&Join { url, token, ca_pin }, hostname).await {
        Ok(identity) => {
            tracing::warn!(old = %old.host, host = %identity.host, "joined anew: expired certificate");
            identity.save(path)?;
            Ok(identity)
        }
        Err(error) => {
            let error = anyhow::Error::new(error);
            tracing::error!(
                "this host's certificate has expired and it cannot join anew: {error:#}"
            );
            Ok(old)
        }
    }
}

/// The spool of this host id. One of another id is set aside whole: its records are another host's
/// to the controller, and stay where they are for the local export.
pub(super) fn spool_root(state: &State, host: HostId) -> Result<PathBuf, AgentError> {
    let (root, owner) = (state.path("spool"), state.path("spool-host"));
    let before = match fs::read_to_string(&owner) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(file("read", &owner, source)),
    };
    if before == host.to_string() {
        return Ok(root);
    }
    if !before.is_empty() && root.exists() {
        let aside =
            state.path(&format!("spool-of-{}-{}", before.replace('/', "_"), clock::unix_ms()));
        tracing::warn!(aside = %aside.display(), "this host has a new id: old evidence is set aside");
        fs::rename(&root, &aside).map_err(|source| file("set aside", &root, source))?;
    }
    // A crash before this line: the next start finds no spool to set aside, and goes on.
    fs::write(&owner, host.to_string()).map_err(|source| file("write", &owner, source))?;
    Ok(root)
}

/// The id of a host without a controller: drawn once.
pub(super) fn local_host_id(state: &State) -> Result<HostId, AgentError> {
    let path = state.path("host-id");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|error: uuid::Error| {
            file("understand", &path, io::Error::new(io::ErrorKind::InvalidData, error))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = HostId(uuid::Uuid::new_v4());
            fs::write(&path, id.to_string()).map_err(|source| file("write", &path, source))?;
            Ok(id)
        }
        Err(source) => Err(file("read", &path, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_controller_keeps_the_id_that_it_drew() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(directory.path()).unwrap();
        let id = local_host_id(&state).unwrap();
        assert_eq!(local_host_id(&state).unwrap(), id);
    }

    #[test]
    fn another_hosts_evidence_is_set_aside_and_never_mixed() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(directory.path()).unwrap();
        let [one, two] = [1, 2].map(|number| HostId(uuid::Uuid::from_u128(number)));
        let root = spool_root(&state, one).unwrap();
        fs::create_dir(&root).unwrap();
        fs::write(root.join("kept"), "x").unwrap();
        assert!(spool_root(&state, one).unwrap().join("kept").exists());
        assert!(!spool_root(&state, two).unwrap().exists());
        let aside = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_ones = |path: &PathBuf| path.display().to_string().contains(&one.to_string());
        assert!(aside.filter(is_ones).any(|path| path.join("kept").exists()));
    }
}
