//! What tools learn that bring no description of the API.

use prost::Message;
use prost_types::FileDescriptorProto;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient as FormerClient;
use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest as FormerRequest;

use super::*;

async fn ask(machine: &Machine, question: MessageRequest) -> Result<MessageResponse, Status> {
    let mut client = ServerReflectionClient::new(machine.channel().await);
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut answers =
        client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let ServerReflectionResponse { message_response, .. } = answers.message().await?.unwrap();
    Ok(message_response.unwrap())
}

#[tokio::test]
async fn all_services_are_listed_and_described() {
    let machine = Machine::primary().await;
    let MessageResponse::ListServicesResponse(listed) =
        ask(&machine, MessageRequest::ListServices(String::new())).await.unwrap()
    else {
        panic!("a list")
    };
    let names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
    for name in ["KV", "Watch", "Lease", "Cluster", "Maintenance", "Auth"] {
        assert!(names.contains(&format!("etcdserverpb.{name}")), "{names:?}");
    }
    for name in ["v3lockpb.Lock", "v3electionpb.Election", "grpc.health.v1.Health"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }
    let symbol = MessageRequest::FileContainingSymbol("etcdserverpb.KV".to_owned());
    let MessageResponse::FileDescriptorResponse(described) = ask(&machine, symbol).await.unwrap() else {
        panic!("a file")
    };
    let file = FileDescriptorProto::decode(described.file_descriptor_proto[0].as_slice()).unwrap();
    let kv = file.service.iter().find(|service| service.name() == "KV").unwrap();
    assert!(kv.method.iter().any(|method| method.name() == "Txn"));
    let unknown = ask(&machine, MessageRequest::FileContainingSymbol("nobody.Knows".to_owned())).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn tools_that_know_the_former_version_only_are_answered_too() {
    let machine = Machine::primary().await;
    let mut client = FormerClient::new(machine.channel().await);
    let request = tonic_reflection::pb::v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(FormerRequest::ListServices(String::new())),
    };
    let mut answers =
        client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().unwrap().message_response.is_some());
}
