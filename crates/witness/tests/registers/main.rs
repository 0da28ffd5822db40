//! Every back end of the register: the promises that all of them keep, and the faults of each.

mod directory;
mod memory;
mod outcomes;
mod server;
mod stores;
