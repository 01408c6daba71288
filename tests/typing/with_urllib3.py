"""What a program that uses urllib3 says to a type checker: never run, read by mypy."""

from typing import assert_type

import urllib3

from stillfresh import CacheInfo, Outcome
from stillfresh.clients.urllib3 import CachedPoolManager, CachedProxyManager, CachedResponse

URL = "https://example.org/"


def responses_say_what_the_cache_did() -> None:
    http = CachedPoolManager()
    r = http.request("GET", URL)
    assert_type(r, CachedResponse)
    assert_type(r.from_cache, bool)
    assert_type(r.cache, CacheInfo)
    assert_type(r.cache.outcome, Outcome)
    assert_type(r.headers["Cache-Status"], str)
    assert_type(r.data, bytes)


def all_methods_answer_so(http: CachedPoolManager, proxied: CachedProxyManager) -> None:
    assert_type(http.urlopen("GET", URL, redirect=False), CachedResponse)
    assert_type(http.request_encode_url("GET", URL, {"page": "1"}), CachedResponse)
    assert_type(http.request_encode_body("POST", URL, {"name": "value"}), CachedResponse)
    assert_type(proxied.request("GET", URL, preload_content=False), CachedResponse)
    assert_type(proxied.urlopen("GET", URL), CachedResponse)


def arguments_are_looked_at_as_those_of_urllib3(http: CachedPoolManager) -> None:
    http.request("GET")  # type: ignore[call-arg]
    http.request("GET", 5)  # type: ignore[arg-type]
    http.request("GET", URL, headers="Accept: text/html")  # type: ignore[arg-type]


def a_manager_is_closed_by_its_block() -> urllib3.PoolManager:
    def takes(response: urllib3.BaseHTTPResponse) -> bytes:
        return response.data

    with CachedPoolManager(50, cache="memory:") as http:
        takes(http.request("GET", URL))
    return http


def a_pool_answers_so_too(http: CachedPoolManager) -> None:
    pool = http.connection_from_url(URL)
    r = pool.request("GET", "/")
    if isinstance(r, CachedResponse):
        assert_type(r.from_cache, bool)
