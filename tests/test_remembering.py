"""What is remembered of messages takes no more memory for there being many, or long ones."""

from __future__ import annotations

import gc
import logging
import tracemalloc
from collections.abc import Callable
from itertools import count, islice, product
from pathlib import Path
from string import ascii_lowercase
from typing import TypeAlias

import httpx
import pytest

from stillfresh import (
    FileCache,
    MemoryCache,
    Outcome,
    Policy,
    Rule,
    SeparateBodyFileCache,
)
from stillfresh.caches.redisnames import Names
from stillfresh.clients.httpx import CacheTransport
from stillfresh.clients.requests import CachedSession
from stillfresh.engine import records
from stillfresh.errors import CacheUnavailable
from stillfresh.events import LoggingHook, StoreFailed
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Response, StoredResponse
from stillfresh.testing import ManualClock
from tests.engine.world import URL, Told, World, told

# The fields of a request, and those of what answers it, with a value that no others have.
Message: TypeAlias = Callable[[str], tuple[dict[str, str], dict[str, str]]]

KIB = 1024
MIB = 1024 * KIB
# As long as a field may be for most clients. Whoever keeps all of these keeps 7.5 MiB.
LONG = 60 * KIB
MANY = 128
# What may be in use at any time, generously.
MOST = 4 * MIB
# No test has what another one has had, and what may be remembered from then.
NUMBERS = count()
FRESH = {"Cache-Control": "max-age=60"}
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def asking(name: str, value: str = "{}", **said: str) -> Message:
    """Return requests with a field, for responses with others."""
    answered = FRESH | {name.replace("_", "-").title(): text for name, text in said.items()}
    return lambda text: ({name: value.format(text)}, answered)


def saying(name: str, value: str = "{}") -> Message:
    """Return responses with a field."""
    return lambda text: ({}, FRESH | {name: value.format(text)})


def long(number: int) -> str:
    """Return one long token."""
    return f"{number:x}{'x' * LONG}"[:LONG]


def names(number: int, size: int) -> str:
    """Return a list of as many short names as go into so many characters."""
    pairs = [a + b for a, b in product(ascii_lowercase, repeat=2)]
    number, first = divmod(number, len(pairs))
    return ",".join([f"x{number}", *pairs[first:], *pairs[:first]])[:size]


def most_kept(each: Callable[[int], None], times: int = MANY) -> int:
    """Return how many bytes were in use at most while something was done so many times."""
    # What is made once, by whoever comes first, doesn't count.
    each(next(NUMBERS))
    tracemalloc.start()
    try:
        for number in islice(NUMBERS, times):
            each(number)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def exchanged(world: World, message: tuple[dict[str, str], dict[str, str]], url: str = URL) -> None:
    """Have a response stored, and handed out again if it may be."""
    asked, said = message
    world.replies = [Told(200, tuple(said.items()))]
    world.get(asked, url)
    world.get(asked, url)
    world.forget()


RESPONSES: dict[str, Message] = {
    "Cache-Control": saying("Cache-Control", "max-age=60, {}"),
    "the fields of no-cache": saying("Cache-Control", 'max-age=60, no-cache="{}"'),
    "the fields of private": saying("Cache-Control", 'max-age=60, private="{}"'),
    "a targeted field": saying("CDN-Cache-Control", "max-age=60, {}"),
    "Vary": saying("Vary", "Accept, {}"),
    "No-Vary-Search": saying("No-Vary-Search", 'params=("{}")'),
    "Cache-Groups": saying("Cache-Groups", '"{}"'),
    "ETag": saying("ETag", '"{}"'),
    "Date": saying("Date", DATE + "{}"),
    "Age": saying("Age", "0, {}"),
    "Expires": lambda text: ({}, {"Expires": DATE + text}),
    "Last-Modified": lambda text: ({}, {"Last-Modified": DATE + text}),
    "Content-Type": saying("Content-Type", "text/{}"),
    "Content-Length": saying("Content-Length", "5, {}"),
    "Cache-Status": saying("Cache-Status", "edge; detail={}"),
}
REQUESTS: dict[str, Message] = {
    "Cache-Control": asking("Cache-Control", "max-age=9, {}"),
    "Pragma": asking("Pragma"),
    "Accept": asking("Accept", vary="Accept"),
    "Accept-Language": asking("Accept-Language", vary="Accept-Language"),
    "a field that selects": asking("X-Kind", vary="X-Kind"),
    "a field that doesn't": asking("X-Kind"),
    "Authorization": asking("Authorization"),
    "Cookie": asking("Cookie", vary="Cookie"),
    "If-None-Match": asking("If-None-Match", '"{}"', etag='"1"'),
    "If-Modified-Since": asking("If-Modified-Since", last_modified=DATE),
    "Range": asking("Range", "bytes=0-1, {}"),
}
TARGETED = Policy(targets=("CDN-Cache-Control",))
RULED = Policy(rules=(Rule(content_types={"text/*"}, fresh_for=60), Rule(ignore={"no-store"})))


@pytest.mark.parametrize("policy", [TARGETED, RULED], ids=["by targets", "by rules"])
@pytest.mark.parametrize("message", RESPONSES)
def test_of_long_fields_of_responses_nothing_is_kept(message: str, policy: Policy) -> None:
    world = World(policy=policy)
    assert most_kept(lambda number: exchanged(world, RESPONSES[message](long(number)))) < MOST


@pytest.mark.parametrize("message", REQUESTS)
def test_nor_of_long_fields_of_requests(message: str) -> None:
    world = World()
    assert most_kept(lambda number: exchanged(world, REQUESTS[message](long(number)))) < MOST


@pytest.mark.parametrize("path", ["{}", "?{}", "?a#{}"])
def test_nor_of_long_urls(path: str) -> None:
    world = World()

    def each(number: int) -> None:
        exchanged(world, ({}, FRESH), URL + path.format(long(number)))

    assert most_kept(each) < MOST


def test_nor_of_requests_that_get_what_is_remembered() -> None:
    world = World(told())

    def each(number: int) -> None:
        url = f"{URL}{number}"
        world.get(url=url)
        assert world.get({"X-Kind": long(number)}, url)[1].outcome is Outcome.HIT
        world.forget()

    assert most_kept(each) < MOST


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Location", "/{}"),
        ("Content-Location", "/{}"),
        ("Cache-Group-Invalidation", '"{}"'),
    ],
)
def test_nor_of_what_is_invalidated(name: str, value: str) -> None:
    world = World()

    def each(number: int) -> None:
        text = long(number)[: LONG // 4]
        world.replies = [Told(200, ((name, value.format(text)),))]
        world.consume(world.ask("POST", f"{URL}{text}"))
        world.forget()

    # `urllib.parse` remembers the last 128 that it has split, however long; no more of them.
    assert most_kept(each, 1024) < 2 * MOST


# A list of short names takes many times the memory of its text, once it is read.
LISTS: dict[str, Message] = {
    "Vary": saying("Vary"),
    "the fields of private": saying("Cache-Control", 'private="{}"'),
    "the fields of no-cache": saying("Cache-Control", 'no-cache="{}"'),
    "a targeted field": saying("CDN-Cache-Control", 'max-age=9, private="{}"'),
}


@pytest.mark.parametrize("kind", LISTS)
def test_of_lists_of_short_names_little_is_kept(kind: str) -> None:
    world = World(policy=TARGETED)
    # Nor is there a record that it is known of.
    world.forgetful = True
    assert most_kept(lambda number: exchanged(world, LISTS[kind](names(number, 990))), 384) < (
        2 * MOST
    )


def list_of_names(number: int) -> list[tuple[str, str]]:
    return [("Cache-Control", f'private="{names(number, 1800)}"')]


def lines_of_names(number: int) -> list[tuple[str, str]]:
    return [(name, name) for name in names(number, 700).split(",")]


@pytest.mark.parametrize("lines", [list_of_names, lines_of_names])
def test_nor_of_records_of_many_short_words(lines: Callable[[int], list[tuple[str, str]]]) -> None:
    world = World()

    def each(number: int) -> None:
        world.replies = [Told(200, (*FRESH.items(), *lines(number)))]
        world.get()
        world.get()
        world.forget()

    assert most_kept(each, 255) < 2 * MOST


# Clients.


def test_a_long_host_is_not_kept() -> None:
    cache = MemoryCache()
    inner = httpx.MockTransport(lambda _: httpx.Response(200, headers=FRESH))

    with httpx.Client(transport=CacheTransport(inner, cache), trust_env=False) as client:

        def each(number: int) -> None:
            client.get(URL, headers={"Host": long(number)})
            cache.clear()
            # What httpx leaves is in circles.
            if number % 4 == 0:
                gc.collect()

        assert most_kept(each) < MOST


def test_nor_is_a_long_content_type() -> None:
    cache, clock = MemoryCache(), ManualClock()

    with CachedSession(cache, clock=clock) as session:

        def each(number: int) -> None:
            kind = f"text/html; charset={long(number)}"
            head = Response(200, Fields([*FRESH.items(), ("Content-Type", kind)]), "OK")
            with cache.writer(URL) as writer:
                writer.write(b"")
                writer.commit(records.encode(StoredResponse(URL, head, clock(), clock())))
            assert session.get(URL).encoding == long(number)

        assert most_kept(each) < MOST


# Caches.


def test_files_keep_no_long_keys(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)

    def each(number: int) -> None:
        assert cache.open(long(number)) is None

    assert most_kept(each) < MOST // 2


def test_nor_does_the_classic_interface(tmp_path: Path) -> None:
    cache = SeparateBodyFileCache(tmp_path)

    def each(number: int) -> None:
        key = long(number)
        cache.set(key, b"value")
        cache.set_body(key, b"body")
        assert cache.get(key) == b"value"
        # Which is also what is in hand.
        assert cache.get("nothing") is None

    assert most_kept(each) < MOST


def test_nor_do_their_names_in_redis() -> None:
    names = Names("prefix:")

    def each(number: int) -> None:
        key = long(number)
        assert names.place(key).key == key

    assert most_kept(each) < MOST


def test_nor_does_the_log() -> None:
    log = logging.getLogger("nobody's")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    hook = LoggingHook(log)

    def each(number: int) -> None:
        error = CacheUnavailable("down")
        error.__cause__ = ValueError(long(number))
        hook(StoreFailed(URL, "open", error))

    assert most_kept(each) < MOST
