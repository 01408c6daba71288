"""Driving a coroutine whose ports never suspend."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from stillfresh import CacheUnavailable, Entry, EntryWriter, MemoryCache
from stillfresh.caches.base import InMemory
from stillfresh.engine.ports import LocalCachePorts, run


async def sum_of(first: int, second: int) -> int:
    return first + second


def test_it_returns_what_the_coroutine_does() -> None:
    async def outer() -> int:
        return await sum_of(await sum_of(1, 2), 3)

    assert run(outer()) == 6


def test_it_raises_what_the_coroutine_does() -> None:
    async def fail() -> None:
        raise LookupError("inside")

    with pytest.raises(LookupError, match="inside"):
        run(fail())


def test_a_port_that_suspends_is_an_error_and_is_cleaned_up() -> None:
    cleaned = []

    async def suspend() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            cleaned.append(True)

    with pytest.raises(RuntimeError, match="suspended"):
        run(suspend())
    assert cleaned == [True]


def test_a_port_that_will_not_be_cleaned_up_is_an_error_too() -> None:
    async def stubborn() -> None:
        for _ in range(2):
            with suppress(GeneratorExit):
                await asyncio.sleep(0)

    with pytest.raises(RuntimeError):
        run(stubborn())


@pytest.fixture
def cache() -> Iterator[MemoryCache]:
    with MemoryCache() as cache:
        yield cache


def test_a_local_cache_is_called_inline(cache: MemoryCache) -> None:
    ports = LocalCachePorts(cache)
    assert run(ports.open("key")) is None
    writer = run(ports.writer("key"))
    run(ports.write(writer, b"bo"))
    run(ports.write(writer, b"dy"))
    version = run(ports.commit(writer, b"metadata"))
    entry = run(ports.open("key"))
    assert entry is not None
    assert ports.describe(entry) == (b"metadata", version, 4, True)
    run(ports.prime(entry))
    assert [run(ports.read(entry, 3)) for _ in range(3)] == [b"bod", b"y", b""]
    run(ports.seek(entry, 1))
    assert run(ports.read(entry, 3)) == b"ody"
    run(ports.close(entry))
    assert run(ports.update("key", b"metadata", b"other", version))
    assert not run(ports.update("key", b"metadata", b"a third", version))
    assert not run(ports.update("key", b"other", b"a third", "another version"))
    assert run(ports.remove("key"))
    assert not run(ports.remove("key"))
    run(ports.abort(run(ports.writer("key"))))
    assert run(ports.open("key")) is None


def test_an_entry_may_be_given_a_body(cache: MemoryCache) -> None:
    ports = LocalCachePorts(cache)
    cache.set("key", b"metadata")
    bare = run(ports.open("key"))
    assert bare is not None
    assert not bare.has_body
    entry = ports.embed(bare, b"embedded")
    assert ports.describe(entry) == (b"metadata", bare.version, 8, True)
    assert run(ports.read(entry, -1)) == b"embedded"


def test_closing_and_giving_up_never_raise(cache: MemoryCache) -> None:
    class BadEntry(Entry):
        def close(self) -> None:
            raise CacheUnavailable("no")

    class BadWriter(EntryWriter):
        def __init__(self) -> None:
            """Be of no use."""

        def abort(self) -> None:
            raise ZeroDivisionError

    ports = LocalCachePorts(cache)
    run(ports.close(BadEntry(b"", version="1", size=0, source=InMemory(b""), digest=None)))
    run(ports.abort(BadWriter()))
