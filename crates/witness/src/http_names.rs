//! The names that the witness's client and server agree on, besides HTTP's own.

/// Header that marks every answer as a Duet witness's; its value is the version of this interface. Without it
/// a 404 or 412 comes from a stranger (a proxy, another server on that port) and means nothing.
pub(crate) const MARK: &str = "duet-witness";
/// The value of [`MARK`] that this program speaks.
pub(crate) const MARK_VERSION: &str = "1";
/// Header with a nonce that the client draws for each request and the server repeats: an answer out of a
/// cache, or to another request on a confused connection, is noticed.
pub(crate) const REQUEST: &str = "duet-witness-request";
/// Longest nonce that the server repeats, in bytes. The client's have 32.
pub(crate) const MAX_REQUEST_BYTES: usize = 64;
/// Path of the record of a cluster, whose name follows.
pub(crate) const RECORDS_PATH: &str = "/v1/records/";
/// Path of the server's state, for machines.
pub(crate) const STATUS_PATH: &str = "/status";
