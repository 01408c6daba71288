"""httpx and httpx2, blocking and async, driven as the behaviours want it.

Both libraries have the same names, so one driver is written for both, and made for each.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.clients.behaviours import Answer, Driver, Head, Stream
from tests.clients.limits import OF_HTTPX


def head_of(response: Any) -> Head:
    return Head(
        response.status_code,
        response.reason_phrase,
        tuple((name.decode("latin-1"), v.decode("latin-1")) for name, v in response.headers.raw),
        response.extensions["cache"],
    )


def answer_of(response: Any) -> Answer:
    head = head_of(response)
    return Answer(head.status, head.reason, head.lines, head.info, response.content)


class HttpxStream(Stream):
    def __init__(self, response: Any) -> None:
        self._response = response
        self._chunks: Iterator[bytes] = response.iter_bytes()
        self.head = head_of(response)

    def read(self) -> bytes:
        return next(self._chunks, b"")

    def close(self) -> None:
        self._response.close()


class HttpxDriver(Driver):
    cannot = OF_HTTPX

    def __init__(self, library: ModuleType, client: Any) -> None:
        self.broken = self.lost = library.TransportError
        self.client = client
        client.timeout = 10

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        content = body if body is None or isinstance(body, bytes) else iter(body)
        return answer_of(self.client.request(method, url, headers=headers, content=content))

    def stream(self, url: str, headers: Mapping[str, str] | None = None) -> Stream:
        request = self.client.build_request("GET", url, headers=headers)
        return HttpxStream(self.client.send(request, stream=True))

    def settle(self, timeout: float) -> bool:
        done: bool = self.client.settle(timeout)
        return done

    def close(self) -> None:
        self.client.close()


class AsyncHttpxStream(Stream):
    def __init__(self, portal: BlockingPortal, response: Any) -> None:
        self._portal = portal
        self._response = response
        self._chunks: AsyncGenerator[bytes, None] = response.aiter_bytes()
        self.head = head_of(response)

    def read(self) -> bytes:
        return self._portal.call(self._next)

    async def _next(self) -> bytes:
        return await anext(self._chunks, b"")

    def close(self) -> None:
        self._portal.call(self._close)

    async def _close(self) -> None:
        await self._chunks.aclose()
        await self._response.aclose()


class AsyncHttpxDriver(Driver):
    """An async client in a loop of its own, in a thread of its own."""

    cannot = OF_HTTPX

    def __init__(self, library: ModuleType, client: Any, loop: str) -> None:
        self.broken = self.lost = library.TransportError
        self.client = client
        client.timeout = 10
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(start_blocking_portal(loop))
        self._is_open = True

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        content = body if body is None or isinstance(body, bytes) else _async(body)

        async def ask() -> Answer:
            return answer_of(
                await self.client.request(method, url, headers=headers, content=content)
            )

        return self._portal.call(ask)

    def stream(self, url: str, headers: Mapping[str, str] | None = None) -> Stream:
        async def ask() -> Any:
            request = self.client.build_request("GET", url, headers=headers)
            return await self.client.send(request, stream=True)

        return AsyncHttpxStream(self._portal, self._portal.call(ask))

    def settle(self, timeout: float) -> bool:
        async def settle() -> bool:
            with anyio.move_on_after(timeout) as scope:
                await self.client.settle()
            return not scope.cancelled_caught

        # Closing has dropped what was under way.
        return not self._is_open or self._portal.call(settle)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._portal.call(self.client.aclose)
            self._stack.close()


async def _async(body: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in body:
        yield piece
