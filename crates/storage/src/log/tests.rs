//! The log against a model, on a disk that fails, tears and forgets.

mod crashes;
mod damage;
mod model;
mod plain;
