"""An origin on loopback, in a process of its own, that does as little as a server can.

/page/...           4 KiB, fresh for a day
/stale/...          4 KiB, to be revalidated each time; 304 to a request with If-None-Match
/body/SEED/SIZE     random bytes made of SEED
/stream/SIZE        blocks made on the fly, see `blocks`
/wait/SIZE/NAME     as /stream, but all after the first block waits for a GET of /go/NAME
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import socket
import threading
from email.utils import formatdate
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = random.Random(4096).randbytes(4096)
BLOCK: Final = 1 << 20

_PATTERN: Final = random.Random(BLOCK).randbytes(BLOCK - 8)
# How long a response waits for its signal before the connection is cut.
_PATIENCE: Final = 20.0
# A response of an ordinary site: 15 fields, with Content-Length and what differs by route.
_USUAL: Final = (
    "Server: nginx\r\n"
    "Content-Type: text/html; charset=utf-8\r\n"
    "Connection: keep-alive\r\n"
    "Last-Modified: Mon, 02 Jun 2025 08:30:00 GMT\r\n"
    "Vary: Accept-Encoding\r\n"
    "Accept-Ranges: bytes\r\n"
    "Via: 1.1 edge\r\n"
    "X-Cache: MISS\r\n"
    "X-Request-Id: 4f1a2b90\r\n"
    "X-Frame-Options: DENY\r\n"
    "Strict-Transport-Security: max-age=300\r\n"
)


class Origin:
    """The origin, started by entering the block and stopped by leaving it."""

    def __init__(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # Not forked: the child should not bring along the memory of what is measured.
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(listener,), daemon=True)
        self._process.start()
        listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.join()


def body_of(seed: int, size: int) -> bytes:
    """Return what `/body/SEED/SIZE` answers."""
    return random.Random(seed).randbytes(size)


def blocks(size: int) -> Iterator[bytes]:
    """Yield what `/stream/SIZE` answers: each block numbered, so none can stand for another."""
    for at in range(0, size, BLOCK):
        yield (at.to_bytes(8, "little") + _PATTERN)[: size - at]


def _serve(listener: socket.socket) -> None:
    threading.Thread(target=_accept, args=(listener,), daemon=True).start()
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])


def _accept(listener: socket.socket) -> None:
    signals: dict[str, threading.Event] = {}
    # Made once: a Date that is a few minutes old is as good to any cache.
    fixed = {
        "page": _head("200 OK", len(PAGE), "max-age=86400", '"5f2b-1a"') + PAGE,
        "stale": _head("200 OK", len(PAGE), "max-age=0", '"5f2b-1a"') + PAGE,
        "304": _head("304 Not Modified", None, "max-age=0", '"5f2b-1a"'),
    }
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        talk = threading.Thread(target=_talk, args=(connection, fixed, signals), daemon=True)
        talk.start()


def _talk(
    connection: socket.socket, fixed: dict[str, bytes], signals: dict[str, threading.Event]
) -> None:
    with connection, contextlib.suppress(OSError):
        while True:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                received = connection.recv(1 << 16)
                if not received:
                    return
                request += received
            route, *rest = request.split(b" ", 2)[1].decode().strip("/").split("/")
            if route == "stale" and b"\r\nif-none-match:" in request.lower():
                route = "304"
            answer = fixed.get(route)
            if answer is not None:
                connection.sendall(answer)
            elif route == "go":
                signals.setdefault(rest[0], threading.Event()).set()
                connection.sendall(_head("200 OK", 0, "no-store", None))
            elif route == "body":
                body = body_of(int(rest[0]), int(rest[1]))
                tag = f'"{rest[0]}-{rest[1]}"'
                connection.sendall(_head("200 OK", len(body), "max-age=86400", tag) + body)
            else:
                signal = None
                if route == "wait":
                    signal = signals.setdefault(rest[1], threading.Event())
                _stream(connection, int(rest[0]), signal)


def _stream(connection: socket.socket, size: int, signal: threading.Event | None) -> None:
    connection.sendall(_head("200 OK", size, "max-age=86400", f'"{size}"'))
    for number, block in enumerate(blocks(size)):
        if number == 1 and signal is not None and not signal.wait(_PATIENCE):
            raise TimeoutError
        connection.sendall(block)


def _head(status: str, length: int | None, cache_control: str, etag: str | None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nDate: {formatdate(usegmt=True)}\r\n{_USUAL}"
    head += f"Cache-Control: {cache_control}\r\n"
    if length is not None:
        head += f"Content-Length: {length}\r\n"
    if etag is not None:
        head += f"ETag: {etag}\r\n"
    return (head + "\r\n").encode("ascii")
