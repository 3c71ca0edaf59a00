"""Python's `websockets` as a server: what a connection gets depends on its path, a function below. Prints its URL."""

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

DEADLINE = 60


def echo(socket):
    for message in socket:
        socket.send(message)


def extensions(socket):
    socket.send(",".join(extension.name for extension in socket.protocol.extensions))
    echo(socket)


def pings(socket):
    for payload in [b"", b"payload", bytes(range(125))]:
        assert socket.ping(payload).wait(DEADLINE)
    socket.send("three pongs")


def closes(socket):
    socket.send("last words")
    socket.close(4001, "bye")


def report(socket):
    try:
        socket.recv(DEADLINE)
    except ConnectionClosed as closed:
        print("closed", closed.rcvd.code, closed.rcvd.reason, flush=True)


HANDLERS = {"/" + handler.__name__: handler for handler in [echo, extensions, pings, closes, report]}


def handle(socket):
    HANDLERS[socket.request.path](socket)


def refuse(connection, request):
    """Says no where there is no handler."""
    if request.path not in HANDLERS:
        return connection.respond(404, "nobody here\n")
    return None


def choose(connection, offered):
    """The server's preference, or none: a list in place of this function would refuse those who offer none."""
    return next((name for name in ["b", "a"] if name in offered), None)


with serve(handle, "127.0.0.1", 0, select_subprotocol=choose, process_request=refuse) as server:
    host, port = server.socket.getsockname()
    print(f"ws://{host}:{port}", flush=True)
    server.serve_forever()
