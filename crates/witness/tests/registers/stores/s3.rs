//! S3: moto, whose tags are hashes of the content as S3's are, and which checks keys and policies.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duet_witness::conformance::{self, Trouble, Troubled};
use duet_witness::{Access, BoxFuture, ReadOutcome, Register, Version, WitnessUrl, WriteOutcome};
use http::Method;
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::component::{Component, free_port, http, installed};
use super::proxy::Proxy;
use super::throttle;
use crate::outcomes::PATIENT;

const BUCKET: &str = "witnesses";
/// Service in the signature of a request, from which moto learns whom it is for.
const IAM: &str =
    "AWS4-HMAC-SHA256 Credential=root/20200101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0";

pub struct Moto {
    port: u16,
    dir: TempDir,
    turn: Arc<Mutex<()>>,
    _process: Component,
}

impl Moto {
    pub async fn start() -> Option<Self> {
        let program = installed("moto/bin/moto_server")?;
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let moto = Self {
            port,
            dir: TempDir::new().expect("a directory"),
            turn: Arc::default(),
            _process: Component::start(&mut command, port).await,
        };
        moto.make_bucket().await;
        write_keys(&moto.dir.path().join("good"), "root", "any");
        Some(moto)
    }

    async fn make_bucket(&self) {
        let (status, _) = http(Method::PUT, self.port, &format!("/{BUCKET}"), &[], "").await;
        assert!(status.is_success(), "{status}");
    }

    /// From now on only known keys may do anything; a reader's are in the file "reader", a writer's in "good".
    async fn know_only_users(&self) {
        for (user, actions) in [("reader", r#"["s3:GetObject","s3:ListBucket"]"#), ("good", r#"["s3:*"]"#)] {
            self.iam(&format!("Action=CreateUser&UserName={user}")).await;
            let policy = format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":{actions},"Resource":"*"}}]}}"#
            );
            let policy = policy.replace('"', "%22");
            self.iam(&format!("Action=PutUserPolicy&UserName={user}&PolicyName=p&PolicyDocument={policy}"))
                .await;
            let answer = self.iam(&format!("Action=CreateAccessKey&UserName={user}")).await;
            let part = |name: &str| {
                let (_, rest) = answer.split_once(&format!("<{name}>")).expect("a key");
                rest.split('<').next().expect("a value").to_owned()
            };
            write_keys(&self.dir.path().join(user), &part("AccessKeyId"), &part("SecretAccessKey"));
        }
        let (status, _) = http(Method::POST, self.port, "/moto-api/reset-auth", &[], "0").await;
        assert!(status.is_success(), "{status}");
    }

    async fn iam(&self, form: &str) -> String {
        let headers = [("authorization", IAM), ("content-type", "application/x-www-form-urlencoded")];
        let (status, answer) = http(Method::POST, self.port, "/", &headers, form).await;
        assert!(status.is_success(), "{status}: {answer}");
        answer
    }

    pub fn register(&self, port: u16, keys: &str, cluster: &str, deadline: Duration) -> Arc<dyn Register> {
        let file = self.dir.path().join(keys);
        let url = format!(
            "s3://{BUCKET}/pairs?endpoint=http://127.0.0.1:{port}&region=us-east-1&credentials={}",
            file.display()
        );
        let url: WitnessUrl = url.parse().expect("a good URL");
        url.register(cluster.parse().expect("a good name"), &Access::default(), deadline).into()
    }
}

/// One call at a time: now and then moto answers 500 where a read meets a write. What is read by one writer is still replaced by
/// another before the first one writes.
struct InTurn {
    register: Arc<dyn Register>,
    turn: Arc<Mutex<()>>,
}

impl Register for InTurn {
    fn read(&self) -> BoxFuture<'_, ReadOutcome> {
        Box::pin(async {
            let _turn = self.turn.lock().await;
            self.register.read().await
        })
    }

    fn create(&self, bytes: Bytes) -> BoxFuture<'_, WriteOutcome> {
        Box::pin(async {
            let _turn = self.turn.lock().await;
            self.register.create(bytes).await
        })
    }

    fn compare_and_set(&self, expected: &Version, bytes: Bytes) -> BoxFuture<'_, WriteOutcome> {
        let expected = expected.clone();
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            self.register.compare_and_set(&expected, bytes).await
        })
    }

    fn describe(&self) -> String {
        self.register.describe()
    }
}

fn write_keys(file: &Path, id: &str, secret: &str) {
    let text = format!("AWS_ACCESS_KEY_ID={id}\nAWS_SECRET_ACCESS_KEY={secret}\n");
    std::fs::write(file, text).expect("a file");
}

impl conformance::Backend for Moto {
    fn open(&self, cluster: &str) -> Arc<dyn Register> {
        let register = self.register(self.port, "good", cluster, PATIENT);
        Arc::new(InTurn { register, turn: self.turn.clone() })
    }

    /// Moto keeps everything in memory; what S3 has answered outlives any of its machines.
    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn wipe(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let (status, _) = http(Method::POST, self.port, "/moto-api/reset", &[], "").await;
            assert!(status.is_success(), "{status}");
            self.make_bucket().await;
        })
    }
}

impl Troubled for Moto {
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
                    let port = throttle::http("503 Slow Down", "<Error><Code>SlowDown</Code></Error>").await;
                    self.register(port, "good", &cluster, deadline)
                }
                Trouble::WrongCredentials => {
                    write_keys(&self.dir.path().join("wrong"), "AKIAWRONG", "nobody knows it");
                    self.register(self.port, "wrong", &cluster, deadline)
                }
                Trouble::ReadOnly => self.register(self.port, "reader", &cluster, deadline),
                Trouble::ReplyLost | Trouble::Late | Trouble::Slow => {
                    let proxy = Proxy::start(self.port).await;
                    let register = self.register(proxy.port, "good", &cluster, deadline);
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
    let Some(moto) = Moto::start().await else { return };
    conformance::run(&moto).await;
    let troubles = [Trouble::ReplyLost, Trouble::Late, Trouble::Slow, Trouble::Throttled];
    conformance::run_with_troubles(&moto, &troubles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_policies_are_told() {
    let Some(moto) = Moto::start().await else { return };
    moto.know_only_users().await;
    conformance::run_with_troubles(&moto, &[Trouble::WrongCredentials, Trouble::ReadOnly]).await;
}
