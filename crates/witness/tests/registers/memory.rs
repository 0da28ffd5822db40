//! The witness in memory keeps the same promises as the real ones.

use std::sync::Arc;

use duet_witness::memory::MemoryWitness;
use duet_witness::{BoxFuture, Register, conformance};

struct Memory(MemoryWitness);

impl conformance::Backend for Memory {
    fn open(&self, cluster: &str) -> Arc<dyn Register> {
        Arc::new(self.0.register(cluster))
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn wipe(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.0.wipe() })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    conformance::run(&Memory(MemoryWitness::new())).await;
}
