"""What a program that uses requests says to a type checker: never run, read by mypy."""

from typing import assert_type

import requests

from stillfresh import CacheInfo, MemoryCache, Outcome, Policy
from stillfresh.clients.requests import CacheAdapter, CachedResponse, CachedSession

URL = "https://example.org/"


def responses_say_what_the_cache_did() -> None:
    session = CachedSession()
    r = session.get(URL)
    assert_type(r, CachedResponse)
    assert_type(r.from_cache, bool)
    assert_type(r.cache, CacheInfo)
    assert_type(r.cache.outcome, Outcome)
    assert_type(r.headers["Cache-Status"], str)


def all_methods_answer_so(session: CachedSession) -> None:
    assert_type(session.request("GET", URL), CachedResponse)
    assert_type(session.get(URL, {"page": 1}, timeout=5), CachedResponse)
    assert_type(session.options(URL), CachedResponse)
    assert_type(session.head(URL, allow_redirects=True), CachedResponse)
    assert_type(session.post(URL, b"data", json=None), CachedResponse)
    assert_type(session.put(URL, data={"name": "value"}), CachedResponse)
    assert_type(session.patch(URL, b"data"), CachedResponse)
    assert_type(session.delete(URL, headers={"Accept": "text/html"}), CachedResponse)
    prepared = session.prepare_request(requests.Request("GET", URL))
    assert_type(session.send(prepared, stream=True), CachedResponse)


def arguments_are_looked_at_as_those_of_requests(session: CachedSession) -> None:
    session.get()  # type: ignore[call-arg]
    session.get(URL, tiemout=5)  # type: ignore[call-arg]
    session.get(URL, timeout="soon")  # type: ignore[arg-type]
    session.post(URL, auth=5)  # type: ignore[arg-type]
    session.request("GET", URL, stream="yes")  # type: ignore[arg-type]
    session.send(URL)  # type: ignore[arg-type]


def a_session_is_closed_by_its_block() -> str:
    with CachedSession("memory:", policy=Policy(shared=True), pool_maxsize=50) as session:
        with session.get(URL, stream=True) as r:
            assert_type(r, CachedResponse)
        return r.cache.why.sentence


def it_is_one_of_requests(session: CachedSession) -> requests.Session:
    def takes(response: requests.Response) -> None:
        response.raise_for_status()

    takes(session.get(URL))
    return session


def an_adapter_on_a_session_of_ones_own() -> None:
    session = requests.Session()
    adapter = CacheAdapter(MemoryCache(), policy=Policy(heuristic_fraction=0))
    session.mount("https://", adapter)
    assert_type(adapter.send(requests.Request("GET", URL).prepare()), CachedResponse)
    r = session.get(URL)
    if isinstance(r, CachedResponse):
        assert_type(r.from_cache, bool)
