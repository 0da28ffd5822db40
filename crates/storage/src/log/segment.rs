//! x
/// Newest format this version reads and the one it writes.
pub(crate) const FORMAT: u16 = 1;
