"""urllib3, driven as the behaviours want it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from stillfresh.clients.urllib3 import CachedPoolManager
from tests.clients.behaviours import Answer, Driver, Head, Stream
from tests.clients.limits import OF_HTTP_CLIENT


def head_of(response: BaseHTTPResponse) -> Head:
    return Head(
        response.status,
        response.reason or "",
        tuple(response.headers.iteritems()),
        vars(response)["cache"],
    )


class Urllib3Stream(Stream):
    def __init__(self, response: BaseHTTPResponse) -> None:
        self._response = response
        self._chunks: Iterator[bytes] = response.stream(1 << 16)
        self.head = head_of(response)

    def read(self) -> bytes:
        return next(self._chunks, b"")

    def close(self) -> None:
        self._response.close()
        self._response.release_conn()


class Urllib3Driver(Driver):
    broken = HTTPError
    lost = HTTPError
    cannot = OF_HTTP_CLIENT

    def __init__(self, manager: CachedPoolManager) -> None:
        self.manager = manager

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        content = body if body is None or isinstance(body, bytes) else iter(body)
        response = self.manager.request(
            method, url, headers=headers, body=content, redirect=False, retries=False, timeout=10
        )
        head = head_of(response)
        return Answer(head.status, head.reason, head.lines, head.info, response.data)

    def stream(self, url: str, headers: Mapping[str, str] | None = None) -> Stream:
        return Urllib3Stream(
            self.manager.request(
                "GET",
                url,
                headers=headers,
                redirect=False,
                retries=False,
                timeout=10,
                preload_content=False,
            )
        )

    def settle(self, timeout: float) -> bool:
        return self.manager.settle(timeout)

    def close(self) -> None:
        self.manager.clear()
