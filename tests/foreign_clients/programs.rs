//! One test for each client.

use crate::program::{Program, run};

#[test]
fn python_etcd3() {
    run(&Program::Python("python-etcd3", "python_etcd3.py"));
}

#[test]
fn python_aetcd() {
    run(&Program::Python("python-aetcd", "python_aetcd.py"));
}

#[test]
fn node_etcd3() {
    run(&Program::Node("node_etcd3.cjs"));
}

#[test]
fn rust_etcd_client() {
    run(&Program::Built("rust/debug/rust-etcd-client"));
}
