//! The plain HTTP side of the client port: the JSON gateway, health for machines, status and orders for people.

pub mod admin;
pub(crate) mod gateway;
pub mod health;
pub(crate) mod metrics;
pub(crate) mod plain;
