//! Which path of the gateway is which gRPC method.

/// Where the API is found: today's prefix, that of etcd 3.3 and that of etcd before. etcd drops the old ones in time; a client
/// that was made for them keeps working here.
pub(super) const PREFIXES: [&str; 3] = ["/v3/", "/v3beta/", "/v3alpha/"];

/// Paths after the prefix. Each of them is a POST.
const PATHS: [(&str, &str); 51] = [
    ("kv/range", "/etcdserverpb.KV/Range"),
    ("kv/put", "/etcdserverpb.KV/Put"),
    ("kv/deleterange", "/etcdserverpb.KV/DeleteRange"),
    ("kv/txn", "/etcdserverpb.KV/Txn"),
    ("kv/compaction", "/etcdserverpb.KV/Compact"),
    ("kv/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("kv/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("kv/lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("watch", "/etcdserverpb.Watch/Watch"),
    ("lease/grant", "/etcdserverpb.Lease/LeaseGrant"),
    ("lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("lease/keepalive", "/etcdserverpb.Lease/LeaseKeepAlive"),
    ("lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("cluster/member/add", "/etcdserverpb.Cluster/MemberAdd"),
    ("cluster/member/remove", "/etcdserverpb.Cluster/MemberRemove"),
    ("cluster/member/update", "/etcdserverpb.Cluster/MemberUpdate"),
    ("cluster/member/list", "/etcdserverpb.Cluster/MemberList"),
    ("cluster/member/promote", "/etcdserverpb.Cluster/MemberPromote"),
    ("maintenance/alarm", "/etcdserverpb.Maintenance/Alarm"),
    ("maintenance/status", "/etcdserverpb.Maintenance/Status"),
    ("maintenance/defragment", "/etcdserverpb.Maintenance/Defragment"),
    ("maintenance/hash", "/etcdserverpb.Maintenance/Hash"),
    ("maintenance/hashkv", "/etcdserverpb.Maintenance/HashKV"),
    ("maintenance/snapshot", "/etcdserverpb.Maintenance/Snapshot"),
    ("maintenance/transfer-leadership", "/etcdserverpb.Maintenance/MoveLeader"),
    ("maintenance/downgrade", "/etcdserverpb.Maintenance/Downgrade"),
    ("auth/enable", "/etcdserverpb.Auth/AuthEnable"),
    ("auth/disable", "/etcdserverpb.Auth/AuthDisable"),
    ("auth/status", "/etcdserverpb.Auth/AuthStatus"),
    ("auth/authenticate", "/etcdserverpb.Auth/Authenticate"),
    ("auth/user/add", "/etcdserverpb.Auth/UserAdd"),
    ("auth/user/get", "/etcdserverpb.Auth/UserGet"),
    ("auth/user/list", "/etcdserverpb.Auth/UserList"),
    ("auth/user/delete", "/etcdserverpb.Auth/UserDelete"),
    ("auth/user/changepw", "/etcdserverpb.Auth/UserChangePassword"),
    ("auth/user/grant", "/etcdserverpb.Auth/UserGrantRole"),
    ("auth/user/revoke", "/etcdserverpb.Auth/UserRevokeRole"),
    ("auth/role/add", "/etcdserverpb.Auth/RoleAdd"),
    ("auth/role/get", "/etcdserverpb.Auth/RoleGet"),
    ("auth/role/list", "/etcdserverpb.Auth/RoleList"),
    ("auth/role/delete", "/etcdserverpb.Auth/RoleDelete"),
    ("auth/role/grant", "/etcdserverpb.Auth/RoleGrantPermission"),
    ("auth/role/revoke", "/etcdserverpb.Auth/RoleRevokePermission"),
    ("lock/lock", "/v3lockpb.Lock/Lock"),
    ("lock/unlock", "/v3lockpb.Lock/Unlock"),
    ("election/campaign", "/v3electionpb.Election/Campaign"),
    ("election/proclaim", "/v3electionpb.Election/Proclaim"),
    ("election/leader", "/v3electionpb.Election/Leader"),
    ("election/observe", "/v3electionpb.Election/Observe"),
    ("election/resign", "/v3electionpb.Election/Resign"),
];

/// The gRPC method of a path.
pub(super) fn method_of(path: &str) -> Option<&'static str> {
    let rest = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix))?;
    PATHS.iter().find(|(known, _)| *known == rest).map(|(_, method)| *method)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use duet_etcd_api::schema::Schema;

    use super::*;

    #[test]
    fn every_method_has_its_path() {
        let schema = Schema::api();
        let reached: HashSet<&str> = PATHS.iter().map(|(_, method)| *method).collect();
        assert!(reached.iter().all(|method| schema.method(method).is_some()));
        let missing: Vec<&str> =
            schema.methods().map(|(path, _)| path).filter(|path| !reached.contains(path)).collect();
        assert!(missing.iter().all(|path| path.starts_with("/grpc.health.")), "{missing:?}");
    }

    #[test]
    fn paths_are_found_under_every_prefix_and_nowhere_else() {
        for prefix in ["/v3", "/v3beta", "/v3alpha"] {
            assert_eq!(method_of(&format!("{prefix}/kv/range")), Some("/etcdserverpb.KV/Range"));
        }
        for wrong in ["/v2/kv/range", "/v3/kv/range/", "/v3/", "kv/range", "/v3/kv", "/v3/kv/Range"] {
            assert_eq!(method_of(wrong), None, "{wrong}");
        }
    }
}
