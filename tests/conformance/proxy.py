"""A reverse proxy in front of one origin whose cache is one of our clients.

It is there so that a suite which speaks HTTP can test a library, so it adds and takes away nothing
that HTTP doesn't ask a proxy to; `clients.py` sees to it that the libraries don't either. Host is
the exception, as the origin is asked for under its own URL.

Fields about a connection end here, as do those that Connection lists. In a response from the cache
that has been seen to already, or it is a fault of the cache's which the suite is to see; only what
frames the body is ours even there.

What breaks off at the origin breaks off here. What can't be had from it is a 502: also an interim
response, where http.client takes it for the final one.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from stillfresh import MemoryCache, Policy
from tests.conformance.clients import CLIENTS, Client, Lines, Relayed, UnreachableError

# RFC 9110 §7.6.1, beside what Connection lists.
_OF_A_CONNECTION: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"}
)
_FRAMING: Final = frozenset({"connection", "transfer-encoding"})
_HOST: Final = frozenset({"host"})
_LENGTH: Final = frozenset({"content-length"})

# Seconds to wait for the next request.
_IDLE: Final = 60.0


# To the letter, but for what the suite wants beyond it: the field that CDN-Cache-Control came from,
# and an answer chosen by its language.
POLICIES: Final = {
    True: Policy(
        shared=True, targets=("Surrogate-Control", "CDN-Cache-Control"), match_language=True
    ),
    False: Policy(match_language=True),
}


class ReverseProxy:
    """Serves what is under `origin`, a URL without a path, through a new cache in memory."""

    def __init__(self, origin: str, client: str = "requests", *, shared: bool) -> None:
        self._cache = MemoryCache()
        self._client = CLIENTS[client](self._cache, POLICIES[shared])
        self._server = _Server(origin, self._client)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="reverse proxy"
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop, and wait for all threads."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._client.close()
        self._cache.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 512

    def __init__(self, origin: str, client: Client) -> None:
        self.origin = origin
        self.client = client
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._closing = False
        super().__init__(("127.0.0.1", 0), _Connection)

    def server_bind(self) -> None:
        # HTTPServer's would look its own name up in the DNS.
        socketserver.TCPServer.server_bind(self)

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            if self._closing:
                return
            self._open.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            with self._guard:
                self._open.discard(request)

    def server_close(self) -> None:
        with self._guard:
            self._closing = True
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        super().server_close()


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _IDLE
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Print nothing."""

    def handle_one_request(self) -> None:
        try:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline:
                self.close_connection = True
            elif self.parse_request():
                # The base only knows `close` where it stands alone.
                self.close_connection |= "close" in _options(self.headers.items())
                self._forward()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _forward(self) -> None:
        if not self.path.startswith("/"):
            self.send_error(HTTPStatus.BAD_REQUEST, "a path is needed")
            return
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            return
        length = _length(self.headers.items())
        body = None if length is None else self.rfile.read(length)
        # What stands around a value is no part of it, and h11 refuses to send it.
        given = [(name, value.strip()) for name, value in self.headers.items()]
        lines = _end_to_end(given, _HOST)
        url = self.server.origin + self.path
        try:
            response = self.server.client.send(self.command, url, lines, body)
        except UnreachableError as error:
            self._bad_gateway(str(error))
            return
        try:
            if response.status < 200:
                self._bad_gateway(f"an interim response, {response.status}")
            else:
                self._relay(response)
        finally:
            response.close()

    def _relay(self, response: Relayed) -> None:
        lines = response.lines
        lines = _without(lines, _FRAMING) if response.from_cache else _end_to_end(lines)
        bodiless = self.command == "HEAD" or response.status in {204, 304}
        length = _length(lines)
        if length is None or response.status == 204:
            lines = _without(lines, _LENGTH)
        chunked = not bodiless and length is None and self.request_version == "HTTP/1.1"
        if chunked:
            lines.append(("Transfer-Encoding", "chunked"))
        elif not bodiless and length is None:
            lines.append(("Connection", "close"))
        self._send_head(response.status, response.reason, lines)
        # Also where there is no body: its end is what the cache waits for.
        self._send_body(response.body, chunked=chunked, length=0 if bodiless else length)

    def _send_head(self, status: int, reason: str, lines: Lines) -> None:
        self.send_response_only(status, reason)
        for name, value in lines:
            self.send_header(name, value)
        self.end_headers()

    def _send_body(self, body: Iterable[bytes], *, chunked: bool, length: int | None) -> None:
        sent = 0
        try:
            for piece in body:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                sent += len(piece)
        except (UnreachableError, OSError):
            # The client has to see that it broke off.
            self.close_connection = True
            return
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        elif sent != length:
            self.close_connection = True

    def _bad_gateway(self, message: str) -> None:
        text = f"{message}\n".encode()
        lines = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
        self._send_head(HTTPStatus.BAD_GATEWAY, "Bad Gateway", lines)
        if self.command != "HEAD":
            self.wfile.write(text)


def _options(lines: Iterable[tuple[str, str]]) -> set[str]:
    """Return what Connection lists."""
    return {
        option.strip().lower()
        for name, value in lines
        if name.lower() == "connection"
        for option in value.split(",")
    }


def _end_to_end(lines: Lines, others: frozenset[str] = frozenset()) -> Lines:
    """Leave out the fields that are about the connection, and `others`."""
    return _without(lines, _OF_A_CONNECTION | _options(lines) | others)


def _without(lines: Lines, names: frozenset[str]) -> Lines:
    return [(name, value) for name, value in lines if name.lower() not in names]


def _length(lines: Lines) -> int | None:
    """Return what Content-Length says, if it is there once and is a number."""
    values = [value.strip() for name, value in lines if name.lower() == "content-length"]
    if len(values) == 1 and values[0].isascii() and values[0].isdigit():
        return int(values[0])
    return None
