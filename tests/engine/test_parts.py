"""Parts of bodies: asked for, kept when a download breaks off, completed, and put together."""

from __future__ import annotations

import email

import pytest

from stillfresh import (
    BodyLost,
    CacheClosed,
    CacheFull,
    CacheInfo,
    CacheUnavailable,
    Outcome,
    Policy,
    Reason,
)
from stillfresh.events import Event, Hit, Miss, NotStored, Revalidated, Stored, StoreFailed
from stillfresh.rfc9111.dates import format_date
from stillfresh.rfc9111.messages import Request, Response
from stillfresh.rfc9111.ranges import Part
from stillfresh.testing.clock import START
from tests.engine.world import URL, Told, World, document, told

BODY = b"abcdefghij"
NEWS = b"0123456789"


def of(text: str) -> dict[str, str]:
    return {"Range": f"bytes={text}"}


def whole(**fields: str) -> World:
    """Make a world in which all of the body is stored."""
    world = World(document(BODY, **fields))
    world.get()
    forget_what_was(world)
    return world


def begun(size: int = 4, **fields: str) -> World:
    """Make a world in which the download has broken off after `size` bytes."""
    world = World(document(BODY, **fields))
    world.cut_off(size)
    forget_what_was(world)
    return world


def with_part(wanted: str, **fields: str) -> World:
    """Make a world in which that range has been asked for."""
    world = World(document(BODY, **fields))
    world.get(of(wanted))
    forget_what_was(world)
    return world


def forget_what_was(world: World) -> None:
    assert world.left_open() == []
    world.sent.clear()
    world.calls.clear()
    world.events.clear()


def status_of(response: Response) -> str:
    return response.fields.get("cache-status") or ""


def storing(info: CacheInfo) -> Reason:
    assert info.storing is not None
    return info.storing.reason


def asked(world: World) -> list[tuple[str | None, str | None]]:
    """Return Range and If-Range of all that reached the origin."""
    return [(one.fields.get("range"), one.fields.get("if-range")) for one in world.sent]


def kinds(world: World) -> list[type[Event]]:
    return [type(event) for event in world.events]


class TestRanges:
    """What is stored whole answers for its parts (RFC 9110 §14)."""

    @pytest.mark.parametrize(
        ("wanted", "place", "part"),
        [
            ("2-4", "bytes 2-4/10", b"cde"),
            ("0-0", "bytes 0-0/10", b"a"),
            ("7-", "bytes 7-9/10", b"hij"),
            ("-3", "bytes 7-9/10", b"hij"),
            ("-99", "bytes 0-9/10", BODY),
            ("8-99", "bytes 8-9/10", b"ij"),
            ("1-2,3-4", "bytes 1-4/10", b"bcde"),
        ],
    )
    def test_a_part(self, wanted: str, place: str, part: bytes) -> None:
        world = whole(content_type="text/plain")
        world.clock.advance(5)
        before = dict(world.kept)
        answer = world.ask(headers=of(wanted))
        fields = answer.response.fields
        assert (answer.response.status, fields.get("content-range")) == (206, place)
        assert fields.get("content-length") == str(len(part))
        assert (fields.get("etag"), fields.get("content-type")) == ('"1"', "text/plain")
        assert fields.get("age") == "5"
        assert status_of(answer.response) == "stillfresh; hit; ttl=55"
        assert (answer.info.outcome, answer.info.stored) == (Outcome.HIT, True)
        # All of it is checked before, as a part can't be.
        assert world.calls == ["open", "seek", "prime"]
        assert world.consume(answer) == part
        assert kinds(world) == [Hit]
        assert world.left_open() == []
        assert not world.sent
        assert world.kept == before

    def test_several_parts(self) -> None:
        world = whole(content_type="text/plain")
        answer = world.ask(headers=of("7-8,0-1,4-4"))
        head = answer.response
        body = world.consume(answer)
        assert head.status == 206
        assert head.fields.get("content-length") == str(len(body))
        assert "content-range" not in head.fields
        kind = head.fields.get("content-type") or ""
        message = email.message_from_bytes(f"Content-Type: {kind}\n\n".encode() + body)
        assert message.get_content_type() == "multipart/byteranges"
        parts = [
            (part["Content-Range"], part.get_content_type(), part.get_payload(decode=True))
            for part in message.walk()
            if not part.is_multipart()
        ]
        assert parts == [
            ("bytes 7-8/10", "text/plain", b"hi"),
            ("bytes 0-1/10", "text/plain", b"ab"),
            ("bytes 4-4/10", "text/plain", b"e"),
        ]
        assert world.left_open() == []
        assert not world.sent

    def test_what_can_not_be_satisfied(self) -> None:
        world = whole()
        answer = world.ask(headers=of("10-"))
        assert answer.response.status == 416
        assert answer.response.fields.get("content-range") == "bytes */10"
        assert (answer.entry, answer.upstream) == (None, None)
        assert world.calls == ["open", "close"]
        assert kinds(world) == [Hit]
        assert world.left_open() == []
        assert not world.sent

    @pytest.mark.parametrize(
        "headers",
        [
            of("4-2"),
            of(""),
            {"Range": "lines=1-2"},
            of("0-1") | {"If-Range": '"2"'},
            of("0-1") | {"If-Range": 'W/"1"'},
            of("0-1") | {"If-Range": format_date(START)},
        ],
        ids=str,
    )
    def test_what_is_not_to_be_honoured_is_all_of_it(self, headers: dict[str, str]) -> None:
        world = whole()
        answer = world.ask(headers=headers)
        assert (answer.response.status, world.consume(answer)) == (200, BODY)
        assert not world.sent

    def test_on_the_condition_that_it_is_the_same(self) -> None:
        world = whole()
        answer = world.ask(headers=of("0-1") | {"If-Range": '"1"'})
        assert (answer.response.status, world.consume(answer)) == (206, b"ab")
        assert not world.sent

    def test_a_head_has_no_part(self) -> None:
        world = whole()
        answer = world.ask("HEAD", headers=of("0-1"))
        assert answer.response.status == 200
        assert answer.response.fields.get("content-length") == "10"
        assert answer.entry is None
        assert world.left_open() == []

    def test_an_error_page_has_none_either(self) -> None:
        world = World(told(b"not here", 404))
        world.get()
        assert world.ask("HEAD", headers=of("0-1")).response.status == 404
        assert world.get(of("0-1")) == (b"not here", world.ask("HEAD").info)

    @pytest.mark.parametrize("operation", ["seek", "prime"])
    def test_of_a_damaged_body_is_a_miss(self, operation: str) -> None:
        world = whole()
        world.faults[operation] = BodyLost("gone")
        answer = world.ask(headers=of("2-4"))
        world.faults.clear()
        assert (answer.response.status, world.consume(answer)) == (206, b"cde")
        assert answer.info.outcome is Outcome.MISS
        assert answer.info.why.reason is Reason.CACHE_FAILED
        assert [event.operation for event in world.of(StoreFailed)] == ["read"]
        assert asked(world) == [("bytes=2-4", None)]
        assert world.left_open() == []

    def test_a_body_lost_under_its_reader_is_told_and_forgotten(self) -> None:
        world = whole()
        answer = world.ask(headers=of("0-1,5-6"))
        world.faults["read"] = OSError("gone")
        with pytest.raises(BodyLost, match="gone"):
            world.consume(answer)
        assert [event.operation for event in world.of(StoreFailed)] == ["read"]
        assert not world.kept
        assert world.left_open() == []

    def test_what_is_stale_is_asked_about(self) -> None:
        world = whole()
        world.clock.advance(61)
        answer = world.ask(headers=of("2-4"))
        assert (answer.response.status, world.consume(answer)) == (206, b"cde")
        assert answer.info.outcome is Outcome.REVALIDATED
        assert asked(world) == [("bytes=2-4", None)]
        assert world.sent[0].fields.get("if-none-match") == '"1"'
        assert status_of(answer.response).startswith("stillfresh; fwd=stale; fwd-status=304;")
        assert kinds(world) == [Revalidated]
        assert world.get()[1].outcome is Outcome.HIT
        assert world.left_open() == []

    def test_a_part_of_what_has_changed_takes_the_place_of_the_old(self) -> None:
        world = whole()
        world.clock.advance(61)
        world.replies = [document(NEWS, '"2"')]
        assert world.get(of("2-4"))[0] == b"234"
        assert world.kept[URL][1] == b"234"
        assert world.record().part == Part(2, 4, 10)
        assert world.get()[0] == NEWS

    def test_a_part_does_not_outweigh_the_whole(self) -> None:
        world = World(told(BODY, last_modified="yesterday"))
        world.get()
        world.clock.advance(61)
        world.replies = [told(b"cde", 206, content_range="bytes 2-4/10", content_length="3")]
        body, info = world.get(of("2-4"))
        assert (body, storing(info)) == (b"cde", Reason.STORED_IS_BETTER)
        assert world.kept[URL][1] == BODY
        assert len(world.of(NotStored)) == 1

    def test_only_if_cached(self) -> None:
        world = whole()
        answer = world.ask(headers=of("2-4") | {"Cache-Control": "only-if-cached"})
        assert world.consume(answer) == b"cde"
        answer = begun().ask(headers=of("2-4") | {"Cache-Control": "only-if-cached"})
        assert answer.response.status == 504


class TestCutOff:
    """What has come of a body is kept where the rest of it can be asked for (§3.3)."""

    def test_it_is_kept(self) -> None:
        world = World(document(BODY))
        info = world.cut_off(4)
        assert (info.stored, storing(info)) == (False, Reason.CUT_OFF)
        assert str(info.storing) == (
            "cut off, and kept to be completed: 4 of 10 bytes (RFC 9111 §3.3)"
        )
        assert world.kept[URL][1] == b"abcd"
        assert world.record().part == Part(0, 3, 10)
        assert kinds(world) == [Miss, Stored]
        assert [(event.key, event.size) for event in world.of(Stored)] == [(URL, 4)]
        assert world.left_open() == []

    def test_of_a_body_of_unknown_length(self) -> None:
        world = World(told(BODY, etag='"1"'))
        assert storing(world.cut_off(4)) is Reason.CUT_OFF
        assert world.record().part == Part(0, 3, None)

    def test_a_body_that_is_shorter_than_was_said(self) -> None:
        world = World(told(b"abcd", etag='"1"', content_length="10"))
        body, info = world.get()
        assert (body, storing(info)) == (b"abcd", Reason.CUT_OFF)
        assert world.record().part == Part(0, 3, 10)

    @pytest.mark.parametrize("length", ["3", None])
    def test_a_body_that_is_longer_than_was_said_is_not_kept(self, length: str | None) -> None:
        """Which of its bytes are the ones that were announced?"""
        fields = {"content_length": "3"} if length else {"content_range": "bytes 0-2/10"}
        world = World(told(b"abcdef", 200 if length else 206, etag='"1"', **fields))
        world.step = 6
        body, info = world.get({} if length else of("0-2"))
        assert (body, storing(info)) == (b"abcdef", Reason.BROKEN_OFF)
        assert not world.kept
        world.replies = [document(BODY)]
        assert world.get()[0] == BODY
        assert not world.of(StoreFailed)

    def test_by_a_date_that_is_old_enough(self) -> None:
        fields = {"last_modified": format_date(START - 3600), "date": format_date(START)}
        world = World(told(BODY, 200, **fields))
        assert storing(world.cut_off(4)) is Reason.CUT_OFF
        assert world.record().part == Part(0, 3, None)

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"etag": 'W/"1"'},
            {"etag": "unquoted"},
            {"last_modified": format_date(START - 1), "date": format_date(START)},
        ],
        ids=str,
    )
    def test_without_a_strong_validator_it_leaves_no_trace(self, fields: dict[str, str]) -> None:
        world = World(told(BODY, 200, **fields))
        assert storing(world.cut_off(4)) is Reason.BROKEN_OFF
        assert not world.kept
        assert kinds(world) == [Miss, NotStored]
        assert world.left_open() == []

    def test_nothing_of_it_is_nothing(self) -> None:
        world = World(document(BODY))
        assert storing(world.cut_off(0)) is Reason.BROKEN_OFF
        assert not world.kept

    @pytest.mark.parametrize("status", [203, 404])
    def test_of_another_status_nothing_is_kept(self, status: int) -> None:
        world = World(told(BODY, status, etag='"1"'))
        assert storing(world.cut_off(4)) is Reason.BROKEN_OFF
        assert not world.kept

    def test_of_what_may_not_be_stored_nothing_is_kept(self) -> None:
        world = World(document(BODY, cache_control="no-store"))
        assert storing(world.cut_off(4)) is Reason.RESPONSE_NO_STORE
        world.replies = [document(BODY)]
        assert storing(world.cut_off(4, {"Cache-Control": "no-store"})) is Reason.REQUEST_NO_STORE
        assert not world.kept

    def test_a_part_may_be_cut_off_too(self) -> None:
        world = World(document(BODY))
        assert storing(world.cut_off(3, of("2-8"))) is Reason.CUT_OFF
        assert world.kept[URL][1] == b"cde"
        assert world.record().part == Part(2, 4, 10)

    def test_less_takes_the_place_of_nothing(self) -> None:
        """Of the same representation more is kept: all of it, or a longer part."""
        for world in (whole(), begun(7)):
            kept = dict(world.kept)
            world.replies = [told(BODY, etag='"1"')]
            info = world.cut_off(4, {"Cache-Control": "no-cache"})
            assert storing(info) is Reason.BROKEN_OFF
            assert world.kept == kept
            assert world.left_open() == []

    @pytest.mark.parametrize("more", [None, 7], ids=["all of it", "more of it"])
    def test_less_takes_the_place_of_nothing_that_came_meanwhile(self, more: int | None) -> None:
        world = World(document(BODY))
        first, second = world.ask(), world.ask()
        world.consume(second, more)
        kept = dict(world.kept)
        world.consume(first, 4)
        assert world.kept == kept
        assert world.left_open() == []

    def test_more_takes_the_place_of_less_that_came_meanwhile(self) -> None:
        world = World(document(BODY))
        first, second = world.ask(), world.ask()
        world.consume(second, 4)
        world.consume(first, 7)
        assert world.record().part == Part(0, 6, 10)
        first, second = world.ask(), world.ask()
        world.consume(second, 8)
        world.consume(first)
        assert world.kept[URL][1] == BODY
        assert world.left_open() == []

    def test_a_part_of_what_is_new_takes_the_place_of_the_old(self) -> None:
        world = whole()
        world.replies = [document(NEWS, '"2"')]
        world.cut_off(4, {"Cache-Control": "no-cache"})
        assert world.kept[URL][1] == b"0123"
        assert world.get()[0] == NEWS

    @pytest.mark.parametrize("error", [CacheFull("no room"), CacheClosed("closed")])
    def test_the_cache_may_fail(self, error: Exception) -> None:
        world = World(document(BODY))
        answer = world.ask()
        world.faults["commit"] = error
        world.consume(answer, 4)
        assert storing(answer.info) is Reason.NOT_KEPT
        assert len(world.of(NotStored)) == 1
        assert not world.kept
        assert world.left_open() == []

    def test_of_a_body_too_large_for_the_policy_nothing_is_kept(self) -> None:
        world = World(told(BODY, etag='"1"'), policy=Policy(max_body=5))
        assert storing(world.cut_off(8)) is Reason.TOO_LARGE
        assert not world.kept


class TestCompleting:
    """The rest is asked for, and the caller gets both (§3.4)."""

    @pytest.mark.parametrize("late", [0, 61], ids=["fresh", "stale"])
    def test_the_rest_comes_from_the_origin(self, late: float) -> None:
        world = begun()
        world.clock.advance(late)
        answer = world.ask()
        assert asked(world) == [("bytes=4-", '"1"')]
        assert "if-none-match" not in world.sent[0].fields
        fields = answer.response.fields
        assert (answer.response.status, fields.get("content-length")) == (200, "10")
        assert "content-range" not in fields
        assert status_of(answer.response) == (
            "stillfresh; fwd=partial; fwd-status=206; stored; "
            'detail="only a part is stored: 4 of 10 bytes (RFC 9111 section 3.3)"'
        )
        assert answer.info.outcome is Outcome.COMPLETED
        assert not answer.info.from_cache
        assert storing(answer.info) is Reason.COMPLETED
        assert world.consume(answer) == BODY
        assert answer.info.stored
        assert answer.info.ttl == 60
        assert world.kept[URL][1] == BODY
        assert world.record().part is None
        assert kinds(world) == [Miss, Stored]
        assert [event.size for event in world.of(Stored)] == [10]
        assert world.left_open() == []
        assert world.get()[1].outcome is Outcome.HIT

    def test_the_length_may_come_with_the_rest(self) -> None:
        world = World(told(BODY, etag='"1"'))
        world.cut_off(4)
        world.replies = [document(BODY)]
        answer = world.ask()
        assert answer.response.fields.get("content-length") == "10"
        assert "4 of ? bytes" in status_of(answer.response)
        assert world.consume(answer) == BODY
        assert world.get() == (BODY, world.ask("HEAD").info)

    def test_fields_of_the_rest_are_those_of_the_whole(self) -> None:
        world = begun(x_kept="old", x_new="old")
        world.clock.advance(30)
        world.replies = [document(BODY, x_new="new")]
        answer = world.ask()
        assert answer.response.fields.get("x-kept") == "old"
        assert answer.response.fields.get("x-new") == "new"
        world.consume(answer)
        world.clock.advance(59)
        assert world.get()[1].outcome is Outcome.HIT

    def test_a_variant(self) -> None:
        def answer(request: Request) -> Told:
            tongue = request.fields.get("accept-language") or ""
            return document(tongue.encode() * 5, f'"{tongue}"', vary="Accept-Language")(request)

        world = World(answer)
        for tongue in ("en", "de"):
            world.cut_off(4, {"Accept-Language": tongue})
        for outcome in (Outcome.COMPLETED, Outcome.HIT):
            for tongue in ("de", "en"):
                body, info = world.get({"Accept-Language": tongue})
                assert (body, info.outcome) == (tongue.encode() * 5, outcome)
        assert len(world.kept) == 2
        assert world.left_open() == []

    @pytest.mark.parametrize("late", [0, 61], ids=["fresh", "stale"])
    def test_what_has_changed_comes_whole(self, late: float) -> None:
        world = begun()
        world.clock.advance(late)
        world.replies = [document(NEWS, '"2"')]
        answer = world.ask()
        assert answer.response.status == 200
        assert answer.info.outcome is Outcome.MISS
        assert world.consume(answer) == NEWS
        assert asked(world) == [("bytes=4-", '"1"')]
        assert world.get() == (NEWS, world.ask("HEAD").info)
        assert world.left_open() == []

    @pytest.mark.parametrize(
        "useless",
        [
            Told(416, (("Content-Range", "bytes */4"),)),
            told(b"efghij", 206, etag='"1"'),
            told(b"fghij", 206, etag='"1"', content_range="bytes 5-9/10"),
            told(b"efghij", 206, etag='"1"', content_range="bytes 4-9/11"),
            told(b"efghij", 206, etag='"1"', content_range="bytes 4-9/10", content_length="5"),
            told(b"efghi", 206, etag='"1"', content_range="bytes 4-8/10"),
            told(b"efghij", 206, etag='"2"', content_range="bytes 4-9/10"),
            told(b"efghij", 206, content_range="bytes 4-9/10"),
            told(
                b"efghij", 206, etag='"1"', content_range="bytes 4-9/10", cache_control="no-store"
            ),
        ],
        ids=lambda reply: str(dict(reply.fields) | {"": reply.status}),
    )
    def test_what_does_not_fit_is_asked_for_again(self, useless: Told) -> None:
        world = begun()
        world.replies = [useless, document(NEWS, '"2"')]
        answer = world.ask()
        # Nothing can be made of the part, so it is gone.
        assert not world.kept
        assert (answer.response.status, world.consume(answer)) == (200, NEWS)
        assert asked(world) == [("bytes=4-", '"1"'), (None, None)]
        assert answer.info.why.reason is Reason.INCOMPLETE
        assert world.get()[1].outcome is Outcome.HIT
        assert world.left_open() == []

    @pytest.mark.parametrize("operation", ["prime"])
    def test_what_is_damaged_is_asked_for_again(self, operation: str) -> None:
        world = begun()
        world.faults[operation] = BodyLost("gone")
        answer = world.ask()
        world.faults.clear()
        assert world.consume(answer) == BODY
        assert asked(world) == [(None, None)]
        assert [event.operation for event in world.of(StoreFailed)] == ["read"]
        assert world.get()[1].outcome is Outcome.HIT
        assert world.left_open() == []

    def test_an_error_of_the_origins_leaves_the_part(self) -> None:
        world = begun()
        kept = dict(world.kept)
        world.replies = [Told(503), OSError("no route")]
        assert world.ask().response.status == 503
        with pytest.raises(OSError, match="no route"):
            world.ask()
        assert world.kept == kept
        world.replies = [document(BODY)]
        assert world.get()[0] == BODY

    def test_broken_off_again_it_is_longer_than_before(self) -> None:
        world = begun()
        assert storing(world.cut_off(7)) is Reason.CUT_OFF
        assert world.kept[URL][1] == b"abcdefg"
        assert world.record().part == Part(0, 6, 10)
        assert world.get()[0] == BODY
        assert asked(world) == [("bytes=4-", '"1"'), ("bytes=7-", '"1"')]
        assert world.left_open() == []

    @pytest.mark.parametrize("size", [0, 2, 4])
    def test_broken_off_before_the_rest_began_it_is_what_it_was(self, size: int) -> None:
        world = begun()
        kept = dict(world.kept)
        assert storing(world.cut_off(size)) is Reason.BROKEN_OFF
        assert world.kept == kept
        assert kinds(world) == [Miss, NotStored]
        assert world.left_open() == []

    def test_a_rest_longer_than_was_said_is_not_stored(self) -> None:
        world = begun()
        world.replies = [told(b"efghijk", 206, etag='"1"', content_range="bytes 4-9/10")]
        world.step = 7
        assert world.get()[0] == BODY + b"k"
        world.replies = [document(BODY)]
        assert world.get()[0] == BODY
        assert not world.of(StoreFailed)

    def test_a_part_lost_under_its_reader_is_told_and_forgotten(self) -> None:
        world = begun()
        answer = world.ask()
        world.faults["read"] = OSError("gone")
        with pytest.raises(BodyLost, match="gone"):
            world.consume(answer)
        assert not world.kept
        world.faults.clear()
        assert world.get()[0] == BODY
        assert asked(world) == [("bytes=4-", '"1"'), (None, None)]
        assert world.left_open() == []

    @pytest.mark.parametrize("operation", ["writer", "write", "commit"])
    def test_what_can_not_be_kept_is_given_all_the_same(self, operation: str) -> None:
        world = begun()
        kept = dict(world.kept)
        world.faults[operation] = CacheFull("no room")
        answer = world.ask()
        assert ("; stored" in status_of(answer.response)) is (operation != "writer")
        assert world.consume(answer) == BODY
        assert storing(answer.info) is Reason.NOT_KEPT
        assert [event.operation for event in world.of(StoreFailed)] == [operation]
        assert len(world.of(NotStored)) == 1
        assert world.kept == kept
        assert world.left_open() == []

    def test_what_is_too_large_for_the_policy_is_given_all_the_same(self) -> None:
        world = begun()
        world.policy = Policy(max_body=6)
        body, info = world.get()
        assert (body, storing(info)) == (BODY, Reason.TOO_LARGE)
        assert world.left_open() == []

    @pytest.mark.parametrize(
        ("method", "headers"),
        [
            ("GET", {"Cache-Control": "no-store"}),
            ("GET", {"If-None-Match": '"0"'}),
            ("GET", {"If-Match": '"1"'}),
        ],
        ids=str,
    )
    def test_who_asks_otherwise_gets_what_the_origin_says(
        self, method: str, headers: dict[str, str]
    ) -> None:
        world = begun()
        answer = world.ask(method, headers=headers)
        assert world.consume(answer) == BODY
        assert asked(world) == [(None, None)]
        assert world.left_open() == []

    def test_only_if_cached(self) -> None:
        world = begun()
        answer = world.ask(headers={"Cache-Control": "only-if-cached"})
        assert answer.response.status == 504
        assert not world.sent
        assert world.left_open() == []

    def test_a_part_without_a_beginning_is_asked_for_as_a_whole(self) -> None:
        world = with_part("3-5")
        answer = world.ask()
        assert world.consume(answer) == BODY
        assert asked(world) == [(None, None)]
        assert answer.info.why.reason is Reason.INCOMPLETE
        assert "fwd=partial" in status_of(answer.response)
        assert world.get()[1].outcome is Outcome.HIT
        assert world.left_open() == []

    def test_head_knows_it_from_the_part(self) -> None:
        world = begun()
        answer = world.ask("HEAD")
        assert answer.info.outcome is Outcome.HIT
        assert answer.response.status == 200
        assert answer.response.fields.get("content-length") == "10"
        assert not world.sent
        assert world.left_open() == []

    def test_the_callers_own_condition_may_be_answered_from_the_part(self) -> None:
        world = begun()
        answer = world.ask(headers={"If-None-Match": '"1"'})
        assert (answer.response.status, answer.entry) == (304, None)
        assert not world.sent
        assert world.left_open() == []

    def test_a_rest_that_tells_of_another_search_variance(self) -> None:
        """The place of the whole is then another, but the caller still gets all of it."""
        world = World(document(BODY))
        url = URL + "?b=2&a=1"
        world.cut_off(4, url=url)
        world.replies = [document(BODY, no_vary_search="key-order")]
        assert world.get(url=url)[0] == BODY
        assert world.left_open() == []
        assert world.get(url=url) == (BODY, world.ask("HEAD", url=url).info)


class TestPartsOfParts:
    """A stored part answers for what is in it, and grows by what isn't (§3.3, §3.4)."""

    @pytest.mark.parametrize("wanted", ["3-5", "4-4", "5-3,3-5"])
    def test_what_is_in_it(self, wanted: str) -> None:
        world = with_part("3-5")
        world.replies = [Told(500)]
        body, info = world.get(of("4-5"))
        assert (body, info.outcome) == (b"ef", Outcome.HIT)
        assert not world.sent
        assert world.left_open() == []

    def test_what_is_in_it_and_stale_is_asked_about(self) -> None:
        world = with_part("3-6")
        world.clock.advance(61)
        body, info = world.get(of("4-5"))
        assert (body, info.outcome) == (b"ef", Outcome.REVALIDATED)
        assert world.sent[0].fields.get("if-none-match") == '"1"'
        assert world.record().part == Part(3, 6, 10)
        assert world.get(of("3-6"))[1].outcome is Outcome.HIT
        assert world.left_open() == []

    def test_a_head_that_agrees_freshens_it(self) -> None:
        world = with_part("3-6")
        world.clock.advance(61)
        world.consume(world.ask("HEAD"))
        assert world.record().part == Part(3, 6, 10)
        assert world.get(of("3-6"))[1].outcome is Outcome.HIT
        assert world.left_open() == []

    def test_several_parts_of_it(self) -> None:
        world = with_part("1-8")
        answer = world.ask(headers=of("2-3,6-7"))
        body = world.consume(answer)
        assert answer.response.status == 206
        assert b"bytes 2-3/10\r\n\r\ncd\r\n" in body
        assert b"bytes 6-7/10\r\n\r\ngh\r\n" in body
        assert not world.sent

    @pytest.mark.parametrize(
        ("stored", "wanted", "together"),
        [
            ("4-6", "7-8", Part(4, 8, 10)),
            ("4-6", "5-8", Part(4, 8, 10)),
            ("4-6", "1-3", Part(1, 6, 10)),
            ("4-6", "2-5", Part(2, 6, 10)),
            ("4-6", "2-8", Part(2, 8, 10)),
            ("0-4", "5-9", None),
            ("5-9", "0-4", None),
            ("3-9", "0-5", None),
            ("3-5", "0-9", None),
        ],
    )
    def test_what_is_next_to_it_joins_it(
        self, stored: str, wanted: str, together: Part | None
    ) -> None:
        world = with_part(stored)
        first, last = map(int, wanted.split("-"))
        answer = world.ask(headers=of(wanted))
        assert asked(world) == [(f"bytes={wanted}", None)]
        assert answer.response.fields.get("content-range") == f"bytes {first}-{last}/10"
        assert world.consume(answer) == BODY[first : last + 1]
        assert answer.info.outcome is Outcome.MISS
        assert answer.info.stored
        kept = BODY if together is None else BODY[together.first : together.last + 1]
        assert world.kept[URL][1] == kept
        assert world.record().part == together
        assert kinds(world) == [Miss, Stored]
        assert world.left_open() == []
        begins, ends = (0, 9) if together is None else (together.first, together.last)
        assert world.get(of(f"{begins}-{ends}")) == (kept, world.ask("HEAD").info)

    def test_what_is_told_is_the_size_of_all_that_is_stored(self) -> None:
        for wanted in ("7-8", "1-3", "2-8"):
            world = with_part("4-6")
            world.get(of(wanted))
            assert [event.size for event in world.of(Stored)] == [len(world.bodies()[0])]

    def test_long_parts_are_joined(self) -> None:
        """What goes before is copied in more than one step."""
        body = bytes(range(256)) * 4000
        world = World(document(body))
        world.step = 1 << 16
        world.get(of("0-699999"))
        world.get(of("500000-999999"))
        assert world.record().part == Part(0, 999_999, len(body))
        assert world.kept[URL][1] == body[:1_000_000]
        assert world.get()[0] == body
        assert asked(world)[-1] == ("bytes=1000000-", '"1"')

    @pytest.mark.parametrize(
        ("stored", "wanted", "reason", "kept"),
        [
            ("1-4", "8-9", Reason.STORED_IS_BETTER, b"bcde"),
            ("1-4", "6-9", Reason.STORED_IS_BETTER, b"bcde"),
            ("1-3", "6-9", Reason.PART_STORABLE, b"ghij"),
        ],
    )
    def test_with_a_gap_between_them_the_longer_one_stays(
        self, stored: str, wanted: str, reason: Reason, kept: bytes
    ) -> None:
        world = with_part(stored)
        assert storing(world.get(of(wanted))[1]) is reason
        assert world.kept[URL][1] == kept
        assert world.left_open() == []

    def test_a_part_of_another_representation_is_not_mixed_with_it(self) -> None:
        world = with_part("1-4")
        world.replies = [document(NEWS, '"2"')]
        assert world.get(of("5-7"))[0] == b"567"
        assert world.kept[URL][1] == b"567"
        assert world.get(of("1-4"))[0] == b"1234"
        assert world.kept[URL][1] == b"1234567"

    def test_one_that_breaks_off_leaves_what_was(self) -> None:
        world = with_part("2-4")
        kept = dict(world.kept)
        assert storing(world.cut_off(1, of("5-8"))) is Reason.BROKEN_OFF
        assert world.kept == kept
        assert world.left_open() == []

    @pytest.mark.parametrize("wanted", ["7-8", "1-3"], ids=["behind", "before"])
    @pytest.mark.parametrize("operation", ["seek", "read", "writer", "write", "commit"])
    def test_the_cache_may_fail_over_it(self, operation: str, wanted: str) -> None:
        world = with_part("4-6")
        kept = dict(world.kept)
        world.faults[operation] = CacheUnavailable("no")
        answer = world.ask(headers=of(wanted))
        first, last = map(int, wanted.split("-"))
        assert world.consume(answer) == BODY[first : last + 1]
        assert storing(answer.info) is Reason.NOT_KEPT
        assert not answer.info.stored
        assert [event.operation for event in world.of(StoreFailed)] == [
            "read" if operation == "seek" else operation
        ]
        assert len(world.of(NotStored)) == 1
        assert world.kept == kept
        assert world.left_open() == []

    @pytest.mark.parametrize("error", [CacheFull("no room"), CacheClosed("closed")])
    def test_the_cache_may_fail_at_what_goes_behind(self, error: Exception) -> None:
        world = with_part("4-6")
        kept = dict(world.kept)
        answer = world.ask(headers=of("1-3"))
        world.meanwhile["write"] = lambda: world.faults.update(write=error)
        assert world.consume(answer) == b"bcd"
        assert storing(answer.info) is Reason.NOT_KEPT
        assert world.kept == kept
        assert world.left_open() == []

    def test_a_part_that_is_in_it_already_changes_nothing(self) -> None:
        world = with_part("1-8")
        kept = dict(world.kept)
        world.replies = [told(b"cde", 206, etag='"1"', content_range="bytes 2-4/10")]
        body, info = world.get(of("2-4") | {"Cache-Control": "no-cache"})
        assert (body, storing(info)) == (b"cde", Reason.STORED_IS_BETTER)
        assert world.kept == kept

    def test_one_that_tells_of_another_search_variance(self) -> None:
        """Its place is another than that of what is stored, so they can't be joined."""
        world = World(document(BODY))
        url = URL + "?b=2&a=1"
        world.get(of("2-4"), url)
        world.replies = [document(BODY, no_vary_search="key-order")]
        assert world.get(of("5-6"), url)[0] == b"fg"
        assert world.left_open() == []
        assert world.get(url=url)[0] == BODY
        assert world.left_open() == []
