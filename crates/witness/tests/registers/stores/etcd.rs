//! A real etcd.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duet_etcd_api::authpb::Permission;
use duet_etcd_api::authpb::permission::Type;
use duet_etcd_api::etcdserverpb::auth_client::AuthClient;
use duet_etcd_api::etcdserverpb::kv_client::KvClient;
use duet_etcd_api::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserGrantRoleRequest, PutRequest,
};
use duet_witness::conformance::{self, Trouble, Troubled};
use duet_witness::{Access, BoxFuture, ReadOutcome, Register, WitnessUrl, WriteOutcome};
use tempfile::TempDir;

use super::component::{Component, free_port, program};
use super::proxy::Proxy;
use super::throttle;
use crate::outcomes::{PATIENT, reason_of_read, reason_of_write, swapped};

struct Etcd {
    client: u16,
    peer: u16,
    dir: TempDir,
    process: Mutex<Option<Component>>,
}

impl Etcd {
    async fn start() -> Option<Self> {
        program("etcd")?;
        let dir = TempDir::new().expect("a directory");
        let etcd = Self { client: free_port(), peer: free_port(), dir, process: Mutex::default() };
        etcd.run().await;
        Some(etcd)
    }

    async fn run(&self) {
        let (client, peer) =
            (format!("http://127.0.0.1:{}", self.client), format!("http://127.0.0.1:{}", self.peer));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.data()).args(["--name", "m", "--log-level", "error"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("m={peer}")]);
        let component = Component::start(&mut command, self.client).await;
        *self.process.lock().unwrap() = Some(component);
        // It listens before it has a leader.
        let register = register(&[self.client], self.dir.path(), "root", "start", Duration::from_secs(5));
        let start = Instant::now();
        while let ReadOutcome::Unknown(reason) = register.read().await {
            assert!(start.elapsed() < PATIENT, "{reason}");
        }
    }

    fn stop(&self) {
        drop(self.process.lock().unwrap().take());
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    async fn channel(&self) -> tonic::transport::Channel {
        let url = format!("http://127.0.0.1:{}", self.client);
        let endpoint = tonic::transport::Endpoint::from_shared(url).expect("a URL");
        endpoint.connect().await.expect("etcd runs")
    }

    /// Users: root, and "reader" who may read everything.
    async fn know_only_users(&self) {
        let mut auth = AuthClient::new(self.channel().await);
        for name in ["root", "reader"] {
            let (name, password) = (name.to_owned(), format!("{name}'s password"));
            let add = AuthUserAddRequest { name: name.clone(), password, ..AuthUserAddRequest::default() };
            auth.user_add(add).await.expect("added");
            auth.role_add(AuthRoleAddRequest { name: name.clone() }).await.expect("added");
            let grant = AuthUserGrantRoleRequest { user: name.clone(), role: name };
            auth.user_grant_role(grant).await.expect("granted");
        }
        let all = Bytes::from_static(b"\0");
        let perm = Permission { perm_type: Type::Read.into(), key: all.clone(), range_end: all };
        let grant = AuthRoleGrantPermissionRequest { name: "reader".into(), perm: Some(perm) };
        auth.role_grant_permission(grant).await.expect("granted");
        auth.auth_enable(AuthEnableRequest {}).await.expect("enabled");
        for (file, user, password) in [
            ("root", "root", "root's password"),
            ("reader", "reader", "reader's password"),
            ("wrong", "reader", "a guess"),
        ] {
            let text = format!("ETCD_USER={user}\nETCD_PASSWORD={password}\n");
            std::fs::write(self.dir.path().join(file), text).expect("a file");
        }
    }

    fn register(&self, credentials: &str, cluster: &str, deadline: Duration) -> Arc<dyn Register> {
        register(&[self.client], self.dir.path(), credentials, cluster, deadline)
    }
}

/// `credentials` is the name of a file in `dir`; if it does not exist, none are used.
fn register(
    ports: &[u16],
    dir: &Path,
    credentials: &str,
    cluster: &str,
    deadline: Duration,
) -> Arc<dyn Register> {
    let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let file = dir.join(credentials);
    let option = if file.exists() { format!("?credentials={}", file.display()) } else { String::new() };
    let url: WitnessUrl = format!("etcd://{}/pairs{option}", hosts.join(",")).parse().expect("a good URL");
    url.register(cluster.parse().expect("a good name"), &Access::default(), deadline).into()
}

impl conformance::Backend for Etcd {
    fn open(&self, cluster: &str) -> Arc<dyn Register> {
        self.register("root", cluster, PATIENT)
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.stop();
            self.run().await;
        })
    }

    /// Anew, so that the same revisions are given out again.
    fn wipe(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.stop();
            std::fs::remove_dir_all(self.data()).expect("removable");
            self.run().await;
        })
    }
}

impl Troubled for Etcd {
    fn open_troubled(
        &self,
        cluster: &str,
        trouble: Trouble,
        deadline: Duration,
    ) -> BoxFuture<'_, Arc<dyn Register>> {
        let cluster = cluster.to_owned();
        Box::pin(async move {
            match trouble {
                Trouble::Throttled => {
                    let port = throttle::etcd().await;
                    register(&[port], self.dir.path(), "root", &cluster, deadline)
                }
                Trouble::WrongCredentials => self.register("wrong", &cluster, deadline),
                Trouble::ReadOnly => self.register("reader", &cluster, deadline),
                Trouble::ReplyLost | Trouble::Late | Trouble::Slow => {
                    let proxy = Proxy::start(self.client).await;
                    let register = register(&[proxy.port], self.dir.path(), "root", &cluster, deadline);
                    register.read().await;
                    proxy.make(trouble);
                    register
                }
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let Some(etcd) = Etcd::start().await else { return };
    conformance::run(&etcd).await;
    let troubles = [Trouble::ReplyLost, Trouble::Late, Trouble::Slow, Trouble::Throttled];
    conformance::run_with_troubles(&etcd, &troubles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_roles_are_told() {
    let Some(etcd) = Etcd::start().await else { return };
    etcd.know_only_users().await;
    conformance::run_with_troubles(&etcd, &[Trouble::WrongCredentials, Trouble::ReadOnly]).await;
    let nobody = etcd.register("none", "pair", PATIENT);
    let told = reason_of_read(nobody.read().await).to_string();
    assert!(told.contains("ETCD_USER"), "{told}");
    let told = reason_of_read(etcd.register("wrong", "pair", PATIENT).read().await).to_string();
    assert!(told.contains("check ETCD_USER and ETCD_PASSWORD") && !told.contains("a guess"), "{told}");
    let reader = etcd.register("reader", "pair", PATIENT);
    let told = reason_of_write(reader.create(Bytes::new()).await).to_string();
    assert!(told.contains("grant-permission ROLE readwrite --prefix pairs/pair/"), "{told}");
    // A login ends with the etcd that gave it out.
    let register = etcd.register("root", "pair", PATIENT);
    let version = swapped(register.create(Bytes::from_static(b"1")).await);
    conformance::Backend::restart(&etcd).await;
    let start = Instant::now();
    loop {
        match register.compare_and_set(&version, Bytes::from_static(b"2")).await {
            WriteOutcome::Swapped(_) => break,
            WriteOutcome::Mismatch => panic!("nobody else writes"),
            WriteOutcome::Unknown(reason) => assert!(start.elapsed() < PATIENT, "{reason}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_down_or_hangs_is_passed_by() {
    let Some(etcd) = Etcd::start().await else { return };
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = (silent.local_addr().unwrap().port(), silent);
    let ports = [free_port(), silent.0, etcd.client];
    let register = register(&ports, etcd.dir.path(), "none", "pair", Duration::from_secs(3));
    let version = swapped(register.create(Bytes::from_static(b"1")).await);
    let start = Instant::now();
    swapped(register.compare_and_set(&version, Bytes::from_static(b"2")).await);
    assert!(start.elapsed() < Duration::from_secs(2), "the one that answered is asked first");
    etcd.stop();
    let told = reason_of_read(register.read().await).to_string();
    assert!(told.contains("127.0.0.1") && told.contains("check"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_record_is_unknown_and_is_not_replaced() {
    let Some(etcd) = Etcd::start().await else { return };
    let mut kv = KvClient::new(etcd.channel().await);
    let mut put = async |key: &'static str, value: &'static str| {
        let request = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
        kv.put(request).await.unwrap();
    };
    let register = etcd.register("none", "pair", PATIENT);
    put("pairs/pair/record", "somebody's").await;
    let told = reason_of_read(register.read().await).to_string();
    assert!(told.contains("one of the pair's two keys"), "{told}");
    reason_of_write(register.create(Bytes::new()).await);
    put("pairs/pair/version", "x").await;
    let told = reason_of_read(register.read().await).to_string();
    assert!(told.contains("damaged"), "{told}");
    reason_of_write(register.create(Bytes::new()).await);
    // Neighbours are not touched.
    put("pairs/pair/versionx", "x").await;
    put("pairs/pair2/record", "x").await;
    assert_eq!(etcd.register("none", "pai", PATIENT).read().await, ReadOutcome::Absent);
}

/// A pair speaks etcd's language; what tells it apart is its own status.
#[tokio::test]
async fn a_duet_pair_is_refused() {
    let body = r#"{"appliance":"A"}"#;
    let port = throttle::http("200 OK", body).await;
    let register = register(&[port], Path::new("/nonexistent"), "none", "pair", PATIENT);
    let told = reason_of_read(register.read().await).to_string();
    assert!(told.contains("is a Duet appliance"), "{told}");
    let told = reason_of_write(register.create(Bytes::new()).await).to_string();
    assert!(told.contains("is a Duet appliance"), "{told}");
}
