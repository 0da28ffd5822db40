//! Azure Blob Storage: Azurite, Azure's own emulator, which checks keys and signatures.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use duet_witness::conformance::{self, Trouble, Troubled};
use duet_witness::{Access, BoxFuture, Register, WitnessUrl};
use http::Method;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::component::{Component, free_port, http, installed};
use super::proxy::Proxy;
use super::throttle;
use crate::outcomes::PATIENT;

const ACCOUNT: &str = "duet";
const KEY: &str = "ZHVldCB0ZXN0cyBrZXkgdGhhdCBpcyBubyBzZWNyZXQgYXQgYWxsIQ==";
const CONTAINER: &str = "witnesses";

struct Azurite {
    port: u16,
    dir: TempDir,
    process: Mutex<Option<Component>>,
}

impl Azurite {
    async fn start() -> Option<Self> {
        installed("azurite/node_modules/.bin/azurite-blob")?;
        let azurite =
            Self { port: free_port(), dir: TempDir::new().expect("a directory"), process: Mutex::default() };
        azurite.run().await;
        azurite.make_container().await;
        azurite.write("good", &format!("AZURE_STORAGE_ACCOUNT_KEY={KEY}"));
        azurite.write("wrong", &format!("AZURE_STORAGE_ACCOUNT_KEY={}", STANDARD.encode("another key")));
        azurite.write("reader", &format!("AZURE_STORAGE_SAS_KEY={}", signature("r", "o")));
        Some(azurite)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.dir.path().join(file), text).expect("a file");
    }

    async fn run(&self) {
        let program = installed("azurite/node_modules/.bin/azurite-blob").expect("it was there");
        let mut command = Command::new(program);
        command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"));
        command.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--blobHost", "127.0.0.1"]);
        command.args(["--blobPort", &self.port.to_string()]);
        command.arg("--location").arg(self.dir.path().join("data"));
        let component = Component::start(&mut command, self.port).await;
        *self.process.lock().unwrap() = Some(component);
    }

    fn stop(&self) {
        drop(self.process.lock().unwrap().take());
    }

    async fn make_container(&self) {
        let path = format!("/{ACCOUNT}/{CONTAINER}?restype=container&{}", signature("rwcl", "sco"));
        let (status, answer) = http(Method::PUT, self.port, &path, &[], "").await;
        assert!(status.is_success(), "{status}: {answer}");
    }

    fn register(&self, port: u16, keys: &str, cluster: &str, deadline: Duration) -> Arc<dyn Register> {
        let url = format!(
            "az://{CONTAINER}/pairs?account={ACCOUNT}&endpoint=http://127.0.0.1:{port}/{ACCOUNT}&credentials={}",
            self.dir.path().join(keys).display()
        );
        let url: WitnessUrl = url.parse().expect("a good URL");
        url.register(cluster.parse().expect("a good name"), &Access::default(), deadline).into()
    }
}

/// A shared access signature of the account: what it allows, on services, containers or objects.
fn signature(permissions: &str, kinds: &str) -> String {
    let (version, end) = ("2021-12-02", "2099-01-01T00:00:00Z");
    let text = format!("{ACCOUNT}\n{permissions}\nb\n{kinds}\n\n{end}\n\nhttps,http\n{version}\n\n");
    let signed =
        STANDARD.encode(authentication_code(&STANDARD.decode(KEY).expect("base64"), text.as_bytes()));
    let signed = signed.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("sv={version}&ss=b&srt={kinds}&sp={permissions}&se={end}&spr=https,http&sig={signed}")
}

/// HMAC with SHA-256.
fn authentication_code(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let hash = |pad: u8, text: &[u8]| {
        let mut hash = Sha256::new();
        hash.update(block.map(|byte| byte ^ pad));
        hash.update(text);
        hash.finalize()
    };
    hash(0x5c, &hash(0x36, text)).into()
}

impl conformance::Backend for Azurite {
    fn open(&self, cluster: &str) -> Arc<dyn Register> {
        self.register(self.port, "good", cluster, PATIENT)
    }

    /// Azurite keeps its list of blobs in memory for a while; what Azure has answered outlives any of its machines.
    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn wipe(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.stop();
            std::fs::remove_dir_all(self.dir.path().join("data")).expect("removable");
            self.run().await;
            self.make_container().await;
        })
    }
}

impl Troubled for Azurite {
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
                    let body = "<Error><Code>ServerBusy</Code></Error>";
                    let port = throttle::http("503 Service Unavailable", body).await;
                    self.register(port, "good", &cluster, deadline)
                }
                Trouble::WrongCredentials => self.register(self.port, "wrong", &cluster, deadline),
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
    let Some(azurite) = Azurite::start().await else { return };
    conformance::run(&azurite).await;
    let troubles = [
        Trouble::ReplyLost,
        Trouble::Late,
        Trouble::Slow,
        Trouble::Throttled,
        Trouble::WrongCredentials,
        Trouble::ReadOnly,
    ];
    conformance::run_with_troubles(&azurite, &troubles).await;
}
