//! x
use super::LogError;

/// Makes the next segment's file ahead of its use, on whatever thread calls it.
#[derive(Clone, Debug)]
pub struct Preparer {}

impl Preparer {
    /// Makes sure that a zero-filled file lies ready for the next segment. `true`: it had to be made.
    ///
    /// # Errors
    /// [`LogError::DiskFull`] and others are an early warning here: the log itself is not affected.
    pub fn prepare_next(&self) -> Result<bool, LogError> {
        unimplemented!()
    }
}
