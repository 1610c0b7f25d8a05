// The chat protocol by way of @grpc/grpc-js.
//
// Prints "drain" when the server at the first address is to drain, and "passed" at the end.
"use strict";
const assert = require("node:assert");
const grpc = require("@grpc/grpc-js");

const METHOD = "/chat.ChatService/ChatStream";
const REFUSALS = 1000;
const PATIENCE = 120_000;
const { INVALID_ARGUMENT, ALREADY_EXISTS, UNAVAILABLE, UNIMPLEMENTED, OK } = grpc.status;
const GZIP = { "grpc.default_compression_algorithm": 2 };
const DEFLATE = { "grpc.default_compression_algorithm": 1 };
const UNREADABLE = Buffer.from([0x0a, 0xff, 0xff]);

// A ChatMessage, by hand.
function message(username, content = "") {
  const field = (number, text) => {
    const data = Buffer.from(text);
    const head = [(number << 3) | 2];
    let size = data.length;
    for (; size > 127; size >>= 7) head.push((size & 127) | 128);
    return Buffer.concat([Buffer.from([...head, size]), data]);
  };
  return Buffer.concat([field(1, username), field(2, content)]);
}

// Who said what.
function parse(data) {
  const fields = {};
  for (let at = 0; at < data.length; ) {
    const number = data[at++] >> 3;
    let size = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = data[at++];
      size |= (byte & 127) << shift;
      if (byte < 128) break;
    }
    fields[number] = data.subarray(at, at + size).toString();
    at += size;
  }
  return `${fields[1] ?? ""}: ${fields[2] ?? ""}`;
}

const bytes = (data) => data;

class Stream {
  constructor(client, metadata = {}) {
    const given = new grpc.Metadata();
    for (const [key, value] of Object.entries(metadata)) given.set(key, value);
    const deadline = Date.now() + PATIENCE;
    this.call = client.makeBidiStreamRequest(METHOD, bytes, bytes, given, { deadline });
    this.heard = [];
    this.wake = () => {};
    this.ended = new Promise((resolve) => this.call.on("status", resolve));
    this.call.on("data", (data) => {
      this.heard.push(parse(data));
      this.wake();
    });
    // How it ended is told by its status.
    this.call.on("error", () => {});
    this.call.on("status", () => this.wake());
  }

  say(data) {
    this.call.write(data);
    return this;
  }

  async hear() {
    while (this.heard.length === 0) {
      const news = new Promise((resolve) => (this.wake = resolve));
      const ended = await Promise.race([news, this.ended]);
      assert(!ended || this.heard.length > 0, `ended: ${JSON.stringify(ended)}`);
    }
    return this.heard.shift();
  }

  async hears(text) {
    while ((await this.hear()) !== text);
  }
}

async function refused(client, code, text, data, metadata) {
  const stream = new Stream(client, metadata);
  for (const each of data) stream.say(each);
  stream.call.end();
  const status = await stream.ended;
  const shown = `${status.code} ${status.details} instead of ${code} ${text}`;
  assert(status.code === code && status.details.includes(text), shown);
}

async function refusals(client, connect) {
  const unread = "failed to receive registration: ";
  for (let count = 0; count < REFUSALS; count++) {
    await refused(client, INVALID_ARGUMENT, "", [message("eve")], { "chat-room": "no room" });
  }
  await refused(client, INVALID_ARGUMENT, "username cannot be empty", [message(" ")]);
  await refused(client, INVALID_ARGUMENT, "", [message("system")]);
  await refused(client, INVALID_ARGUMENT, "", [message("e\u202eve")]);
  await refused(client, INVALID_ARGUMENT, unread, []);
  await refused(client, INVALID_ARGUMENT, unread, [UNREADABLE]);
  await refused(client, ALREADY_EXISTS, 'username "BOB" is already taken', [message("BOB")]);
  const long = message("", "x".repeat(16_385));
  await refused(client, INVALID_ARGUMENT, "16385", [message("eve"), long]);
  await refused(client, INVALID_ARGUMENT, "", [message("eve"), UNREADABLE]);
  await refused(connect(DEFLATE), UNIMPLEMENTED, "", [message("e".repeat(60))]);
}

async function main(first, second) {
  const clients = [];
  const connect = (address) => (options) => {
    const client = new grpc.Client(address, grpc.credentials.createInsecure(), options ?? {});
    clients.push(client);
    return client;
  };
  const client = connect(first)();
  const other = connect(second)();
  const enter = (by, name) => new Stream(by).say(message(name));
  let alice = enter(client, "alice");
  const knockers = [];
  while (alice.heard.length === 0) {
    // Nobody is told that they are in but by others who come.
    knockers.push(enter(other, `knocker ${knockers.length}`));
    const pause = new Promise((resolve) => setTimeout(resolve, 500));
    await Promise.race([new Promise((resolve) => (alice.wake = resolve)), pause]);
  }
  for (const knocker of knockers) {
    knocker.call.end();
    await knocker.ended;
  }
  const bob = enter(connect(second)(GZIP), "bob");
  await alice.hears("System: bob joined");
  const hello = "hello ".repeat(100);
  bob.say(message("", hello));
  assert.strictEqual(await alice.hear(), `bob: ${hello}`);
  alice.say(message("", "hi"));
  assert.strictEqual(await bob.hear(), "alice: hi");

  await refusals(other, connect(second));
  const carol = enter(other, "carol");
  await alice.hears("System: carol joined");
  console.log("drain");
  const drained = await alice.ended;
  assert.deepStrictEqual(
    [drained.code, drained.details],
    [UNAVAILABLE, "server is shutting down"],
  );
  await carol.hears("System: alice left");
  alice = enter(other, "alice");
  await carol.hears("System: alice joined");
  for (const stream of [alice, bob, carol]) {
    stream.call.end();
    assert.strictEqual((await stream.ended).code, OK);
  }
  for (const each of clients) each.close();
  console.log("passed");
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
