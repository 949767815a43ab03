//! `guard.v1.Enrolment`: a join token for a certificate.

use crate::{Controller, identity::IssuedCertificate, service::EnrolError};
use guard_model::HostId;
use guard_proto::v1::{EnrolRequest, EnrolResponse, enrolment_server::Enrolment};
use tonic::{Request, Response, Status};

/// The service.
pub(super) struct Service {
    controller: Controller,
}

impl Service {
    pub(super) fn new(controller: Controller) -> Self {
        Self { controller }
    }
}

#[tonic::async_trait]
impl Enrolment for Service {
    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let EnrolRequest { join_token, csr_pem, hostname } = request.into_inner();
        let enrolled = self.controller.enrol(&join_token, &csr_pem, &hostname).await;
        let (host, issued) = enrolled.map_err(|error| status(&error))?;
        Ok(Response::new(response(&self.controller, host, issued)))
    }
}

/// What an enrolled host needs to know.
pub(super) fn response(
    controller: &Controller,
    host: HostId,
    issued: IssuedCertificate,
) -> EnrolResponse {
    EnrolResponse {
        host_id: host.to_string(),
        certificate_pem: issued.certificate_pem,
        ca_pem: controller.ca_pem().to_owned(),
        decision_key: controller.decision_public_key().to_vec(),
        expires_unix_ms: issued.expires_unix_ms,
    }
}

/// What a host is told; what concerns only the controller goes to its log.
pub(super) fn status(error: &EnrolError) -> Status {
    match error {
        EnrolError::Token | EnrolError::NotAccepted(_) => {
            Status::permission_denied(error.to_string())
        }
        EnrolError::Hostname => Status::invalid_argument(error.to_string()),
        EnrolError::Identity(crate::identity::IdentityError::Request(_)) => {
            Status::invalid_argument(error.to_string())
        }
        EnrolError::Identity(_) | EnrolError::Store(_) => {
            tracing::error!(%error, "enrolment");
            Status::internal("the controller could not do it; its log says why")
        }
    }
}
