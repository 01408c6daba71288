"""Where a response is found again: in its groups, by searches that mean the same, by rules."""

from __future__ import annotations

import re

import pytest

from stillfresh import BaseCache, Policy, Reason, Rule
from stillfresh.testing import ManualClock
from tests.clients.behaviours.suite import Driver, NewClient, Suite, fresh, paths
from tests.origin import Document, Origin, Received, Reply


class Groups(Suite):
    """RFC 9875."""

    def test_an_unsafe_request_makes_all_of_a_group_a_miss(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        news = [origin.on(path, fresh(cache_groups='"news"')) for path in ("/1", "/2")]
        other = origin.on("/other", fresh(cache_groups='"other"'))
        for url in (*news, other):
            client.get(url)
        clock.advance(1)
        post = origin.on("/post", Reply(201, {"Cache-Group-Invalidation": '"news"'}))
        client.request("POST", post, body=b"x")
        clock.advance(1)
        for url in news:
            answer = client.get(url)
            assert not answer.from_cache
            assert answer.info.why.reason is Reason.GROUP_INVALIDATED
            assert client.get(url).from_cache
        assert client.get(other).from_cache


class Searches(Suite):
    """No-Vary-Search."""

    def test_what_does_not_matter_in_a_search_makes_no_difference(
        self, origin: Origin, client: Driver
    ) -> None:
        def answer(request: Received) -> Reply:
            return fresh(request.target.encode(), no_vary_search='params=("utm"), key-order')

        url = origin.on("/", answer)
        assert client.get(url + "?a=1&b=2&utm=x").body == b"/?a=1&b=2&utm=x"
        for same in ("?b=2&a=1", "?utm=y&a=1&b=2"):
            assert client.get(url + same).body == b"/?a=1&b=2&utm=x"
        assert client.get(url + "?a=1").body == b"/?a=1"
        assert len(origin.received) == 2


class Rules(Suite):
    """What the user wants otherwise."""

    @staticmethod
    def echo(request: Received) -> Reply:
        return fresh(request.body)

    def test_by_content(self, origin: Origin, new_client: NewClient) -> None:
        client = new_client(Policy(rules=(Rule(url="*/query", key_with_content=True),)))
        url = origin.on("/query", self.echo)
        other = origin.on("/other", self.echo)
        for from_cache in (False, True):
            for content in (b"one", b"two"):
                answer = client.request("POST", url, body=content)
                assert answer.body == content
                assert answer.from_cache is from_cache
                assert not client.request("POST", other, body=content).from_cache
        assert paths(origin).count(("POST", "/query")) == 2

    def test_what_describes_the_content_is_a_part_of_it(
        self, origin: Origin, new_client: NewClient
    ) -> None:
        """The same bytes are another question in another format."""

        def answer(request: Received) -> Reply:
            kind, coding = map(request.header, ("Content-Type", "Content-Encoding"))
            return fresh(f"{kind} {coding}".encode())

        client = new_client(Policy(rules=(Rule(key_with_content=True),)))
        url = origin.on("/", answer)
        formats = [
            ({"Content-Type": "text/csv"}, b"text/csv None"),
            ({"Content-Type": "text/plain"}, b"text/plain None"),
            ({"Content-Type": "text/plain", "Content-Encoding": "x"}, b"text/plain x"),
        ]
        for from_cache in (False, True):
            for headers, body in formats:
                got = client.request("POST", url, headers, b"one")
                assert (got.body, got.from_cache) == (body, from_cache)

    def test_content_that_is_streamed_has_no_key(
        self, origin: Origin, new_client: NewClient, cache: BaseCache
    ) -> None:
        client = new_client(Policy(rules=(Rule(key_with_content=True),)))
        url = origin.on("/", self.echo)
        for _ in range(2):
            answer = client.request("POST", url, body=[b"on", b"e"])
            assert (answer.body, answer.from_cache) == (b"one", False)
        assert not [entry for entry in cache.entries() if "#POST" in (entry.key or "")]

    def test_an_answer_to_content_is_never_asked_about(
        self, origin: Origin, new_client: NewClient, clock: ManualClock
    ) -> None:
        client = new_client(Policy(rules=(Rule(key_with_content=True),)))
        url = origin.on("/", lambda request: fresh(request.body, etag='"1"'))
        for _ in range(2):
            assert client.request("POST", url, body=b"one").body == b"one"
            clock.advance(61)
        assert [request.header("If-None-Match") for request in origin.received] == [None, None]

    def test_a_content_that_is_answered_in_part_is_not_kept(
        self, origin: Origin, new_client: NewClient, cache: BaseCache
    ) -> None:
        client = new_client(Policy(rules=(Rule(key_with_content=True),)))
        url = origin.on("/", Document(bytes(100_000), cuts=[50_000]))
        with pytest.raises(client.broken):
            client.request("POST", url, body=b"one")
        assert not list(cache.entries())
        assert client.request("POST", url, body=b"one").body == bytes(100_000)
        assert client.request("POST", url, body=b"one").from_cache

    def test_without_parameters(self, origin: Origin, new_client: NewClient) -> None:
        client = new_client(Policy(rules=(Rule(key_without=frozenset({"utm_*", "fbclid"})),)))
        url = origin.on("/", lambda request: fresh(request.target.encode()))
        assert client.get(url + "?a=1&utm_source=x").body == b"/?a=1&utm_source=x"
        for same in ("?a=1", "?fbclid=1&a=1", "?a=1&utm_x"):
            assert client.get(url + same).from_cache
        assert not client.get(url + "?a=2").from_cache
        client.request("DELETE", url + "?a=1&utm_source=y")
        assert not client.get(url + "?a=1").from_cache

    def test_never_stored(self, origin: Origin, new_client: NewClient, cache: BaseCache) -> None:
        client = new_client(
            Policy(rules=(Rule(url=re.compile(r".*/secret/[0-9]+"), never_store=True),))
        )
        url = origin.on("/secret/1", fresh(etag='"1"'))
        for _ in range(2):
            assert not client.get(url).from_cache
        assert not list(cache.entries())
        other = origin.on("/secret/x", fresh())
        client.get(other)
        assert client.get(other).from_cache

    def test_fresh_for_as_long_as_the_user_says(
        self, origin: Origin, new_client: NewClient, clock: ManualClock
    ) -> None:
        rule = Rule(
            content_types=frozenset({"image/*"}), fresh_for=3600, ignore=frozenset({"no-store"})
        )
        client = new_client(Policy(rules=(rule,)))
        headers = {"Cache-Control": "no-store", "Content-Type": "image/png"}
        url = origin.on("/image", Reply(headers=headers, body=b"image"))
        page = origin.on("/page", Reply(headers={"Cache-Control": "no-store"}))
        for target in (url, page):
            client.get(target)
        clock.advance(3599)
        answer = client.get(url)
        assert answer.from_cache
        assert answer.info.why.reason is Reason.RULE_FRESH
        assert "against RFC 9111" in str(answer.info.why)
        assert not client.get(page).from_cache
        clock.advance(1)
        assert not client.get(url).from_cache

    def test_asked_about_each_time(self, origin: Origin, new_client: NewClient) -> None:
        client = new_client(Policy(rules=(Rule(always_revalidate=True),)))
        url = origin.on("/", Document(b"hello"))
        for _ in range(3):
            assert client.get(url).body == b"hello"
        assert [request.header("If-None-Match") for request in origin.received] == [
            None,
            '"1"',
            '"1"',
        ]
