//! The Lock service: whoever's key is the oldest of a line holds the lock.

use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::v3lockpb::lock_server::Lock;
use duet_etcd_api::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tonic::{Request, Response, Status};

use super::Api;
use super::caller::{Caller, step_failed};
use super::errors::LOCK_SESSION_EXPIRED;
use super::waiting_line::{Wish, wait_in_line};

/// The Lock service.
#[derive(Clone)]
pub struct LockService {
    api: Api,
}

impl LockService {
    /// Serves with the shared parts.
    pub fn new(api: Api) -> LockService {
        LockService { api }
    }
}

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let (caller, LockRequest { name, lease }) = Caller::of(&self.api, request);
        let wish = Wish { name, lease, value: bytes::Bytes::new(), key_lost: LOCK_SESSION_EXPIRED };
        let turn = wait_in_line(caller, wish).await?;
        Ok(Response::new(LockResponse { header: turn.header, key: turn.place.key }))
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        let (caller, UnlockRequest { key }) = Caller::of(&self.api, request);
        let delete = pb::DeleteRangeRequest { key, ..Default::default() };
        let header = caller.delete(delete).await.map_err(step_failed)?.header;
        Ok(Response::new(UnlockResponse { header }))
    }
}
