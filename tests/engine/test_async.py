"""The same exchange for both worlds, and wherever it is cancelled, nothing stays open."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from stillfresh import CacheClosed, Policy
from stillfresh.rfc9111.dates import format_date
from stillfresh.rfc9111.messages import Request
from tests.engine.test_exchange import NOT_MODIFIED, by_language, legacy, tongue
from tests.engine.world import URL, Got, Reply, Told, World, cancel, steps, told


@dataclass(frozen=True)
class Scene:
    """A request, what has been stored before it, and what the origin will say."""

    replies: tuple[Reply, ...]
    prepare: Callable[[World], None] = lambda _: None
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    later: float = 0
    policy: Policy | None = None

    def world(self) -> World:
        world = World(told(etag='"1"'), policy=self.policy)
        self.prepare(world)
        world.clock.advance(self.later)
        world.replies = list(self.replies)
        world.calls.clear()
        world.events.clear()
        assert not world.left_open()
        return world


def page(world: World) -> None:
    world.get()


def languages(world: World) -> None:
    world.replies = [by_language]
    for name in ("en", "de", "fr"):
        world.get(tongue(name))


def sets(world: World) -> None:
    """Store several variants that are selected by different fields, the newest last."""

    def answer(request: Request) -> Told:
        date = format_date(world.clock())
        return told(
            b"x", cache_control="max-age=999", vary=request.fields.get("x-by") or "", date=date
        )

    world.replies = [answer]
    for number in range(4):
        mine = {f"X-{number}": "1", "X-By": f"X-{number}"}
        world.get({f"X-{other}": "2" for other in range(number)} | mine)
        world.clock.advance(1)


def of_another_program(world: World) -> None:
    record = legacy(Date=format_date(world.clock()), ETag='"1"')
    world.put(URL, record, b"hello from another", foreign=True)


def damaged(world: World) -> None:
    world.put(URL, b"stillfresh/1\nnonsense", b"body")


ASK_ANEW = {"Cache-Control": "no-cache"}
SCENES = {
    "miss": Scene((told(),)),
    "miss without a length": Scene((told(b""),)),
    "miss that is not stored": Scene((told(cache_control="no-store"),)),
    "miss without a body": Scene((told(b"", 204),)),
    "hit": Scene((told(),), page),
    "hit by HEAD": Scene((told(),), page, "HEAD"),
    "hit of a variant": Scene((by_language,), languages, headers=tongue("fr")),
    "miss of a variant": Scene((by_language,), languages, headers=tongue("la")),
    "hit among sets": Scene((told(),), sets, headers={f"X-{n}": "1" for n in range(4)}),
    "a new set": Scene((told(b"y", vary="X-9"),), sets, headers={"X-0": "3", "X-9": "1"}),
    "revalidated": Scene((NOT_MODIFIED,), page, later=61),
    "revalidated variant": Scene((NOT_MODIFIED,), languages, headers=tongue("de"), later=61),
    "changed": Scene((told(b"new"),), page, later=61),
    "changed variant": Scene(
        (told(b"new", vary="Accept-Language"),), languages, "GET", tongue("de"), 61
    ),
    "gone": Scene((Told(404),), page, later=61),
    "useless 304": Scene((Told(304, (("ETag", '"2"'),)), told(b"new")), page, later=61),
    "useless 304 of a variant": Scene(
        (Told(304, (("ETag", '"2"'),)), by_language), languages, "GET", tongue("de"), 61
    ),
    "HEAD that agrees": Scene((told(b"", etag='"1"'),), page, "HEAD", later=61),
    "HEAD that disagrees": Scene((told(b"", etag='"2"'),), page, "HEAD", later=61),
    "range": Scene(
        (Told(206, (), b"el"),), languages, "GET", tongue("de") | {"Range": "bytes=1-2"}
    ),
    "unsafe": Scene((told(status=201, location="/a", content_location="/b"),), page, "POST"),
    "credentials": Scene((told(),), page, headers={"Authorization": "x"}),
    "only if cached": Scene((told(),), languages, "GET", {"Cache-Control": "only-if-cached"}),
    "another program's": Scene((told(),), of_another_program),
    "another program's, revalidated": Scene((NOT_MODIFIED,), of_another_program, later=61),
    "another program's, changed": Scene((told(b"new"),), of_another_program, later=61),
    "damaged": Scene((told(),), damaged),
    "too large": Scene((told(b"x" * 100),), policy=Policy(max_body=50)),
}


DIGEST = re.compile("=[0-9a-f]{32}")


def summary(world: World, answer: Got, body: bytes) -> tuple[object, ...]:
    """Say all that came of a request, generations of variants aside, which no two worlds share."""
    info, response = answer.info, answer.response
    status = DIGEST.sub("=digest", response.fields.get("cache-status") or "")
    return (
        response._replace(fields=response.fields.replacing(("Cache-Status", status))),
        body,
        (info.outcome, info.why, info.age, info.ttl, info.stored, info.storing),
        [type(event) for event in world.events],
        world.calls,
        world.sent,
        sorted(str(kept[1]) for kept in world.kept.values()),
    )


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_asyncio_gets_what_blocking_code_gets(scene: Scene) -> None:
    async def ask() -> tuple[object, ...]:
        answer = await awaiting.asking(scene.method, URL, scene.headers)
        return summary(awaiting, answer, await awaiting.consuming(answer))

    blocking, awaiting = scene.world(), scene.world()
    awaiting.suspends = True
    answer = blocking.ask(scene.method, URL, scene.headers)
    expected = summary(blocking, answer, blocking.consume(answer))
    assert asyncio.run(ask()) == expected
    assert blocking.left_open() == []
    assert awaiting.left_open() == []


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_cancelled_at_any_await_it_leaves_nothing_open(scene: Scene) -> None:
    for number in range(1000):
        world = scene.world()
        expected = scene.world()
        world.suspends = True
        request = world.asking(scene.method, URL, scene.headers)
        done = list(steps(request, number))
        if done:
            world.suspends = False
            world.consume(done[0])
            assert world.left_open() == []
            return
        cancel(request)
        assert world.left_open() == [], f"cancelled at {world.calls}"
        # And what it leaves behind is of no harm to who asks next.
        world.suspends = False
        world.replies = list(scene.replies)
        whole = expected.consume(expected.ask(scene.method, URL, scene.headers))
        if len(scene.replies) == 1:
            assert world.consume(world.ask(scene.method, URL, scene.headers)) == whole
    pytest.fail("it never ends")


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_cancelled_while_its_body_is_read_nothing_of_it_is_stored(scene: Scene) -> None:
    for number in range(1000):
        world = scene.world()
        answer = world.ask(scene.method, URL, scene.headers)
        before = dict(world.kept)
        if answer.recorder is None:
            world.consume(answer)
            return
        world.suspends = True
        reading = world.consuming(answer)
        if list(steps(reading, number)):
            assert world.left_open() == []
            return
        cancel(reading)
        # The client's own tee does this; nothing but the writer may be left for it.
        stopping = answer.recorder.abort()
        assert list(steps(stopping, 10)) == [None]
        assert world.left_open() == []
        assert world.kept == before
    pytest.fail("it never ends")


@pytest.mark.parametrize("operation", ["open", "prime", "writer", "update", "remove"])
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_raised_through_it_leaves_nothing_open(scene: Scene, operation: str) -> None:
    """Wrong use is raised from wherever it shows."""
    world = scene.world()
    world.faults[operation] = CacheClosed("closed")
    try:
        answer = world.ask(scene.method, URL, scene.headers)
    except CacheClosed:
        assert world.left_open() == []
    else:
        world.faults.clear()
        world.consume(answer)
        assert world.left_open() == []


def test_many_at_once() -> None:
    """Exchanges that take turns on one cache give everybody what belongs to the URL."""

    def answer(request: Request) -> Told:
        return told(request.url.encode() * 3, etag='"1"')

    async def ask(number: int) -> None:
        url = f"{URL}{number % 5}"
        got = await world.asking(url=url)
        assert await world.consuming(got) == url.encode() * 3

    async def everybody() -> None:
        await asyncio.gather(*(ask(number) for number in range(60)))

    world = World(answer)
    world.suspends = True
    asyncio.run(everybody())
    assert world.left_open() == []
