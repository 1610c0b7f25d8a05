"""The chat protocol by way of grpc.aio or grpcio, the first argument says which.

Prints "drain" when the server at the first address is to drain, and "passed" at the end.
"""
import asyncio, queue, sys

import grpc

METHOD = "/chat.ChatService/ChatStream"
REFUSALS = 1000
PATIENCE = 120


def message(username="", content=""):
    """A ChatMessage, by hand: both texts are short or long, as it comes."""
    def field(number, text):
        data, length = text.encode(), b""
        size = len(data)
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + data
    return field(1, username) + field(2, content)


def parse(data):
    """Username and content of a ChatMessage."""
    fields, at = {}, 0
    while at < len(data):
        number, at = data[at] >> 3, at + 1
        size = shift = 0
        while True:
            byte, at = data[at], at + 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        fields[number] = data[at:at + size].decode()
        at += size
    return fields.get(1, ""), fields.get(2, "")


class Aio:
    """A stream of grpc.aio."""

    def __init__(self, channel, metadata, compression):
        method = channel.stream_stream(METHOD)
        self.call = method(metadata=metadata, compression=compression, timeout=PATIENCE)

    @staticmethod
    def channel(address):
        return grpc.aio.insecure_channel(address)

    async def say(self, data):
        try:
            await self.call.write(data)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # It has ended, and status() tells how.

    async def done(self):
        try:
            await self.call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass

    async def hear(self):
        data = await self.call.read()
        assert data is not grpc.aio.EOF, await self.status()
        return parse(data)

    async def status(self):
        try:
            while await self.call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError:
            pass
        return await self.call.code(), await self.call.details()


class Sync:
    """A stream of grpcio, whose requests an iterator yields and whose answers a thread may await."""

    def __init__(self, channel, metadata, compression):
        self.requests = queue.Queue()
        method = channel.stream_stream(METHOD)
        requests = iter(self.requests.get, None)
        self.call = method(requests, metadata=metadata, compression=compression, timeout=PATIENCE)

    class Channel:
        def __init__(self, address):
            self.channel = grpc.insecure_channel(address)

        def stream_stream(self, method):
            return self.channel.stream_stream(method)

        async def close(self):
            self.channel.close()

    @staticmethod
    def channel(address):
        return Sync.Channel(address)

    async def say(self, data):
        self.requests.put(data)

    async def done(self):
        self.requests.put(None)

    async def hear(self):
        return parse(await asyncio.to_thread(next, self.call))

    async def status(self):
        def end():
            try:
                for _ in self.call:
                    pass
            except grpc.RpcError:
                pass
            return self.call.code(), self.call.details()
        return await asyncio.to_thread(end)


async def refused(kind, channel, code, text, *data, metadata=(), compression=None):
    """A stream that sends these must be refused like this."""
    stream = kind(channel, metadata, compression)
    for each in data:
        await stream.say(each)
    await stream.done()
    status = await stream.status()
    assert status[0] == code and text in status[1], f"{status} instead of {code} {text!r}"


async def until(stream, username, content):
    while await stream.hear() != (username, content):
        pass


async def enter(kind, channel, name, compression=None):
    stream = kind(channel, (), compression)
    await stream.say(message(name))
    return stream


async def refusals(kind, channel):
    code = grpc.StatusCode
    wrong = code.INVALID_ARGUMENT
    unread = "failed to receive registration: "
    for _ in range(REFUSALS):
        room = (("chat-room", "no room"),)
        await refused(kind, channel, wrong, "", message("eve"), metadata=room)
    await refused(kind, channel, wrong, "username cannot be empty", message(" "))
    await refused(kind, channel, wrong, "", message("system"))
    await refused(kind, channel, wrong, "", message("e\u202eve"))
    await refused(kind, channel, wrong, unread)
    await refused(kind, channel, wrong, unread, b"\x0a\xff\xff")
    await refused(kind, channel, code.ALREADY_EXISTS, 'username "BOB" is already taken', message("BOB"))
    long = message("", "x" * 16_385)
    await refused(kind, channel, wrong, "16385", message("eve"), long)
    await refused(kind, channel, wrong, "", message("eve"), b"\x0a\xff\xff")
    deflate = grpc.Compression.Deflate
    await refused(kind, channel, code.UNIMPLEMENTED, "", message("e" * 60), compression=deflate)


async def main(kind, first, second):
    channel, other = kind.channel(first), kind.channel(second)
    alice = await enter(kind, channel, "alice")
    first_news, knockers = asyncio.create_task(alice.hear()), []
    while not first_news.done():  # Nobody is told that they are in but by others who come.
        knockers.append(await enter(kind, other, f"knocker {len(knockers)}"))
        await asyncio.wait({first_news}, timeout=0.5)
    for knocker in knockers:
        await knocker.done()
        await knocker.status()
    bob = await enter(kind, other, "bob", grpc.Compression.Gzip)
    await until(alice, "System", "bob joined")
    await bob.say(message("", "hello " * 100))
    assert await alice.hear() == ("bob", "hello " * 100)
    await alice.say(message("", "hi"))
    assert await bob.hear() == ("alice", "hi")

    await refusals(kind, other)
    carol = await enter(kind, other, "carol")
    # Those who were refused for what they said later came and left.
    await until(alice, "System", "carol joined")
    print("drain", flush=True)
    assert await alice.status() == (grpc.StatusCode.UNAVAILABLE, "server is shutting down")
    await until(carol, "System", "alice left")
    alice = await enter(kind, other, "alice")
    assert await carol.hear() == ("System", "alice joined")
    for stream in (alice, bob, carol):
        await stream.done()
        code, details = await stream.status()
        assert code == grpc.StatusCode.OK, (code, details)
    await channel.close()
    await other.close()
    print("passed", flush=True)


asyncio.run(main({"aio": Aio, "sync": Sync}[sys.argv[1]], *sys.argv[2:]))
