"""What an unsafe request throws out while it is still on its way (RFC 9111 §4.4).

A response that was asked for before a URI was invalidated is as doubtful as one that was stored:
it is handed to who asked for it, and not stored when it comes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stillfresh import Reason
from stillfresh.engine.flights import Flights
from stillfresh.engine.ports import Useful
from stillfresh.events import NotStored
from stillfresh.rfc9111.dates import format_date
from stillfresh.rfc9111.messages import Request
from tests.engine.world import URL, FakeWriter, Told, World, document, legacy, told

OTHER = "http://origin.example/other"
OLD, NEW = told(b"old"), told(b"new")


def post(world: World, url: str = URL, status: int = 204, **fields: str) -> None:
    """Have somebody change what is at `url`; what the origin says next is new."""
    world.replies = [told(b"", status, **fields)]
    world.consume(world.ask("POST", url=url))
    world.replies = [NEW]


def while_asked(act: Callable[[World], None]) -> World:
    """Return a world in which `act` happens while the origin makes up an old answer."""

    def answer(_: Request) -> Told:
        act(world)
        return OLD

    world = World(answer)
    assert world.get()[0] == b"old"
    return world


class Racing(World):
    """A world in which the URL is changed at the very moment of a commit."""

    async def commit(
        self, writer: FakeWriter, metadata: bytes, useful: Useful | None = None
    ) -> str:
        if self.racing:
            self.racing = False
            post(self)
        return await super().commit(writer, metadata, useful)

    racing = True


def test_an_answer_made_up_before_is_not_stored() -> None:
    world = while_asked(post)
    assert world.kept == {}
    body, info = world.get()
    assert (body, info.why.reason) == (b"new", Reason.NO_STORED)
    assert world.get()[1].from_cache
    assert world.left_open() == []


def test_it_says_why() -> None:
    world = World(OLD)
    answer = world.ask()
    post(world)
    assert world.consume(answer) == b"old"
    assert answer.info.storing is not None
    assert answer.info.storing.reason is Reason.INVALIDATED
    assert not answer.info.stored
    assert "an unsafe request succeeded" in world.of(NotStored)[-1].why


def test_nor_is_one_whose_body_was_on_its_way() -> None:
    world = World(OLD)
    answer = world.ask()
    post(world)
    assert world.consume(answer) == b"old"
    assert world.kept == {}
    assert world.left_open() == []


def test_nor_the_part_of_one_that_breaks_off() -> None:
    world = World(document(b"0123456789"))
    answer = world.ask()
    post(world)
    world.consume(answer, 4)
    assert world.kept == {}
    assert world.left_open() == []


def test_nor_one_that_is_published_at_that_moment() -> None:
    world = Racing(OLD)
    assert world.get()[0] == b"old"
    assert world.kept == {}
    assert world.get()[0] == b"new"
    assert world.get()[1].from_cache


def test_nor_a_refreshed_one() -> None:
    world = World(document(b"old"))
    world.get()
    world.clock.advance(61)

    def answer(request: Request) -> Told:
        post(world)
        return document(b"old")(request)

    world.replies = [answer]
    assert world.get()[0] == b"old"
    assert world.get()[0] == b"new"


def test_nor_the_copy_of_a_legacy_one() -> None:
    """A 304 has it written anew, from what was open when it was thrown out."""
    world = World(OLD)
    metadata = legacy(b"old", Date=format_date(1_700_000_000), ETag='"1"')
    world.put(URL, metadata, None, foreign=True)
    world.clock.advance(61)

    def answer(request: Request) -> Told:
        post(world)
        return document(b"old")(request)

    world.replies = [answer]
    world.get()
    assert world.get()[0] == b"new"
    assert world.left_open() == []


@pytest.mark.parametrize(
    ("url", "status"), [(OTHER, 204), (URL, 500), (URL, 404)], ids=["another", "500", "404"]
)
def test_what_changes_nothing_of_it_keeps_nothing_from_being_stored(url: str, status: int) -> None:
    world = while_asked(lambda world: post(world, url, status))
    assert world.get()[1].from_cache


def test_other_urls_may_be_told_to_have_changed_too() -> None:
    world = while_asked(lambda world: post(world, OTHER, location=URL))
    assert world.kept == {}


def test_an_unsafe_request_may_be_overtaken_by_another() -> None:
    """Its own answer would be what is there now, had nobody else changed it meanwhile."""
    world = World()

    def answer(_: Request) -> Told:
        post(world)
        return told(b"old", content_location=URL)

    world.replies = [answer]
    world.consume(world.ask("POST", content=b"old"))
    assert world.kept == {}
    assert world.get()[0] == b"new"


def test_its_own_answer_is_none_of_those_that_it_throws_out() -> None:
    world = World(told(b"old"))
    world.get()
    world.replies = [told(b"newest", content_location=URL)]
    world.consume(world.ask("POST", content=b"newest"))
    assert (world.get()[0], len(world.sent)) == (b"newest", 2)


def test_nor_one_that_stands_for_others_by_no_vary_search() -> None:
    """Nobody knew yet that it stands for what was invalidated."""

    def answer(_: Request) -> Told:
        post(world, URL + "?a=1&b=2", no_vary_search='params=("b")')
        return told(b"old", no_vary_search='params=("b")')

    world = World(answer)
    world.get(url=URL + "?a=1&b=3")
    world.replies = [told(b"new", no_vary_search='params=("b")')]
    assert world.get(url=URL + "?a=1&b=2")[0] == b"new"


class TestFlights:
    def test_what_was_asked_for_later_is_not_overtaken(self) -> None:
        flights = Flights()
        before = flights.moment
        moment = flights.invalidated("a", "a#too")
        assert before < moment == flights.invalidated_at("a") == flights.invalidated_at("a#too")
        assert flights.invalidated_at("b") <= before
        assert moment == flights.moment

    def test_what_it_has_forgotten_counts_as_invalidated(self) -> None:
        flights = Flights()
        before = flights.moment
        for number in range(5000):
            flights.invalidated(str(number))
        assert all(flights.invalidated_at(str(number)) > before for number in range(5000))
        # Of those that come later only what was forgotten long ago is unknown.
        later = flights.moment
        for number in range(500):
            flights.invalidated(f"another {number}")
        assert flights.invalidated_at("a third") <= later
