//! Who writes through the secondary finds it there at once, whatever it asks next: as in etcd, whose followers apply a
//! change before they answer for it.

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use pb::auth_client::AuthClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tonic::Code;

use crate::harness::{B, Pair, Witness, run};

/// The secondary hears of a commit with the next message, a heartbeat's time later at most: some of so many would be
/// read too early.
const ROUNDS: usize = 30;

fn serializable(key: &str, revision: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        serializable: true,
        revision,
        ..Default::default()
    }
}

/// The answer to a new watch of a key, at the secondary.
async fn created(pair: &Pair, key: &str) -> pb::WatchResponse {
    let request =
        pb::WatchCreateRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() };
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) };
    let mut client = WatchClient::new(pair.client(B).channel());
    let mut answers = client.watch(tokio_stream::once(request)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap()
}

#[test]
fn a_write_through_the_secondary_is_found_there() {
    run(async {
        let pair = Pair::start(Witness::Server).await;
        let at_b = pair.client(B);
        for round in 0..ROUNDS {
            let value = round.to_string();
            let revision = at_b.put("k", &value).await.unwrap();
            let found = at_b.kv().range(serializable("k", 0)).await.unwrap().into_inner();
            assert_eq!(found.kvs.first().map(|kv| kv.value.clone()), Some(Bytes::from(value)));
            let revision_of = |answer: Option<pb::ResponseHeader>| answer.unwrap().revision;
            at_b.put("k", "watched").await.unwrap();
            let told = created(&pair, "k").await;
            assert!(told.created && revision_of(told.header) == revision + 1, "{told:?}");
            at_b.kv().compact(pb::CompactionRequest { revision, physical: false }).await.unwrap();
            let refused = at_b.kv().range(serializable("k", revision - 1)).await.unwrap_err();
            assert_eq!(refused.code(), Code::OutOfRange);
            at_b.delete("k").await.unwrap();
            let gone = at_b.kv().range(serializable("k", 0)).await.unwrap().into_inner();
            assert_eq!(gone.count, 0);
        }
    });
}

#[test]
fn users_that_were_turned_on_through_the_secondary_are_on_there() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        pair.configure("bcrypt_cost = 4");
        pair.start_new().await;
        let mut auth = AuthClient::new(pair.client(B).channel());
        let root =
            pb::AuthUserAddRequest { name: "root".into(), password: "pw".into(), ..Default::default() };
        auth.user_add(root).await.unwrap();
        let grant = pb::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
        auth.user_grant_role(grant).await.unwrap();
        for _ in 0..ROUNDS {
            auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
            let refused = pair.client(B).kv().range(serializable("k", 0)).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
            let login = pb::AuthenticateRequest { name: "root".into(), password: "pw".into() };
            let token = auth.authenticate(login).await.unwrap().into_inner().token;
            let mut disable = tonic::Request::new(pb::AuthDisableRequest {});
            disable.metadata_mut().insert("token", token.parse().unwrap());
            auth.auth_disable(disable).await.unwrap();
            pair.client(B).kv().range(serializable("k", 0)).await.unwrap();
        }
    });
}
