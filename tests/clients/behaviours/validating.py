"""Asking whether what is stored is still good (RFC 9111 §4.3), and HEAD (§4.3.5)."""

from __future__ import annotations

from typing import Any

import pytest

from stillfresh import Outcome, Reason
from stillfresh.events import Revalidated
from stillfresh.testing import ManualClock
from tests.clients.behaviours.suite import Driver, Heard, Suite, fresh, paths
from tests.origin import Origin, Reply

THEN = "Sun, 06 Nov 1994 08:49:37 GMT"


def not_modified(**fields: str) -> Reply:
    return Reply(304, {name.replace("_", "-").title(): value for name, value in fields.items()})


class Validating(Suite):
    def test_a_304_brings_the_stored_body(
        self, origin: Origin, client: Driver, clock: ManualClock, heard: Heard
    ) -> None:
        url = origin.on("/", fresh(etag='"1"'), not_modified(cache_control="max-age=10"))
        client.get(url)
        clock.advance(61)
        answer = client.get(url)
        assert (answer.status, answer.reason, answer.body) == (200, "OK", b"hello")
        assert answer.from_cache
        assert answer.info.outcome is Outcome.REVALIDATED
        assert answer["Cache-Status"] == (
            "stillfresh; fwd=stale; fwd-status=304; ttl=10; stored; "
            'detail="stale: max-age=60, age 61 (RFC 9111 section 4.2)"'
        )
        assert origin.received[-1].header("If-None-Match") == '"1"'
        assert [event.ttl for event in heard.of(Revalidated)] == [10]

    def test_a_304_is_fresh_anew(self, origin: Origin, client: Driver, clock: ManualClock) -> None:
        url = origin.on("/", fresh(etag='"1"'), not_modified(cache_control="max-age=10"))
        client.get(url)
        clock.advance(61)
        client.get(url)
        clock.advance(9)
        answer = client.get(url)
        assert answer.info.outcome is Outcome.HIT
        assert answer["Age"] == "9"
        clock.advance(1)
        assert client.get(url).info.outcome is Outcome.REVALIDATED
        assert [request.method for request in origin.received] == ["GET"] * 3

    def test_a_304_updates_fields(self, origin: Origin, client: Driver, clock: ManualClock) -> None:
        first = fresh(etag='"1"', x_old="old", x_both="old", content_type="text/plain", age="1")
        update = not_modified(
            etag='"1"',
            x_both="new",
            x_new="new",
            cache_control="max-age=60",
            content_type="text/html",
            content_encoding="gzip",
            content_length="999",
            content_range="bytes 0-0/1",
        )
        url = origin.on("/", first, update)
        client.get(url)
        clock.advance(61)
        for answer in (client.get(url), client.get(url)):
            assert (answer["X-Old"], answer["X-Both"], answer["X-New"]) == ("old", "new", "new")
            assert (answer["Content-Type"], answer["Content-Length"]) == ("text/html", "5")
            assert (answer["Content-Encoding"], answer["Content-Range"]) == ("", "")
            assert answer["Age"] == "0"
            assert answer.body == b"hello"

    def test_repeated_fields_of_a_304_replace_all_of_the_name(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        stored = [("Cache-Control", "max-age=1"), ("ETag", '"1"'), ("Link", "<a>"), ("Link", "<b>")]
        update = [("Cache-Control", "max-age=60"), ("Link", "<c>"), ("Link", "<d>")]
        url = origin.on("/", Reply(headers=stored), Reply(304, update))
        client.get(url)
        clock.advance(2)
        assert client.get(url).all("Link") == ["<c>", "<d>"]
        assert client.get(url).all("Link") == ["<c>", "<d>"]

    @pytest.mark.parametrize(
        ("fields", "conditions"),
        [
            ({"etag": '"1"'}, ('"1"', None)),
            ({"etag": 'W/"1"'}, ('W/"1"', None)),
            ({"last_modified": THEN}, (None, THEN)),
            ({"etag": '"1"', "last_modified": THEN}, ('"1"', THEN)),
        ],
        ids=["strong", "weak", "date", "both"],
    )
    def test_it_asks_by_what_it_has(
        self,
        origin: Origin,
        client: Driver,
        clock: ManualClock,
        fields: dict[str, Any],
        conditions: tuple[str | None, str | None],
    ) -> None:
        url = origin.on("/", fresh(**fields), not_modified())
        client.get(url)
        clock.advance(61)
        assert client.get(url).body == b"hello"
        asked = origin.received[-1]
        assert (asked.header("If-None-Match"), asked.header("If-Modified-Since")) == conditions

    def test_the_rest_of_the_request_goes_along(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = origin.on("/", fresh(etag='"1"'), not_modified())
        client.get(url)
        clock.advance(61)
        client.get(url + "?", {"X-Mine": "a", "Accept": "text/plain"})
        client.get(url, {"X-Mine": "a", "Accept": "text/plain"})
        asked = origin.received[-1]
        assert (asked.header("X-Mine"), asked.header("Accept")) == ("a", "text/plain")

    def test_without_a_validator_there_is_nothing_to_ask_by(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = origin.on("/", fresh(b"1"), fresh(b"2"))
        client.get(url)
        clock.advance(61)
        assert client.get(url).body == b"2"
        asked = origin.received[-1]
        assert (asked.header("If-None-Match"), asked.header("If-Modified-Since")) == (None, None)

    def test_what_has_changed_replaces_what_was_stored(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = origin.on("/", fresh(b"1", etag='"1"'), fresh(b"2", etag='"2"'), not_modified())
        client.get(url)
        clock.advance(61)
        assert client.get(url).body == b"2"
        assert client.get(url).body == b"2"
        clock.advance(61)
        assert client.get(url).body == b"2"
        assert [request.header("If-None-Match") for request in origin.received] == [
            None,
            '"1"',
            '"2"',
        ]

    def test_no_cache_is_stored_and_always_asked_about(
        self, origin: Origin, client: Driver
    ) -> None:
        headers = {"Cache-Control": "no-cache", "ETag": '"1"'}
        url = origin.on("/", Reply(headers=headers, body=b"hello"), Reply(304))
        client.get(url)
        for _ in range(2):
            answer = client.get(url)
            assert answer.info.outcome is Outcome.REVALIDATED
            assert answer.info.why.reason is Reason.RESPONSE_NO_CACHE
            assert answer.body == b"hello"

    def test_a_304_about_another_response_is_asked_again(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = origin.on(
            "/", fresh(b"1", etag='"1"'), not_modified(etag='"2"'), fresh(b"2", etag='"2"')
        )
        client.get(url)
        clock.advance(61)
        assert client.get(url).body == b"2"
        assert origin.received[-1].header("If-None-Match") is None
        assert client.get(url).body == b"2"

    def test_a_304_that_forbids_storing_is_asked_again(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        secret = Reply(headers={"Cache-Control": "no-store"}, body=b"2")
        url = origin.on(
            "/", fresh(b"1", etag='"1"'), not_modified(cache_control="no-store"), secret
        )
        client.get(url)
        clock.advance(61)
        assert client.get(url).body == b"2"
        assert client.get(url).body == b"2"
        assert origin.received[-1].header("If-None-Match") is None

    @pytest.mark.parametrize("status", [500, 503, 429, 403])
    def test_an_error_is_handed_on_and_forgets_nothing(
        self, origin: Origin, client: Driver, clock: ManualClock, status: int
    ) -> None:
        url = origin.on("/", fresh(etag='"1"'), Reply(status, body=b"no"), not_modified())
        client.get(url)
        clock.advance(61)
        answer = client.get(url)
        assert (answer.status, answer.body, answer.from_cache) == (status, b"no", False)
        assert client.get(url).body == b"hello"

    @pytest.mark.parametrize("status", [404, 410])
    def test_what_is_gone_is_forgotten(
        self, origin: Origin, client: Driver, clock: ManualClock, status: int
    ) -> None:
        url = origin.on("/", fresh(etag='"1"'), Reply(status), Reply(200, body=b"back"))
        client.get(url)
        clock.advance(61)
        assert client.get(url).status == status
        assert client.get(url).body == b"back"
        assert origin.received[-1].header("If-None-Match") is None

    def test_a_condition_stays_out_of_what_the_caller_sends_next(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        headers = {"X-Mine": "a"}
        url = origin.on("/", fresh(etag='"1"'), not_modified())
        client.get(url, headers)
        clock.advance(61)
        client.get(url, headers)
        assert headers == {"X-Mine": "a"}
        client.get(origin.url("/other"), headers)
        assert origin.received[-1].header("If-None-Match") is None

    def test_connections_are_used_again(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = origin.on("/", fresh(etag='"1"'), not_modified())
        chunked = origin.on("/chunked", fresh([b"a", b"b"], etag='"1"'), not_modified())
        nothing = origin.on("/nothing", Reply(204, {"Cache-Control": "max-age=60"}))
        for _ in range(3):
            for target in (url, chunked, nothing):
                client.get(target)
                client.head(target)
            clock.advance(61)
        assert {request.connection for request in origin.received} == {1}


class Heads(Suite):
    def test_head_is_answered_from_a_get(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = origin.on("/", fresh(etag='"1"'))
        client.get(url)
        clock.advance(5)
        answer = client.head(url)
        assert answer.from_cache
        assert (answer.status, answer.body) == (200, b"")
        assert (answer["Content-Length"], answer["ETag"], answer["Age"]) == ("5", '"1"', "5")
        assert client.get(url).body == b"hello"

    def test_head_alone_is_not_stored(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", fresh())
        for _ in range(2):
            answer = client.head(url)
            assert (answer.body, answer["Content-Length"]) == (b"", "5")
            assert not answer.from_cache
        assert client.get(url).body == b"hello"
        assert paths(origin) == [("HEAD", "/"), ("HEAD", "/"), ("GET", "/")]

    def test_a_head_that_agrees_updates(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = origin.on("/", fresh(etag='"1"'), fresh(etag='"1"', x_new="new"))
        client.get(url)
        clock.advance(61)
        assert client.head(url)["X-New"] == "new"
        answer = client.get(url)
        assert answer.info.outcome is Outcome.HIT
        assert (answer["X-New"], answer["Age"], answer.body) == ("new", "0", b"hello")

    @pytest.mark.parametrize(
        "other",
        [fresh(etag='"2"'), fresh(b"longer body", etag='"1"'), fresh(last_modified=THEN)],
        ids=["tag", "length", "date"],
    )
    def test_a_head_that_disagrees_makes_it_a_miss(
        self, origin: Origin, client: Driver, clock: ManualClock, other: Reply
    ) -> None:
        stored = fresh(etag='"1"', last_modified="Sun, 06 Nov 1994 08:49:38 GMT")
        url = origin.on("/", stored, other, fresh(b"new"))
        client.get(url)
        clock.advance(61)
        client.head(url)
        answer = client.get(url)
        assert answer.body == b"new"
        assert not answer.from_cache

    def test_a_head_that_fails_changes_nothing(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = origin.on("/", fresh(etag='"1"'), Reply(503), not_modified())
        client.get(url)
        clock.advance(61)
        assert client.head(url).status == 503
        assert client.get(url).info.outcome is Outcome.REVALIDATED

    def test_a_revalidated_get_serves_head_after_it(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = origin.on("/", fresh(etag='"1"'), not_modified(cache_control="max-age=60"))
        client.get(url)
        clock.advance(61)
        client.get(url)
        assert client.head(url).from_cache
