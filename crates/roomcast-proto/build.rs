//! Compiles the public protocols with protox, so that nobody needs protoc.

use std::{env, error::Error, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let files = [
        "chat.proto",
        "roomcast/v1/room.proto",
        "roomcast/v1/moderation.proto",
        "roomcast/v1/admin.proto",
    ];
    let descriptors = protox::compile(files, ["../../proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    std::fs::write(out.join("public.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        // Its constructor is called `connect`, as a method of the `v1` protocol is.
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
