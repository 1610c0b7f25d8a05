//! Compiles what replicas tell each other with protox, so that nobody needs protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/roomcast/internal");
    let descriptors = protox::compile(["roomcast/internal/v1/envelope.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".roomcast.internal.v1.Event.session")
        .bytes(".roomcast.internal.v1.Member.secret_hash")
        .compile_fds(descriptors)?;
    Ok(())
}
