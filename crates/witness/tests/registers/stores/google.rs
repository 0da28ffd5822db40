//! Google Cloud Storage: a fake of its conditional writes, as none of the emulators that run here has them.

use std::sync::Arc;
use std::time::Duration;

use duet_witness::conformance::{self, Trouble, Troubled};
use duet_witness::{Access, BoxFuture, Register, WitnessUrl};
use tempfile::TempDir;

use super::fake::{Fake, Wrong};
use super::proxy::Proxy;
use super::throttle;
use crate::outcomes::{PATIENT, reason_of_read, reason_of_write};

struct Google {
    fake: Fake,
    dir: TempDir,
}

impl Google {
    async fn start() -> Self {
        let dir = TempDir::new().expect("a directory");
        for token in ["writer", "reader", "stranger"] {
            std::fs::write(dir.path().join(token), format!("GOOGLE_BEARER_TOKEN={token}")).expect("a file");
        }
        Self { fake: Fake::start(Wrong::Nothing).await, dir }
    }

    fn register(&self, port: u16, token: &str, cluster: &str, deadline: Duration) -> Arc<dyn Register> {
        let file = self.dir.path().join(token);
        let url = format!("gs://bucket?endpoint=http://127.0.0.1:{port}&credentials={}", file.display());
        let url: WitnessUrl = url.parse().expect("a good URL");
        url.register(cluster.parse().expect("a good name"), &Access::default(), deadline).into()
    }
}

impl conformance::Backend for Google {
    fn open(&self, cluster: &str) -> Arc<dyn Register> {
        self.register(self.fake.port, "writer", cluster, PATIENT)
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.fake.restart())
    }

    fn wipe(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.fake.wipe() })
    }
}

impl Troubled for Google {
    fn open_troubled(
        &self,
        cluster: &str,
        trouble: Trouble,
        deadline: Duration,
    ) -> BoxFuture<'_, Arc<dyn Register>> {
        let cluster = cluster.to_owned();
        Box::pin(async move {
            let port = self.fake.port;
            match trouble {
                Trouble::Throttled => {
                    let port = throttle::http("429 Too Many Requests", "").await;
                    self.register(port, "writer", &cluster, deadline)
                }
                Trouble::WrongCredentials => self.register(port, "stranger", &cluster, deadline),
                Trouble::ReadOnly => self.register(port, "reader", &cluster, deadline),
                Trouble::ReplyLost | Trouble::Late | Trouble::Slow => {
                    let proxy = Proxy::start(port).await;
                    let register = self.register(proxy.port, "writer", &cluster, deadline);
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
    let google = Google::start().await;
    conformance::run(&google).await;
    let troubles = [
        Trouble::ReplyLost,
        Trouble::Late,
        Trouble::Slow,
        Trouble::Throttled,
        Trouble::WrongCredentials,
        Trouble::ReadOnly,
    ];
    conformance::run_with_troubles(&google, &troubles).await;
}

#[tokio::test]
async fn refusals_are_told() {
    let google = Google::start().await;
    let port = google.fake.port;
    let told = reason_of_read(google.register(port, "stranger", "pair", PATIENT).read().await).to_string();
    assert!(told.contains("refuses the credentials (401 AuthenticationRequired)"), "{told}");
    assert!(!told.contains("stranger)"), "{told}");
    let reader = google.register(port, "reader", "pair", PATIENT);
    let told = reason_of_write(reader.create(bytes::Bytes::new()).await).to_string();
    assert!(told.contains("storage.objects.create"), "{told}");
    // A new key in the file is taken without a new start.
    std::fs::copy(google.dir.path().join("writer"), google.dir.path().join("reader")).unwrap();
    crate::outcomes::swapped(reader.create(bytes::Bytes::new()).await);
}
