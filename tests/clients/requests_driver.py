"""requests, driven as the behaviours want it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import requests

from stillfresh.clients.requests import CacheAdapter, CachedResponse, CachedSession
from tests.clients.behaviours import Answer, Driver, Head, Stream
from tests.clients.limits import OF_HTTP_CLIENT


class RequestsStream(Stream):
    def __init__(self, response: CachedResponse) -> None:
        self._response = response
        self._chunks: Iterator[bytes] = response.iter_content(1 << 16)
        self.head = Head(
            response.status_code,
            response.reason,
            tuple(response.raw.headers.items()),
            response.cache,
        )

    def read(self) -> bytes:
        return next(self._chunks, b"")

    def close(self) -> None:
        self._response.close()


class RequestsDriver(Driver):
    broken = requests.exceptions.RequestException
    lost = requests.exceptions.RequestException
    cannot = OF_HTTP_CLIENT

    def __init__(self, session: CachedSession) -> None:
        # Neither the environment's proxies nor its .netrc.
        session.trust_env = False
        self.session = session

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        response = self._send(method, url, headers, body, stream=False)
        head = RequestsStream(response).head
        return Answer(head.status, head.reason, head.lines, head.info, response.content)

    def stream(self, url: str, headers: Mapping[str, str] | None = None) -> Stream:
        return RequestsStream(self._send("GET", url, headers, None, stream=True))

    def settle(self, timeout: float) -> bool:
        adapter = self.session.get_adapter("http://")
        assert isinstance(adapter, CacheAdapter)
        return adapter.settle(timeout)

    def close(self) -> None:
        self.session.close()

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: bytes | Iterable[bytes] | None,
        *,
        stream: bool,
    ) -> CachedResponse:
        # requests streams what has no length; a list has one.
        content = body if body is None or isinstance(body, bytes) else iter(body)
        response = self.session.request(
            method,
            url,
            headers=headers,
            data=content,
            stream=stream,
            allow_redirects=False,
            timeout=10,
        )
        assert isinstance(response, CachedResponse)
        return response
