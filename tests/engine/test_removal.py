"""What is stored for a URL, or of a host, is removed, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from stillfresh import (
    BaseCache,
    CacheUnavailable,
    ConfigError,
    FileCache,
    MemoryCache,
    Policy,
    Removed,
    Rule,
    SeparateBodyFileCache,
    SQLiteCache,
    adapt,
    inspect_url,
    remove_host,
    remove_url,
)
from stillfresh.clients.requests import CachedResponse, CachedSession
from stillfresh.testing import Fault, FaultyCache, Operation
from stillfresh.testing.conformance.tools import store
from tests.engine.world import legacy
from tests.origin import Document, Origin, Received, Reply

FRESH = {"Cache-Control": "max-age=60", "ETag": '"1"'}


@pytest.fixture(params=["sqlite", "files", "file", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseCache]:
    kinds: dict[str, Callable[[], BaseCache]] = {
        "sqlite": lambda: SQLiteCache(tmp_path / "cache"),
        "files": lambda: SeparateBodyFileCache(tmp_path / "cache"),
        "file": lambda: FileCache(tmp_path / "cache"),
        "memory": MemoryCache,
    }
    with kinds[request.param]() as made:
        yield made


def by_language(request: Received) -> Reply:
    name = request.header("Accept-Language") or "none"
    fields = {**FRESH, "Vary": "Accept-Language", "ETag": f'"{name}"'}
    return Reply(headers=fields, body=name.encode())


def _from_cache(response: requests.Response) -> bool:
    assert isinstance(response, CachedResponse)
    return response.from_cache


def keys(cache: BaseCache) -> set[str | None]:
    return {entry.key for entry in cache.entries()}


class TestAUrl:
    def test_all_its_variants_go_and_nothing_else(self, cache: BaseCache, origin: Origin) -> None:
        url, other = origin.on("/a", by_language), origin.on("/ab", by_language)
        with CachedSession(cache) as session:
            for name in ("de", "en", "fr"):
                session.get(url, headers={"Accept-Language": name})
                session.get(other, headers={"Accept-Language": name})
        removed = remove_url(cache, url)
        assert (removed.entries, removed.size > 10) == (3, True)
        assert {key.partition("#")[0] for key in keys(cache) if key} == {other}
        assert len(inspect_url(cache, other).variants) == 3
        assert remove_url(cache, url) == Removed()

    def test_variants_that_nothing_leads_to_go_too(self, cache: BaseCache, origin: Origin) -> None:
        url = origin.on("/", by_language)
        with CachedSession(cache) as session:
            for name in ("de", "en"):
                session.get(url, headers={"Accept-Language": name})
        cache.remove(url)
        assert remove_url(cache, url).entries == 1
        assert keys(cache) == set()

    def test_parts_go(self, cache: BaseCache, origin: Origin) -> None:
        url = origin.on("/", Document(b"x" * 4096, cuts=[1024]))
        with CachedSession(cache) as session, pytest.raises(OSError, match="more expected"):
            session.get(url)
        removed = remove_url(cache, url)
        assert (removed.entries, removed.size >= 1024) == (1, True)

    def test_answers_to_contents_go(self, cache: BaseCache, origin: Origin) -> None:
        policy = Policy(rules=(Rule(key_with_content=True, fresh_for=60),))
        url = origin.on("/", Reply(headers=FRESH, body=b"body"))
        with CachedSession(cache, policy=policy) as session:
            for content in (b"1", b"2"):
                session.post(url, data=content)
        assert remove_url(cache, url, policy=policy).entries == 2

    def test_the_url_is_normalised_by_the_rules_too(self, cache: BaseCache, origin: Origin) -> None:
        policy = Policy(rules=(Rule(key_without={"utm_*"}),))
        url = origin.on("/a", Reply(headers=FRESH, body=b"body"))
        with CachedSession(cache, policy=policy) as session:
            session.get(f"{url}?utm_x=1")
        spelt = url.replace("/a", "/%61#there").replace("http://", "HTTP://me:pw@")
        assert remove_url(cache, f"{spelt.partition('#')[0]}?utm_y=2", policy=policy).entries == 1

    def test_what_stands_for_several_urls_goes_for_all(
        self, cache: BaseCache, origin: Origin
    ) -> None:
        fields = {**FRESH, "No-Vary-Search": 'params=("x")'}
        origin.on("/p", Reply(headers=fields, body=b"body"))
        with CachedSession(cache) as session:
            session.get(origin.url("/p?x=1&a=2"))
            session.get(origin.url("/p?a=3"))
            assert remove_url(cache, origin.url("/p?a=2&x=9")).entries == 1
            assert _from_cache(session.get(origin.url("/p?a=3&x=1")))
        assert remove_url(cache, origin.url("/p?a=4&x=9")).entries == 0

    def test_answers_to_contents_that_stand_for_several_urls_go(
        self, cache: BaseCache, origin: Origin
    ) -> None:
        policy = Policy(rules=(Rule(key_with_content=True, fresh_for=60),))
        fields = {"No-Vary-Search": 'params=("x")', "Vary": "Accept-Language"}
        for path, said in (("/", fields), ("/other", fields), ("/none", {})):
            origin.on(path, Reply(headers=said, body=b"body"))
        with CachedSession(cache, policy=policy) as session:
            for path in ("/?x=1", "/other?x=1", "/none?x=1"):
                session.post(origin.url(path), data=b"1")
            session.post(origin.url("/?x=1"), data=b"1", headers={"Accept-Language": "de"})
            assert _from_cache(session.post(origin.url("/?x=2"), data=b"1"))
            assert remove_url(cache, origin.url("/?x=3")).entries == 2
            assert not _from_cache(session.post(origin.url("/?x=2"), data=b"1"))
            assert remove_url(cache, origin.url("/none?x=2")).entries == 0
            assert _from_cache(session.post(origin.url("/none?x=1"), data=b"1"))
            assert _from_cache(session.post(origin.url("/other?x=2"), data=b"1"))

    def test_what_is_stored_for_another_url_by_now_stays(
        self, cache: BaseCache, origin: Origin
    ) -> None:
        fields = {**FRESH, "No-Vary-Search": "params"}
        origin.on("/p", Reply(headers=fields, body=b"1"), Reply(headers=FRESH, body=b"2"))
        with CachedSession(cache) as session:
            session.get(origin.url("/p?x=1"))
            session.get(origin.url("/p"), headers={"Cache-Control": "no-cache"})
            assert remove_url(cache, origin.url("/p?x=2")).entries == 0
            assert _from_cache(session.get(origin.url("/p")))

    def test_what_was_invalidated_stays_so(self, cache: BaseCache, origin: Origin) -> None:
        grouped = Reply(headers={**FRESH, "Cache-Groups": '"g"'}, body=b"body")
        root, page = origin.on("/", grouped), origin.on("/page", grouped)
        gone = origin.on("/other", Reply(headers={"Cache-Group-Invalidation": '"g"'}, body=b""))
        with CachedSession(cache) as session:
            session.get(page)
            session.post(gone)
            session.get(root)
            # It is under a key that begins as this one does.
            assert remove_url(cache, root).entries == 1
            assert not _from_cache(session.get(page))

    def test_what_is_under_way_is_not_stored_any_more(self, origin: Origin) -> None:
        url = origin.on("/", Reply(headers=FRESH, body=b"x" * 100_000))
        with MemoryCache() as cache, CachedSession(cache) as session:
            response = session.get(url, stream=True)
            remove_url(cache, url)
            assert len(response.content) == 100_000
            assert keys(cache) == set()

    def test_what_is_damaged_goes(self, tmp_path: Path) -> None:
        with FileCache(tmp_path / "cache") as cache:
            store(cache, "http://a.example/", b"metadata", b"body")
            path = Path(cache.path("http://a.example/"))
            path.write_bytes(path.read_bytes()[:-1])
            assert remove_url(cache, "http://a.example/") == Removed(1, 0)
            assert not path.exists()

    def test_another_programs_entry_goes_by_its_name(self, tmp_path: Path) -> None:
        with SeparateBodyFileCache(tmp_path / "cache") as cache:
            path = Path(cache.path("http://a.example/"))
            path.parent.mkdir(parents=True)
            path.write_bytes(legacy(Content_Length="5"))
            path.with_name(f"{path.name}.body").write_bytes(b"hello")
            assert remove_host(cache, "a.example") == Removed()
            assert remove_url(cache, "http://a.example/").entries == 1
            assert list(path.parent.glob("*")) == []

    def test_without_a_listing_the_primary_goes_all_the_same(self) -> None:
        class Three(dict[str, bytes]):
            set = dict.__setitem__

            def delete(self, key: str) -> None:
                self.pop(key, None)

        with adapt(Three()) as cache:
            cache.set("http://a.example/", b"value")
            cache.wrapped.keys = None  # type: ignore[attr-defined]
            with pytest.raises(CacheUnavailable):
                remove_url(cache, "http://a.example/")
            assert cache.get("http://a.example/") is None

    @pytest.mark.parametrize("url", ["", "no url", "http://", "/path"])
    def test_what_is_no_url_is_refused(self, url: str) -> None:
        with MemoryCache() as cache, pytest.raises(ConfigError):
            remove_url(cache, url)

    def test_a_failure_is_raised(self) -> None:
        cache = FaultyCache(MemoryCache(), [Fault(Operation.REMOVE, CacheUnavailable)])
        store(cache, "http://a.example/", b"", b"")
        with pytest.raises(CacheUnavailable):
            remove_url(cache, "http://a.example/")
        with pytest.raises(CacheUnavailable):
            remove_host(cache, "a.example")


class TestAHost:
    @pytest.mark.parametrize(
        ("host", "gone"),
        [
            ("a.example", {"http://a.example/", "https://a.example:81/x#group=0"}),
            ("A.example", {"http://a.example/", "https://a.example:81/x#group=0"}),
            ("a.example:81", {"https://a.example:81/x#group=0"}),
            ("a.example:82", set()),
            ("example", set()),
            ("[::1]", {"http://[::1]/", "http://[::1]:81/"}),
            ("[::1]:81", {"http://[::1]:81/"}),
            ("c.example:443", {"https://c.example/", "http://c.example:443/"}),
            ("C.example:80", {"http://c.example/"}),
            ("c.example:", {"https://c.example/", "http://c.example/", "http://c.example:443/"}),
            ("c.example:" + "8" * 5000, set()),
            (":443", set()),
        ],
    )
    def test_all_of_it_goes_and_nothing_else(
        self, cache: BaseCache, host: str, gone: set[str]
    ) -> None:
        there = {
            "http://a.example/",
            "https://a.example:81/x#group=0",
            "http://b.a.example/",
            "http://a.example.org/",
            "http://[::1]/",
            "http://[::1]:81/",
            "http://c.example/",
            "https://c.example/",
            "http://c.example:443/",
            "no url",
        }
        for key in there:
            store(cache, key, b"", b"")
        assert remove_host(cache, host).entries == len(gone)
        assert keys(cache) == there - gone

    def test_no_host_is_no_host(self) -> None:
        with MemoryCache() as cache, pytest.raises(ConfigError):
            remove_host(cache, "")
