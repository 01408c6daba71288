"""A cache called in threads: the same answers, and nothing left of what nobody waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trio

from stillfresh import FileCache, MemoryCache, SeparateBodyFileCache
from stillfresh.caches.base import BaseCache, Entry, EntryWriter
from stillfresh.engine.offload import OffloadedCachePorts
from tests.engine.world import give_way


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Held(MemoryCache):
    """A cache whose calls wait until they are let go.

    Attributes:
        begun: set when one is there.
        given: what they have returned.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.given: list[Entry | EntryWriter | None] = []

    def open(self, key: str) -> Entry | None:
        self._wait()
        self.given.append(super().open(key))
        return self.given[-1] if isinstance(self.given[-1], Entry) else None

    def writer(self, key: str) -> EntryWriter:
        self._wait()
        writer = super().writer(key)
        self.given.append(writer)
        return writer

    def _wait(self) -> None:
        self.begun.set()
        assert self.gate.wait(10)


async def set_by_now(event: threading.Event) -> None:
    while not event.is_set():
        await give_way()


async def everything(cache: BaseCache, pool: ThreadPoolExecutor) -> None:
    ports = OffloadedCachePorts(cache, pool)
    assert await ports.open("key") is None
    writer = await ports.writer("key")
    await ports.write(writer, b"bo")
    await ports.write(writer, b"dy")
    version = await ports.commit(writer, b"metadata")
    entry = await ports.open("key")
    assert entry is not None
    assert ports.describe(entry) == (b"metadata", version, 4, True)
    await ports.prime(entry)
    assert [await ports.read(entry, 3) for _ in range(3)] == [b"bod", b"y", b""]
    await ports.seek(entry, 1)
    assert await ports.read(entry, 3) == b"ody"
    await ports.close(entry)
    assert await ports.update("key", b"metadata", b"other", version)
    claim = await ports.claim("key", 5)
    assert claim is not None
    claim.release()
    await ports.abort(await ports.writer("key"))
    assert await ports.remove("key")


@pytest.mark.parametrize("kind", [FileCache, SeparateBodyFileCache])
def test_it_does_what_a_cache_does(
    tmp_path: Path, pool: ThreadPoolExecutor, kind: type[FileCache]
) -> None:
    with kind(tmp_path / "cache") as cache:
        asyncio.run(everything(cache, pool))
        trio.run(everything, cache, pool)


def test_the_loop_goes_on_meanwhile(pool: ThreadPoolExecutor) -> None:
    cache = Held()

    async def main() -> None:
        task = asyncio.create_task(OffloadedCachePorts(cache, pool).open("key"))
        await set_by_now(cache.begun)
        assert not task.done()
        cache.gate.set()
        assert await task is None

    asyncio.run(main())


@pytest.mark.parametrize("call", ["open", "writer"])
def test_what_comes_too_late_is_closed(pool: ThreadPoolExecutor, call: str) -> None:
    cache = Held()
    cache.gate.set()
    cache.set("key", b"value")
    cache.gate.clear()
    cache.begun.clear()
    cache.given.clear()

    async def main() -> None:
        ports = OffloadedCachePorts(cache, pool)
        task = asyncio.create_task(getattr(ports, call)("key"))
        await set_by_now(cache.begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cache.gate.set()

    asyncio.run(main())
    pool.shutdown()
    (late,) = cache.given
    with pytest.raises(ValueError, match=r"closed|ended"):
        late.read() if isinstance(late, Entry) else late.write(b"x")  # type: ignore[union-attr]


def test_a_writer_is_given_up_only_when_nobody_writes(pool: ThreadPoolExecutor) -> None:
    """However long a cancelled write goes on."""
    writing, gate = threading.Event(), threading.Event()
    done: list[str] = []

    class Writer(EntryWriter):
        def __init__(self) -> None:
            self._sink = None

        def write(self, chunk: object, /) -> None:
            writing.set()
            assert gate.wait(10)
            done.append("written")

        def abort(self) -> None:
            done.append("aborted")

    async def main() -> None:
        ports = OffloadedCachePorts(MemoryCache(), pool)
        writer = Writer()
        task = asyncio.create_task(ports.write(writer, b"x"))
        await set_by_now(writing)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        giving_up = asyncio.create_task(ports.abort(writer))
        await asyncio.sleep(0)
        assert done == []
        gate.set()
        await giving_up
        assert done[:2] == ["written", "aborted"]

    asyncio.run(main())


def test_after_its_threads_are_gone_what_is_open_is_still_closed(tmp_path: Path) -> None:
    pool = ThreadPoolExecutor(1)

    async def main() -> None:
        ports = OffloadedCachePorts(cache, pool)
        writer, claim = await ports.writer("key"), await ports.claim("key", 5)
        assert claim is not None
        pool.shutdown()
        with pytest.raises(RuntimeError):
            await ports.write(writer, b"x")
        await ports.abort(writer)
        claim.release()
        with pytest.raises(ValueError, match="ended"):
            writer.write(b"x")

    with FileCache(tmp_path) as cache, FileCache(tmp_path) as other:
        asyncio.run(main())
        assert other.claim("key", 5) is not None
