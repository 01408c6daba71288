"""aiohttp, driven as the behaviours want it: in a loop of its own, in a thread of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import ExitStack

import aiohttp
import anyio
import yarl
from anyio.from_thread import BlockingPortal, start_blocking_portal

from stillfresh.clients.aiohttp import CachedResponse, CacheMiddleware
from tests.clients.behaviours import Answer, Driver, Head, Stream
from tests.clients.limits import OF_AIOHTTP


def head_of(response: aiohttp.ClientResponse) -> Head:
    assert isinstance(response, CachedResponse)
    reason = (response.reason or "").encode("utf-8", "surrogateescape")
    return Head(
        response.status,
        reason.decode("latin-1"),
        tuple((name.decode("latin-1"), v.decode("latin-1")) for name, v in response.raw_headers),
        response.cache,
    )


class AiohttpStream(Stream):
    def __init__(self, portal: BlockingPortal, response: aiohttp.ClientResponse) -> None:
        self._portal = portal
        self._response = response
        self.head = head_of(response)

    def read(self) -> bytes:
        return self._portal.call(self._response.content.read, 1 << 16)

    def close(self) -> None:
        self._portal.call(self._close)

    async def _close(self) -> None:
        self._response.release()
        await self._response.wait_for_close()


class AiohttpDriver(Driver):
    broken = aiohttp.ClientError
    lost = aiohttp.ClientError
    cannot = OF_AIOHTTP

    def __init__(self, make: Callable[[], CacheMiddleware]) -> None:
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(start_blocking_portal("asyncio"))
        self._is_open = True

        async def begin() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                middlewares=[self.middleware],
                timeout=aiohttp.ClientTimeout(10),
                max_field_size=100_000,
                cookie_jar=aiohttp.DummyCookieJar(),
            )

        self.middleware = make()
        self.session = self._portal.call(begin)

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        content = body if body is None or isinstance(body, bytes) else _async(body)
        if "Authorization" in (headers or {}):
            # aiohttp takes credentials from one place only.
            url = str(yarl.URL(url).with_user(None))

        async def ask() -> Answer:
            async with self.session.request(
                method, url, headers=headers, data=content, allow_redirects=False
            ) as response:
                got = await response.read()
                head = head_of(response)
                return Answer(head.status, head.reason, head.lines, head.info, got)

        return self._portal.call(ask)

    def stream(self, url: str, headers: Mapping[str, str] | None = None) -> Stream:
        async def ask() -> aiohttp.ClientResponse:
            return await self.session.get(url, headers=headers, allow_redirects=False)

        return AiohttpStream(self._portal, self._portal.call(ask))

    def settle(self, timeout: float) -> bool:
        async def settle() -> bool:
            with anyio.move_on_after(timeout) as scope:
                await self.middleware.settle()
            return not scope.cancelled_caught

        # Closing has dropped what was under way.
        return not self._is_open or self._portal.call(settle)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._portal.call(self.middleware.close)
            self._portal.call(self.session.close)
            self._stack.close()


async def _async(body: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in body:
        yield piece
