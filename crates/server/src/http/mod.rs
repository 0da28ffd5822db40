//! The plain HTTP side of the client port: health for machines, status and orders for people.

pub mod admin;
pub mod health;
