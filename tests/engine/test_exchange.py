"""One request through the cache, over ports in memory."""

from __future__ import annotations

from typing import Any

import pytest

from stillfresh import (
    BodyLost,
    CacheClosed,
    CacheFull,
    CacheUnavailable,
    ConfigError,
    Outcome,
    Policy,
    Reason,
)
from stillfresh.engine import records
from stillfresh.engine.credentials import SECRET_KEY
from stillfresh.engine.exchange import exchange
from stillfresh.engine.ports import run
from stillfresh.events import Hit, Invalidated, Miss, NotStored, Revalidated, Stored, StoreFailed
from stillfresh.rfc9111.dates import format_date
from stillfresh.rfc9111.decisions import why
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Request
from tests.engine.world import URL, Told, World, document, legacy, told

NOT_MODIFIED = Told(304)


def by_language(request: Request) -> Told:
    tongue = request.fields.get("accept-language") or "none"
    return told(tongue.encode(), vary="Accept-Language", etag=f'"{tongue}"')


def tongue(name: str) -> dict[str, str]:
    return {"Accept-Language": name}


class TestOrder:
    """Which port is called when."""

    def test_a_miss(self) -> None:
        world = World(told(b"hello"))
        answer = world.ask()
        # The writer is there before the first byte is, and nothing is committed yet.
        assert world.calls == ["open", "send", "writer"]
        assert not world.kept
        world.consume(answer)
        assert world.calls[3:] == ["write", "write", "commit"]
        assert world.left_open() == []

    def test_a_hit(self) -> None:
        world = World(told())
        world.get()
        world.calls.clear()
        answer = world.ask()
        assert world.calls == ["open", "prime"]
        assert world.consume(answer) == b"hello"
        assert world.left_open() == []

    def test_a_head_hit_opens_no_body(self) -> None:
        world = World(told())
        world.get()
        world.calls.clear()
        answer = world.ask("HEAD")
        assert answer.entry is None
        assert world.calls == ["open", "close"]
        assert world.left_open() == []

    def test_a_revalidation(self) -> None:
        world = World(told(etag='"1"'), NOT_MODIFIED)
        world.get()
        world.clock.advance(61)
        world.calls.clear()
        answer = world.ask()
        # The body is made sure of before the record says that it is good.
        assert world.calls == ["open", "send", "discard", "prime", "update"]
        world.consume(answer)
        assert world.left_open() == []

    def test_a_replacement_leaves_the_old_one_until_its_end(self) -> None:
        world = World(told(b"old", etag='"1"'), told(b"new"))
        world.get()
        world.clock.advance(61)
        answer = world.ask()
        assert world.kept[URL][1] == b"old"
        world.consume(answer)
        assert world.kept[URL][1] == b"new"
        assert world.left_open() == []

    def test_an_unsafe_request_looks_nothing_up(self) -> None:
        world = World(told())
        world.get()
        world.calls.clear()
        world.consume(world.ask("POST"))
        assert world.calls == ["send", "remove"]
        assert not world.kept

    def test_a_request_without_credentials_needs_no_key(self) -> None:
        world = World(told())
        world.get()
        assert SECRET_KEY not in world.kept
        world.get({"Authorization": "x"})
        assert SECRET_KEY in world.kept

    def test_events(self) -> None:
        world = World(told(etag='"1"'), NOT_MODIFIED, told())
        for headers in (None, {"Cache-Control": "no-cache"}, {"Cache-Control": "no-cache"}):
            world.get(headers)
        world.get()
        world.consume(world.ask("DELETE"))
        assert [type(event) for event in world.events] == [
            *(Miss, Stored),
            *(Revalidated,),
            *(Miss, Stored),
            *(Hit,),
            *(Invalidated, NotStored, Miss),
        ]

    def test_errors_of_the_origin_pass(self) -> None:
        world = World(told(etag='"1"'), OSError("no route"))
        world.get()
        world.clock.advance(61)
        with pytest.raises(OSError, match="no route"):
            world.ask()
        assert world.left_open() == []
        assert URL in world.kept

    @pytest.mark.parametrize("url", ["", "/path", "http://", "//host/", "http://host:port/"])
    def test_a_url_that_makes_no_sense(self, url: str) -> None:
        world = World(told())
        with pytest.raises(ConfigError):
            world.ask(url=url)
        assert world.calls == []


class TestVariants:
    def test_the_first_takes_one_look(self) -> None:
        world = World(by_language)
        world.get(tongue("en"))
        world.calls.clear()
        world.get(tongue("en"))
        assert world.calls.count("open") == 1

    def test_the_others_take_two(self) -> None:
        world = World(by_language)
        for name in ("en", "de", "fr"):
            world.get(tongue(name))
        world.calls.clear()
        assert world.get(tongue("fr"))[0] == b"fr"
        assert world.calls.count("open") == 2

    def test_they_lie_under_keys_of_the_primarys_generation(self) -> None:
        world = World(by_language)
        for name in ("en", "de", "fr"):
            world.get(tongue(name))
        assert len(world.kept) == 3
        stored = {key: records.decode(kept[0]) for key, kept in world.kept.items()}
        assert len({record.generation for record in stored.values()}) == 1
        assert all(key.startswith(f"{URL}#variant=") for key in stored if key != URL)
        assert stored[URL].others == (("accept-language", "authorization"),)

    def test_dropping_the_primary_drops_all(self) -> None:
        world = World(by_language)
        world.get(tongue("en"))
        world.get(tongue("de"))
        before = records.decode(world.kept[URL][0]).generation
        world.consume(world.ask("PUT"))
        world.get(tongue("en"))
        assert records.decode(world.kept[URL][0]).generation != before
        assert world.get(tongue("de"))[1].outcome is Outcome.MISS

    def test_replacing_the_primary_keeps_the_others(self) -> None:
        world = World(by_language)
        world.get(tongue("en"))
        world.clock.advance(30)
        world.get(tongue("de"))
        world.clock.advance(31)
        assert world.get(tongue("en"))[1].outcome is not Outcome.HIT
        assert world.get(tongue("de"))[1].outcome is Outcome.HIT
        assert world.left_open() == []

    def test_a_primary_replaced_meanwhile_takes_no_variant_with_it(self) -> None:
        """Between the look and the commit somebody else has begun a new generation."""
        world = World(by_language)
        world.get(tongue("en"))
        answer = world.ask(headers=tongue("de"))
        world.consume(world.ask("PUT"))
        world.get(tongue("fr"))
        world.consume(answer)
        assert world.get(tongue("fr"))[0] == b"fr"
        assert world.get(tongue("de"))[1].outcome is Outcome.MISS

    def test_a_set_that_cannot_be_told_of_is_not_stored(self) -> None:
        world = World(by_language)
        world.get(tongue("en"))
        world.faults["update"] = CacheUnavailable("no")
        body, info = world.get(tongue("de"))
        assert body == b"de"
        assert not info.stored
        assert info.storing is not None
        assert info.storing.reason is Reason.NOT_KEPT
        assert [event.operation for event in world.of(StoreFailed)] == ["update"]
        assert len(world.kept) == 1
        assert world.left_open() == []

    @pytest.mark.parametrize(("first", "second"), [("X-A", "X-B"), ("X-B", "X-A")])
    def test_of_several_that_match_the_most_recent_counts(self, first: str, second: str) -> None:
        def answer(request: Request) -> Told:
            number = len(world.sent)
            date = format_date(world.clock())
            vary = request.fields.get("x-by") or ""
            return told(b"%d" % number, cache_control="max-age=999", vary=vary, date=date)

        world = World(answer)
        world.get({"X-A": "1", "X-B": "1", "X-By": first})
        world.clock.advance(5)
        other = {first: "2", second: "1"}
        world.get(other | {"X-By": second})
        world.clock.advance(5)
        assert world.get({"X-A": "1", "X-B": "1"})[0] == b"2"
        assert world.get({first: "1", second: "9"})[0] == b"1"
        assert world.left_open() == []

    def test_of_several_that_match_the_first_may_be_the_most_recent(self) -> None:
        world = World(
            lambda request: told(
                b"%d" % len(world.sent),
                cache_control="max-age=999",
                vary=request.fields.get("x-by") or "",
                date=format_date(world.clock()),
            )
        )
        for headers in (
            {"X-A": "1", "X-B": "1", "X-By": "X-A"},
            {"X-A": "2", "X-B": "1", "X-By": "X-B"},
            {"X-A": "1", "X-B": "9", "X-By": "X-A", "Cache-Control": "no-cache"},
        ):
            world.get(headers)
            world.clock.advance(5)
        assert world.get({"X-A": "1", "X-B": "1"})[0] == b"3"
        assert len(world.sent) == 3
        assert world.left_open() == []

    @pytest.mark.parametrize("name", ["en", "de"], ids=["primary", "variant"])
    def test_a_304_may_change_what_it_is_selected_by(self, name: str) -> None:
        world = World(by_language)
        for other in ("en", "de"):
            world.get(tongue(other))
        world.clock.advance(61)
        more = (("Vary", "Accept-Language, X-A"), ("Cache-Control", "max-age=60"))
        world.replies = [Told(304, more)]
        body, info = world.get(tongue(name) | {"X-A": "1"})
        assert (body, info.outcome) == (name.encode(), Outcome.REVALIDATED)
        # The key of a variant is made of what it was selected by, so there it can't stay.
        assert info.stored is (name == "en")
        world.replies = [by_language]
        for value in ("2", "1"):
            headers = tongue(name) | {"X-A": value, "Cache-Control": "only-if-cached"}
            answer = world.ask(headers=headers)
            assert (answer.response.status == 200) is (name == "en" and value == "1")
            world.consume(answer)
        assert world.left_open() == []

    def test_who_wants_a_language_most_is_given_what_is_in_it(self) -> None:
        def answer(request: Request) -> Told:
            reply = by_language(request)
            return Told(reply.status, (*reply.fields, ("Content-Language", "de")), reply.body)

        world = World(answer, policy=Policy(match_language=True))
        world.get(tongue("de, en;q=0.5"))
        assert world.get(tongue("de"))[0] == b"de, en;q=0.5"
        world.clock.advance(61)
        world.replies = [NOT_MODIFIED]
        # It stays what it was selected by, whoever had it validated.
        for name in ("de, fr;q=0.5", "de, en;q=0.5", "de"):
            assert world.get(tongue(name))[0] == b"de, en;q=0.5"
        assert len(world.sent) == 2
        assert dict(world.record().selection)["accept-language"] == "de,en;q=0.5"
        assert world.left_open() == []

    def test_the_number_of_sets_is_bounded(self) -> None:
        def answer(request: Request) -> Told:
            return told(b"x", vary=request.fields.get("x-by") or "")

        world = World(answer)
        for number in range(40):
            name = f"X-{number}"
            world.get({"X-0": "other" if number else "1", name: "1", "X-By": name})
        assert len(records.decode(world.kept[URL][0]).others) <= 8
        world.calls.clear()
        world.get({"X-0": "none"})
        looking = world.calls[: world.calls.index("send")]
        assert looking.count("open") <= 9
        assert world.left_open() == []

    def test_a_record_of_another_body_is_damage(self) -> None:
        world = World(document(b"a longer body"))
        world.cut_off(4)
        metadata, _, _ = world.kept[URL]
        for body in (b"a l", b"a lon", None):
            world.put(URL, metadata, body)
            world.sent.clear()
            answer = world.ask()
            assert "range" not in world.sent[0].fields
            assert world.consume(answer) == b"a longer body"
        assert [event.operation for event in world.of(StoreFailed)] == ["decode"] * 3
        assert world.left_open() == []

    def test_a_record_of_another_url_is_damage(self) -> None:
        world = World(told())
        world.get()
        world.kept[URL + "other"] = world.kept[URL]
        answer = world.ask(url=URL + "other")
        assert answer.info.outcome is Outcome.MISS
        assert [event.operation for event in world.of(StoreFailed)] == ["decode"]
        world.consume(answer)
        assert world.left_open() == []

    def test_who_isolates_takes_nothing_from_who_does_not(self) -> None:
        """It was stored by a client that didn't tell by which X-Api-Key."""
        world = World(lambda request: told((request.fields.get("x-api-key") or "-").encode()))
        world.get({"X-Api-Key": "a"})
        world.policy = Policy(isolate=frozenset({"x-api-key"}))
        for _ in range(2):
            assert world.get({"X-Api-Key": "b"})[0] == b"b"
            assert world.get({"X-Api-Key": "a"})[0] == b"a"
        assert len(world.sent) == 3
        assert world.left_open() == []


class TestRecording:
    """When a body is committed: at its clean end, if it is as long as was said."""

    @staticmethod
    def record(world: World, *chunks: bytes, end: str) -> Any:
        answer = world.ask()
        assert answer.recorder is not None
        for chunk in chunks:
            run(answer.recorder.write(chunk))
        if end:
            run(getattr(answer.recorder, end)())
        assert answer.upstream is not None
        answer.upstream.is_open = False
        return answer

    @pytest.mark.parametrize(
        ("length", "chunks", "end", "stored"),
        [
            (None, [b"he", b"llo"], "finish", True),
            (None, [b"he", b"llo"], "abort", False),
            (None, [b"he", b"llo"], "", False),
            (None, [], "finish", True),
            (None, [], "abort", False),
            ("5", [b"he", b"llo"], "", True),
            ("5", [b"he", b"llo"], "finish", True),
            ("5", [b"he", b"llo"], "abort", True),
            ("5", [b"hello"], "", True),
            ("5", [b"hell"], "finish", False),
            ("5", [b"hell"], "abort", False),
            ("5", [b"hello!"], "finish", False),
            ("5", [b"hell", b"o!"], "finish", False),
            ("5", [], "finish", False),
            ("0", [], "", True),
            ("5, 5", [b"hello"], "", True),
            ("5, 6", [b"hello"], "", False),
            ("5, 6", [b"hello"], "finish", True),
            ("five", [b"hello"], "finish", True),
            ("-5", [b"hello"], "finish", True),
        ],
    )
    def test_what_is_committed(
        self, length: str | None, chunks: list[bytes], end: str, *, stored: bool
    ) -> None:
        fields = {} if length is None else {"content_length": length}
        world = World(told(**fields))  # type: ignore[arg-type]
        answer = self.record(world, *chunks, end=end)
        assert (URL in world.kept) is stored
        assert answer.recorder.stored is stored
        assert answer.info.stored is stored
        assert len(world.of(Stored)) == stored
        if stored:
            assert (world.kept[URL][1] or b"") == b"".join(chunks)
        elif end:
            assert answer.info.storing.reason is Reason.BROKEN_OFF
            assert len(world.of(NotStored)) == 1
            assert world.left_open() == []

    def test_after_its_end_it_does_nothing(self) -> None:
        for end in ("finish", "abort"):
            world = World(told())
            answer = self.record(world, b"hello", end=end)
            kept, events, calls = dict(world.kept), list(world.events), list(world.calls)
            run(answer.recorder.write(b"more"))
            run(answer.recorder.abort())
            run(answer.recorder.finish())
            run(answer.recorder.abort())
            assert (world.kept, world.events, world.calls) == (kept, events, calls)

    def test_chunks_override_a_length(self) -> None:
        world = World(told(b"hello", content_length="3", transfer_encoding="chunked"))
        assert world.get()[0] == b"hello"
        answer = world.ask()
        assert "content-length" not in answer.response.fields
        assert world.consume(answer) == b"hello"

    def test_a_limit(self) -> None:
        world = World(told(), policy=Policy(max_body=4))
        body, info = world.get()
        assert body == b"hello"
        assert info.storing is not None
        assert info.storing.reason is Reason.TOO_LARGE
        assert not world.kept
        assert world.left_open() == []

    @pytest.mark.parametrize("operation", ["writer", "write", "commit"])
    def test_a_failure_is_told_and_the_body_goes_on(self, operation: str) -> None:
        world = World(told(b"a longer body"))
        world.faults[operation] = CacheFull("no room")
        body, info = world.get()
        assert body == b"a longer body"
        assert info.storing is not None
        assert info.storing.reason is Reason.NOT_KEPT
        assert [event.operation for event in world.of(StoreFailed)] == [operation]
        assert len(world.of(NotStored)) == 1
        assert not world.kept
        assert world.left_open() == []

    @pytest.mark.parametrize("operation", ["write", "commit"])
    def test_a_cache_closed_meanwhile(self, operation: str) -> None:
        world = World(told(b"a longer body"))
        answer = world.ask()
        world.faults[operation] = CacheClosed("closed")
        assert world.consume(answer) == b"a longer body"
        assert not answer.info.stored
        assert len(world.of(NotStored)) == 1
        assert world.left_open() == []

    def test_204_has_no_body_to_wait_for(self) -> None:
        world = World(told(b"", status=204))
        answer = world.ask()
        assert answer.info.stored
        world.consume(answer)
        assert world.ask().info.outcome is Outcome.HIT


class TestGuard:
    @pytest.mark.parametrize("error", [CacheUnavailable("x"), RuntimeError("x"), OSError("x")])
    @pytest.mark.parametrize("operation", ["open", "prime", "update", "remove", "writer"])
    def test_what_fails_is_skipped_and_told(self, operation: str, error: Exception) -> None:
        world = World(told(etag='"1"'), told())
        world.get()
        world.clock.advance(0 if operation == "prime" else 61)
        world.replies = [
            lambda request: NOT_MODIFIED if "if-none-match" in request.fields else told()
        ]
        world.faults[operation] = error
        answer = world.ask("POST" if operation == "remove" else "GET")
        assert world.consume(answer) == b"hello"
        told_of = {event.operation for event in world.of(StoreFailed)}
        assert told_of <= {"read" if operation == "prime" else operation}
        assert told_of or operation == "writer"
        assert world.left_open() == []

    @pytest.mark.parametrize("operation", ["open", "remove", "writer"])
    def test_wrong_use_is_raised_and_leaves_nothing_open(self, operation: str) -> None:
        world = World(told())
        world.faults[operation] = CacheClosed("closed")
        with pytest.raises(CacheClosed):
            world.ask("POST" if operation == "remove" else "GET")
        assert world.left_open() == []

    def test_the_miss_says_that_the_cache_failed(self) -> None:
        world = World(told())
        world.faults["open"] = CacheUnavailable("x")
        answer = world.ask()
        assert answer.info.why.reason is Reason.CACHE_FAILED
        assert answer.response.fields.get("cache-status") == (
            "stillfresh; fwd=miss; fwd-status=200; stored; "
            'detail="the cache could not be read (RFC 9111 section 4)"'
        )
        world.consume(answer)

    def test_a_body_lost_before_its_reader_makes_room_for_whatever_comes(self) -> None:
        world = World(told(b"old"), told(b"new", vary="X-A"))
        world.get()
        world.faults["prime"] = BodyLost("gone")
        assert world.get()[0] == b"new"
        world.faults.clear()
        assert world.get() == (b"new", world.ask("HEAD").info)
        assert list(world.kept) == [URL]

    @pytest.mark.parametrize(
        "error", [OSError("gone"), BodyLost("gone"), ZeroDivisionError("gone")]
    )
    def test_a_body_lost_under_its_reader_is_told_and_forgotten(self, error: Exception) -> None:
        world = World(told(b"a longer body"))
        world.get()
        answer = world.ask()
        assert answer.entry is not None
        assert run(world.read(answer.entry, 3)) == b"a l"
        world.faults["read"] = error
        with pytest.raises(BodyLost, match="gone"):
            world.consume(answer)
        assert [event.operation for event in world.of(StoreFailed)] == ["read"]
        assert URL not in world.kept
        world.faults.clear()
        assert world.get()[1].outcome is Outcome.MISS
        assert world.left_open() == []


class TestUselessAnswers:
    @pytest.mark.parametrize(
        "useless",
        [Told(304, (("ETag", '"other"'),)), Told(304, (("Cache-Control", "no-store"),))],
        ids=["other", "no-store"],
    )
    @pytest.mark.parametrize("name", ["en", "de"], ids=["primary", "variant"])
    def test_a_304_of_no_use_is_asked_again(self, useless: Told, name: str) -> None:
        world = World(by_language)
        world.get(tongue("en"))
        world.get(tongue("de"))
        world.clock.advance(61)
        world.replies = [useless, by_language]
        body, info = world.get(tongue(name))
        assert body == name.encode()
        assert "if-none-match" not in world.sent[-1].fields
        assert info.stored
        assert world.get(tongue(name))[1].outcome is Outcome.HIT
        assert world.left_open() == []

    def test_the_new_answer_is_stored_even_if_it_varies_otherwise(self) -> None:
        world = World(told(b"old", etag='"1"'))
        world.get()
        world.clock.advance(61)
        world.replies = [Told(304, (("ETag", '"2"'),)), told(b"new", vary="X-A")]
        assert world.get()[0] == b"new"
        assert world.get()[1].outcome is Outcome.HIT
        assert world.left_open() == []

    @pytest.mark.parametrize("name", ["en", "de"], ids=["primary", "variant"])
    def test_what_only_the_origin_may_judge_leaves_nothing_open(self, name: str) -> None:
        world = World(by_language)
        world.get(tongue("en"))
        world.get(tongue("de"))
        world.replies = [Told(412)]
        answer = world.ask(headers={"If-Match": '"1"'} | tongue(name))
        assert answer.response.status == 412
        assert answer.info.why.reason is Reason.PRECONDITION
        world.consume(answer)
        assert world.left_open() == []
        assert len(world.kept) == 2


class TestLegacy:
    DATE = format_date(1_700_000_000)

    @staticmethod
    def world(metadata: bytes, body: bytes | None, *replies: Any) -> World:
        world = World(*(replies or (told(b"new"),)))
        world.put(URL, metadata, body, foreign=True)
        return world

    @pytest.mark.parametrize(
        ("inside", "beside"), [(b"hello", None), (b"", b"hello")], ids=["inside", "beside"]
    )
    def test_it_is_served(self, inside: bytes, beside: bytes | None) -> None:
        world = self.world(legacy(inside, Date=self.DATE), beside)
        assert world.get()[0] == b"hello"
        assert world.of(Hit)
        assert world.left_open() == []

    @pytest.mark.parametrize("length", ["4", "6", "0"])
    def test_a_body_of_another_length_is_refused(self, length: str) -> None:
        record = legacy(Date=self.DATE, Content_Length=length)
        world = self.world(record, b"hello")
        assert world.get()[0] == b"new"
        assert [event.operation for event in world.of(StoreFailed)] == ["decode"]
        assert world.left_open() == []

    def test_without_its_body_it_is_refused(self) -> None:
        world = self.world(legacy(Date=self.DATE), None)
        assert world.get()[0] == b"new"
        assert world.left_open() == []

    def test_an_empty_body_may_be_in_the_record(self) -> None:
        world = self.world(legacy(Date=self.DATE, Content_Length="0"), None)
        assert world.get()[0] == b""
        assert world.of(Hit)
        assert world.left_open() == []

    @pytest.mark.parametrize("where", ["inside", "beside"])
    def test_a_304_makes_it_ours(self, where: str) -> None:
        inside, beside = (b"hello", None) if where == "inside" else (b"", b"hello")
        world = self.world(legacy(inside, Date=self.DATE, ETag='"1"'), beside, NOT_MODIFIED)
        world.clock.advance(61)
        body, info = world.get()
        assert (body, info.outcome, info.stored) == (b"hello", Outcome.REVALIDATED, True)
        assert world.kept[URL][1] == b"hello"
        assert not records.decode(world.kept[URL][0]).legacy
        assert world.left_open() == []

    def test_it_begins_a_generation_of_its_own(self) -> None:
        generations = set()
        for _ in range(2):
            world = self.world(legacy(b"x", Date=self.DATE, ETag='"1"'), None, NOT_MODIFIED)
            world.clock.advance(61)
            world.get()
            generations.add(records.decode(world.kept[URL][0]).generation)
        assert len(generations) == 2

    @pytest.mark.parametrize("operation", ["writer", "write", "commit", "read"])
    def test_making_it_ours_may_fail(self, operation: str) -> None:
        world = self.world(legacy(Date=self.DATE, ETag='"1"'), b"hello")
        world.replies = [NOT_MODIFIED, told(b"hello")]
        world.clock.advance(61)
        world.faults[operation] = CacheFull("no")
        answer = world.ask()
        world.faults.clear()
        assert world.consume(answer) == b"hello"
        assert [event.operation for event in world.of(StoreFailed)] == [operation]
        assert world.left_open() == []

    def test_what_somebody_else_stored_meanwhile_is_not_mixed_with_it(self) -> None:
        """Right after our commit another client puts a newer version in the same place."""
        world = self.world(legacy(Date=self.DATE, ETag='"1"'), b"hello")
        other = World(told(b"newer version", x_version="newer"))
        other.get()
        world.replies = [NOT_MODIFIED, told(b"newest version", x_version="newest")]
        world.clock.advance(61)
        metadata, body, _ = other.kept[URL]
        world.meanwhile["commit"] = lambda: world.put(URL, metadata, body)
        answer = world.ask()
        version = answer.response.fields.get("x-version") or "hello"
        assert world.consume(answer).decode().split(" ")[0] == version
        assert world.left_open() == []

    def test_it_is_nobodys_with_credentials(self) -> None:
        world = self.world(legacy(b"hello", Date=self.DATE), None)
        assert world.get({"Authorization": "x"})[0] == b"new"
        assert world.get()[0] == b"new"

    def test_it_is_nobodys_of_those_that_are_isolated(self) -> None:
        world = self.world(legacy(b"hello", Date=self.DATE), None)
        world.policy = Policy(isolate=frozenset({"x-api-key"}))
        assert world.get({"X-Api-Key": "k"})[0] == b"new"

    def test_private_is_nobodys_with_a_cookie(self) -> None:
        record = legacy(b"hello", Date=self.DATE, Cache_Control="private, max-age=60")
        world = self.world(record, None)
        assert world.get({"Cookie": "x"})[0] == b"new"

    def test_a_head_that_agrees_leaves_it_as_it_is(self) -> None:
        world = self.world(legacy(b"hello", Date=self.DATE, ETag='"1"'), None)
        before = dict(world.kept)
        world.replies = [told(b"", etag='"1"')]
        world.clock.advance(61)
        world.consume(world.ask("HEAD"))
        assert world.kept == before
        assert world.left_open() == []


def test_what_bypasses_the_cache_neither_uses_nor_changes_it() -> None:
    world = World(told(b"old"))
    world.get()
    before = dict(world.kept)
    world.calls.clear()
    world.replies = [told(b"new", etag='"1"')]
    request = Request("GET", URL, Fields())
    answer = run(exchange(request, world.policy, world, bypass=why(Reason.UNVERIFIED)))
    assert world.consume(answer) == b"new"
    assert world.calls == ["send"]
    assert answer.info.outcome is Outcome.MISS
    assert answer.info.why == answer.info.storing
    assert "fwd=bypass" in (answer.response.fields.get("cache-status") or "")
    assert world.kept == before
    assert world.left_open() == []


def test_who_does_not_listen_hears_of_failures_only() -> None:
    world = World(told(etag='"1"'))
    world.listening = False
    for _ in range(2):
        world.get()
    world.consume(world.ask("POST"))
    world.faults["commit"] = CacheFull("no room")
    world.get()
    assert [type(event) for event in world.events] == [StoreFailed]


def test_what_the_cache_did_in_one_line() -> None:
    world = World(told(b"hello"))
    assert str(world.get()[1]) == (
        "miss: nothing is stored for this URI (RFC 9111 §4); "
        "the response may be stored: max-age=60 (RFC 9111 §3)"
    )
    assert str(world.get()[1]) == "hit: fresh: max-age=60, age 0 (RFC 9111 §4.2)"


def test_what_events_say_of_a_url_leaves_its_userinfo_out() -> None:
    world = World(told(etag='"1"'), NOT_MODIFIED, Told(500))
    url = "http://me:s3@cret@origin.example/a@b?c=@"
    for _ in range(2):
        world.consume(world.ask(url=url))
        world.clock.advance(61)
    world.consume(world.ask("POST", url=url))
    for event in world.events:
        assert "s3" not in repr(event)
        assert "origin.example/a@b?c=@" in repr(event)


def test_a_request_that_is_answered_leaves_the_request_as_it_was() -> None:
    world = World(told(etag='"1"'), NOT_MODIFIED)
    request = Request("GET", URL, Fields([("X-A", "1")]))
    for _ in range(2):
        world.consume(run(exchange(request, world.policy, world)))
        world.clock.advance(61)
    assert request == Request("GET", URL, Fields([("X-A", "1")]))
