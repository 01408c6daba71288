"""The caller asks whether it has the present response already (RFC 9111 §4.3.2)."""

from __future__ import annotations

import pytest

from stillfresh import Outcome
from stillfresh.rfc9111.dates import format_date
from stillfresh.testing import ManualClock
from stillfresh.testing.clock import START
from tests.clients.behaviours.suite import Driver, Suite, fresh
from tests.origin import Document, Origin, Reply

OURS = {"If-None-Match": '"1"'}
THEIRS = {"If-None-Match": '"0"'}


class Conditions(Suite):
    @pytest.fixture
    def dated(self, origin: Origin, client: Driver) -> str:
        """A page that is stored and fresh."""
        reply = fresh(
            etag='"1"',
            last_modified=format_date(START - 1000),
            date=format_date(START),
            content_type="text/plain",
        )
        url = origin.on("/", reply, Reply(500))
        client.get(url)
        return url

    @pytest.mark.parametrize(
        "headers",
        [
            OURS,
            {"If-None-Match": 'W/"1"'},
            {"If-None-Match": '"0", "1"'},
            {"If-None-Match": "*"},
            {"If-Modified-Since": format_date(START - 1000)},
        ],
        ids=str,
    )
    def test_it_has(
        self,
        origin: Origin,
        client: Driver,
        clock: ManualClock,
        dated: str,
        headers: dict[str, str],
    ) -> None:
        clock.advance(5)
        answer = client.get(dated, headers)
        assert (answer.status, answer.reason, answer.body) == (304, "Not Modified", b"")
        assert (answer["ETag"], answer["Age"]) == ('"1"', "5")
        assert answer["Content-Type"] == answer["Content-Length"] == ""
        assert answer.from_cache
        assert answer.info.outcome is Outcome.HIT
        assert len(origin.received) == 1
        assert client.get(dated).body == b"hello"

    @pytest.mark.parametrize(
        "headers",
        [
            THEIRS,
            {"If-Modified-Since": format_date(START - 1001)},
            {"If-Modified-Since": "yesterday"},
            THEIRS | {"If-Modified-Since": format_date(START)},
        ],
        ids=str,
    )
    def test_it_has_not(
        self, origin: Origin, client: Driver, dated: str, headers: dict[str, str]
    ) -> None:
        answer = client.get(dated, headers)
        assert (answer.status, answer.body, answer.from_cache) == (200, b"hello", True)
        assert len(origin.received) == 1

    def test_head(self, origin: Origin, client: Driver, dated: str) -> None:
        assert client.head(dated, OURS).status == 304
        assert client.head(dated, THEIRS).status == 200
        assert len(origin.received) == 1

    def test_only_if_cached(self, origin: Origin, client: Driver, dated: str) -> None:
        only = {"Cache-Control": "only-if-cached"}
        assert client.get(dated, OURS | only).status == 304
        assert client.get(origin.url("/other"), OURS | only).status == 504
        assert len(origin.received) == 1

    @pytest.mark.parametrize(("headers", "status"), [(OURS, 304), (THEIRS, 200)], ids=str)
    def test_when_what_is_stored_is_stale_the_origin_tells_of_both(
        self,
        origin: Origin,
        client: Driver,
        clock: ManualClock,
        headers: dict[str, str],
        status: int,
    ) -> None:
        url = origin.on("/", Document(b"hello"))
        client.get(url)
        clock.advance(61)
        answer = client.get(url, headers)
        assert (answer.status, answer.body) == (status, b"" if status == 304 else b"hello")
        assert answer.info.outcome is Outcome.REVALIDATED
        asked = origin.received[-1].header("If-None-Match") or ""
        assert asked in {headers["If-None-Match"], '"0", "1"'}
        assert client.get(url).info.outcome is Outcome.HIT

    def test_a_304_about_what_the_caller_has_is_the_callers(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        """The origin has gone back to what the caller has."""
        url = origin.on(
            "/", fresh(etag='"1"'), Reply(304, {"ETag": '"0"', "X-Seen": "304"}), Reply(304)
        )
        client.get(url)
        clock.advance(61)
        answer = client.get(url, THEIRS)
        assert (answer.status, answer.body, answer["X-Seen"]) == (304, b"", "304")
        assert not answer.from_cache
        assert client.get(url).body == b"hello"

    def test_where_nothing_is_stored_the_origin_answers(
        self, origin: Origin, client: Driver
    ) -> None:
        url = origin.on("/", Document(b"hello"))
        answer = client.get(url, OURS)
        assert (answer.status, answer.from_cache) == (304, False)
        assert origin.received[-1].header("If-None-Match") == '"1"'
        # That has stored nothing; a 200 to such a question is stored.
        assert client.get(url, THEIRS).body == b"hello"
        assert client.get(url).from_cache
