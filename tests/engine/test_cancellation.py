"""Cancelled at any suspension, from the first look to the last byte, an exchange leaves nothing.

Each scene is played once for each of its suspensions, under asyncio and trio (where every await
that cleans up is cancelled, too), and with three kinds of cache: one that suspends at each call, a
directory called inline, and a directory called in threads. What counts afterwards is what is open,
what lies about, who still waits, and what the next one gets.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio

from stillfresh import Policy, SeparateBodyFileCache
from stillfresh.caches.base import BaseCache, Claim
from stillfresh.engine import records
from stillfresh.engine.offload import OffloadedCachePorts
from stillfresh.engine.ports import LocalCachePorts, Useful
from stillfresh.engine.waiting import ThreadSignal, task_signal
from tests.engine.test_async import DOCUMENT, NEWER, begun, stored
from tests.engine.test_exchange import tongue
from tests.engine.world import URL, Told, World, document, give_way, told

Job: TypeAlias = Callable[[], Coroutine[Any, Any, Any]]
PATIENT = Policy(collapse_wait=600)


class DiskWorld(World):
    """A world whose cache is a directory; the origin suspends, and what the ports make suspend."""

    def __init__(self, cache: BaseCache) -> None:
        super().__init__(policy=PATIENT)
        self.cache = cache
        self.at: LocalCachePorts = LocalCachePorts(cache)

    def flights(self) -> Any:
        return self.at.flights()

    async def claim(self, key: str, seconds: float) -> Claim | None:
        return await self.at.claim(key, seconds)

    async def open(self, key: str) -> Any:
        return await self.at.open(key)

    async def open_or_claim(self, key: str, seconds: Callable[[], float]) -> Any:
        return await self.at.open_or_claim(key, seconds)

    def describe(self, entry: Any) -> tuple[bytes, str, int, bool]:
        return self.at.describe(entry)

    def embed(self, entry: Any, body: bytes) -> Any:
        return self.at.embed(entry, body)

    async def prime(self, entry: Any) -> None:
        await self.at.prime(entry)

    async def seek(self, entry: Any, offset: int) -> None:
        await self.at.seek(entry, offset)

    async def read(self, entry: Any, size: int) -> bytes:
        return await self.at.read(entry, size)

    async def close(self, entry: Any) -> None:
        await self.at.close(entry)

    async def writer(self, key: str) -> Any:
        return await self.at.writer(key)

    async def write(self, writer: Any, chunk: bytes) -> None:
        await self.at.write(writer, chunk)

    async def commit(self, writer: Any, metadata: bytes, useful: Useful | None = None) -> str:
        return await self.at.commit(writer, metadata, useful)

    async def abort(self, writer: Any) -> None:
        await self.at.abort(writer)

    async def update(
        self, key: str, old: bytes, new: bytes, version: str, useful: Useful | None = None
    ) -> bool:
        return await self.at.update(key, old, new, version, useful)

    async def remove(self, key: str) -> bool:
        return await self.at.remove(key)


class InMemory:
    """A cache that suspends at each call, and its claims."""

    def __init__(self, _: Path) -> None:
        self.world = World(policy=PATIENT)
        self.world.claims = set()

    def begin(self) -> None:
        self.world.suspends = True

    def end(self) -> None:
        self.world.suspends = False
        assert self.world.claims == set()

    def whole_or_parts(self) -> None:
        for metadata, body, _ in self.world.kept.values():
            part = records.decode(metadata).part
            assert part is None or part.length == len(body or b"")


class Claiming(InMemory):
    """A cache that claims what isn't there as soon as one looks."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.world.spare = set()

    def end(self) -> None:
        super().end()
        assert self.world.spare == set()


class OnDisk:
    """A directory, called inline."""

    def __init__(self, place: Path) -> None:
        self.root = place / "cache"
        self.cache = SeparateBodyFileCache(self.root)
        self.world = DiskWorld(self.cache)

    def begin(self) -> None:
        self.world.suspends = True

    def end(self) -> None:
        self.world.suspends = False
        assert open_below(self.root) <= {".stillfresh-claims"}
        with SeparateBodyFileCache(self.root) as other:
            for listed in self.cache.entries():
                assert other.claim(listed.key or "", 5) is not None
            assert other.claim(URL, 5) is not None

    def whole_or_parts(self) -> None:
        assert not self.cache.verify().damaged
        report = self.cache.prune()
        assert report.swept == 0
        assert not report.removed
        self.cache.close()


class InThreads(OnDisk):
    """A directory, called in threads."""

    def begin(self) -> None:
        super().begin()
        self._pool = ThreadPoolExecutor(4)
        self.world.at = OffloadedCachePorts(self.cache, self._pool)

    def end(self) -> None:
        # What is under way comes to its end; nobody waits for it.
        self._pool.shutdown()
        self.world.at = LocalCachePorts(self.cache)
        super().end()


KINDS = [InMemory, Claiming, OnDisk, InThreads]


def open_below(root: Path) -> set[str]:
    """Name the files below a directory that this process has open."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            path = link.readlink()
            if path.is_relative_to(root):
                found.add(path.name)
    return found


class StopsAt:
    """Runs a coroutine, and calls `stop` when it is about to suspend for the nth time."""

    def __init__(self, work: Coroutine[Any, Any, Any], number: int) -> None:
        self._work = work
        self._number = number
        self.stop: Callable[[], object] = lambda: None
        self.may_begin: Callable[[], bool] = lambda: True
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        for count in itertools.count():
            try:
                waited = self._work.send(value) if error is None else self._work.throw(error)
            except StopIteration as end:
                return end.value
            if count == self._number:
                self.reached = True
                self.stop()
            value = error = None
            try:
                value = yield waited
            except BaseException as raised:  # noqa: BLE001 - it is the coroutine's
                error = raised
        raise AssertionError


def with_asyncio(target: StopsAt, before: Sequence[Job], after: Sequence[Job]) -> list[Any]:
    async def follow() -> Any:
        return await target

    async def main() -> list[Any]:
        others = [asyncio.create_task(job()) for job in before]
        while before and not target.may_begin():
            await give_way()
        task = asyncio.create_task(follow())
        target.stop = task.cancel
        others += [asyncio.create_task(job()) for job in after]
        await asyncio.wait([task])
        assert task.cancelled() is target.reached, task
        return await asyncio.gather(*others)

    return asyncio.run(main())


def with_trio(target: StopsAt, before: Sequence[Job], after: Sequence[Job]) -> list[Any]:
    results: list[Any] = []

    async def other(job: Job) -> None:
        results.append(await job())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for job in before:
                nursery.start_soon(other, job)
            while before and not target.may_begin():
                await give_way()
            for job in after:
                nursery.start_soon(other, job)
            with trio.CancelScope() as scope:
                target.stop = scope.cancel
                await target
            assert scope.cancelled_caught is target.reached

    trio.run(main)
    return results


Loop: TypeAlias = Callable[[StopsAt, Sequence[Job], Sequence[Job]], list[Any]]
LOOPS: list[Loop] = [with_asyncio, with_trio]


@dataclass(frozen=True)
class Scene:
    """A request, what has been stored before, what the origin says, and who else is about.

    `meanwhile` others ask for the same at the same time: before the one that is cancelled, so
    that it waits for them, or after it.
    """

    replies: tuple[Any, ...]
    body: bytes
    prepare: Callable[[World], None] = lambda _: None
    headers: Mapping[str, str] = field(default_factory=dict)
    later: float = 0
    before: int = 0
    after: int = 0


CHUNKED = told(b"hello", etag='"1"')
SCENES = {
    "miss": Scene((DOCUMENT,), b"abcdefghij"),
    "miss without a length": Scene((CHUNKED,), b"hello"),
    "miss that is not stored": Scene((told(cache_control="no-store"),), b"hello"),
    "hit": Scene((DOCUMENT,), b"abcdefghij", stored()),
    "304": Scene((DOCUMENT,), b"abcdefghij", stored(), later=61),
    "changed": Scene((NEWER,), b"0123456789", stored(), later=61),
    "useless 304": Scene((Told(304, (("ETag", '"2"'),)), NEWER), b"0123456789", stored(), later=61),
    "completion": Scene((DOCUMENT,), b"abcdefghij", begun),
    "completion refused": Scene((Told(416), NEWER), b"0123456789", begun),
    "variant": Scene(
        (document(b"0123456789", '"3"', vary="Accept-Language"),),
        b"0123456789",
        stored(tongue("en"), tongue("de"), vary="Accept-Language"),
        tongue("la"),
    ),
    "stale if error": Scene(
        (Told(503),),
        b"abcdefghij",
        stored(cache_control="max-age=60, stale-if-error=30"),
        later=70,
    ),
    "leader": Scene((DOCUMENT,), b"abcdefghij", after=3),
    "leader of a revalidation": Scene((DOCUMENT,), b"abcdefghij", stored(), later=61, after=3),
    "leader of a completion": Scene((DOCUMENT,), b"abcdefghij", begun, after=2),
    "follower": Scene((DOCUMENT,), b"abcdefghij", before=1, after=1),
    "follower of a revalidation": Scene((DOCUMENT,), b"abcdefghij", stored(), {}, 61, 1, 1),
    "follower for nothing": Scene((told(cache_control="no-store"),), b"hello", before=1, after=1),
}


async def fetch(world: World, headers: Mapping[str, str]) -> bytes:
    """Get the page as a client does that closes what it was given, wherever it is cancelled."""
    answer = await world.asking(headers=headers)
    try:
        return await world.consuming(answer)
    finally:
        try:
            if answer.recorder is not None:
                await answer.recorder.abort()
        finally:
            if answer.upstream is not None:
                answer.upstream.is_open = False
            if answer.entry is not None:
                await world.close(answer.entry)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_cancelled_at_any_suspension_nothing_is_left(
    tmp_path: Path,
    scene: Scene,
    kind: type[InMemory | OnDisk],
    loop: Loop,
) -> None:
    for number in range(1000):
        if not cancelled(scene, kind(tmp_path / str(number)), loop, number):
            assert number > 0 or kind is OnDisk
            return
    pytest.fail("it never ends")


def cancelled(scene: Scene, play: InMemory | OnDisk, loop: Loop, number: int) -> bool:
    """Play a scene, cancelled at its nth suspension; tell whether it has so many."""
    world = play.world
    scene.prepare(world)
    world.clock.advance(scene.later)
    world.replies = list(scene.replies)
    if len(scene.replies) > 1:
        world.replies += [scene.replies[-1]] * 9
    flights = world.flights()
    target = StopsAt(fetch(world, scene.headers), number)

    def held_back() -> bool:
        others = scene.before + scene.after - target.reached
        return flights.waiting < others

    def other() -> Coroutine[Any, Any, bytes]:
        return fetch(world, scene.headers)

    # The origin doesn't answer the first one before all others wait for that.
    target.may_begin = lambda: len(flights) > 0
    world.holding = held_back
    world.signal = task_signal
    play.begin()
    got = loop(target, [other] * scene.before, [other] * scene.after)
    play.end()
    assert got == [scene.body] * (scene.before + scene.after)
    assert world.left_open() == []
    assert (len(flights), flights.waiting) == (0, 0)
    # And it is of no harm to who asks next.
    world.signal = ThreadSignal
    world.replies = [scene.replies[-1]]
    assert world.get(scene.headers)[0] == scene.body
    assert world.left_open() == []
    play.whole_or_parts()
    return target.reached
