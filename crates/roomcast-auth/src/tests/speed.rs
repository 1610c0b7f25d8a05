//! How long a verification takes.

use std::time::Instant;

use super::validation;
use crate::{
    Keys, Verifier,
    testing::{EDDSA, ES256, HS256, RS256, SECRET, claims, now},
};

/// Prints it: `cargo test --release -p roomcast-auth speed -- --ignored --nocapture`.
#[test]
#[ignore = "measures instead of testing; for release builds"]
fn speed_of_each_algorithm() {
    const ROUNDS: u32 = 20_000;

    for key in [&*HS256, &*ES256, &*EDDSA, &*RS256] {
        let keys = match key.public_pem.as_str() {
            "" => Keys::from_secret(SECRET).unwrap(),
            pem => Keys::from_pem(pem.as_bytes()).unwrap(),
        };
        let verifier = Verifier::new(keys, validation());
        let token = key.token("k", claims());
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            assert!(verifier.verify(&token, now()).is_ok());
        }
        let micros = begin.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
        println!("{}: {micros:.1} µs", key.algorithm);
    }
}
