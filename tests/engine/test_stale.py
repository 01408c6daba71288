"""Stale, and served all the same: while it is validated behind, or since the origin failed."""

from __future__ import annotations

import pytest

from stillfresh import BodyLost, Outcome, Policy, Reason
from stillfresh.events import Hit, Miss, NotStored, StoreFailed
from stillfresh.rfc9111.fields import Fields
from tests.engine.test_exchange import NOT_MODIFIED, by_language, tongue
from tests.engine.world import URL, Told, World, document, told

BEHIND = "max-age=60, stale-while-revalidate=30"
IF_ERROR = "max-age=60, stale-if-error=30"
DOWN = OSError("no route")


def stored(cache_control: str, policy: Policy | None = None, late: float = 70) -> World:
    """Make a world in which a page has been stored, and its minute is over."""
    world = World(told(cache_control=cache_control, etag='"1"'), policy=policy)
    world.get()
    world.clock.advance(late)
    world.sent.clear()
    world.calls.clear()
    world.events.clear()
    return world


def saying(cache_control: str, reply: Told) -> Told:
    fields = Fields(reply.fields).replacing(("Cache-Control", cache_control))
    return Told(reply.status, fields.lines, reply.body)


class TestWhileRevalidating:
    """RFC 5861 §3."""

    def test_it_is_served_at_once_and_refreshed_behind(self) -> None:
        world = stored(BEHIND)
        answer = world.ask()
        assert answer.info.outcome is Outcome.HIT
        assert answer.info.why.reason is Reason.STALE_WHILE_REVALIDATE
        assert (answer.info.age, answer.info.ttl) == (70, -10)
        assert answer.response.fields.get("cache-status") == (
            "stillfresh; hit; ttl=-10; "
            'detail="stale, and refreshed behind: max-age=60, age 70 (RFC 5861 section 3)"'
        )
        assert world.refreshing == [URL]
        assert world.consume(answer) == b"hello"
        assert [type(event) for event in world.events] == [Hit]
        assert not world.sent
        assert world.left_open() == []

    def test_each_way_to_be_answered_from_it(self) -> None:
        world = stored(BEHIND)
        assert world.ask("HEAD").response.status == 200
        assert world.ask(headers={"If-None-Match": '"1"'}).response.status == 304
        assert world.get({"Range": "bytes=1-2"})[0] == b"el"
        assert world.refreshing == [URL] * 3
        assert not world.sent
        assert world.left_open() == []

    def test_a_variant_has_a_key_of_its_own(self) -> None:
        world = World(lambda request: saying(BEHIND, by_language(request)))
        for name in ("en", "de"):
            world.get(tongue(name))
        world.clock.advance(70)
        answer = world.ask(headers=tongue("de"))
        assert world.consume(answer) == b"de"
        assert world.refreshing == [answer.info.key]
        assert world.refreshing[0].startswith(f"{URL}#variant=")

    @pytest.mark.parametrize(
        ("cache_control", "headers", "late"),
        [
            (BEHIND, {}, 91),
            (BEHIND, {"Cache-Control": "max-stale=5"}, 70),
            (BEHIND, {"Cache-Control": "no-cache"}, 70),
            (BEHIND, {"Cache-Control": "max-age=65"}, 70),
            (BEHIND, {"Cache-Control": "no-store"}, 70),
            (BEHIND + ", must-revalidate", {}, 70),
            (BEHIND + ", no-cache", {}, 0),
            ("max-age=60", {}, 70),
        ],
    )
    def test_not_where_that_is_not_allowed(
        self, cache_control: str, headers: dict[str, str], late: float
    ) -> None:
        world = stored(cache_control, late=late)
        world.replies = [document(b"hello")]
        body, info = world.get(headers)
        assert body == b"hello"
        assert info.outcome in {Outcome.REVALIDATED, Outcome.MISS}
        assert world.refreshing == []

    @pytest.mark.parametrize(("seconds", "served"), [(0, False), (9, False), (10, True)])
    def test_how_long_is_for_the_policy_to_say(self, seconds: float, *, served: bool) -> None:
        world = stored(BEHIND, Policy(stale_while_revalidate=seconds))
        world.replies = [NOT_MODIFIED]
        world.get()
        assert world.refreshing == ([URL] if served else [])
        assert bool(world.sent) is not served

    def test_a_damaged_body_is_no_answer(self) -> None:
        world = stored(BEHIND)
        world.faults["prime"] = BodyLost("gone")
        answer = world.ask()
        world.faults.clear()
        assert world.consume(answer) == b"hello"
        assert answer.info.outcome is Outcome.MISS
        assert world.refreshing == []
        assert world.left_open() == []

    def test_a_part_is_no_answer(self) -> None:
        world = World(document(b"a longer body", cache_control=BEHIND))
        world.cut_off(4)
        world.clock.advance(70)
        assert world.get()[1].outcome is Outcome.COMPLETED
        assert world.refreshing == []


class TestIfError:
    """RFC 5861 §4."""

    @pytest.mark.parametrize(
        ("failure", "said"),
        [
            (DOWN, "OSError"),
            *((Told(status), f"status {status}") for status in (500, 502, 503, 504)),
        ],
        ids=str,
    )
    def test_it_stands_in_for_an_origin_that_fails(
        self, failure: Told | Exception, said: str
    ) -> None:
        world = stored(IF_ERROR)
        before = dict(world.kept)
        world.replies = [failure]
        answer = world.ask()
        assert answer.response.status == 200
        assert answer.info.outcome is Outcome.HIT
        assert answer.info.why.reason is Reason.STALE_IF_ERROR
        assert answer.response.fields.get("cache-status") == (
            "stillfresh; hit; ttl=-10; "
            f'detail="stale, and the origin failed: {said}, max-age=60, age 70 '
            '(RFC 5861 section 4)"'
        )
        assert world.consume(answer) == b"hello"
        assert [type(event) for event in world.events] == [Hit]
        assert world.kept == before
        assert world.left_open() == []

    @pytest.mark.parametrize("failure", [DOWN, Told(503)], ids=str)
    def test_each_way_to_be_answered_from_it(self, failure: Told | Exception) -> None:
        world = stored(IF_ERROR)
        world.replies = [failure]
        assert world.ask("HEAD").response.status == 200
        assert world.ask(headers={"If-None-Match": '"1"'}).response.status == 304
        assert world.get({"Range": "bytes=1-2"})[0] == b"el"
        assert len(world.sent) == 3
        assert world.left_open() == []

    def test_a_variant(self) -> None:
        world = World(lambda request: saying(IF_ERROR, by_language(request)))
        for name in ("en", "de"):
            world.get(tongue(name))
        world.clock.advance(70)
        world.replies = [DOWN]
        assert world.get(tongue("de"))[0] == b"de"
        with pytest.raises(OSError, match="no route"):
            world.get(tongue("fr"))
        assert world.left_open() == []

    @pytest.mark.parametrize(
        ("cache_control", "headers", "late"),
        [
            (IF_ERROR, {}, 91),
            (IF_ERROR, {"Cache-Control": "no-cache"}, 70),
            (IF_ERROR, {"Cache-Control": "max-age=65"}, 70),
            (IF_ERROR, {"Cache-Control": "min-fresh=5"}, 70),
            (IF_ERROR, {"If-Match": '"1"'}, 70),
            (IF_ERROR + ", must-revalidate", {}, 70),
            (IF_ERROR + ", no-cache", {}, 0),
            ("max-age=60", {}, 70),
        ],
    )
    @pytest.mark.parametrize("failure", [DOWN, Told(503)], ids=str)
    def test_not_where_that_is_not_allowed(
        self,
        cache_control: str,
        headers: dict[str, str],
        late: float,
        failure: Told | Exception,
    ) -> None:
        world = stored(cache_control, late=late)
        before = dict(world.kept)
        world.replies = [failure]
        if isinstance(failure, Exception):
            with pytest.raises(OSError, match="no route"):
                world.ask(headers=headers)
        else:
            answer = world.ask(headers=headers)
            assert answer.response.status == 503
            assert [type(event) for event in world.events] == [NotStored, Miss]
            world.consume(answer)
        assert world.kept == before
        assert world.left_open() == []

    def test_it_is_for_the_policy_and_the_request_to_say(self) -> None:
        for policy, headers, served in (
            (Policy(stale_if_error=10), {}, True),
            (Policy(stale_if_error=9), {}, False),
            (Policy(stale_if_error=0), {"Cache-Control": "stale-if-error=99"}, False),
            (Policy(), {"Cache-Control": "stale-if-error=10"}, True),
            (Policy(), {"Cache-Control": "stale-if-error=9"}, False),
        ):
            world = stored("max-age=60", policy)
            world.replies = [Told(503)]
            answer = world.ask(headers=headers)
            assert (answer.response.status == 200) is served
            world.consume(answer)
            assert world.left_open() == []

    @pytest.mark.parametrize("status", [501, 505, 429, 404])
    def test_any_other_status_is_an_answer(self, status: int) -> None:
        world = stored(IF_ERROR)
        world.replies = [Told(status)]
        answer = world.ask()
        assert answer.response.status == status
        world.consume(answer)
        assert world.left_open() == []

    def test_any_other_error_is_the_callers_to_know(self) -> None:
        world = stored(IF_ERROR)
        world.replies = [ZeroDivisionError()]
        with pytest.raises(ZeroDivisionError):
            world.ask()
        assert world.left_open() == []

    @pytest.mark.parametrize("failure", [DOWN, Told(503)], ids=str)
    def test_a_damaged_body_stands_in_for_nothing(self, failure: Told | Exception) -> None:
        world = stored(IF_ERROR)
        world.replies = [failure]
        world.faults["prime"] = BodyLost("gone")
        if isinstance(failure, Exception):
            with pytest.raises(OSError, match="no route"):
                world.ask()
        else:
            answer = world.ask()
            assert answer.response.status == 503
            world.consume(answer)
        assert [event.operation for event in world.of(StoreFailed)] == ["read"]
        assert world.left_open() == []

    @pytest.mark.parametrize("failure", [DOWN, Told(503)], ids=str)
    def test_a_part_stands_in_for_nothing_but_what_is_in_it(
        self, failure: Told | Exception
    ) -> None:
        world = World(document(b"a longer body", cache_control=IF_ERROR))
        world.cut_off(4)
        world.clock.advance(70)
        before = dict(world.kept)
        world.replies = [failure]
        if isinstance(failure, Exception):
            with pytest.raises(OSError, match="no route"):
                world.ask()
        else:
            assert world.ask().response.status == 503
        assert world.get({"Range": "bytes=0-3"})[0] == b"a lo"
        assert world.kept == before

    def test_an_origin_that_is_back_is_asked_again(self) -> None:
        world = stored(IF_ERROR)
        world.replies = [DOWN, NOT_MODIFIED]
        assert world.get()[1].outcome is Outcome.HIT
        assert world.get()[1].outcome is Outcome.REVALIDATED

    def test_nothing_stored_stands_in_for_an_unsafe_request(self) -> None:
        world = stored(IF_ERROR, late=0)
        world.replies = [DOWN]
        with pytest.raises(OSError, match="no route"):
            world.ask("POST")
        assert URL in world.kept
