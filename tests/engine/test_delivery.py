"""Bodies chunk by chunk, over ports that suspend: whole, in order, and cancelled anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from stillfresh import BodyLost, Outcome
from stillfresh.engine.delivery import Delivery, short_body
from stillfresh.engine.ports import run
from stillfresh.events import NotStored, Stored
from tests.engine.world import FakeUpstream, Got, World, cancel, document, steps, told

BODY = b"0123456789"


class Sent:
    """What the origin sends, three bytes at a time."""

    def __init__(self, upstream: FakeUpstream, *, resumable: bool = False, size: int = 3) -> None:
        self.resumable = resumable
        self._upstream = upstream
        self._size = size
        self._at = 0

    async def next(self) -> bytes:
        await asyncio.sleep(0)
        assert self._upstream.is_open
        chunk = self._upstream.body[self._at : self._at + self._size]
        self._at += len(chunk)
        return chunk

    async def close(self) -> None:
        self._upstream.is_open = False
        await asyncio.sleep(0)


def delivery_of(world: World, answer: Got, **options: Any) -> Delivery[Any, Any]:
    upstream = None if answer.info.from_cache else answer.upstream
    return Delivery(world, answer, None if upstream is None else Sent(upstream, **options))


async def delivered(world: World, headers: dict[str, str] | None = None) -> bytes:
    delivery = delivery_of(world, await world.asking(headers=headers))
    got = b""
    while chunk := await delivery.next():
        got += chunk
    assert await delivery.next() == b""
    return got


def begun(world: World) -> None:
    """Have the first bytes stored."""
    world.cut_off(4)


def whole(world: World) -> None:
    world.get()


def nothing(world: World) -> None:
    """Have nothing stored."""


CASES: dict[str, tuple[Callable[[World], object], dict[str, str], bytes]] = {
    "miss": (nothing, {}, BODY),
    "hit": (whole, {}, BODY),
    "a part": (whole, {"Range": "bytes=2-4"}, BODY[2:5]),
    "completed": (begun, {}, BODY),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_whole_and_nothing_stays_open(case: str) -> None:
    prepare, headers, body = CASES[case]
    world = World(document(BODY))
    prepare(world)
    world.suspends = True
    assert asyncio.run(delivered(world, headers)) == body
    assert world.left_open() == []
    world.suspends = False
    assert world.get()[1].outcome is Outcome.HIT


@pytest.mark.parametrize("case", CASES)
def test_cancelled_at_any_suspension_it_leaves_nothing_open(case: str) -> None:
    prepare, headers, body = CASES[case]
    finished, number = False, 0
    while not finished:
        world = World(document(BODY))
        prepare(world)
        world.suspends = True
        coroutine: Coroutine[Any, Any, bytes] = delivered(world, headers)
        ended = list(steps(coroutine, number))
        if ended:
            finished = True
            assert ended == [body]
        else:
            cancel(coroutine)
        assert world.left_open() == []
        # What is stored now is right, however much it is.
        world.suspends = False
        assert world.get()[0] == BODY
        number += 1
    assert number > 3


def test_where_the_origin_can_be_resumed_a_cancelled_wait_loses_nothing() -> None:
    world = World(told(BODY))

    async def main() -> bytes:
        delivery = delivery_of(world, await world.asking(), resumable=True)
        first = await delivery.next()
        waiting = asyncio.create_task(delivery.next())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert not delivery.closed
        rest = b""
        while chunk := await delivery.next():
            rest += chunk
        return first + rest

    assert asyncio.run(main()) == BODY
    assert world.bodies() == [BODY]
    assert world.left_open() == []


def test_one_that_is_forgotten_leaves_nothing() -> None:
    world = World(told(BODY))
    delivery = delivery_of(world, world.ask())
    del delivery
    assert world.of(Stored) == []
    assert len(world.of(NotStored)) == 1


def test_a_rest_that_ends_early_is_told() -> None:
    world = World(document(BODY, content_length=str(len(BODY))))
    begun(world)
    answer = world.ask()
    assert answer.upstream is not None
    answer.upstream.body = answer.upstream.body[:-2]
    delivery = delivery_of(world, answer)

    async def read_on() -> None:
        while await delivery.next():
            pass

    with pytest.raises(BodyLost, match="2 bytes before its end"):
        asyncio.run(read_on())
    assert world.left_open() == []


def test_a_rest_that_is_too_long_is_cut() -> None:
    world = World(document(BODY))
    begun(world)
    answer = world.ask()
    assert answer.upstream is not None
    answer.upstream.body += b"more"

    async def read() -> bytes:
        delivery, got = delivery_of(world, answer, size=100), b""
        while chunk := await delivery.next():
            got += chunk
        return got

    assert asyncio.run(read()) == BODY
    assert world.get()[0] == BODY


def test_a_short_body_that_is_stored_needs_no_delivery() -> None:
    world = World(document(BODY))
    world.get()
    assert run(short_body(world, world.ask())) == BODY
    answer = world.ask(headers={"Range": "bytes=1-2"})
    assert run(short_body(world, answer)) is None
    run(delivery_of(world, answer).close())
    assert world.left_open() == []
