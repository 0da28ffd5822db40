//! The Cluster service: the two members as they are. A pair has a fixed membership, so nothing can be changed here.

use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::cluster_server::Cluster;
use duet_protocol::ApplianceId;
use tonic::{Request, Response, Status};

use super::Api;
use super::call::Call;
use super::errors::{MEMBER_BAD_URLS, MEMBER_NOT_FOUND, MEMBER_NOT_LEARNER, MEMBERS_ARE_FIXED};

/// The Cluster service.
#[derive(Clone)]
pub struct ClusterService {
    api: Api,
}

impl ClusterService {
    /// Serves with the shared parts.
    pub fn new(api: Api) -> ClusterService {
        ClusterService { api }
    }

    fn is_member(&self, id: u64) -> bool {
        let view = self.api.view();
        id == view.member_ids.a || id == view.member_ids.b
    }
}

/// A and B. What is not known of the peer (it was never connected) stays empty.
fn members(api: &Api) -> Vec<pb::Member> {
    let view = api.view();
    let identity = api.handle().identity();
    ApplianceId::ALL
        .into_iter()
        .map(|appliance| {
            let client_url = if appliance == identity.appliance {
                Some(identity.client_url.clone())
            } else {
                view.peer_client_url.clone()
            };
            pb::Member {
                id: *view.member_ids.get(appliance),
                name: appliance.to_string(),
                peer_ur_ls: Vec::new(),
                client_ur_ls: client_url.into_iter().collect(),
                is_learner: false,
            }
        })
        .collect()
}

fn is_peer_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| rest.contains(':') && !rest.contains('/'))
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let (call, request) = Call::of(request);
        self.api.require_root(&call)?;
        let urls = &request.peer_ur_ls;
        if urls.is_empty() || !urls.iter().all(|url| is_peer_url(url)) {
            return Err(MEMBER_BAD_URLS.into());
        }
        Err(MEMBERS_ARE_FIXED.into())
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let (call, request) = Call::of(request);
        self.api.require_root(&call)?;
        let known = self.is_member(request.id);
        Err(if known { MEMBERS_ARE_FIXED } else { MEMBER_NOT_FOUND }.into())
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let (call, request) = Call::of(request);
        self.api.require_root(&call)?;
        let urls = &request.peer_ur_ls;
        if urls.is_empty() || !urls.iter().all(|url| is_peer_url(url)) {
            return Err(MEMBER_BAD_URLS.into());
        }
        let known = self.is_member(request.id);
        Err(if known { MEMBERS_ARE_FIXED } else { MEMBER_NOT_FOUND }.into())
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        self.api.require_user(&Call::of(request).0)?;
        // etcd's header has no revision here. The membership is fixed, so there is no stale answer.
        let header = Some(self.api.header(0));
        Ok(Response::new(pb::MemberListResponse { header, members: members(&self.api) }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let (call, request) = Call::of(request);
        self.api.require_root(&call)?;
        let known = self.is_member(request.id);
        Err(if known { MEMBER_NOT_LEARNER } else { MEMBER_NOT_FOUND }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::is_peer_url;

    #[test]
    fn peer_urls_are_checked_as_etcd_checks_them() {
        assert!(is_peer_url("http://10.0.0.1:2380"));
        assert!(is_peer_url("https://b.example:2380"));
        for wrong in ["", "10.0.0.1:2380", "http://10.0.0.1", "http://10.0.0.1:2380/x", "ftp://a:1"] {
            assert!(!is_peer_url(wrong), "{wrong}");
        }
    }
}
