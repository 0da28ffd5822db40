//! gRPC's server reflection: says what can be called here, to tools that bring no description of their own. etcd has none.

use duet_etcd_api::schema::DESCRIPTORS;
use tonic_reflection::server::Builder;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tonic_reflection::server::v1alpha;

/// The present version of the service.
pub fn present() -> ServerReflectionServer<impl ServerReflection> {
    configured().build_v1().expect("the build wrote descriptors")
}

/// The one before, which many tools still ask first.
pub fn former() -> v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection> {
    configured().build_v1alpha().expect("the build wrote descriptors")
}

fn configured() -> Builder<'static> {
    Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS)
}
