"""HTTP/2, by httpx and httpx2: many requests at once over one connection, each with its own end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import httpx
import httpx2
import hypercorn.asyncio
import hypercorn.config
import pytest

import stillfresh.clients.httpx
import stillfresh.clients.httpx2
from stillfresh import MemoryCache

PIECES = [bytes([65 + number]) * 50_000 for number in range(6)]
BODY = b"".join(PIECES)
Send = Callable[[dict[str, Any]], Awaitable[None]]
LIBRARIES = [(httpx, stillfresh.clients.httpx), (httpx2, stillfresh.clients.httpx2)]


class Server:
    """An origin that speaks HTTP/2, in a thread.

    Attributes:
        received: version and path of each request.
    """

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        # It listens before the server has begun: who is early waits for that.
        listening = socket.create_server(("127.0.0.1", 0))
        self._port = listening.getsockname()[1]
        self.received: list[tuple[str, str]] = []
        self._config = hypercorn.config.Config()
        self._config.bind = [f"fd://{listening.detach()}"]
        self._config.certfile, self._config.keyfile = map(str, certificate)
        self._config.alpn_protocols = ["h2"]
        self._config.errorlog = None
        self._config.graceful_timeout = self._config.shutdown_timeout = 0.1
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def url(self, path: str) -> str:
        return f"https://localhost:{self._port}{path}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(
            hypercorn.asyncio.serve(self._answer, self._config, shutdown_trigger=self._stop.wait)
        )
        self._loop.close()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        path = scope["path"]
        self.received.append((scope["http_version"], path))
        given = dict(scope["headers"])
        status = 304 if given.get(b"if-none-match") == b'"1"' else 200
        lifetime = b"max-age=0" if path == "/stale" else b"max-age=60"
        fields = [(b"ETag", b'"1"'), (b"Cache-Control", lifetime), (b"X-Path", path.encode())]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        for piece in PIECES if status == 200 else []:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def server(certificate: tuple[Path, Path]) -> Iterator[Server]:
    with Server(certificate) as running:
        yield running


@pytest.fixture
def trust(tls: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(tls))


@pytest.fixture(params=LIBRARIES, ids=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> tuple[ModuleType, ModuleType]:
    found: tuple[ModuleType, ModuleType] = request.param
    return found


@pytest.fixture
def client(
    library: tuple[ModuleType, ModuleType], trust: ssl.SSLContext, server: Server
) -> Iterator[Any]:
    del server  # which is to be there for longer
    theirs, ours = library
    transport = theirs.HTTPTransport(verify=trust, http1=False, http2=True)
    with theirs.Client(transport=ours.CacheTransport(transport, MemoryCache())) as made:
        yield made


def said(response: Any) -> str:
    status: str = response.headers["Cache-Status"]
    return status.partition(";")[2].partition(";")[0].strip()


def test_what_came_by_http2_is_stored_and_served(client: Any, server: Server) -> None:
    answers = [client.get(server.url("/page")) for _ in range(2)]
    assert [said(answer) for answer in answers] == ["fwd=uri-miss", "hit"]
    assert [answer.content for answer in answers] == [BODY, BODY]
    assert {answer.http_version for answer in answers} == {"HTTP/2"}
    assert server.received == [("2", "/page")]


def test_it_is_validated(client: Any, server: Server) -> None:
    answers = [client.get(server.url("/stale")) for _ in range(2)]
    assert [said(answer) for answer in answers] == ["fwd=uri-miss", "fwd=stale"]
    assert "fwd-status=304" in answers[1].headers["Cache-Status"]
    assert (answers[1].status_code, answers[1].content) == (200, BODY)
    assert answers[1].http_version == "HTTP/2"


def test_it_is_streamed_and_may_be_left(client: Any, server: Server) -> None:
    with client.stream("GET", server.url("/page")) as answer:
        begun = next(answer.iter_raw())
        assert BODY.startswith(begun)
    # What has come is kept, and the rest asked for; this origin sends all of it.
    again = client.get(server.url("/page"))
    assert said(again) == "fwd=partial"
    assert again.content == BODY
    with client.stream("GET", server.url("/page")) as answer:
        assert (said(answer), b"".join(answer.iter_bytes())) == ("hit", BODY)


def test_of_many_at_once_one_asks(
    library: tuple[ModuleType, ModuleType], server: Server, trust: ssl.SSLContext
) -> None:
    theirs, ours = library

    async def main() -> None:
        transport = theirs.AsyncHTTPTransport(verify=trust, http1=False, http2=True)
        cached = ours.AsyncCacheTransport(transport, MemoryCache())
        async with theirs.AsyncClient(transport=cached) as client:
            paths = ["/one", "/two", "/three"] * 20
            answers = await asyncio.gather(*(client.get(server.url(path)) for path in paths))
        assert [answer.headers["X-Path"] for answer in answers] == paths
        assert {answer.content for answer in answers} == {BODY}
        assert sum("collapsed" in answer.headers["Cache-Status"] for answer in answers) == 57

    asyncio.run(main())
    assert sorted(server.received) == [("2", "/one"), ("2", "/three"), ("2", "/two")]
