"""Says numbered messages in a room and prints what it is told, whichever replica is lost.

Leaves when all are acknowledged and somebody has said the marker. The stubs are made before, by
python -m grpc_tools.protoc -I proto/roomcast/v1 --python_out=. --grpc_python_out=. room.proto
"""
import asyncio, grpc, itertools, random, sys
from google.protobuf.json_format import MessageToJson
from room_pb2 import ConnectRequest, Join, Leave, Ping, Say
from room_pb2_grpc import RoomServiceStub

FINAL = ("INVALID_ARGUMENT", "ALREADY_EXISTS", "NOT_FOUND", "PERMISSION_DENIED", "ABORTED")

async def frames(queue, interval):  # With a ping when there is nothing else to send for so long.
    while True:
        try:
            yield await asyncio.wait_for(queue.get(), interval)
        except asyncio.TimeoutError:
            yield ConnectRequest(ping=Ping())

async def main(address, room, name, count, marker):
    token, position, interval, marked = b"", None, 5, False
    unacked = {n: Say(client_seq=n, content=f"message {n}") for n in range(1, count + 1)}
    for attempt in itertools.count(1):
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                queue = asyncio.Queue()
                stream = RoomServiceStub(channel).Connect(frames(queue, interval))
                join = Join(room=room, username=name, session_token=token, after=position)
                join.attempt = attempt
                queue.put_nowait(ConnectRequest(join=join))
                # A server that is silent for longer than the interval is gone.
                while got := await asyncio.wait_for(stream.read(), 1.5 * interval):
                    if got.HasField("welcome"):
                        token, position = got.welcome.session_token, position or got.welcome.head
                        interval = got.welcome.ping_interval.ToTimedelta().total_seconds()
                        for say in unacked.values():
                            queue.put_nowait(ConnectRequest(say=say))
                        continue
                    print(MessageToJson(got, indent=None))
                    if got.HasField("event"):
                        position = got.event.position
                        marked = marked or got.event.said.content == marker
                    elif got.HasField("ack"):
                        del unacked[got.ack.client_seq]
                    elif got.HasField("nack"):  # And so is all behind it: begin again from there.
                        await asyncio.sleep(got.nack.retry_after.ToTimedelta().total_seconds())
                        break
                    if marked and not unacked:
                        queue.put_nowait(ConnectRequest(leave=Leave()))
                else:
                    return  # The stream ended well, as it does after a leave.
        except grpc.RpcError as error:
            if error.code().name in FINAL:
                raise
        except asyncio.TimeoutError:
            pass
        await asyncio.sleep(random.random())  # So that not all come back at once.

asyncio.run(main(*sys.argv[1:4], int(sys.argv[4]), sys.argv[5]))
