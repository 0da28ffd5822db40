//! The KV service: Range, Put, DeleteRange, Txn and Compact.
//!
//! A request is checked here, where the answer costs nothing, and then written or read where the primary is. A
//! serializable range is answered from the local store, on either appliance; everything else is linearizable.

use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::kv_client::KvClient;
use duet_etcd_api::etcdserverpb::kv_server::Kv;
use duet_mvcc::{
    Command, Operation, Response as Answer, Store, TxnLimits, TxnRequest, validate_delete_range,
    validate_put, validate_range, validate_txn,
};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::call::Call;
use super::convert;
use super::errors::{REQUEST_TOO_LARGE, STORAGE, refused};
use super::forward::{ReadAt, Written};
use super::{Api, REQUEST_ENVELOPE_BYTES};
use crate::client_limits::ClientLimits;

/// The KV service.
#[derive(Clone)]
pub struct KvService {
    api: Api,
}

impl KvService {
    /// Serves with the shared parts.
    pub fn new(api: Api) -> KvService {
        KvService { api }
    }

    /// What it shares with the others.
    pub fn api(&self) -> &Api {
        &self.api
    }
}

/// A client of the primary's KV service. Answers have no limit, as at etcd.
fn client(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX)
}

/// Refuses what is above etcd's limit on requests.
pub fn check_size(request: &impl Message, limits: &ClientLimits) -> Result<(), Status> {
    if request.encoded_len() + REQUEST_ENVELOPE_BYTES > limits.max_request_bytes {
        return Err(REQUEST_TOO_LARGE.into());
    }
    Ok(())
}

/// The answer's variant does not belong to the command: a bug that must not be told to a client as success.
pub fn wrong_answer(answer: &Answer) -> Status {
    tracing::error!(?answer, "the data model answered another question");
    STORAGE.into()
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let (call, request) = Call::of(request);
        let range = convert::range(&request).map_err(|error| refused(&error))?;
        validate_range(&range).map_err(|error| refused(&error))?;
        let read_range = |store: &Store| {
            self.api.permit(&call, store, |access| access.range(&range))?;
            store.range(&range)
        };
        let answer = if range.serializable {
            let answer = read_range(&self.api.handle().store().read());
            answer.map_err(|error| refused(&error))?
        } else {
            let read = self.api.read(&call, read_range, |channel, call| {
                let request = call.forward(request.clone());
                async move { client(channel).range(request).await }
            });
            match read.await? {
                ReadAt::Here(answer) => answer,
                ReadAt::There(answer) => return Ok(Response::new(answer)),
            }
        };
        let header = self.api.header(answer.revision);
        Ok(Response::new(convert::range_response(answer, header)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let (call, request) = Call::of(request);
        let put = convert::put(&request);
        validate_put(&put).map_err(|error| refused(&error))?;
        check_size(&request, self.api.limits())?;
        let written = self.api.write(&call, Command::Put(put), |channel, call| {
            let request = call.forward(request.clone());
            async move { client(channel).put(request).await }
        });
        let applied = match written.await? {
            Written::Here(applied) => applied,
            Written::There(answer) => return Ok(Response::new(answer)),
        };
        match applied.result.map_err(|error| refused(&error))? {
            Answer::Put(answer) => {
                let header = self.api.header(answer.revision);
                Ok(Response::new(convert::put_response(answer, header)))
            }
            other => Err(wrong_answer(&other)),
        }
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let (call, request) = Call::of(request);
        let delete = convert::delete_range(&request);
        validate_delete_range(&delete).map_err(|error| refused(&error))?;
        check_size(&request, self.api.limits())?;
        let written = self.api.write(&call, Command::DeleteRange(delete), |channel, call| {
            let request = call.forward(request.clone());
            async move { client(channel).delete_range(request).await }
        });
        let applied = match written.await? {
            Written::Here(applied) => applied,
            Written::There(answer) => return Ok(Response::new(answer)),
        };
        match applied.result.map_err(|error| refused(&error))? {
            Answer::DeleteRange(answer) => {
                let header = self.api.header(answer.revision);
                Ok(Response::new(convert::delete_range_response(answer, header)))
            }
            other => Err(wrong_answer(&other)),
        }
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let (call, request) = Call::of(request);
        let txn = convert::txn(&request)?;
        let limits = TxnLimits { max_operations: self.api.limits().max_txn_ops };
        validate_txn(&txn, limits).map_err(|error| refused(&error))?;
        let answer = if txn.is_read_only() {
            self.read_txn(&call, txn, request).await?
        } else {
            self.write_txn(&call, txn, request).await?
        };
        Ok(Response::new(answer))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let (call, request) = Call::of(request);
        // `physical` asks to wait until the space is free: here it is freed in the background either way.
        let command = Command::Compact { revision: request.revision };
        let written = self.api.write(&call, command, |channel, call| {
            let request = call.forward(request);
            async move { client(channel).compact(request).await }
        });
        let applied = match written.await? {
            Written::Here(applied) => applied,
            Written::There(answer) => return Ok(Response::new(answer)),
        };
        match applied.result.map_err(|error| refused(&error))? {
            Answer::Compact => {
                let header = Some(self.api.header(applied.revision));
                Ok(Response::new(pb::CompactionResponse { header }))
            }
            other => Err(wrong_answer(&other)),
        }
    }
}

impl KvService {
    /// A transaction that can change nothing takes no LSN and no revision: it is a read.
    async fn read_txn(
        &self,
        call: &Call,
        txn: TxnRequest,
        request: pb::TxnRequest,
    ) -> Result<pb::TxnResponse, Status> {
        let read_txn = |store: &Store| {
            self.api.permit_txn(call, store, &txn)?;
            store.read_only_txn(&txn)
        };
        let answer = if is_serializable(&txn) {
            let answer = read_txn(&self.api.handle().store().read());
            answer.map_err(|error| refused(&error))?
        } else {
            let read = self.api.read(call, read_txn, |channel, call| {
                let request = call.forward(request.clone());
                async move { client(channel).txn(request).await }
            });
            match read.await? {
                ReadAt::Here(answer) => answer,
                ReadAt::There(answer) => return Ok(answer),
            }
        };
        let header = self.api.header(answer.revision);
        Ok(convert::txn_response(answer, header))
    }

    async fn write_txn(
        &self,
        call: &Call,
        txn: TxnRequest,
        request: pb::TxnRequest,
    ) -> Result<pb::TxnResponse, Status> {
        check_size(&request, self.api.limits())?;
        let written = self.api.write(call, Command::Txn(txn), |channel, call| {
            let request = call.forward(request.clone());
            async move { client(channel).txn(request).await }
        });
        let applied = match written.await? {
            Written::Here(applied) => applied,
            Written::There(answer) => return Ok(answer),
        };
        match applied.result.map_err(|error| refused(&error))? {
            Answer::Txn(answer) => {
                let header = self.api.header(answer.revision);
                Ok(convert::txn_response(answer, header))
            }
            other => Err(wrong_answer(&other)),
        }
    }
}

/// etcd's rule: a transaction is serializable if every range at its top level is. etcd takes one without operations for
/// serializable too, although its comparisons then may be answered from a stale state: here it is linearizable.
fn is_serializable(txn: &TxnRequest) -> bool {
    let mut operations = txn.success.iter().chain(&txn.failure).peekable();
    operations.peek().is_some()
        && operations.all(|operation| match operation {
            Operation::Range(range) => range.serializable,
            Operation::Put(_) | Operation::DeleteRange(_) | Operation::Txn(_) => false,
        })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_limit_on_requests_is_etcds() {
        let limits = ClientLimits::default();
        let put = |bytes: usize| pb::PutRequest {
            key: Bytes::from_static(b"k"),
            value: Bytes::from(vec![0; bytes]),
            ..Default::default()
        };
        assert!(check_size(&put(limits.max_request_bytes - 512), &limits).is_ok());
        let status = check_size(&put(limits.max_request_bytes), &limits)
            .err()
            .map(|status| status.message().to_owned());
        assert_eq!(status.as_deref(), Some("etcdserver: request is too large"));
    }

    #[test]
    fn one_linearizable_range_makes_the_transaction_so() {
        let range =
            |serializable| Operation::Range(duet_mvcc::RangeRequest { serializable, ..Default::default() });
        let txn = |success: Vec<Operation>| TxnRequest { success, ..Default::default() };
        assert!(!is_serializable(&txn(vec![])));
        assert!(is_serializable(&txn(vec![range(true)])));
        assert!(!is_serializable(&txn(vec![range(true), range(false)])));
        assert!(!is_serializable(&txn(vec![Operation::Txn(TxnRequest::default())])));
    }
}
