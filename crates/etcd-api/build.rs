//! Compiles `proto/*.proto` into Rust with protox, a compiler written in Rust: no `protoc` has to be installed.

use std::error::Error;
use std::path::Path;

use prost::Message;

/// Every file with a package of its own; imports are found by file name in `proto/`.
const FILES: [&str; 6] =
    ["auth.proto", "health.proto", "kv.proto", "rpc.proto", "v3election.proto", "v3lock.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    let descriptors = protox::compile(FILES, ["proto"])?;
    // For the JSON form of the messages: see src/schema.rs.
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Keys and values become `Bytes`, slices of the received frame: no copy between socket and log.
        .bytes(".")
        .codec_path("crate::codec::EtcdCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
