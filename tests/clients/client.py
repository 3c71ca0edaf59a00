"""What Python's `websockets` sees of a server: `client.py CASE URL` runs one of the cases, a function below."""

import sys

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as plain_connect

DEADLINE = 60


def connect(url, **options):
    """Connects directly; whatever is offered, no extension is in use."""
    socket = plain_connect(url, proxy=None, open_timeout=DEADLINE, close_timeout=DEADLINE, **options)
    assert socket.protocol.extensions == [], socket.protocol.extensions
    return socket


def assert_echo(socket, message, expected=None):
    socket.send(message)
    assert socket.recv(DEADLINE) == (message if expected is None else expected)


def assert_closed(socket, code, reason=None):
    """The server closes with this code, and this reason if one is given."""
    try:
        message = socket.recv(DEADLINE)
    except ConnectionClosed as closed:
        assert closed.rcvd is not None, "the connection was lost"
        assert closed.rcvd.code == code, closed.rcvd
        assert reason is None or closed.rcvd.reason == reason, closed.rcvd
    else:
        raise AssertionError(f"received {message!r}")


def assert_refused(url, status, header=None, **options):
    """The server answers with this status, and this header if one is given."""
    try:
        connect(url, **options)
    except InvalidStatus as refused:
        response = refused.response
        assert response.status_code == status, response
        assert response.body.count(b"\n") <= 1 and response.body.strip(), response.body
        assert header is None or header in response.headers, response.headers
    else:
        raise AssertionError("connected")


def messages_of_every_size(url):
    with connect(url + "/echo") as socket:
        for text in ["", "hello", "Grüße, 🌍", "\0", "é" * 450_000]:
            assert_echo(socket, text)
        for size in [0, 1, 125, 126, 127, 65_535, 65_536, 900_000]:
            assert_echo(socket, bytes(at % 251 for at in range(size)))
            assert_echo(socket, "x" * size)


def fragments(url):
    def with_pings(parts):
        for part in parts:
            yield part
            pongs.append(socket.ping())

    with connect(url + "/echo") as socket:
        pongs = []
        assert_echo(socket, ["one ", "Grüße ", "", "🌍"], "one Grüße 🌍")
        assert_echo(socket, [b"\0" * 70_000, b"\1" * 3], b"\0" * 70_000 + b"\1" * 3)
        assert_echo(socket, with_pings(["a", "b", "c"]), "abc")
        assert len(pongs) == 3 and all(pong.wait(DEADLINE) for pong in pongs)


def pings(url):
    with connect(url + "/echo") as socket:
        for payload in [b"", b"payload", bytes(range(125))]:
            assert socket.ping(payload).wait(DEADLINE), payload
        assert_echo(socket, "and it still echoes")


def pipelined(url):
    with connect(url + "/echo") as socket:
        messages = [f"message {number}" for number in range(1000)]
        for message in messages:
            socket.send(message)
        for message in messages:
            assert socket.recv(DEADLINE) == message


def subprotocols(url):
    for offered, chosen in [(["b", "a"], "a"), (["c", "b"], "b"), (["c"], None), (None, None)]:
        with connect(url + "/echo", subprotocols=offered) as socket:
            assert socket.subprotocol == chosen, (offered, socket.subprotocol)
            assert_echo(socket, "hello")


def offered_compression(url):
    with connect(url + "/offer") as socket:
        assert "permessage-deflate" in socket.recv(DEADLINE)


def refusals(url):
    own = url.replace("ws://", "http://")
    with connect(url + "/echo", origin=own) as socket:
        assert_echo(socket, "hello")
    assert_refused(url + "/echo", 403, origin="https://evil.example")
    assert_refused(url + "/echo", 403, origin="null")
    # beside the library's own: twice is as wrong as another
    version = {"Sec-WebSocket-Version": "8"}
    assert_refused(url + "/echo", 426, "Sec-WebSocket-Version", additional_headers=version)


def no_slot(url):
    with connect(url + "/echo") as socket:
        assert_refused(url + "/echo", 503, "Retry-After")
        assert_echo(socket, "the first one is well")


def the_client_closes(url):
    with connect(url + "/report") as socket:
        socket.close(4002, "see you")
        assert_closed(socket, 4002, "see you")


def the_server_closes(url):
    for path, code, reason in [("/says-bye", 4001, "bye"), ("/returns", 1000, ""), ("/fails", 1011, None)]:
        with connect(url + path) as socket:
            assert_closed(socket, code, reason)
    with connect(url + "/echo") as socket:
        assert_echo(socket, "x" * 1000)
        socket.send("x" * 1001)
        assert_closed(socket, 1009)


def drain(url):
    with connect(url + "/echo") as socket:
        print("connected", flush=True)
        assert_closed(socket, 1001)
    assert_refused(url + "/echo", 503, "Retry-After")


def the_client_answers_pings(url):
    with connect(url + "/ping", ping_interval=None) as socket:
        for _ in range(3):
            assert socket.recv(DEADLINE).endswith("µs")
        assert_closed(socket, 1000, "")


def keepalive(url):
    with connect(url + "/silence", ping_interval=None) as socket:
        assert_closed(socket, 4000, "three pongs")


if __name__ == "__main__":
    _, case, server = sys.argv
    globals()[case](server)
