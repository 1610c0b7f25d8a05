//! HTTP/2 written by hand, for what no library sends.

/// What a client's first bytes are.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame of this type with this body.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a small frame").to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), body].concat()
}

/// A header field as HPACK has it without compression and without its table.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0], &text(name)[..], &text(value)].concat()
}

/// A text as HPACK has it: its length, then its bytes.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![];
    match u8::try_from(text.len()) {
        Ok(short @ 0..=126) => bytes.push(short),
        _ => {
            bytes.push(127);
            let mut rest = text.len() - 127;
            while rest > 127 {
                bytes.push(0x80 | u8::try_from(rest & 0x7f).expect("seven bits"));
                rest >>= 7;
            }
            bytes.push(u8::try_from(rest).expect("seven bits"));
        }
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// The header block of a gRPC request, with these fields behind the usual ones.
pub(crate) fn request(path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "roomcast"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    usual.iter().chain(fields).flat_map(|(name, value)| field(name, value)).collect()
}
