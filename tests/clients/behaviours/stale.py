"""Stale, and served all the same: while it is refreshed behind, or since the origin fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from stillfresh import Outcome, Policy, Reason
from stillfresh.events import RefreshFailed, Revalidated
from stillfresh.testing import ManualClock
from tests.clients.behaviours.suite import Driver, Heard, NewClient, Suite, fresh
from tests.clients.behaviours.variants import ENGLISH, GERMAN, in_the_language
from tests.origin import Answer, Document, Origin, Raw, Received, Reply

BEHIND = {"Cache-Control": "max-age=60, stale-while-revalidate=30"}
IF_ERROR = {"Cache-Control": "max-age=60, stale-if-error=30"}


class Held:
    """An answer of the origin's that it holds back until it is let go.

    Attributes:
        asked: set when the request is there.
    """

    def __init__(self, origin: Origin, reply: Reply | Raw | Callable[[Received], Reply]) -> None:
        self.asked = threading.Event()
        self._gate = origin.gate()
        self._reply = reply

    def __call__(self, request: Received) -> Reply | Raw:
        self.asked.set()
        assert self._gate.wait(10)
        return self._reply(request) if callable(self._reply) else self._reply

    def let_go(self) -> None:
        self._gate.set()


class Refreshing(Suite):
    """stale-while-revalidate (RFC 5861 §3)."""

    @pytest.fixture
    def stale(self, origin: Origin, client: Driver, clock: ManualClock) -> Callable[..., str]:
        """Have a page stored, and go on until it is stale."""

        def prepare(*answers: Answer, first: Answer | None = None) -> str:
            document = Document(b"old", headers=BEHIND)
            url = origin.on("/", first or document, *(answers or (document,)))
            client.get(url)
            clock.advance(70)
            return url

        return prepare

    def test_nobody_waits_for_the_origin(
        self, origin: Origin, client: Driver, heard: Heard, stale: Callable[..., str]
    ) -> None:
        held = Held(origin, Document(b"new", etag='"2"'))
        url = stale(held)
        for _ in range(3):
            answer = client.get(url)
            assert (answer.status, answer.body) == (200, b"old")
            assert answer.info.outcome is Outcome.HIT
            assert answer.info.why.reason is Reason.STALE_WHILE_REVALIDATE
            assert (answer["Age"], answer.info.ttl) == ("70", -10)
        assert held.asked.wait(10)
        assert not client.settle(0)
        assert client.get(url).body == b"old"
        held.let_go()
        assert client.settle(10)
        # However many have asked, it was refreshed once.
        assert len(origin.received) == 2
        assert origin.received[-1].header("If-None-Match") == '"1"'
        answer = client.get(url)
        assert (answer.body, answer["Age"]) == (b"new", "0")
        assert answer.info.why.reason is Reason.FRESH
        assert not heard.of(RefreshFailed)

    def test_many_at_once_have_it_refreshed_once(
        self, origin: Origin, client: Driver, stale: Callable[..., str]
    ) -> None:
        held = Held(origin, Document(b"new", etag='"2"'))
        url = stale(held)
        with ThreadPoolExecutor(8) as pool:
            bodies = {answer.body for answer in pool.map(lambda _: client.get(url), range(40))}
        assert bodies == {b"old"}
        held.let_go()
        assert client.settle(10)
        assert len(origin.received) == 2

    def test_a_304_refreshes_it(
        self, origin: Origin, client: Driver, heard: Heard, stale: Callable[..., str]
    ) -> None:
        url = stale()
        assert client.get(url).body == b"old"
        assert client.settle(10)
        assert len(heard.of(Revalidated)) == 1
        answer = client.get(url)
        assert (answer.body, answer["Age"]) == (b"old", "0")
        assert len(origin.received) == 2

    @pytest.mark.parametrize(
        "headers",
        [{"Range": "bytes=0-0"}, {"If-None-Match": '"1"'}, {"If-None-Match": '"0"'}],
        ids=str,
    )
    def test_what_the_caller_wants_of_it_is_no_part_of_the_refresh(
        self, origin: Origin, client: Driver, stale: Callable[..., str], headers: dict[str, str]
    ) -> None:
        url = stale(Document(b"new", etag='"2"', headers=BEHIND))
        answer = client.get(url, headers | {"X-Mine": "1"})
        assert answer.from_cache
        assert answer.body == b"old"[: {206: 1, 304: 0}.get(answer.status)]
        assert client.settle(10)
        asked = origin.received[-1]
        assert (asked.header("Range"), asked.header("If-None-Match")) == (None, '"1"')
        assert asked.header("X-Mine") == "1"
        assert client.get(url).body == b"new"
        assert len(origin.received) == 2

    def test_a_head_has_it_refreshed_too(
        self, origin: Origin, client: Driver, stale: Callable[..., str]
    ) -> None:
        url = stale()
        assert client.head(url).from_cache
        assert client.settle(10)
        assert client.get(url)["Age"] == "0"

    def test_each_variant_is_refreshed_for_itself(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        def answer(request: Received) -> Reply:
            whole = in_the_language(request)
            return Reply(200, dict(whole.headers) | BEHIND, whole.body)

        url = origin.on("/", answer)
        for headers in (ENGLISH, GERMAN):
            client.get(url, headers)
        clock.advance(70)
        for headers, body in ((ENGLISH, b"en"), (GERMAN, b"de")):
            assert client.get(url, headers).body == body
        assert client.settle(10)
        for headers in (ENGLISH, GERMAN):
            assert client.get(url, headers)["Age"] == "0"
        assert len(origin.received) == 4

    def test_a_long_body_is_refreshed_whole(
        self, origin: Origin, client: Driver, stale: Callable[..., str]
    ) -> None:
        body = bytes(range(256)) * 8000
        url = stale(fresh([body[:1_000_000], body[1_000_000:]]))
        assert client.get(url).body == b"old"
        assert client.settle(10)
        answer = client.get(url)
        assert answer.from_cache
        assert answer.body == body

    @pytest.mark.parametrize(
        "reply",
        [Raw(), Raw(b"nonsense"), replace(fresh(b"x" * 50_000), cut_after=9), fresh(b"x" * 50_000)],
        ids=["nothing", "nonsense", "broken off", "whole"],
    )
    def test_a_refresh_that_fails_is_told_and_no_more(
        self,
        origin: Origin,
        client: Driver,
        heard: Heard,
        stale: Callable[..., str],
        reply: Reply | Raw,
    ) -> None:
        url = stale(reply)
        fails = isinstance(reply, Raw) or reply.cut_after is not None
        assert client.get(url).body == b"old"
        assert client.settle(10)
        failures = heard.of(RefreshFailed)
        assert [event.key for event in failures] == [url] * fails
        assert all(isinstance(event.error, Exception) for event in failures)
        assert (client.get(url).body == b"old") is fails

    def test_an_error_page_refreshes_nothing(
        self, origin: Origin, client: Driver, heard: Heard, stale: Callable[..., str]
    ) -> None:
        url = stale(Reply(503), Document(b"new", etag='"2"'))
        assert client.get(url).body == b"old"
        assert client.settle(10)
        assert client.get(url).body == b"old"
        assert client.settle(10)
        assert client.get(url).body == b"new"
        assert not heard.of(RefreshFailed)

    def test_a_hook_that_raises_when_it_is_told_breaks_nothing(
        self, origin: Origin, new_client: NewClient, clock: ManualClock
    ) -> None:
        def hook(event: object) -> None:
            raise ZeroDivisionError

        client = new_client(hook=hook)
        url = origin.on("/", Document(b"old", headers=BEHIND), Raw())
        client.get(url)
        clock.advance(70)
        assert client.get(url).body == b"old"
        assert client.settle(10)

    def test_after_its_time_it_is_waited_for(
        self, origin: Origin, client: Driver, clock: ManualClock, stale: Callable[..., str]
    ) -> None:
        url = stale()
        clock.advance(21)
        assert client.get(url).info.outcome is Outcome.REVALIDATED
        assert client.settle(0)

    def test_the_policy_may_forbid_it_or_want_it(
        self, origin: Origin, new_client: NewClient, clock: ManualClock
    ) -> None:
        for seconds, said, served in ((0, BEHIND, False), (60, {}, True)):
            client = new_client(Policy(stale_while_revalidate=seconds))
            url = origin.on("/", Document(b"old", headers=said))
            client.request("DELETE", url)
            client.get(url)
            clock.advance(70)
            answer = client.get(url)
            assert (answer.info.outcome is Outcome.HIT) is served
            assert client.settle(10)

    def test_closing_meanwhile_breaks_nothing(
        self, origin: Origin, client: Driver, stale: Callable[..., str]
    ) -> None:
        held = Held(origin, Document(b"new", etag='"2"'))
        url = stale(held)
        assert client.get(url).body == b"old"
        assert held.asked.wait(10)
        client.close()
        held.let_go()
        assert client.settle(10)

    @pytest.mark.parametrize(
        "answer", [Reply(304), Document(b"new", etag='"2"')], ids=["304", "200"]
    )
    def test_a_cache_closed_meanwhile_breaks_nothing(
        self,
        origin: Origin,
        new_client: NewClient,
        clock: ManualClock,
        heard: Heard,
        tmp_path_factory: pytest.TempPathFactory,
        answer: Reply | Document,
    ) -> None:
        cache = self.make_cache(tmp_path_factory.mktemp("other"), clock)
        client = new_client(cache=cache)
        held = Held(origin, answer)
        url = origin.on("/", Document(b"old", headers=BEHIND), held)
        client.get(url)
        clock.advance(70)
        assert client.get(url).body == b"old"
        assert held.asked.wait(10)
        cache.close()
        held.let_go()
        assert client.settle(10)
        assert [event.key for event in heard.of(RefreshFailed)] == [url]


class IfError(Suite):
    """stale-if-error (RFC 5861 §4)."""

    def prepare(self, origin: Origin, client: Driver, clock: ManualClock, *then: Answer) -> str:
        """Have a page stored, and go on until it is stale."""
        url = origin.on("/", Document(b"old", headers=IF_ERROR), *(then or (Reply(500),)))
        assert client.get(url).body == b"old"
        clock.advance(70)
        return url

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_it_stands_in_for_an_error_page(
        self, origin: Origin, client: Driver, clock: ManualClock, status: int
    ) -> None:
        url = self.prepare(origin, client, clock, Reply(status, body=b"no"), Reply(304))
        answer = client.get(url)
        assert (answer.status, answer.body, answer["Age"]) == (200, b"old", "70")
        assert answer.from_cache
        assert answer.info.why.reason is Reason.STALE_IF_ERROR
        assert f"status {status}" in answer["Cache-Status"]
        assert client.get(url).info.outcome is Outcome.REVALIDATED

    @pytest.mark.parametrize(
        "reply", [Raw(), Raw(b"nonsense\r\n\r\n")], ids=["nothing", "nonsense"]
    )
    def test_it_stands_in_for_an_answer_that_did_not_come(
        self, origin: Origin, client: Driver, clock: ManualClock, reply: Raw
    ) -> None:
        url = self.prepare(origin, client, clock, reply)
        assert client.get(url).body == b"old"
        origin.on("/", Document(b"new", etag='"2"'))
        assert client.get(url).body == b"new"

    def test_it_stands_in_for_an_origin_that_is_gone(
        self, client: Driver, clock: ManualClock
    ) -> None:
        with Origin() as origin:
            url = self.prepare(origin, client, clock)
        for _ in range(2):
            answer = client.get(url)
            assert (answer.status, answer.body) == (200, b"old")
            assert answer.info.why.reason is Reason.STALE_IF_ERROR
        assert client.get(url, {"Range": "bytes=1-1"}).body == b"l"
        assert client.get(url, {"If-None-Match": '"1"'}).status == 304
        assert client.head(url).status == 200
        clock.advance(21)
        with pytest.raises(client.broken):
            client.get(url)

    @pytest.mark.parametrize(
        "headers",
        [{"Cache-Control": "no-cache"}, {"If-Match": '"1"'}, {"Cache-Control": "max-age=65"}],
        ids=str,
    )
    def test_not_where_the_caller_wants_the_origin(
        self, origin: Origin, client: Driver, clock: ManualClock, headers: dict[str, str]
    ) -> None:
        url = self.prepare(origin, client, clock, Reply(503, body=b"no"))
        assert client.get(url, headers).status == 503

    @pytest.mark.parametrize("status", [404, 429, 501])
    def test_any_other_status_is_an_answer(
        self, origin: Origin, client: Driver, clock: ManualClock, status: int
    ) -> None:
        url = self.prepare(origin, client, clock, Reply(status))
        assert client.get(url).status == status

    def test_the_policy_may_want_it_or_forbid_it(
        self, origin: Origin, new_client: NewClient, clock: ManualClock
    ) -> None:
        for seconds, status in ((3600, 200), (0, 503)):
            client = new_client(Policy(stale_if_error=seconds))
            url = origin.on("/", Document(b"old", headers=IF_ERROR), Reply(503))
            client.request("DELETE", origin.url("/"))
            url = origin.on("/", Document(b"old", headers=IF_ERROR), Reply(503))
            client.get(url)
            clock.advance(70)
            assert client.get(url).status == status
            clock.advance(30)
            assert client.get(url).status == status

    def test_an_error_page_costs_no_connection(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = self.prepare(origin, client, clock, Reply(503))
        for _ in range(3):
            assert client.get(url).body == b"old"
        assert {request.connection for request in origin.received} == {1}
