//! demo
use crate::cli::DemoArgs; use crate::error::{Exit,Failure};
/// x
pub async fn run(_: &DemoArgs) -> Result<Exit, Failure> { Ok(Exit::Done) }
