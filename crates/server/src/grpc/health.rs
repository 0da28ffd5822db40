//! gRPC's standard health service. Like etcd's it says that the server serves, not that there is a primary: for that
//! there is `/readyz`.

use duet_etcd_api::healthpb;
use healthpb::health_check_response::ServingStatus;
use healthpb::health_server::Health;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Api;
use super::errors::HEALTH_UNKNOWN_SERVICE;

/// States that wait for one client to read: there are only two.
const WAITING_STATES: usize = 2;

/// The health service.
#[derive(Clone)]
pub struct HealthService {
    api: Api,
}

impl HealthService {
    /// Serves with the shared parts.
    pub fn new(api: Api) -> HealthService {
        HealthService { api }
    }
}

fn answer(status: ServingStatus) -> healthpb::HealthCheckResponse {
    healthpb::HealthCheckResponse { status: status.into() }
}

fn serving(stopping: bool) -> ServingStatus {
    if stopping { ServingStatus::NotServing } else { ServingStatus::Serving }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<healthpb::HealthCheckRequest>,
    ) -> Result<Response<healthpb::HealthCheckResponse>, Status> {
        if !request.get_ref().service.is_empty() {
            return Err(HEALTH_UNKNOWN_SERVICE.into());
        }
        let stopping = self.api.stopping().has_begun();
        Ok(Response::new(answer(serving(stopping))))
    }

    type WatchStream = ReceiverStream<Result<healthpb::HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<healthpb::HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = request.get_ref().service.is_empty();
        let mut stopping = self.api.stopping();
        let (sender, receiver) = mpsc::channel(WAITING_STATES);
        tokio::spawn(async move {
            let first = if known { serving(stopping.has_begun()) } else { ServingStatus::ServiceUnknown };
            if sender.send(Ok(answer(first))).await.is_err() {
                return;
            }
            tokio::select! {
                () = stopping.begun() => {
                    if known {
                        // The client may be gone.
                        let _ = sender.send(Ok(answer(ServingStatus::NotServing))).await;
                    }
                }
                () = sender.closed() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
