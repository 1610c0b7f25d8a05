"""Counts how calls end that are refused by their metadata alone, while the client is still sending."""
import asyncio, collections, concurrent.futures, json, sys
import grpc, grpc.aio

CALLS, AT_ONCE = 1000, 20
METHOD = "/chat.ChatService/ChatStream"
METADATA = (("chat-room", "not a room"),)
MESSAGES = [b"\n\x03bob"]

async def ask(channel, turn):
    async def messages():
        for message in MESSAGES:
            yield message
            await asyncio.sleep(0)
    async with turn:
        try:
            async for _ in channel.stream_stream(METHOD)(messages(), metadata=METADATA):
                pass
            return "OK"
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"

async def asynchronous(address):
    turn = asyncio.Semaphore(AT_ONCE)
    async with grpc.aio.insecure_channel(address) as channel:
        return await asyncio.gather(*(ask(channel, turn) for _ in range(CALLS)))

def synchronous(address):
    def call(channel):
        try:
            return list(channel.stream_stream(METHOD)(iter(MESSAGES), metadata=METADATA)) and "OK"
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    with grpc.insecure_channel(address) as channel:
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as threads:
            return list(threads.map(lambda _: call(channel), range(CALLS)))

endings = asyncio.run(asynchronous(sys.argv[1])) if sys.argv[2] == "aio" else synchronous(sys.argv[1])
print(json.dumps(collections.Counter(endings)))
