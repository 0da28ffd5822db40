//! The etcd v3 API as Rust types: messages, clients and servers, generated at build time from `proto/*.proto`.
//!
//! The `.proto` files are etcd's own (3.5, see the top of each file) without the annotations that only Go and
//! the JSON gateway need; on the wire nothing differs. There is one module for each protobuf package, because the
//! generated code refers to its neighbours as `super::<package>`. Fields of type `bytes` are [`bytes::Bytes`].
//!
//! To change the API, edit the `.proto` file and build: `build.rs` runs protox (no `protoc` needed) and
//! tonic-prost-build, and writes into Cargo's `OUT_DIR`. Nothing generated is checked in. To move to a newer etcd,
//! compare its `api/` folder with `proto/`, take over what was added, and keep every number and type.

pub mod codec;
pub mod json;
pub mod schema;

/// `authpb`: users, roles and permissions.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// `etcdserverpb`: the services KV, Watch, Lease, Cluster, Maintenance and Auth with their messages.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// `grpc.health.v1`: the standard health check that load balancers and Kubernetes ask.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod healthpb {
    tonic::include_proto!("grpc.health.v1");
}

/// `mvccpb`: key-value pairs and events.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// `v3electionpb`: the Election service.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

/// `v3lockpb`: the Lock service.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}
