"""websockets on asyncio, as in its documentation: an echo server, and broadcast(). Nothing is tuned but the limit;
compression is off."""

import asyncio

from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed

MAX_MESSAGE_SIZE = 16 << 20

subscribers = set()


async def handler(websocket):
    try:
        if websocket.request.path == "/broadcast":
            await publish(websocket)
        else:
            await echo(websocket)
    except ConnectionClosed:
        pass


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def publish(websocket):
    subscribers.add(websocket)
    try:
        async for message in websocket:
            broadcast(subscribers, message)
    finally:
        subscribers.remove(websocket)


async def main():
    async with serve(
        handler, "127.0.0.1", 0, compression=None, max_size=MAX_MESSAGE_SIZE, backlog=4096
    ) as server:
        host, port = server.sockets[0].getsockname()
        print(f"listening on {host}:{port}", flush=True)
        await server.serve_forever()


asyncio.run(main())
