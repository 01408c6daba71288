"""The caller's own conditional requests: answered from the cache, and told apart from ours."""

from __future__ import annotations

import pytest

from stillfresh import Outcome, Reason
from stillfresh.events import Hit, Miss, NotStored, Revalidated, Stored
from stillfresh.rfc9111.dates import format_date
from stillfresh.testing.clock import START
from tests.engine.test_exchange import NOT_MODIFIED, by_language, tongue
from tests.engine.world import URL, Got, Told, World, told

OURS = {"If-None-Match": '"1"'}
THEIRS = {"If-None-Match": '"0"'}
BOTH = {"If-None-Match": '"0", "1"'}
MODIFIED = {"If-Modified-Since": format_date(START - 500)}


def about(tag: str) -> Told:
    return Told(304, (("ETag", tag), ("X-New", "new")))


def stored(**fields: str) -> World:
    world = World(told(b"hello", 200, **{"etag": '"1"', "content_type": "text/plain"} | fields))
    world.get()
    world.sent.clear()
    world.calls.clear()
    world.events.clear()
    return world


def tags(world: World) -> list[str | None]:
    return [request.fields.get("if-none-match") for request in world.sent]


class TestFresh:
    """What is stored and fresh answers whether it has changed (§4.3.2)."""

    @pytest.mark.parametrize(
        "headers",
        [OURS, BOTH, {"If-None-Match": "*"}, {"If-None-Match": 'W/"1"'}, OURS | MODIFIED],
        ids=str,
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_the_caller_has_it_already(self, method: str, headers: dict[str, str]) -> None:
        world = stored()
        world.clock.advance(5)
        answer = world.ask(method, headers=headers)
        fields = answer.response.fields
        assert (answer.response.status, answer.response.reason) == (304, "Not Modified")
        assert (fields.get("etag"), fields.get("age")) == ('"1"', "5")
        assert "content-type" not in fields
        assert fields.get("cache-status") == "stillfresh; hit; ttl=55"
        assert (answer.entry, answer.upstream) == (None, None)
        assert world.calls == ["open", "close"]
        assert [type(event) for event in world.events] == [Hit]
        assert world.left_open() == []
        assert not world.sent

    def test_the_caller_has_another(self) -> None:
        world = stored()
        answer = world.ask(headers=THEIRS)
        assert (answer.response.status, world.consume(answer)) == (200, b"hello")
        assert answer.info.outcome is Outcome.HIT
        assert not world.sent

    @pytest.mark.parametrize(
        ("since", "status"),
        [(START - 1001, 200), (START - 1000, 304), (START, 304)],
    )
    def test_by_date(self, since: float, status: int) -> None:
        world = stored(last_modified=format_date(START - 1000))
        answer = world.ask(headers={"If-Modified-Since": format_date(since)})
        assert answer.response.status == status
        assert world.consume(answer) == (b"" if status == 304 else b"hello")
        assert not world.sent

    def test_a_date_that_is_none_says_nothing(self) -> None:
        world = stored()
        assert world.get({"If-Modified-Since": "yesterday"})[0] == b"hello"
        assert not world.sent

    def test_whether_it_has_changed_goes_before_the_part_of_it(self) -> None:
        world = stored()
        assert world.ask(headers=OURS | {"Range": "bytes=0-1"}).response.status == 304
        answer = world.ask(headers=THEIRS | {"Range": "bytes=0-1"})
        assert (answer.response.status, world.consume(answer)) == (206, b"he")

    def test_a_variant(self) -> None:
        world = World(by_language)
        for name in ("en", "de"):
            world.get(tongue(name))
        for name in ("en", "de"):
            answer = world.ask(headers=tongue(name) | {"If-None-Match": f'"{name}"'})
            assert answer.response.status == 304
            assert answer.info.outcome is Outcome.HIT
        assert world.left_open() == []
        assert len(world.sent) == 2

    def test_an_error_page_is_given_as_it_is(self) -> None:
        world = World(told(b"not here", 404, etag='"1"'))
        world.get()
        answer = world.ask(headers=OURS)
        assert (answer.response.status, world.consume(answer)) == (404, b"not here")


class TestStale:
    """Asked about by our tag and by the caller's; the answer says which one is good (§4.3.2)."""

    @staticmethod
    def ask(world: World, headers: dict[str, str], *replies: Told) -> Got:
        world.clock.advance(61)
        world.replies = list(replies)
        return world.ask(headers=headers)

    @pytest.mark.parametrize("headers", [OURS, BOTH], ids=str)
    def test_ours_is_good_and_the_caller_has_it(self, headers: dict[str, str]) -> None:
        world = stored()
        answer = self.ask(world, headers, about('"1"'))
        assert tags(world) == [headers["If-None-Match"]]
        assert (answer.response.status, answer.entry) == (304, None)
        assert answer.response.fields.get("x-new") == "new"
        assert answer.info.outcome is Outcome.REVALIDATED
        assert answer.info.stored
        assert answer.response.fields.get("cache-status") == (
            "stillfresh; fwd=stale; fwd-status=304; ttl=60; stored; "
            'detail="stale: max-age=60, age 61 (RFC 9111 section 4.2)"'
        )
        assert [type(event) for event in world.events] == [Revalidated]
        assert world.left_open() == []
        assert world.get()[1].outcome is Outcome.HIT

    def test_ours_is_good_and_the_caller_has_it_not(self) -> None:
        world = stored()
        answer = self.ask(world, THEIRS, about('"1"'))
        assert tags(world) == ['"0", "1"']
        assert (answer.response.status, world.consume(answer)) == (200, b"hello")
        assert answer.info.outcome is Outcome.REVALIDATED
        assert world.left_open() == []
        assert world.get()[1].outcome is Outcome.HIT

    @pytest.mark.parametrize("headers", [THEIRS, {"If-None-Match": '"0",'}], ids=str)
    def test_the_callers_is_good(self, headers: dict[str, str]) -> None:
        world = stored()
        before = dict(world.kept)
        answer = self.ask(world, headers, about('"0"'))
        assert (answer.response.status, world.consume(answer)) == (304, b"")
        assert answer.response.fields.get("etag") == '"0"'
        assert answer.info.outcome is Outcome.MISS
        assert [type(event) for event in world.events] == [NotStored, Miss]
        # That says nothing about ours.
        assert world.kept == before
        assert world.left_open() == []

    def test_one_of_them_is_good_but_nobody_says_which(self) -> None:
        world = stored()
        answer = self.ask(world, THEIRS, NOT_MODIFIED, told(b"new", etag='"2"'))
        assert tags(world) == ['"0", "1"', '"0"']
        assert (answer.response.status, world.consume(answer)) == (200, b"new")
        assert world.get()[0] == b"new"
        assert world.left_open() == []

    @pytest.mark.parametrize("headers", [{"If-None-Match": "*"}, MODIFIED], ids=str)
    def test_only_the_callers_condition_went_out(self, headers: dict[str, str]) -> None:
        world = stored()
        answer = self.ask(world, headers, NOT_MODIFIED)
        assert world.sent[0].fields.get("if-none-match") == headers.get("If-None-Match")
        assert (answer.response.status, world.consume(answer)) == (304, b"")
        assert answer.info.outcome is Outcome.MISS
        assert world.kept[URL][1] == b"hello"
        assert world.left_open() == []

    def test_it_has_changed(self) -> None:
        world = stored()
        answer = self.ask(world, THEIRS, told(b"new", etag='"2"'))
        assert (answer.response.status, world.consume(answer)) == (200, b"new")
        assert [type(event) for event in world.events] == [Miss, Stored]
        assert world.get() == (b"new", world.ask("HEAD").info)
        assert world.left_open() == []

    def test_without_a_validator_of_ours_only_the_callers_is_asked_about(self) -> None:
        world = World(told(b"hello"))
        world.get()
        world.sent.clear()
        answer = self.ask(world, THEIRS, about('"0"'))
        assert tags(world) == ['"0"']
        assert (answer.response.status, world.consume(answer)) == (304, b"")
        assert world.left_open() == []

    @pytest.mark.parametrize("about_ours", [True, False])
    def test_a_variant(self, *, about_ours: bool) -> None:
        world = World(by_language)
        for name in ("en", "de"):
            world.get(tongue(name))
        answer = self.ask(world, tongue("de") | THEIRS, about('"de"' if about_ours else '"0"'))
        assert tags(world)[-1] == '"0", "de"'
        assert answer.response.status == (200 if about_ours else 304)
        assert world.consume(answer) == (b"de" if about_ours else b"")
        assert world.left_open() == []


class TestNothingStored:
    def test_the_answer_is_the_callers(self) -> None:
        world = World(about('"0"'))
        answer = world.ask(headers=THEIRS)
        assert (answer.response.status, world.consume(answer)) == (304, b"")
        assert answer.info.why.reason is Reason.NO_STORED
        assert tags(world) == ['"0"']
        assert not world.kept
        assert world.left_open() == []

    def test_what_is_stored_for_others_is_not_asked_about(self) -> None:
        world = World(by_language)
        world.get(tongue("en"))
        world.replies = [about('"0"')]
        answer = world.ask(headers=tongue("de") | THEIRS)
        assert (answer.response.status, world.consume(answer)) == (304, b"")
        assert tags(world)[-1] == '"0"'
        assert world.left_open() == []

    @pytest.mark.parametrize("method", ["POST", "DELETE"])
    def test_an_unsafe_request_keeps_its_condition(self, method: str) -> None:
        world = stored()
        world.replies = [Told(412)]
        answer = world.ask(method, headers=THEIRS)
        assert answer.response.status == 412
        assert tags(world) == ['"0"']
        world.consume(answer)
        assert world.left_open() == []
