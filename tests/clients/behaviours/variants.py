"""Several responses for one URL (RFC 9111 §4.1), and what throws them out (§4.4)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from stillfresh.events import Invalidated
from stillfresh.testing import ManualClock
from tests.clients.behaviours.suite import Driver, Heard, Suite, fresh
from tests.origin import Origin, Received, Reply

ENGLISH = {"Accept-Language": "en"}
GERMAN = {"Accept-Language": "de"}


def in_the_language(request: Received) -> Reply:
    body = (request.header("Accept-Language") or "none").encode()
    return fresh(body, vary="Accept-Language", etag=f'"{body.decode()}"')


class Variants(Suite):
    def test_each_variant_has_its_place(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", in_the_language)
        tongues = [ENGLISH, GERMAN, {"Accept-Language": "fr, la;q=0.5"}]
        for _ in range(3):
            for headers in tongues:
                assert client.get(url, headers).body == headers["Accept-Language"].encode()
        assert len(origin.received) == 3

    def test_a_field_that_is_absent_selects_too(self, origin: Origin, client: Driver) -> None:
        url = origin.on(
            "/", lambda request: fresh((request.header("X-A") or "-").encode(), vary="X-A")
        )
        assert client.get(url).body == b"-"
        assert client.get(url, {"X-A": ""}).body == b"-"
        assert client.get(url, {"X-A": "1"}).body == b"1"
        assert client.get(url).from_cache
        assert len(origin.received) == 3

    def test_what_is_accepted_is_the_same_however_it_is_written(
        self, origin: Origin, client: Driver
    ) -> None:
        url = origin.on("/", in_the_language)
        client.get(url, {"accept-language": "en,de"})
        for same in ("en , de", "EN, de", "en,,de"):
            assert client.get(url, {"ACCEPT-LANGUAGE": same}).from_cache
        # There are servers that take the first for the one that is wanted most.
        for other in ("en, de;q=0.5", "de, en"):
            assert not client.get(url, {"Accept-Language": other}).from_cache

    def test_the_miss_of_a_variant_says_so(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", in_the_language)
        client.get(url, ENGLISH)
        assert "fwd=vary-miss" in client.get(url, GERMAN)["Cache-Status"]

    def test_each_variant_is_validated_by_its_own_tag(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        def answer(request: Received) -> Reply:
            whole = in_the_language(request)
            tag = dict(whole.headers)["Etag"]
            return Reply(304, whole.headers) if request.header("If-None-Match") == tag else whole

        url = origin.on("/", answer)
        for headers in (ENGLISH, GERMAN):
            client.get(url, headers)
        clock.advance(61)
        for headers, body in ((GERMAN, b"de"), (ENGLISH, b"en")):
            assert client.get(url, headers).body == body
            assert client.get(url, headers).body == body
        assert [request.header("If-None-Match") for request in origin.received] == [
            None,
            # Maybe what is stored is what a German wants, too (§4.3.1).
            '"en"',
            '"de"',
            '"en"',
        ]

    def test_one_variant_is_replaced_alone(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        count = iter(range(10))

        def numbered(request: Received) -> Reply:
            seconds = 30 if request.header("X-A") == "short" else 1000
            return fresh(b"%d" % next(count), seconds, vary="X-A")

        url = origin.on("/", numbered)
        short, long = {"X-A": "short"}, {"X-A": "long"}
        for first, second in ((short, long), (long, short)):
            client.request("DELETE", url)
            client.get(url, first)
            kept = client.get(url, long).body
            client.get(url, second)
            clock.advance(31)
            assert not client.get(url, short).from_cache
            assert client.get(url, long).body == kept
            assert client.get(url, short).from_cache

    def test_other_names_may_select_other_variants(self, origin: Origin, client: Driver) -> None:
        def answer(request: Received) -> Reply:
            if request.header("X-A") == "1":
                return fresh(b"a", vary="X-A, X-B")
            return fresh(b"b", vary="X-A")

        url = origin.on("/", answer)
        first, second = {"X-A": "1", "X-B": "1"}, {"X-A": "2", "X-B": "1"}
        assert client.get(url, first).body == b"a"
        assert client.get(url, second).body == b"b"
        assert client.get(url, first).from_cache
        assert client.get(url, {"X-A": "2", "X-B": "other"}).from_cache
        assert not client.get(url, {"X-A": "1", "X-B": "other"}).from_cache
        assert client.get(url, first).body == b"a"

    def test_of_several_that_match_the_most_recent_is_used(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        numbers = iter(range(1, 10))

        def answer(request: Received) -> Reply:
            names = request.header("X-Answer-By") or ""
            return fresh(b"%d" % next(numbers), 1000, vary=names)

        url = origin.on("/", answer)
        client.get(url, {"X-A": "1", "X-B": "1", "X-Answer-By": "X-A"})
        clock.advance(10)
        # It doesn't match the first, and its variant is selected by X-B alone.
        client.get(url, {"X-A": "2", "X-B": "1", "X-Answer-By": "X-B"})
        assert client.get(url, {"X-A": "1", "X-B": "1"}).body == b"2"
        assert client.get(url, {"X-A": "1", "X-B": "2"}).body == b"1"

    def test_many_variants(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", in_the_language)
        tongues = [{"Accept-Language": f"x-{number}"} for number in range(50)]
        for headers in tongues:
            client.get(url, headers)
        for headers in tongues:
            answer = client.get(url, headers)
            assert answer.from_cache
            assert answer.body == headers["Accept-Language"].encode()

    def test_vary_anything_is_never_stored(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", fresh(vary="*"))
        other = origin.on("/other", fresh(vary="Accept, *"))
        for target in (url, other):
            client.get(target)
            assert not client.get(target).from_cache

    def test_head_selects_a_variant(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", in_the_language)
        client.get(url, ENGLISH)
        client.get(url, GERMAN)
        assert client.head(url, GERMAN)["ETag"] == '"de"'
        assert client.head(url, ENGLISH)["ETag"] == '"en"'
        assert len(origin.received) == 2


class Invalidating(Suite):
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
    def test_an_unsafe_request_that_succeeds_makes_it_a_miss(
        self, origin: Origin, client: Driver, heard: Heard, method: str
    ) -> None:
        url = origin.on("/", fresh())
        client.get(url)
        assert not client.request(method, url, body=b"").from_cache
        assert [event.key for event in heard.of(Invalidated)] == [url]
        assert not client.get(url).from_cache

    @pytest.mark.parametrize(
        ("status", "kept"),
        [(200, False), (201, False), (204, False), (302, False), (303, False), (304, False)]
        + [(status, True) for status in (400, 404, 405, 409, 500, 503)],
    )
    def test_success_is_2xx_and_3xx(
        self, origin: Origin, client: Driver, status: int, *, kept: bool
    ) -> None:
        url = origin.on("/", fresh(), Reply(status), fresh(b"new"))
        client.get(url)
        assert client.request("POST", url, body=b"x").status == status
        assert client.get(url).from_cache is kept

    @pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "GET"])
    def test_a_safe_request_throws_nothing_out(
        self, origin: Origin, client: Driver, method: str
    ) -> None:
        url = origin.on("/", fresh(etag='"1"'))
        client.get(url)
        client.request(method, url)
        assert client.get(url).from_cache

    def test_all_variants_go_together(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", in_the_language)
        client.get(url, ENGLISH)
        client.get(url, GERMAN)
        client.request("POST", url, ENGLISH, body=b"x")
        # German is asked for first: nothing of it may come back when the primary is there again.
        assert not client.get(url, ENGLISH).from_cache
        assert not client.get(url, GERMAN).from_cache

    @pytest.mark.parametrize("name", ["Location", "Content-Location"])
    @pytest.mark.parametrize("written", ["/other", "other", "{url}", "../../other", "/%6fther#x"])
    def test_what_the_response_names_goes_too(
        self, origin: Origin, client: Driver, name: str, written: str
    ) -> None:
        other = origin.on("/other", fresh())
        client.get(other)
        url = origin.on("/", Reply(201, {name: written.format(url=other)}))
        client.request("POST", url, body=b"x")
        assert not client.get(other).from_cache

    @pytest.mark.parametrize("headers", [{"Location": "http://[", "Content-Location": "x:"}])
    def test_a_name_that_makes_no_sense_is_passed_over(
        self, origin: Origin, client: Driver, headers: Mapping[str, str]
    ) -> None:
        url = origin.on("/", Reply(201, headers))
        assert client.request("POST", url, body=b"x").status == 201

    def test_another_origin_throws_nothing_out_here(self, client: Driver) -> None:
        with Origin() as mine, Origin() as theirs:
            victim = mine.on("/", fresh())
            client.get(victim)
            attack = theirs.on("/", Reply(201, {"Location": victim, "Content-Location": victim}))
            client.request("POST", attack, body=b"x")
            assert client.get(victim).from_cache

    def test_an_error_names_nothing(self, origin: Origin, client: Driver) -> None:
        other = origin.on("/other", fresh())
        client.get(other)
        client.request("POST", origin.on("/", Reply(500, {"Location": other})), body=b"x")
        assert client.get(other).from_cache
