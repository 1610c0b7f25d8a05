//! A connection on which HTTP/2 is written by hand.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedWriteHalf},
    task::JoinSet,
};

use super::target::Target;
use crate::harness::{
    PREFACE, frame,
    http2::{field, request, text},
};

pub(super) const CHAT: &str = "/chat.ChatService/ChatStream";
pub(super) const MEMBERS: &str = "/roomcast.v1.RoomService/ListMembers";

/// Types and flags of frames.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// An open connection. What the server says is read and thrown away.
pub(super) struct Raw {
    writer: OwnedWriteHalf,
    /// How many streams were opened.
    pub(super) streams: u32,
    _reader: JoinSet<()>,
}

impl Raw {
    /// Connects, and says as much as HTTP/2 needs.
    pub(super) async fn connect(target: Target) -> io::Result<Self> {
        let mut raw = Self::silent(target).await?;
        raw.write(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await?;
        Ok(raw)
    }

    /// Connects, and says nothing.
    pub(super) async fn silent(target: Target) -> io::Result<Self> {
        let (mut reader, writer) = TcpStream::connect(target.addr).await?.into_split();
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while reader.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        });
        Ok(Self { writer, streams: 0, _reader: reading })
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await
    }

    /// The number of a new stream.
    pub(super) fn stream(&mut self) -> u32 {
        self.streams += 1;
        self.streams * 2 - 1
    }

    /// A request whose headers are over, and whose body is not.
    pub(super) fn open(&mut self, path: &str, fields: &[(&str, &str)]) -> (u32, Vec<u8>) {
        let stream = self.stream();
        (stream, frame(HEADERS, END_HEADERS, stream, &request(path, fields)))
    }
}

/// A header block that makes one request of some bytes to a table of thousands.
pub(super) fn bomb() -> Vec<u8> {
    let mut block = request(CHAT, &[]);
    // Into the table, and out of it again and again.
    block.extend([0x40]);
    block.extend([text("x"), text(&"y".repeat(3_000))].concat());
    block.extend([0xbe; 12_000]);
    block
}

/// A header block of so many bytes, in a field of its own each thousand.
pub(super) fn huge(bytes: usize) -> Vec<u8> {
    let mut block = request(CHAT, &[]);
    for number in 0..bytes / 1_000 {
        block.extend(field(&format!("x-{number}"), &"z".repeat(990)));
    }
    block
}
