"""The same exchange for both worlds, and wherever it is cancelled, nothing stays open."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from stillfresh import BodyLost, CacheClosed, Policy, Rule
from stillfresh.engine import records
from stillfresh.engine.ports import run
from stillfresh.events import StoreFailed
from stillfresh.rfc9111.dates import format_date
from stillfresh.rfc9111.messages import Request
from tests.engine.test_exchange import NOT_MODIFIED, by_language, tongue
from tests.engine.world import URL, Got, Reply, Told, World, cancel, document, legacy, steps, told


@dataclass(frozen=True)
class Scene:
    """A request, what has been stored before it, and what the origin will say."""

    replies: tuple[Reply, ...]
    prepare: Callable[[World], None] = lambda _: None
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    later: float = 0
    policy: Policy | None = None
    url: str = URL
    content: bytes | None = None

    def world(self) -> World:
        world = World(told(etag='"1"'), policy=self.policy)
        self.prepare(world)
        world.clock.advance(self.later)
        world.replies = list(self.replies)
        world.calls.clear()
        world.events.clear()
        assert not world.left_open()
        return world

    def asking(self, world: World) -> Coroutine[Any, Any, Got]:
        return world.asking(self.method, self.url, self.headers, self.content)

    def ask(self, world: World) -> Got:
        return run(self.asking(world))


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


DOCUMENT = document(b"abcdefghij")
NEWER = document(b"0123456789", '"2"')


def stored(*requests: Mapping[str, str], url: str = URL, **fields: str) -> Callable[[World], None]:
    """Have a document stored, or the parts and variants of it that are asked for."""

    def prepare(world: World) -> None:
        world.replies = [document(b"abcdefghij", **fields)]
        for headers in requests or ({},):
            world.get(headers, url)

    return prepare


def begun(world: World) -> None:
    """Have a download break off."""
    world.replies = [DOCUMENT]
    world.cut_off(4)


def begun_in_languages(world: World) -> None:
    world.replies = [document(b"abcdefghij", vary="Accept-Language")]
    for name in ("en", "de"):
        world.cut_off(4, tongue(name))


def twins(world: World) -> None:
    stored(*map(tongue, ("en", "de", "fr")), vary="Accept-Language")(world)


def in_groups(world: World) -> None:
    stored(cache_groups='"a", "b"')(world)
    world.clock.advance(1)


def out_of_date_group(world: World) -> None:
    in_groups(world)
    world.replies = [told(cache_group_invalidation='"b"')]
    world.consume(world.ask("POST", URL + "other"))
    world.clock.advance(1)


def that_fails(prepare: Callable[[World], None], operation: str) -> Callable[[World], None]:
    """Have what is stored turn out to be damaged."""

    def damage(world: World) -> None:
        prepare(world)
        world.faults[operation] = BodyLost("gone")

    return damage


def about(tag: str) -> Told:
    return Told(304, (("ETag", tag), ("Cache-Control", "max-age=60")))


def part(text: str) -> dict[str, str]:
    return {"Range": f"bytes={text}"}


OURS = {"If-None-Match": '"1"'}
THEIRS = {"If-None-Match": '"0"'}
DOWN = OSError("no route")
WITH_CONTENT = Policy(rules=(Rule(key_with_content=True),))
BEHIND = {"cache_control": "max-age=60, stale-while-revalidate=30"}
IF_ERROR = {"cache_control": "max-age=60, stale-if-error=30"}
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
    # Parts.
    "range hit": Scene((DOCUMENT,), stored(), headers=part("2-4")),
    "range hit of a variant": Scene((DOCUMENT,), twins, headers=part("2-4") | tongue("de")),
    "multipart range hit": Scene((DOCUMENT,), stored(), headers=part("1-2,5-6,9-9")),
    "416": Scene((DOCUMENT,), stored(), headers=part("10-")),
    "range hit, damaged": Scene((DOCUMENT,), that_fails(stored(), "seek"), headers=part("2-4")),
    "range hit in a part": Scene((DOCUMENT,), begun, headers=part("1-3")),
    "range, stale": Scene((DOCUMENT,), stored(), headers=part("2-4"), later=61),
    "range, changed": Scene((NEWER,), stored(), headers=part("2-4"), later=61),
    "range miss": Scene((DOCUMENT,), headers=part("2-4")),
    "HEAD of a part": Scene((DOCUMENT,), begun, "HEAD"),
    "completed": Scene((DOCUMENT,), begun),
    "completed, stale": Scene((DOCUMENT,), begun, later=61),
    "completed variant": Scene(
        (document(b"abcdefghij", vary="Accept-Language"),),
        begun_in_languages,
        headers=tongue("de"),
    ),
    "completion of what has changed": Scene((NEWER,), begun),
    "completion refused": Scene((Told(416), NEWER), begun),
    "completion refused of a variant": Scene(
        (Told(416), NEWER), begun_in_languages, headers=tongue("de")
    ),
    "completion that does not fit": Scene((told(b"x", 206, etag='"1"'), DOCUMENT), begun),
    "completion of what is damaged": Scene((DOCUMENT,), that_fails(begun, "prime")),
    "completion that fails": Scene((Told(503),), begun),
    "part joined behind": Scene((DOCUMENT,), stored(part("4-6")), headers=part("7-8")),
    "part joined before": Scene((DOCUMENT,), stored(part("4-6")), headers=part("1-3")),
    "part joined on both sides": Scene((DOCUMENT,), stored(part("4-6")), headers=part("1-8")),
    "part not joined": Scene((DOCUMENT,), stored(part("0-2")), headers=part("6-7")),
    "part joined to what is damaged": Scene(
        (DOCUMENT,), that_fails(stored(part("4-6")), "read"), headers=part("1-3")
    ),
    # The caller's own conditions.
    "own condition": Scene((DOCUMENT,), stored(), headers=OURS),
    "own condition of a variant": Scene((DOCUMENT,), twins, headers=OURS | tongue("de")),
    "own condition, not met": Scene((DOCUMENT,), stored(), headers=THEIRS),
    "own condition, stale, ours is good": Scene((about('"1"'),), stored(), "GET", THEIRS, 61),
    "own condition, stale, both are good": Scene((about('"1"'),), stored(), "GET", OURS, 61),
    "own condition, stale, theirs is good": Scene((about('"0"'),), stored(), "GET", THEIRS, 61),
    "own condition, stale, theirs is good and not a variant": Scene(
        (about('"0"'),), twins, "GET", THEIRS | tongue("de"), 61
    ),
    "own condition, stale, one is good": Scene(
        (NOT_MODIFIED, DOCUMENT), stored(), "GET", THEIRS, 61
    ),
    "own condition, stale, one is good, of a variant": Scene(
        (NOT_MODIFIED, DOCUMENT), twins, "GET", THEIRS | tongue("de"), 61
    ),
    "own condition, stale, changed": Scene((NEWER,), stored(), "GET", THEIRS, 61),
    # Stale, and served.
    "stale while revalidating": Scene((DOCUMENT,), stored(**BEHIND), later=70),
    "stale if error: no answer": Scene((DOWN,), stored(**IF_ERROR), later=70),
    "stale if error: 503": Scene((Told(503),), stored(**IF_ERROR), later=70),
    "stale if error: 503, of a variant": Scene(
        (Told(503),),
        stored(tongue("en"), tongue("de"), vary="Accept-Language", **IF_ERROR),
        headers=tongue("de"),
        later=70,
    ),
    "stale if error: 503, damaged": Scene(
        (Told(503),), that_fails(stored(**IF_ERROR), "prime"), later=70
    ),
    # Several at once.
    "by tags: the first": Scene((about('"en"'),), languages, headers=tongue("la")),
    "by tags: another": Scene((about('"de"'),), languages, headers=tongue("la")),
    "by tags: none": Scene((by_language,), languages, headers=tongue("la")),
    "by tags: useless": Scene((NOT_MODIFIED, by_language), languages, headers=tongue("la")),
    "by tags: forbidden": Scene(
        (Told(304, (("ETag", '"de"'), ("Cache-Control", "no-store"))), by_language),
        languages,
        headers=tongue("la"),
    ),
    "by tags: damaged": Scene(
        (about('"de"'), by_language), that_fails(languages, "read"), headers=tongue("la")
    ),
    "freshened together": Scene((about('"1"'),), twins, headers=tongue("de"), later=61),
    # Groups, searches and content.
    "of groups": Scene((DOCUMENT,), in_groups),
    "of an invalidated group": Scene((NEWER,), out_of_date_group),
    "invalidating groups": Scene(
        (told(b"", cache_group_invalidation='"a", "b", "c"'),), in_groups, "POST"
    ),
    "search hit": Scene(
        (DOCUMENT,), stored(url=URL + "?a=1", no_vary_search="params"), url=URL + "?a=2"
    ),
    "search miss": Scene(
        (DOCUMENT,), stored(url=URL + "?a=1", no_vary_search="key-order"), url=URL + "?b=1"
    ),
    "search stored": Scene(
        (document(b"0123456789", '"2"', no_vary_search="params"),),
        stored(url=URL + "?a=1"),
        url=URL + "?a=1",
        later=61,
    ),
    "unsafe search": Scene(
        (told(b""),),
        stored(url=URL + "?a=1", no_vary_search="params"),
        "POST",
        url=URL + "?a=2",
    ),
    "POST that answers a GET": Scene((told(b"page", content_location="/"),), page, "POST"),
    "content that is stored": Scene(
        (told(b"answer"),), method="POST", policy=WITH_CONTENT, content=b"question"
    ),
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
        answer = await scene.asking(awaiting)
        return summary(awaiting, answer, await awaiting.consuming(answer))

    blocking, awaiting = scene.world(), scene.world()
    awaiting.suspends = True
    answer = scene.ask(blocking)
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
        request = scene.asking(world)
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
        whole = expected.consume(scene.ask(expected))
        if len(scene.replies) == 1:
            assert world.consume(scene.ask(world)) == whole
    pytest.fail("it never ends")


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_cancelled_while_its_body_is_read_nothing_wrong_is_stored(scene: Scene) -> None:
    """Nothing is, or what has come of it, to be completed."""
    for number in range(1000):
        world = scene.world()
        answer = scene.ask(world)
        world.faults.clear()
        world.events.clear()
        before = dict(world.kept)
        if answer.recorder is None:
            world.consume(answer)
            assert world.left_open() == []
            return
        world.suspends = True
        reading = world.consuming(answer)
        if list(steps(reading, number)):
            assert world.left_open() == []
            return
        cancel(reading)
        if answer.upstream is not None:
            answer.upstream.is_open = False
        # The client's own tee does this; nothing but the writer may be left for it.
        stopping = answer.recorder.abort()
        assert list(steps(stopping, 10)) == [None]
        assert world.left_open() == []
        assert not world.of(StoreFailed)
        assert before.keys() <= world.kept.keys()
        for key, kept in world.kept.items():
            assert kept == before.get(key) or records.decode(kept[0]).part is not None
    pytest.fail("it never ends")


OPERATIONS = ["open", "prime", "seek", "read", "writer", "write", "commit", "update", "remove"]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_raised_through_it_leaves_nothing_open(scene: Scene, operation: str) -> None:
    """Wrong use is raised from wherever it shows."""
    world = scene.world()
    world.faults[operation] = CacheClosed("closed")
    try:
        answer = scene.ask(world)
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
