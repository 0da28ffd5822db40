//! The pair protocol under test: `explore` walks every state of a small world, `simulate` runs a big one from seeds.

pub mod explore;
pub mod simulate;
