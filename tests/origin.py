"""An origin server on the loopback interface that answers as a test says, and remembers requests.

    def test_something(origin: Origin) -> None:
        origin.on("/page", Reply(headers={"Cache-Control": "max-age=60"}, body=b"hello"))
        client.get(origin.url("/page"))
        assert [request.method for request in origin.received] == ["GET"]

What goes over the wire is what the `Reply` says and what delimits its body, nothing else: no Date,
no Server. Nothing here sleeps; a handler or a body that has to wait does so on a `gate()`, which
opens when the origin closes, so that no thread is left behind.
"""

from __future__ import annotations

import itertools
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self, TypeAlias, cast
from urllib.parse import urlsplit

Headers: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]


class Framing(Enum):
    """How a client learns where a body ends (RFC 9112 §6.3)."""

    LENGTH = "Content-Length"
    CHUNKED = "Transfer-Encoding: chunked"
    CLOSE = "the end of the connection"


class Cut(Enum):
    """How a connection ends before its time."""

    CLOSE = "FIN"
    RESET = "RST"


@dataclass(frozen=True, slots=True)
class Received:
    """A request, as it came.

    Attributes:
        target: the path with its query, as in the request line.
        headers: names and values in their order, names spelt as they were sent.
        body: the content, without its framing.
        connection: a number for the connection it came on; the first has 1.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    def header(self, name: str) -> str | None:
        """Return all values of a field, joined by commas; None if it wasn't sent."""
        values = [value for known, value in self.headers if known.lower() == name.lower()]
        return ", ".join(values) if values else None


@dataclass(frozen=True, slots=True)
class Reply:
    """A response.

    Attributes:
        status: any number; 1xx, 204 and 304 and answers to HEAD go without their bodies.
        headers: a mapping, or pairs where a name comes twice. A Content-Length given here is sent
            as it is, right or wrong; after a wrong one the connection is closed.
        body: bytes, or an iterable whose every item is sent as soon as it is there. A generator
            serves one request; where there are more, answer with a function.
        framing: None is a Content-Length for bytes, or if `headers` has one, and else chunked.
        cut_after: so many bytes of the body are sent, and then the connection ends. None is never.
        cut_by: how it ends. A reset may overtake what was sent just before.
        reason: the phrase after the status; None is the usual one.
    """

    status: int = 200
    headers: Headers = ()
    body: bytes | Iterable[bytes] = b""
    framing: Framing | None = None
    cut_after: int | None = None
    cut_by: Cut = Cut.CLOSE
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes to send instead of a response, HTTP or not, before the connection is closed."""

    data: bytes = b""


Handler: TypeAlias = Callable[[Received], "Reply | Raw"]
Answer: TypeAlias = Reply | Raw | Handler


class Document:
    """What a file server has under one path: it answers conditions and ranges as it should.

        document = Document(b"hello", etag='"1"')
        origin.on("/page", document)

    Attributes:
        body: of the present version.
        etag: of the present version; None is none.
        headers: what every answer carries besides.
        framing: how bodies are sent.
        cuts: after how many bytes of body the connections of the next answers end; None is never.
        sent: the status of each answer, and how many bytes of the body it was to bring.
    """

    def __init__(
        self,
        body: bytes,
        *,
        etag: str | None = '"1"',
        headers: Mapping[str, str] | None = None,
        framing: Framing = Framing.LENGTH,
        cuts: Iterable[int | None] = (),
    ) -> None:
        self.body = body
        self.etag = etag
        self.headers = {"Cache-Control": "max-age=60"} | dict(headers or {})
        self.framing = framing
        self.cuts = list(cuts)
        self.sent: list[tuple[int, int]] = []

    def __call__(self, request: Received) -> Reply:
        """Answer a request."""
        headers = self.headers | ({} if self.etag is None else {"ETag": self.etag})
        if self.etag is not None and self.etag in (request.header("If-None-Match") or ""):
            return self._reply(304, headers, b"")
        asked = re.fullmatch("bytes=([0-9]*)-([0-9]*)", request.header("Range") or "")
        if asked is None or request.header("If-Range") not in {None, self.etag}:
            return self._reply(200, headers, self.body)
        size = len(self.body)
        first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
        last = min(size - 1, int(asked[2]) if asked[1] and asked[2] else size)
        if first > last:
            return self._reply(416, headers | {"Content-Range": f"bytes */{size}"}, b"")
        headers |= {"Content-Range": f"bytes {first}-{last}/{size}"}
        return self._reply(206, headers, self.body[first : last + 1])

    def _reply(self, status: int, headers: Headers, body: bytes) -> Reply:
        self.sent.append((status, len(body)))
        content: bytes | list[bytes] = body
        if self.framing is Framing.CHUNKED:
            content = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
        cut = self.cuts.pop(0) if self.cuts else None
        return Reply(status, headers, content, self.framing, cut_after=cut)


class Origin:
    """A threaded HTTP/1.1 server. Leaving its block, or `close`, ends all connections and threads.

    Attributes:
        received: every request so far, in the order of arrival.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen on a free port, with TLS if there is a context for it."""
        self.received: list[Received] = []
        self._answers: dict[str, Iterator[Answer]] = {}
        self._gates: list[threading.Event] = []
        self._failures: list[BaseException] = []
        self._lock = threading.Lock()
        self._server = _Server(self, tls)
        self._thread = threading.Thread(target=self._server.serve, name="origin")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def url(self, path: str = "/") -> str:
        """Return the URL of a path, which may have a query."""
        return f"{self._server.scheme}://127.0.0.1:{self.port}{path}"

    def on(self, path: str, *answers: Answer) -> str:
        """Answer requests for `path`, whatever their method and query, and return its URL.

        Each answer is for one request, in turn; the last is for all that follow. A function is
        given the request and returns the reply. What isn't here is answered with 404.
        """
        if not answers:
            raise ValueError("there has to be an answer")
        with self._lock:
            self._answers[path] = itertools.chain(answers[:-1], itertools.repeat(answers[-1]))
        return self.url(path)

    def received_for(self, path: str) -> list[Received]:
        """Return the requests for one path so far."""
        return [request for request in self.received if request.path == path]

    def gate(self) -> threading.Event:
        """Return an event for handlers and bodies to wait on; it is set when the origin closes."""
        gate = threading.Event()
        with self._lock:
            self._gates.append(gate)
        return gate

    def close(self) -> None:
        """Stop, and wait for all threads.

        Raises:
            Exception: what a handler or a body raised first, which its client couldn't tell.
        """
        for gate in self._gates:
            gate.set()
        self._server.stop()
        self._thread.join()
        self._server.server_close()
        if self._failures:
            raise self._failures.pop(0)

    def _reply_to(self, request: Received) -> Reply | Raw:
        with self._lock:
            self.received.append(request)
            answers = self._answers.get(request.path)
            answer = Reply(404, body=b"not here\n") if answers is None else next(answers)
        return answer(request) if callable(answer) else answer

    def _failed(self, error: BaseException) -> None:
        self._failures.append(error)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 128

    def __init__(self, origin: Origin, tls: ssl.SSLContext | None) -> None:
        self.origin = origin
        self.scheme = "http" if tls is None else "https"
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._closing = False
        self._numbers = itertools.count(1)
        super().__init__(("127.0.0.1", 0), _Connection)

    def server_bind(self) -> None:
        # HTTPServer's would look its own name up in the DNS.
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def serve(self) -> None:
        """Accept connections until `stop`."""
        while not self._closing:
            with suppress(OSError):
                request, address = self.get_request()
                self.process_request(request, address)

    def stop(self) -> None:
        """Have `serve` return: by a connection, since polling would make every test wait."""
        with self._guard:
            self._closing = True
        with suppress(OSError):
            socket.create_connection(self.socket.getsockname()).close()

    def next_number(self) -> int:
        return next(self._numbers)

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the connection's own thread: a slow handshake is nobody else's.
        connection: socket.socket = request
        if self._tls is not None:
            connection = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        with self._guard:
            if self._closing:
                connection.close()
                return
            self._open.add(connection)
        try:
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            super().finish_request(connection, client_address)
        finally:
            with self._guard:
                self._open.discard(connection)
            connection.close()

    def server_close(self) -> None:
        with self._guard:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent: connections that end early are what tests are about."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.number = self.server.next_number()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Print nothing."""

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if not self.parse_request():
            return
        try:
            request = Received(
                self.command,
                self.path,
                tuple(self.headers.items()),
                self._read_body(),
                self.number,
            )
            answer = self.server.origin._reply_to(request)  # noqa: SLF001 - its own server
            if isinstance(answer, Raw):
                self.close_connection = True
                self.wfile.write(answer.data)
            else:
                self._send(answer)
        except (ConnectionError, ssl.SSLError, _CutError):
            self.close_connection = True
        except BaseException as error:  # noqa: BLE001 - raised again where the test sees it
            self.close_connection = True
            self.server.origin._failed(error)  # noqa: SLF001

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def _send(self, reply: Reply) -> None:
        headers = _pairs(reply.headers)
        names = {name.lower() for name, _ in headers}
        framing = _framing(reply, names)
        bodiless = reply.status in {204, 304} or reply.status < 200
        if framing is Framing.CHUNKED and not bodiless and "transfer-encoding" not in names:
            headers.append(("Transfer-Encoding", "chunked"))
        elif framing is Framing.CLOSE and "connection" not in names:
            headers.append(("Connection", "close"))
        elif framing is Framing.LENGTH and "content-length" not in names and not bodiless:
            headers.append(("Content-Length", str(len(cast("bytes", reply.body)))))
        head = _head(reply, headers)
        if bodiless or self.command == "HEAD":
            self.wfile.write(head)
        else:
            self._send_with_body(head, reply, framing, dict(headers))
        options = " ".join(value for name, value in headers if name.lower() == "connection")
        if framing is Framing.CLOSE or "close" in options.lower():
            self.close_connection = True

    def _send_with_body(
        self, head: bytes, reply: Reply, framing: Framing, headers: dict[str, str]
    ) -> None:
        pieces = [reply.body] if isinstance(reply.body, bytes) else reply.body
        sent = 0
        ahead = head
        if not isinstance(reply.body, bytes):
            # Before the first piece, which may have to be waited for.
            self.wfile.write(head)
            ahead = b""
        for whole in pieces:
            piece = whole
            if reply.cut_after is not None:
                piece = whole[: reply.cut_after - sent]
            framed = piece
            if framing is Framing.CHUNKED:
                # The size is that of the whole piece: a cut falls into the middle of a chunk.
                framed = f"{len(whole):x}\r\n".encode() + piece if whole else b""
                framed += b"\r\n" if whole and len(piece) == len(whole) else b""
            self.wfile.write(ahead + framed)
            ahead = b""
            sent += len(piece)
            if reply.cut_after is not None and sent >= reply.cut_after:
                self._cut(reply.cut_by)
        self.wfile.write(ahead + (b"0\r\n\r\n" if framing is Framing.CHUNKED else b""))
        declared = {name.lower(): value for name, value in headers.items()}.get("content-length")
        if framing is Framing.LENGTH and declared != str(sent):
            self.close_connection = True

    def _cut(self, how: Cut) -> None:
        if how is Cut.RESET:
            linger: Final = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            # Now, since the server says goodbye with a FIN before it closes.
            self.connection.close()
        raise _CutError


class _CutError(Exception):
    """The connection ends here."""


def _pairs(headers: Headers) -> list[tuple[str, str]]:
    return list(headers.items() if isinstance(headers, Mapping) else headers)


def _framing(reply: Reply, names: set[str]) -> Framing:
    if reply.framing is not None:
        return reply.framing
    if isinstance(reply.body, bytes) or "content-length" in names:
        return Framing.LENGTH
    return Framing.CHUNKED


def _head(reply: Reply, headers: list[tuple[str, str]]) -> bytes:
    reason = reply.reason
    if reason is None:
        known = reply.status in HTTPStatus._value2member_map_
        reason = HTTPStatus(reply.status).phrase if known else ""
    lines = [f"HTTP/1.1 {reply.status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")
