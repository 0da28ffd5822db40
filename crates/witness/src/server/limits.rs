//! Every limit of the witness server, with its unit and its reason. Together they keep it below 256 MB with 100,000 pairs.

use std::time::Duration;

/// Connections at the same time unless the configuration says otherwise; more wait in the kernel's queue. 13 KiB each, as
/// measured: 104 MiB when full.
pub const MAX_CONNECTIONS: usize = 8 * 1024;

/// Connections from one address (of IPv6: one network of 64 bits) unless the configuration says otherwise: an eighth of
/// all, so that one site gone wild leaves room for the others. Many pairs may share an address. Loopback is not counted, as
/// whatever stands in front of the server comes from there.
pub const MAX_CONNECTIONS_PER_ADDRESS: usize = MAX_CONNECTIONS / 8;

/// Share of the connections, in parts of four, from which on each is closed after its answer, so that more pairs than
/// connections are served in turn. The other half is for pairs that all come at once.
pub(super) const CROWDED_QUARTERS: usize = 2;

/// Share of the connections, in parts of four, from which on a silent one is closed soon.
pub(super) const BUSY_QUARTERS: usize = 1;

/// How long a connection may be silent, or take to send a request's head, while there is room: longer than it takes a primary
/// to come back for its slow look, so that a pair finds its connection open when it needs the witness at once.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(3);

/// The same when many are connected: a slow sender holds a place no longer than this.
pub(super) const BUSY_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a full server waits for a place before it closes idle connections: some of them may be about to ask.
pub(super) const FULL_PATIENCE: Duration = Duration::from_millis(500);

/// Connections that wait in the kernel until they are taken: those of a whole region that comes back at once. The system
/// may allow less (`net.core.somaxconn`); who finds no place tries again after a second.
pub(super) const BACKLOG: u32 = 16 * 1024;

/// Bytes of buffer for one connection: the least that hyper allows, and enough for any head and most records.
pub(super) const CONNECTION_BUFFER_BYTES: usize = 8 * 1024;

/// How long requests under way may take to finish when the server stops.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection that is to close goes on: one that was just opened gets its first request answered.
pub(super) const CLOSE_GRACE: Duration = Duration::from_millis(50);

/// Pause after a failed accept (as a rule: out of file descriptors), so as not to spin.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest time for one request, body and commit included: what takes longer has been given up by its client.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests that one pair may make in a second in the long run, unless the configuration says otherwise. Two appliances that
/// wait for something hanging on the witness make 8; a loop gone wild costs the server no more than a thousandth of its time.
pub const PAIR_REQUESTS_PER_SECOND: u32 = 20;

/// Seconds whose requests a pair may make at once after a rest.
pub(super) const PAIR_REST_SECONDS: u32 = 10;

/// Records that one server holds at most, and pairs registered at most; with the largest records about 17 GB. Keeps a client
/// gone wild from filling the disk.
pub(super) const MAX_RECORDS: u64 = 1_000_000;

/// Writes that may wait for their commit: those of a region. More than that is refused at once: they would miss their
/// deadlines anyway.
pub(super) const WRITE_QUEUE: usize = 16 * 1024;

/// Kibibytes of contents that are received or wait for their commit, all together: a full queue of usual records, or 2,000 of
/// the largest.
pub(super) const CONTENTS_KIB: usize = 32 * 1024;

/// Writes in one commit: bounds the time the last one waits for the first.
pub(super) const MAX_BATCH: usize = 4096;

/// Page cache in bytes. The index pages of 100,000 records fit in; the rest is the operating system's cache.
pub(super) const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Connections to the admin socket at a time.
pub(super) const MAX_ADMINS: usize = 16;

/// A backup is handed over in pieces of so many bytes, of which so many may wait: a slow reader holds no more memory.
pub(super) const BACKUP_CHUNK_BYTES: usize = 64 * 1024;
/// See [`BACKUP_CHUNK_BYTES`].
pub(super) const BACKUP_CHUNKS: usize = 4;
