//! Compiles the protocol definitions with protox, so that nobody needs protoc.

use std::{env, error::Error, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["chat.proto", "roomcast/v1/room.proto", "roomcast/internal/v1/envelope.proto"];
    let descriptors = protox::compile(files, ["proto"])?;

    // Reflection describes the services that are served; the internal envelope is nobody's business.
    let mut public = descriptors.clone();
    public.file.retain(|file| file.package() != "roomcast.internal.v1");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    std::fs::write(out.join("public.bin"), public.encode_to_vec())?;

    tonic_prost_build::configure()
        // Its constructor is called `connect`, as a method of the `v1` protocol is.
        .build_transport(false)
        .bytes(".roomcast.internal.v1.Event.session")
        .bytes(".roomcast.internal.v1.Member.secret_hash")
        .compile_fds(descriptors)?;
    Ok(())
}
