//! The protocol definitions keep to buf's rules.

use crate::deploy::{path, run, tool};

/// Names, layout and comments; the `chat` protocol is frozen and older than the rules.
#[test]
fn buf_has_nothing_against_them() {
    let mut buf = tool("BUF_BIN", "buf");
    run(buf.arg("lint").current_dir(path(".")));
}
