"""What would be done with a request, and what is stored for a URL: looked at, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stillfresh import (
    BaseCache,
    BodyLost,
    CacheUnavailable,
    ConfigError,
    FileCache,
    MemoryCache,
    Policy,
    Reason,
    Rule,
    SeparateBodyFileCache,
    SQLiteCache,
    StoreError,
    Verdict,
    explain,
    inspect_url,
    open_variant,
)
from stillfresh.clients.requests import CachedSession
from stillfresh.testing import Fault, FaultyCache, ManualClock, Operation
from tests.engine.world import legacy
from tests.origin import Document, Origin, Received, Reply

FRESH = {"Cache-Control": "max-age=60", "ETag": '"1"'}


@pytest.fixture(params=["sqlite", "files", "file", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseCache]:
    kinds: dict[str, Callable[[], BaseCache]] = {
        "sqlite": lambda: SQLiteCache(tmp_path / "cache", clock=CLOCK),
        "files": lambda: SeparateBodyFileCache(tmp_path / "cache", clock=CLOCK),
        "file": lambda: FileCache(tmp_path / "cache", clock=CLOCK),
        "memory": lambda: MemoryCache(clock=CLOCK),
    }
    with kinds[request.param]() as made:
        yield made


CLOCK = ManualClock()


class User:
    """One who asks, and one who looks: the same request, by the same clock."""

    def __init__(self, cache: BaseCache, policy: Policy | None = None) -> None:
        self.cache = cache
        self.policy = policy
        self.session = CachedSession(cache, policy=policy, clock=CLOCK)
        self.session.headers.clear()

    def get(self, url: str, **headers: str) -> Any:
        return self.session.get(url, headers=_named(headers))

    def explain(self, url: str, method: str = "GET", **headers: str) -> Any:
        lines = _named(headers).items()
        return explain(
            self.cache, url, method=method, headers=lines, policy=self.policy, clock=CLOCK
        )

    def inspect(self, url: str, **headers: str) -> Any:
        lines = _named(headers).items()
        return inspect_url(self.cache, url, headers=lines, policy=self.policy, clock=CLOCK)


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def by_language(request: Received) -> Reply:
    name = request.header("Accept-Language") or "none"
    fields = {**FRESH, "Vary": "Accept-Language", "ETag": f'"{name}"'}
    return Reply(headers=fields, body=name.encode())


def state(cache: BaseCache) -> list[Any]:
    """All that could have changed: entries, their versions and uses, what was counted."""
    stats = cache.stats()
    return [sorted(map(repr, cache.entries())), stats.hits, stats.misses, stats.served]


class TestExplaining:
    def test_nothing_is_stored(self, cache: BaseCache) -> None:
        told = User(cache).explain("http://user:pw@EXAMPLE.org/a/../b#c")
        assert (told.verdict, told.why.reason) == (Verdict.FORWARD, Reason.NO_STORED)
        assert told.url == told.key == "http://example.org/b"
        assert (told.stored, told.selected, told.differing) == (None, None, ())
        assert (told.asked, told.status, told.refreshes, told.failures) == ((), None, False, ())
        assert list(cache.entries()) == []

    def test_the_host_that_is_asked_for_is_the_one_of_the_header(
        self, cache: BaseCache, origin: Origin
    ) -> None:
        user = User(cache)
        url = origin.on("/", Reply(headers=FRESH, body=b"body"))
        assert user.explain(url, host="a.example").verdict is Verdict.FORWARD
        user.get(url, host="a.example")
        told = user.explain(url, host="a.example")
        assert (told.verdict, told.url) == (Verdict.SERVE, "http://a.example/")
        assert user.explain(url).verdict is Verdict.FORWARD
        assert user.inspect(url, host="a.example").selected is not None
        assert user.inspect(url).selected is None

    def test_what_is_fresh_is_served(self, cache: BaseCache, origin: Origin) -> None:
        url, user = origin.on("/", Reply(headers=FRESH, body=b"body")), User(cache)
        user.get(url)
        CLOCK.advance(10)
        told = user.explain(url)
        assert (told.verdict, str(told.why)) == (
            Verdict.SERVE,
            "fresh: max-age=60, age 10 (RFC 9111 §4.2)",
        )
        assert told.why == user.get(url).cache.why
        assert told.selected is told.stored
        assert (told.selected.age, told.selected.ttl, told.selected.size) == (10, 50, 4)
        assert (told.status, told.asked) == (200, None)
        assert len(origin.received) == 1

    def test_looking_changes_nothing(self, cache: BaseCache, origin: Origin) -> None:
        url, user = origin.on("/", by_language), User(cache)
        user.get(url, accept_language="de", authorization="secret")
        user.get(url, accept_language="en")
        CLOCK.advance(100_000)
        before = state(cache)
        for headers in ({}, {"accept_language": "en"}, {"authorization": "other"}):
            user.explain(url, **headers)
            user.inspect(url, **headers)
        assert state(cache) == before
        assert len(origin.received) == 2

    def test_looking_makes_no_key_of_digests(self, cache: BaseCache, origin: Origin) -> None:
        user = User(cache)
        told = user.explain(origin.url("/"), authorization="secret")
        assert told.why.reason is Reason.NO_STORED
        assert list(cache.entries()) == []

    def test_a_key_of_digests_that_was_lost_is_still_the_sessions(
        self, cache: BaseCache, origin: Origin
    ) -> None:
        url, user = origin.on("/", Reply(headers=FRESH, body=b"body")), User(cache)
        user.get(url, authorization="secret")
        cache.remove("stillfresh:secret")
        headers = {"authorization": "secret"}
        assert user.session.explain("GET", url, headers=headers).verdict is Verdict.SERVE
        assert user.session.inspect(url, headers=headers).selected is not None
        assert user.get(url, **headers).from_cache
        # Nobody else would have it; and nobody has put it back.
        assert user.explain(url, **headers).verdict is Verdict.FORWARD
        assert cache.peek("stillfresh:secret") is None
        CLOCK.advance(3601)
        told = user.session.explain("GET", url, headers=headers)
        assert told.why.reason is Reason.STALE
        assert user.get(url, **headers).cache.why == told.why

    def test_what_is_stale_is_asked_about(self, cache: BaseCache, origin: Origin) -> None:
        url, user = origin.on("/", Document(b"body")), User(cache)
        user.get(url)
        CLOCK.advance(100)
        told = user.explain(url)
        assert (told.verdict, told.why.reason) == (Verdict.REVALIDATE, Reason.STALE)
        assert told.asked == (("If-None-Match", '"1"'),)
        assert told.selected.ttl == -40
        user.get(url)
        assert origin.received[-1].header("If-None-Match") == '"1"'

    def test_what_broke_off_is_completed(self, cache: BaseCache, origin: Origin) -> None:
        url, user = origin.on("/", Document(b"x" * 4096, cuts=[1024])), User(cache)
        with pytest.raises(OSError, match="more expected"):
            user.get(url)
        told = user.explain(url)
        assert (told.verdict, told.why.reason) == (Verdict.COMPLETE, Reason.INCOMPLETE)
        assert told.asked == (("Range", "bytes=1024-"), ("If-Range", '"1"'))
        assert told.selected.part == (0, 1023, 4096)
        assert told.selected.has_strong_validator

    def test_what_is_selected_by_others_is_told_by_what(
        self, cache: BaseCache, origin: Origin
    ) -> None:
        url, user = origin.on("/", by_language), User(cache)
        user.get(url, accept_language="de")
        told = user.explain(url, accept_language="en")
        assert (told.verdict, told.why.reason) == (Verdict.FORWARD, Reason.NOT_SELECTED)
        assert (told.selected, told.differing) == (None, ("accept-language",))
        assert told.asked == (("If-None-Match", '"de"'),)
        user.get(url, accept_language="en")
        assert origin.received[-1].header("If-None-Match") == '"de"'
        assert user.explain(url, accept_language="en").selected.key != url

    def test_the_request_may_forbid_to_ask(self, cache: BaseCache) -> None:
        told = User(cache).explain("http://a.example/", cache_control="only-if-cached")
        assert (told.verdict, told.status, told.asked) == (Verdict.UNSATISFIABLE, 504, None)

    def test_a_condition_of_the_callers_is_answered(self, cache: BaseCache, origin: Origin) -> None:
        url, user = origin.on("/", Reply(headers=FRESH, body=b"body")), User(cache)
        user.get(url)
        assert user.explain(url, if_none_match='"1"').status == 304
        assert user.explain(url, range="bytes=1-2").status == 206

    def test_a_method_is_what_the_law_says(self, cache: BaseCache, origin: Origin) -> None:
        url, user = origin.on("/", Reply(headers=FRESH, body=b"body")), User(cache)
        user.get(url)
        told = user.explain(url, "POST")
        assert (told.verdict, told.why.reason, told.stored) == (
            Verdict.FORWARD,
            Reason.METHOD,
            None,
        )
        assert user.explain(url, "HEAD").verdict is Verdict.SERVE
        assert user.explain(url).verdict is Verdict.SERVE

    def test_what_is_refreshed_behind_says_so(self, cache: BaseCache, origin: Origin) -> None:
        user = User(cache, Policy(stale_while_revalidate=1000))
        url = origin.on("/", Reply(headers=FRESH, body=b"body"))
        user.get(url)
        CLOCK.advance(100)
        told = user.explain(url)
        assert (told.verdict, told.refreshes) == (Verdict.SERVE, True)

    def test_rules_are_heeded(self, cache: BaseCache, origin: Origin) -> None:
        user = User(cache, Policy(rules=(Rule(fresh_for=500, key_without={"utm_*"}),)))
        url = origin.on("/a", Reply(headers=FRESH, body=b"body"))
        user.get(url)
        CLOCK.advance(100)
        told = user.explain(f"{url}?utm_x=1")
        assert (told.verdict, told.why.reason) == (Verdict.SERVE, Reason.RULE_FRESH)
        assert user.inspect(f"{url}?utm_x=1").variants[0].lifetime == 500

    def test_what_was_invalidated_is_not_removed(self, cache: BaseCache, origin: Origin) -> None:
        grouped = {**FRESH, "Cache-Groups": '"g"'}
        url, user = origin.on("/", Reply(headers=grouped, body=b"body")), User(cache)
        user.get(url)
        user.session.post(
            origin.on("/other", Reply(headers={"Cache-Group-Invalidation": '"g"'}, body=b""))
        )
        before = state(cache)
        told = user.explain(url)
        assert (told.verdict, told.why.reason) == (Verdict.FORWARD, Reason.GROUP_INVALIDATED)
        seen = user.inspect(url)
        assert seen.invalidated.reason is Reason.GROUP_INVALIDATED
        assert (seen.variants, seen.selected) == ((), None)
        assert state(cache)[0] == before[0]

    @pytest.mark.parametrize("url", ["", "no url", "http://", "/path"])
    def test_what_is_no_url_is_refused(self, cache: BaseCache, url: str) -> None:
        with pytest.raises(ConfigError):
            explain(cache, url)
        with pytest.raises(ConfigError):
            inspect_url(cache, url)


class TestFailing:
    @pytest.mark.parametrize("error", [CacheUnavailable, BodyLost])
    def test_a_cache_that_fails_is_told_of(self, error: type[StoreError]) -> None:
        cache = FaultyCache(MemoryCache(), [Fault(Operation.OPEN, error)])
        told = explain(cache, "http://a.example/")
        assert (told.verdict, told.why.reason) == (Verdict.FORWARD, Reason.CACHE_FAILED)
        assert [type(one) for one in told.failures] == [error]
        assert inspect_url(cache, "http://a.example/").failures != ()

    def test_a_body_that_is_lost_would_not_be_served(self, origin: Origin) -> None:
        cache = FaultyCache(MemoryCache(clock=CLOCK), clock=CLOCK)
        url, user = origin.on("/", Reply(headers=FRESH, body=b"body")), User(cache)
        user.get(url)
        cache.faults.append(Fault(Operation.CHECK, BodyLost))
        told = user.explain(url)
        assert (told.verdict, told.why.reason) == (Verdict.FORWARD, Reason.CACHE_FAILED)
        assert [type(one) for one in told.failures] == [BodyLost]
        cache.faults.clear()
        assert user.explain(url).verdict is Verdict.SERVE

    def test_a_part_that_is_lost_would_be_asked_for_anew(self, origin: Origin) -> None:
        cache = FaultyCache(MemoryCache(clock=CLOCK), clock=CLOCK)
        url, user = origin.on("/", Document(b"x" * 4096, cuts=[1024])), User(cache)
        with pytest.raises(OSError, match="more expected"):
            user.get(url)
        cache.faults.append(Fault(Operation.CHECK, BodyLost))
        told = user.explain(url)
        assert (told.verdict, told.asked) == (Verdict.FORWARD, ())
        cache.faults.clear()
        assert user.explain(url).verdict is Verdict.COMPLETE

    def test_who_cannot_list_shows_what_can_be_found(self, origin: Origin) -> None:
        cache = FaultyCache(MemoryCache(clock=CLOCK), clock=CLOCK)
        url, user = origin.on("/", by_language), User(cache)
        user.get(url, accept_language="de")
        cache.faults.append(Fault(Operation.ENTRIES, CacheUnavailable))
        seen = user.inspect(url, accept_language="de")
        assert seen.selected == seen.variants[0]
        assert [type(one) for one in seen.failures] == [CacheUnavailable]


class TestInspecting:
    def test_all_variants_are_there_the_first_one_first(
        self, cache: BaseCache, origin: Origin
    ) -> None:
        url, user = origin.on("/", by_language), User(cache)
        origin_other = origin.on("/other", by_language)
        for name in ("de", "en", "fr"):
            user.get(url, accept_language=name)
            user.get(origin_other, accept_language=name)
        seen = user.inspect(url, accept_language="en")
        languages = [dict(one.selection)["accept-language"] for one in seen.variants]
        assert (languages[0], sorted(map(str, languages))) == ("de", ["de", "en", "fr"])
        assert seen.selected in seen.variants
        assert seen.selected.get("ETag") == '"en"'
        assert {one.url for one in seen.variants} == {url}
        assert user.inspect(url).selected is None

    def test_what_nothing_leads_to_is_no_variant(self, cache: BaseCache, origin: Origin) -> None:
        url, user = origin.on("/", by_language), User(cache)
        for name in ("de", "en"):
            user.get(url, accept_language=name)
        cache.remove(url)
        assert user.inspect(url).variants == ()
        user.get(url, accept_language="fr")
        assert len(user.inspect(url).variants) == 1

    def test_credentials_are_concealed(self, cache: BaseCache, origin: Origin) -> None:
        fields = {**FRESH, "Cache-Control": "max-age=60, private", "Vary": "X"}
        url, user = origin.on("/", Reply(headers=fields, body=b"body")), User(cache)
        user.get(url, authorization="hunter2", cookie="hunter2", x="y")
        user.get(url, x="y")
        first, second = user.inspect(url).variants
        assert "hunter2" not in repr(first)
        assert first.concealed == {"authorization", "cookie"}
        assert dict(first.selection)["x"] == "y"
        assert second.concealed == frozenset()
        assert user.inspect(url, authorization="hunter2", cookie="hunter2", x="y").selected == first

    def test_what_another_policy_conceals_is_concealed(
        self, cache: BaseCache, origin: Origin
    ) -> None:
        url = origin.on("/", Reply(headers=FRESH, body=b"body"))
        User(cache, Policy(isolate={"X-Api-Key"})).get(url, x_api_key="hunter2")
        (only,) = User(cache).inspect(url).variants
        assert only.concealed == {"x-api-key"}
        assert dict(only.selection) == {"authorization": None, "x-api-key": ""}

    def test_what_another_program_has_not_concealed_is(self, cache: BaseCache) -> None:
        url = "http://a.example/"
        kept = legacy(b"body", Vary="Cookie", Cache_Control="max-age=60")
        cache.set(url, kept.replace(b"\xa4vary\x80", b"\xa4vary\x81\xa6Cookie\xa7hunter2"))
        (only,) = User(cache).inspect(url).variants
        assert only.concealed == {"cookie"}
        assert "hunter2" not in repr(only)
        assert User(cache).explain(url).differing == ("cookie",)
        assert User(cache).explain(url, cookie="hunter2").selected is not None

    def test_why_is_what_a_plain_request_would_be_told(
        self, cache: BaseCache, origin: Origin
    ) -> None:
        fields = {"Cache-Control": "max-age=60, no-cache", "ETag": 'W/"1"'}
        url, user = origin.on("/", Reply(headers=fields, body=b"body")), User(cache)
        user.get(url)
        (variant,) = user.inspect(url).variants
        assert variant.why.reason is Reason.RESPONSE_NO_CACHE
        assert (variant.lifetime, variant.source) == (60, "max-age=60")
        assert not variant.has_strong_validator

    def test_what_stands_for_several_urls_is_found(self, cache: BaseCache, origin: Origin) -> None:
        fields = {**FRESH, "No-Vary-Search": 'params=("x")'}
        origin.on("/p", Reply(headers=fields, body=b"body"))
        user = User(cache)
        user.get(origin.url("/p?x=1&a=2"))
        seen = user.inspect(origin.url("/p?a=2&x=7"))
        assert seen.key == origin.url("/p?a=2")
        assert seen.selected is not None


class TestBodies:
    @pytest.mark.parametrize("size", [0, 4, 3_000_000])
    def test_a_body_comes_as_it_was_stored(
        self, cache: BaseCache, origin: Origin, size: int
    ) -> None:
        url, user = origin.on("/", Reply(headers=FRESH, body=b"x" * size)), User(cache)
        user.get(url)
        (variant,) = user.inspect(url).variants
        entry = open_variant(cache, variant)
        assert entry is not None
        with entry:
            entry.verify()
            assert entry.read() == b"x" * size

    def test_another_that_took_its_place_is_not_taken_for_it(
        self, cache: BaseCache, origin: Origin
    ) -> None:
        url = origin.on("/", Reply(headers=FRESH, body=b"1"), Reply(headers=FRESH, body=b"2"))
        user = User(cache)
        user.get(url)
        (variant,) = user.inspect(url).variants
        user.get(url, cache_control="no-cache")
        assert open_variant(cache, variant) is None
        cache.remove(url)
        assert open_variant(cache, variant) is None

    @pytest.mark.parametrize("kind", [FileCache, SeparateBodyFileCache])
    def test_another_programs_entry_can_be_looked_into(
        self, tmp_path: Path, kind: type[SeparateBodyFileCache]
    ) -> None:
        url = "http://a.example/page"
        with kind(tmp_path / "cache") as cache:
            path = Path(cache.path(url))
            path.parent.mkdir(parents=True)
            apart = kind is SeparateBodyFileCache
            path.write_bytes(legacy(b"" if apart else b"hello", Content_Length="5"))
            if apart:
                path.with_name(f"{path.name}.body").write_bytes(b"hello")
            (variant,) = inspect_url(cache, url).variants
            assert (variant.foreign, variant.size, variant.status) == (True, 5, 200)
            entry = open_variant(cache, variant)
            assert entry is not None
            with entry:
                assert entry.read() == b"hello"
            told = explain(cache, url)
            assert told.stored is told.selected is not None
