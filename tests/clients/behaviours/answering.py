"""From the cache or from the origin: when, and what it looks like (RFC 9111 §3, §4, §5.2.1)."""

from __future__ import annotations

import gc
import itertools

import pytest

from stillfresh import Outcome, Policy, Reason
from stillfresh.rfc9111.dates import format_date
from stillfresh.testing import ManualClock
from tests.clients.behaviours.suite import Driver, NewClient, Suite, fresh, paths
from tests.origin import Document, Origin, Received, Reply


class Answering(Suite):
    def test_the_second_answer_comes_from_the_cache(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", Reply(reason="Fine", headers={"Cache-Control": "max-age=60"}))
        first, second = client.get(url), client.get(url)
        assert (first.from_cache, second.from_cache) == (False, True)
        assert len(origin.received) == 1

    def test_a_hit_is_what_the_miss_was(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        reply = Reply(
            203,
            [
                ("Date", format_date(clock())),
                ("Cache-Control", "max-age=60"),
                ("X-Odd", "a, b"),
                ("ETag", 'W/"1"'),
                ("x-odd", "c"),
            ],
            b"\x00body\xff",
            reason="As They Say",
        )
        url = origin.on("/", reply)
        miss = client.get(url)
        clock.advance(10)
        hit = client.get(url)
        assert hit.from_cache
        assert (hit.status, hit.reason, hit.body) == (203, "As They Say", b"\x00body\xff")
        assert hit.lasting == miss.lasting
        assert (miss.status, miss.reason, miss.body) == (hit.status, hit.reason, hit.body)
        assert hit["Age"] == "10"

    def test_they_say_what_the_cache_did(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = origin.on("/", fresh())
        miss = client.get(url)
        assert miss["Cache-Status"] == (
            "stillfresh; fwd=uri-miss; fwd-status=200; stored; "
            'detail="nothing is stored for this URI (RFC 9111 section 4)"'
        )
        assert miss.info.outcome is Outcome.MISS
        assert miss.info.why.reason is Reason.NO_STORED
        assert miss.info.stored
        clock.advance(20)
        hit = client.get(url)
        assert hit["Cache-Status"] == "stillfresh; hit; ttl=40"
        assert hit.info.outcome is Outcome.HIT
        assert str(hit.info.why) == "fresh: max-age=60, age 20 (RFC 9111 §4.2)"
        assert (hit.info.age, hit.info.ttl) == (20, 40)

    def test_a_cache_nearer_to_the_origin_has_spoken_first(
        self, origin: Origin, client: Driver
    ) -> None:
        url = origin.on("/", fresh(cache_status="edge; hit"))
        assert client.get(url)["Cache-Status"].startswith("edge; hit, stillfresh; fwd=uri-miss")
        assert client.get(url)["Cache-Status"] == "edge; hit, stillfresh; hit; ttl=60"

    def test_it_is_fresh_until_its_lifetime_is_over(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = origin.on("/", fresh(b"old"), fresh(b"new"))
        client.get(url)
        clock.advance(59)
        assert client.get(url).body == b"old"
        clock.advance(1)
        assert client.get(url).body == b"new"
        assert client.get(url).from_cache

    def test_age_on_arrival_counts(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        aged = origin.on("/aged", fresh(age="50"))
        dated = origin.on("/dated", fresh(date=format_date(clock() - 50)))
        for url in (aged, dated):
            client.get(url)
            clock.advance(9)
            assert client.get(url)["Age"] == "59"
            clock.advance(1)
            assert not client.get(url).from_cache
            clock.advance(-10)

    def test_a_clock_set_back_is_no_reason_to_fail(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = origin.on("/", fresh())
        client.get(url)
        clock.advance(-1_000_000)
        assert client.get(url)["Age"] == "0"

    @pytest.mark.parametrize(
        "headers",
        [
            {"Cache-Control": "no-store, max-age=60"},
            {"Cache-Control": "max-age=60", "Vary": "*"},
            {},
        ],
        ids=["no-store", "vary-anything", "no-freshness"],
    )
    def test_what_may_not_be_stored_is_asked_for_again(
        self, origin: Origin, client: Driver, headers: dict[str, str]
    ) -> None:
        url = origin.on("/", Reply(headers=headers, body=b"1"), Reply(headers=headers, body=b"2"))
        assert [client.get(url).body, client.get(url).body] == [b"1", b"2"]
        parameters = client.get(url)["Cache-Status"].partition("; detail=")[0].split("; ")
        assert "stored" not in parameters

    @pytest.mark.parametrize("status", [200, 203, 300, 301, 308, 404, 405, 410, 414, 501, 503, 299])
    def test_any_final_status_is_stored_where_it_says_so(
        self, origin: Origin, client: Driver, status: int
    ) -> None:
        url = origin.on("/", Reply(status, {"Cache-Control": "max-age=60"}, b"body"))
        client.get(url)
        hit = client.get(url)
        assert hit.from_cache
        assert (hit.status, hit.body) == (status, b"body")

    def test_a_heuristic_is_used_where_nothing_is_said(
        self, origin: Origin, new_client: NewClient, clock: ManualClock
    ) -> None:
        headers = {"Last-Modified": format_date(clock() - 1000), "Date": format_date(clock())}
        url = origin.on("/", Reply(headers=headers))
        client = new_client()
        client.get(url)
        clock.advance(99)
        assert client.get(url).from_cache
        clock.advance(2)
        assert client.get(url).info.outcome is not Outcome.HIT
        assert new_client(Policy(heuristic_fraction=0)).get(url).info.outcome is not Outcome.HIT

    def test_one_resource_has_one_key(self, origin: Origin, client: Driver) -> None:
        origin.on("/a/b", fresh())
        client.get(origin.url("/a/b"))
        for same in ("/a/b#fragment", "/%61/b", "/x/../a/./b"):
            assert client.get(origin.url(same)).from_cache
        for other in ("/a/b?q", "/a/b/", "/A/b", "/a%2Fb"):
            assert not client.get(origin.url(other)).from_cache

    def test_clients_of_one_cache_share_it(self, origin: Origin, new_client: NewClient) -> None:
        url = origin.on("/", fresh())
        new_client().get(url)
        assert new_client().get(url).from_cache

    def test_a_larger_body_than_the_policy_stores(
        self, origin: Origin, new_client: NewClient
    ) -> None:
        client = new_client(Policy(max_body=5))
        lengthy = origin.on("/length", fresh(b"123456"))
        chunked = origin.on("/chunked", fresh([b"1234", b"56"]))
        small = origin.on("/small", fresh([b"123", b"45"]))
        for url in (lengthy, chunked):
            assert client.get(url).body == b"123456"
            again = client.get(url)
            assert again.body == b"123456"
            assert not again.from_cache
            assert again.info.storing is not None
            assert again.info.storing.reason is Reason.TOO_LARGE
        client.get(small)
        assert client.get(small).from_cache


class RequestDirectives(Suite):
    """What a request may ask for (§5.2.1)."""

    @pytest.fixture
    def aging(self, origin: Origin, client: Driver, clock: ManualClock) -> str:
        """A response that is 30 seconds old of 60; each has its number as body."""
        numbers = itertools.count(1)

        def numbered(_: Received) -> Reply:
            return fresh(b"%d" % next(numbers))

        url = origin.on("/", numbered)
        assert client.get(url).body == b"1"
        clock.advance(30)
        return url

    @pytest.mark.parametrize(
        ("directive", "body"),
        [
            ("no-cache", b"2"),
            ("max-age=0", b"2"),
            ("max-age=29", b"2"),
            ("max-age=30", b"1"),
            ("min-fresh=30", b"1"),
            ("min-fresh=31", b"2"),
            ("max-stale=100", b"1"),
            ("no-store", b"1"),
            ("only-if-cached", b"1"),
            ("unheard-of", b"1"),
        ],
    )
    def test_while_it_is_fresh(
        self, client: Driver, aging: str, directive: str, body: bytes
    ) -> None:
        assert client.get(aging, {"Cache-Control": directive}).body == body

    @pytest.mark.parametrize(
        ("directive", "body"),
        [
            ("max-stale", b"1"),
            ("max-stale=40", b"1"),
            ("max-stale=39", b"2"),
            ("max-stale=x", b"2"),
            ("max-stale=40, max-age=99", b"2"),
            ("max-age=1000", b"2"),
            ("only-if-cached, max-stale=40", b"1"),
        ],
    )
    def test_when_it_is_forty_seconds_stale(
        self, client: Driver, clock: ManualClock, aging: str, directive: str, body: bytes
    ) -> None:
        clock.advance(70)
        assert client.get(aging, {"Cache-Control": directive}).body == body

    def test_pragma_where_there_is_no_cache_control(self, client: Driver, aging: str) -> None:
        assert client.get(aging, {"Pragma": "no-cache"}).body == b"2"

    def test_a_fresher_answer_replaces_the_older(self, client: Driver, aging: str) -> None:
        client.get(aging, {"Cache-Control": "no-cache"})
        assert client.get(aging).body == b"2"

    def test_no_store_leaves_what_is_stored(
        self, client: Driver, clock: ManualClock, aging: str
    ) -> None:
        clock.advance(31)
        assert client.get(aging, {"Cache-Control": "no-store"}).body == b"2"
        assert client.get(aging, {"Cache-Control": "max-stale"}).body == b"1"

    def test_must_revalidate_is_never_served_stale(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        reply = Reply(headers={"Cache-Control": "max-age=60, must-revalidate"}, body=b"1")
        url = origin.on("/strict", reply)
        client.get(url)
        clock.advance(61)
        assert not client.get(url, {"Cache-Control": "max-stale"}).from_cache

    @pytest.mark.parametrize("late", [0, 40])
    def test_only_if_cached_never_asks_the_origin(
        self, origin: Origin, client: Driver, clock: ManualClock, aging: str, late: int
    ) -> None:
        clock.advance(late)
        asked = len(origin.received)
        for path in ("/", "/other") if late else ("/other",):
            answer = client.get(origin.url(path), {"Cache-Control": "only-if-cached"})
            assert (answer.status, answer.reason, answer.body) == (504, "Gateway Timeout", b"")
            assert answer.info.outcome is Outcome.UNSATISFIABLE
            assert not answer.from_cache
            assert answer["Cache-Status"].startswith('stillfresh; detail="')
        assert len(origin.received) == asked

    @pytest.mark.parametrize("name", ["If-Match", "If-Unmodified-Since"])
    def test_only_if_cached_with_what_the_cache_does_not_answer(
        self, origin: Origin, client: Driver, aging: str, name: str
    ) -> None:
        asked = len(origin.received)
        answer = client.get(aging, {name: "x", "Cache-Control": "only-if-cached"})
        assert answer.status == 504
        assert len(origin.received) == asked


class CallersOwn(Suite):
    """Requests that are between the caller and the origin (§4.3.2, RFC 9110 §9.3.1)."""

    @pytest.fixture
    def tagged(self, origin: Origin, client: Driver) -> str:
        url = origin.on("/", fresh(etag='"1"'))
        client.get(url)
        return url

    @pytest.mark.parametrize("name", ["If-Match", "If-Unmodified-Since"])
    def test_what_protects_is_for_the_origin(
        self, origin: Origin, client: Driver, tagged: str, name: str
    ) -> None:
        answer = client.get(tagged, {name: "x"})
        assert not answer.from_cache
        assert answer.info.why.reason is Reason.PRECONDITION
        assert origin.received[-1].header(name) == "x"
        assert client.get(tagged).from_cache

    def test_a_412_is_the_callers(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", fresh(etag='"1"'), Reply(412))
        client.get(url)
        assert client.get(url, {"If-Match": '"2"'}).status == 412
        assert client.get(url).from_cache

    @pytest.mark.parametrize("body", [b"question", [b"que", b"stion"]], ids=["whole", "streamed"])
    def test_a_get_with_content_is_not_cached(
        self, origin: Origin, client: Driver, body: bytes | list[bytes]
    ) -> None:
        url = origin.on("/", lambda request: fresh(request.body or b"nothing"))
        assert client.request("GET", url, body=body).body == b"question"
        assert client.get(url).body == b"nothing"
        assert client.request("GET", url, body=body).body == b"question"
        assert client.get(url).from_cache

    def test_a_post_is_not_cached(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", fresh())
        for _ in range(2):
            assert not client.request("POST", url, body=b"x").from_cache
        assert not client.get(url).from_cache
        assert paths(origin) == [("POST", "/"), ("POST", "/"), ("GET", "/")]


class Garbage(Suite):
    """What a request leaves behind in memory."""

    def test_it_goes_without_waiting_for_the_collector(
        self, origin: Origin, client: Driver
    ) -> None:
        url = origin.on("/", Document(b"hello", headers={"Cache-Control": "max-age=60"}))
        stale = origin.on("/stale", Document(b"hello", headers={"Cache-Control": "max-age=0"}))
        collector = gc.get_debug()
        client.get(url)
        gc.collect()
        gc.disable()
        try:
            for path in ("?1", "?2", "?2"):
                client.get(url + path)
            for _ in range(3):
                client.get(stale)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            found = {type(one).__qualname__ for one in gc.garbage if _is_ours(type(one))}
        finally:
            gc.set_debug(collector)
            gc.garbage.clear()
            gc.enable()
        assert found == set()


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith("stillfresh.")
