//! Wire identity: known messages have exactly the bytes that the protobuf encoding of etcd's numbers and types
//! prescribes (worked out by hand, field by field), and service names are etcd's.

use bytes::Bytes;
use duet_etcd_api::{etcdserverpb, healthpb, mvccpb, v3electionpb, v3lockpb};
use prost::Message;

fn assert_wire<M: Message + Default + PartialEq + std::fmt::Debug>(message: &M, bytes: &[u8]) {
    assert_eq!(message.encode_to_vec(), bytes);
    assert_eq!(&M::decode(bytes).expect("decodes"), message);
}

#[test]
fn range_request() {
    let request = etcdserverpb::RangeRequest {
        key: Bytes::from_static(b"foo"),
        range_end: Bytes::from_static(b"fop"),
        limit: 300,
        revision: 7,
        sort_order: etcdserverpb::range_request::SortOrder::Descend as i32,
        sort_target: etcdserverpb::range_request::SortTarget::Value as i32,
        serializable: true,
        keys_only: true,
        count_only: true,
        min_mod_revision: 1,
        max_mod_revision: 2,
        min_create_revision: 3,
        max_create_revision: 4,
    };
    let mut expected = vec![0x0a, 3];
    expected.extend(b"foo");
    expected.extend([0x12, 3]);
    expected.extend(b"fop");
    expected.extend([0x18, 0xac, 0x02, 0x20, 7, 0x28, 2, 0x30, 4, 0x38, 1, 0x40, 1, 0x48, 1]);
    expected.extend([0x50, 1, 0x58, 2, 0x60, 3, 0x68, 4]);
    assert_wire(&request, &expected);
}

#[test]
fn compare_has_its_jump_to_field_64() {
    let compare = etcdserverpb::Compare {
        result: etcdserverpb::compare::CompareResult::NotEqual as i32,
        target: etcdserverpb::compare::CompareTarget::Lease as i32,
        key: Bytes::from_static(b"k"),
        target_union: Some(etcdserverpb::compare::TargetUnion::Lease(-1)),
        range_end: Bytes::from_static(b"l"),
    };
    let mut expected = vec![0x08, 3, 0x10, 4, 0x1a, 1, b'k', 0x40];
    expected.extend([0xff; 9]);
    expected.extend([0x01, 0x82, 0x04, 1, b'l']);
    assert_wire(&compare, &expected);
}

#[test]
fn watch_response_with_event() {
    let key_value = mvccpb::KeyValue {
        key: Bytes::from_static(b"a"),
        create_revision: 2,
        mod_revision: 3,
        version: 4,
        value: Bytes::from_static(b"b"),
        lease: 5,
    };
    let event =
        mvccpb::Event { r#type: mvccpb::event::EventType::Delete as i32, kv: Some(key_value), prev_kv: None };
    let response = etcdserverpb::WatchResponse {
        header: None,
        watch_id: 9,
        created: true,
        canceled: true,
        compact_revision: 6,
        cancel_reason: "x".into(),
        fragment: true,
        events: vec![event],
    };
    let expected = [
        0x10, 9, 0x18, 1, 0x20, 1, 0x28, 6, 0x32, 1, b'x', 0x38, 1, // the scalar fields, 2 to 7
        0x5a, 18, 0x08, 1, 0x12, 14, // event 11, its type, its pair
        0x0a, 1, b'a', 0x10, 2, 0x18, 3, 0x20, 4, 0x2a, 1, b'b', 0x30, 5,
    ];
    assert_wire(&response, &expected);
}

#[test]
fn small_services() {
    let lock = v3lockpb::LockRequest { name: Bytes::from_static(b"n"), lease: 1 };
    assert_wire(&lock, &[0x0a, 1, b'n', 0x10, 1]);
    let key = v3electionpb::LeaderKey {
        name: Bytes::from_static(b"n"),
        key: Bytes::from_static(b"k"),
        rev: 2,
        lease: 3,
    };
    assert_wire(&key, &[0x0a, 1, b'n', 0x12, 1, b'k', 0x18, 2, 0x20, 3]);
    let health = healthpb::HealthCheckResponse {
        status: healthpb::health_check_response::ServingStatus::Serving as i32,
    };
    assert_wire(&health, &[0x08, 1]);
}

#[test]
fn service_names() {
    use tonic::server::NamedService;
    fn name_of<S: NamedService>() -> &'static str {
        S::NAME
    }
    assert_eq!(name_of::<etcdserverpb::kv_server::KvServer<()>>(), "etcdserverpb.KV");
    assert_eq!(name_of::<etcdserverpb::watch_server::WatchServer<()>>(), "etcdserverpb.Watch");
    assert_eq!(name_of::<etcdserverpb::lease_server::LeaseServer<()>>(), "etcdserverpb.Lease");
    assert_eq!(name_of::<etcdserverpb::cluster_server::ClusterServer<()>>(), "etcdserverpb.Cluster");
    assert_eq!(
        name_of::<etcdserverpb::maintenance_server::MaintenanceServer<()>>(),
        "etcdserverpb.Maintenance"
    );
    assert_eq!(name_of::<etcdserverpb::auth_server::AuthServer<()>>(), "etcdserverpb.Auth");
    assert_eq!(name_of::<v3lockpb::lock_server::LockServer<()>>(), "v3lockpb.Lock");
    assert_eq!(name_of::<v3electionpb::election_server::ElectionServer<()>>(), "v3electionpb.Election");
    assert_eq!(name_of::<healthpb::health_server::HealthServer<()>>(), "grpc.health.v1.Health");
}
