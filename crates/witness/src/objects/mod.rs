//! The witness in an object store: S3 and what speaks its language, Azure Blob Storage, Google Cloud Storage.
//!
//! One small object for each pair, `PREFIX/CLUSTER/record`, written with the store's own conditional put. The crate
//! `object_store` speaks to the stores; it repeats nothing here (its retries are off), and what an answer means is
//! decided in [`foreign`](crate::foreign). Taken as definite are:
//!
//! | answer | S3 | Azure | Google | taken as |
//! |---|---|---|---|---|
//! | 200 or 201 with a tag | ETag | ETag | generation | done |
//! | 404 to a read | `NoSuchKey` | `BlobNotFound` | `NoSuchKey` | absent; any other 404 (no bucket, a proxy's page) is unknown |
//! | 412, 409, or 404 to a write | the record is read | the same | the same | see [`foreign`](crate::foreign) |
//! | 304, 401, 403, 408, 429, 5xx, silence | | | | unknown |
//!
//! S3's tags are hashes of the content: every stored record has a version of its own in it, so no content comes twice.
//! The clock of this machine only matters where requests are signed with the time: a store refuses them when the clock
//! is wrong, and that is unknown, as is every refusal.

mod address;
mod build;
mod observed;
mod words;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Attribute, Attributes, GetOptions, ObjectStore, PutMode, PutOptions, UpdateVersion};

use self::address::Kind;
pub use self::address::ObjectsAddress;
use self::observed::{Seen, Sighting};
use self::words::Verb;
use crate::foreign::{Condition, ForeignRegister, Object, Put, Store};
use crate::lineage::MAX_OBJECT_BYTES;
use crate::planted::Bug;
use crate::{BoxFuture, ClusterName, Reason, Register, Version};

/// The record of one pair in an object store.
struct Bucket {
    address: ObjectsAddress,
    path: Path,
    deadline: Duration,
    /// Made at the first call, and again after the store refused the credentials: they may have been renewed.
    client: Mutex<Option<Arc<dyn ObjectStore>>>,
    /// What is known of the last request, to explain silence.
    last: Mutex<Sighting>,
}

/// The register of `cluster` in the store at `address`; connects later.
pub(crate) fn register(
    address: &ObjectsAddress,
    cluster: ClusterName,
    deadline: Duration,
) -> Box<dyn Register> {
    let bucket = Bucket {
        address: address.clone(),
        path: Path::from(format!("{}/{cluster}/record", address.prefix())),
        deadline,
        client: Mutex::default(),
        last: Mutex::default(),
    };
    Box::new(ForeignRegister::new(bucket, cluster, deadline))
}

impl Bucket {
    async fn client(&self) -> Result<Arc<dyn ObjectStore>, Reason> {
        let made = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(client) = made {
            return Ok(client);
        }
        // Reads files (keys, the system's certificates): not on a thread that serves others.
        let (address, deadline) = (self.address.clone(), self.deadline);
        let client = tokio::task::spawn_blocking(move || build::client(&address, deadline))
            .await
            .map_err(|_| self.reason("cannot be prepared; see the log"))??;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&client));
        Ok(client)
    }

    /// A client and an eye for one request.
    async fn begin(&self) -> Result<(Arc<dyn ObjectStore>, Sighting), Reason> {
        let sighting = Sighting::default();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = sighting.clone();
        Ok((self.client().await?, sighting))
    }

    async fn fetch(&self) -> Result<Option<Object>, Reason> {
        let (client, sighting) = self.begin().await?;
        let options = GetOptions::default().with_extensions(sighting.as_extensions());
        let found = match client.get_opts(&self.path, options).await {
            Ok(found) => found,
            Err(_) if sighting.seen().is_no_such_object() => return Ok(None),
            Err(error) => return Err(self.explain(Verb::Read, &sighting.seen(), &error)),
        };
        if found.meta.size > MAX_OBJECT_BYTES as u64 {
            return Err(
                self.reason(&format!("has {} with {} bytes, which is no record", self.path, found.meta.size))
            );
        }
        let tag = self.address.kind().tag(found.meta.e_tag.clone(), found.meta.version.clone());
        let tag = tag.ok_or_else(|| self.reason("gives no tag to compare: it cannot be a witness"))?;
        let bytes = found.bytes().await;
        let bytes = bytes.map_err(|error| self.explain(Verb::Read, &sighting.seen(), &error))?;
        Ok(Some(Object { tag, bytes }))
    }

    async fn store(&self, condition: &Condition, bytes: Bytes) -> Result<Put, Reason> {
        let (client, sighting) = self.begin().await?;
        let kind = self.address.kind();
        let mode = match condition {
            Condition::Absent => PutMode::Create,
            Condition::Tag(tag) if kind == Kind::Google => {
                PutMode::Update(UpdateVersion { e_tag: None, version: Some(tag.clone()) })
            }
            Condition::Tag(tag) => PutMode::Update(UpdateVersion { e_tag: Some(tag.clone()), version: None }),
        };
        let mut attributes = Attributes::new();
        // Google lets caches keep what is public; nobody may read an old record.
        attributes.insert(Attribute::CacheControl, "no-store".into());
        let options =
            PutOptions { mode, attributes, extensions: sighting.as_extensions(), ..PutOptions::default() };
        match client.put_opts(&self.path, bytes.into(), options).await {
            Ok(done) => match kind.tag(done.e_tag, done.version) {
                Some(tag) => Ok(Put::Done { tag }),
                None => Err(self.reason("gives no tag to compare: it cannot be a witness")),
            },
            Err(_) if sighting.seen().is_refused_condition() => Ok(Put::Refused),
            Err(error) => Err(self.explain(Verb::Write, &sighting.seen(), &error)),
        }
    }

    fn explain(&self, verb: Verb, seen: &Seen, error: &object_store::Error) -> Reason {
        if seen.is_refused_access() {
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        self.reason(&words::explain(&self.address, verb, seen, error))
    }

    fn reason(&self, what: &str) -> Reason {
        Reason::new(format!("the {} {what}", self.describe()))
    }
}

impl Store for Bucket {
    fn get(&self) -> BoxFuture<'_, Result<Option<Object>, Reason>> {
        Box::pin(self.fetch())
    }

    fn put<'a>(
        &'a self,
        condition: &'a Condition,
        _: &'a Version,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Put, Reason>> {
        Box::pin(self.store(condition, bytes))
    }

    fn silence(&self, waited: Duration) -> Reason {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.reason(&words::silence(&self.address, &last.seen(), waited))
    }

    fn describe(&self) -> String {
        self.address.describe()
    }
}

impl Seen {
    /// The store itself says that the object is not there; not its bucket, not a proxy's page.
    fn is_no_such_object(&self) -> bool {
        match self {
            Self::Answered { status: 404, .. } if Bug::AnyNotFoundIsAbsent.planted() => true,
            Self::Answered { status: 404, code: Some(code) } => {
                matches!(code.as_str(), "NoSuchKey" | "BlobNotFound")
            }
            _ => false,
        }
    }

    /// The condition of a write may not have held: what became of it is to be read.
    fn is_refused_condition(&self) -> bool {
        matches!(self, Self::Answered { status: 409 | 412, .. }) || self.is_no_such_object()
    }

    fn is_refused_access(&self) -> bool {
        matches!(self, Self::Answered { status: 401 | 403, .. })
    }
}
