"""The conformance suite on real servers, and what is particular to Redis."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import cachecontrol
import cachecontrol.caches.redis_cache
import pytest
import redis
import requests

from stillfresh import Policy, Reason
from stillfresh.caches import frames, redisbodies, redisscripts
from stillfresh.caches.base import Entry
from stillfresh.caches.claims import Claim
from stillfresh.caches.pruning import Repair
from stillfresh.caches.redis import RedisCache
from stillfresh.caches.redislinks import hash_part
from stillfresh.clients.requests import CachedSession
from stillfresh.errors import BodyLost, ConfigError, CorruptEntry
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance import CacheConformance
from stillfresh.testing.conformance.tools import KEYS, content, in_child, load, opened, store
from tests.origin import Document, Origin, Reply
from tests.redis_servers import ClusterSetup, RedisServer, SentinelSetup, needs_redis, wait_until

pytestmark = needs_redis

# The suite has many threads at work, on a machine that may be busy: what is slow isn't broken.
PATIENT = 10.0
LONG = 3 << 20
_numbers = itertools.count()


class OnServers(CacheConformance):
    """The suite, each test under a prefix of its own."""

    def make_cache(self, place: Any, clock: ManualClock) -> RedisCache:
        url, prefix = place
        return RedisCache.from_url(url, prefix=prefix, timeout=PATIENT, clock=clock)

    def damage(self, place: Any, cache: Any, key: str) -> bool:
        url, prefix = place
        if not url.startswith("redis://"):
            return False
        with redis.Redis.from_url(url) as client:
            value = bytearray(client.get(prefix + key))
            value[100] ^= 1
            return bool(client.set(prefix + key, bytes(value)))


class TestOneServer(OnServers):
    @pytest.fixture
    def place(self, redis_server: RedisServer) -> Any:
        return redis_server.url, f"test-{next(_numbers)}:"


@pytest.mark.one_in(8)
class TestSentinel(OnServers):
    @pytest.fixture
    def place(self, redis_sentinel: SentinelSetup) -> Any:
        return redis_sentinel.url, f"test-{next(_numbers)}:"


@pytest.mark.one_in(8)
class TestCluster(OnServers):
    @pytest.fixture
    def place(self, redis_cluster: ClusterSetup) -> Any:
        return redis_cluster.url, f"test-{next(_numbers)}:"


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.client() as made:
        made.flushall()
        yield made


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(client: Any, clock: ManualClock) -> Iterator[RedisCache]:
    with RedisCache(client, timeout=PATIENT, clock=clock) as made:
        yield made


def names(client: Any) -> set[bytes]:
    return set(client.scan_iter("*"))


def pieces(client: Any) -> list[bytes]:
    return sorted(name for name in names(client) if b":sf:" in name)


def ttl(client: Any, name: bytes | str) -> float:
    """Return how many seconds a key has to live; -1 is for ever."""
    left: float = client.pttl(name)
    return left if left < 0 else left / 1000


# Where things are.


def test_a_small_entry_is_one_value_under_its_key(cache: RedisCache, client: Any) -> None:
    store(cache, "https://example.org/", b"metadata", content("body", 4096))
    assert names(client) == {b"https://example.org/"}


@pytest.mark.parametrize("prefix", ["", "app:", "{app}:", "we{ird}", "half}:"])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_all_of_a_long_entry_has_one_hash_tag(client: Any, prefix: str, key: str) -> None:
    with RedisCache(client, prefix=prefix, timeout=PATIENT) as made:
        for name in (key, key + "{a}b", key + "}{", "{}" + key):
            store(made, name, b"metadata", content("body", 600_000))
            found = names(client)
            assert len(found) == 4
            assert len({hash_part(name) for name in found}) == 1
            assert all(name.startswith(prefix.encode()) for name in found)
            assert load(made, name) == (b"metadata", content("body", 600_000))
            assert [info.key for info in made.entries()] == [name]
            client.flushall()


@pytest.mark.parametrize("prefix", ["{", "a{b", "a{}b"])
def test_a_prefix_has_no_half_of_a_hash_tag(client: Any, prefix: str) -> None:
    with pytest.raises(ConfigError, match="hash tag"):
        RedisCache(client, prefix=prefix)


def test_a_key_that_looks_like_a_piece_is_listed_all_the_same(cache: RedisCache) -> None:
    key = "{a}:sf:0123456789abcdef:0"
    cache.set(key, b"value")
    assert cache.get(key) == b"value"
    assert [info.key for info in cache.entries()] == [key]


def test_a_hit_on_a_small_entry_is_one_command(cache: RedisCache, client: Any) -> None:
    store(cache, "key", b"metadata", content("body", 50_000))
    before = client.info("stats")["total_commands_processed"]
    assert load(cache, "key") == (b"metadata", content("body", 50_000))
    # And this INFO.
    assert client.info("stats")["total_commands_processed"] - before == 2


# With other programs.


def test_values_of_cachecontrol_are_read_and_replaced(cache: RedisCache, client: Any) -> None:
    theirs = cachecontrol.caches.redis_cache.RedisCache(client)
    theirs.set("https://example.org/", b"cc=4,value")
    assert cache.get("https://example.org/") == b"cc=4,value"
    with opened(cache, "https://example.org/") as entry:
        assert (entry.metadata, entry.has_body) == (b"cc=4,value", False)
    (listed,) = cache.entries()
    assert (listed.key, listed.foreign) == ("https://example.org/", True)
    report = cache.verify()
    assert (report.unchecked, report.is_sound) == (1, True)
    cache.set("https://example.org/", b"ours")
    assert cache.get("https://example.org/") == b"ours"
    theirs.set("https://example.org/", b"cc=4,theirs")
    assert cache.delete("https://example.org/") is True
    assert names(client) == set()


def test_what_is_no_string_is_a_miss_and_can_be_replaced(cache: RedisCache, client: Any) -> None:
    client.rpush("key", "a", "list")
    assert cache.get("key") is None
    with pytest.raises(CorruptEntry, match="no string"):
        cache.open("key")
    assert list(cache.entries()) == []
    store(cache, "key", b"metadata", b"body")
    assert load(cache, "key") == (b"metadata", b"body")
    client.delete("key")
    client.sadd("key", "a set")
    assert cache.delete("key") is True


def test_a_client_that_decodes_is_as_good_as_any(redis_server: RedisServer) -> None:
    with redis_server.client(decode_responses=True) as decoding, RedisCache(decoding) as made:
        store(made, "key", b"\xff", b"\xfe")
        assert load(made, "key") == (b"\xff", b"\xfe")


@pytest.mark.parametrize(
    "wrong", [None, object(), "redis://localhost", 5], ids=lambda given: type(given).__name__
)
def test_what_is_no_client_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="client"):
        RedisCache(wrong)


def test_an_asynchronous_client_is_refused(redis_server: RedisServer) -> None:
    with pytest.raises(ConfigError, match="blocking"):
        RedisCache(redis.asyncio.Redis(port=redis_server.port))


def test_the_callers_client_is_not_closed_nor_its_connections_used(
    redis_server: RedisServer,
) -> None:
    limited: Any = redis.BlockingConnectionPool
    pool = limited(port=redis_server.port, max_connections=1, timeout=0.1)
    with redis.Redis(connection_pool=pool) as mine:
        with mine.pubsub() as taken:
            taken.subscribe("channel")
            with RedisCache(mine, timeout=PATIENT) as made:
                made.set("key", b"value")
                assert made.get("key") == b"value"
        assert mine.get("key") is not None


# How long things live.


FORMS: list[Any] = [60, 60.5, timedelta(seconds=60), datetime.fromtimestamp(1_700_000_060, UTC)]


@pytest.mark.parametrize("expires", FORMS, ids=repr)
def test_the_server_forgets_what_has_expired(cache: RedisCache, client: Any, expires: Any) -> None:
    cache.set("key", b"value", expires=expires)
    assert 55 < ttl(client, "key") <= 61
    cache.set("key", b"value")
    assert ttl(client, "key") == -1


def test_pieces_live_longer_than_what_names_them(cache: RedisCache, client: Any) -> None:
    version = store(cache, "key", b"metadata", content("body", LONG), expires=60)
    assert len(pieces(client)) == 12
    assert all(60 + 55 < ttl(client, name) <= 60 + 60 for name in pieces(client))
    assert cache.update("key", b"metadata", version=version, expires=600)
    assert all(600 + 55 < ttl(client, name) <= 600 + 60 for name in pieces(client))
    assert cache.update("key", b"metadata", version=version)
    assert {ttl(client, name) for name in names(client)} == {-1}


def test_what_is_being_written_does_not_live_long(cache: RedisCache, client: Any) -> None:
    writer = cache.writer("key")
    writer.write(content("body", LONG))
    assert len(pieces(client)) == 12
    assert all(0 < ttl(client, name) <= redisbodies.DRAFT for name in pieces(client))
    writer.abort()
    assert names(client) == set()


def test_a_killed_writer_leaves_nothing_that_lasts(client: Any, redis_server: RedisServer) -> None:
    code = """
        import os, sys
        from stillfresh.caches.redis import RedisCache
        writer = RedisCache.from_url(sys.argv[1], prefix="", timeout=10).writer("key")
        writer.write(bytes(3 << 20))
        os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", dedent(code), redis_server.url]
    assert subprocess.run(command, check=False, env=dict(os.environ)).returncode == -9
    assert len(names(client)) == 12
    assert all(0 < ttl(client, name) <= redisbodies.DRAFT for name in names(client))


@pytest.mark.parametrize("change", ["replace", "replace by a short one", "remove", "clear"])
def test_what_was_replaced_lives_on_for_its_readers_and_no_longer(
    cache: RedisCache, client: Any, change: str
) -> None:
    store(cache, "key", b"old", content("old", LONG))
    before = pieces(client)
    match change:
        case "replace":
            store(cache, "key", b"new", content("new", LONG))
        case "replace by a short one":
            store(cache, "key", b"new", b"new")
        case "remove":
            cache.remove("key")
        case "clear":
            cache.clear()
    assert all(0 < ttl(client, name) <= redisscripts.GRACE for name in before)
    others = set(pieces(client)) - set(before)
    assert {ttl(client, name) for name in others} <= {-1}
    assert [info.key for info in cache.entries()] == (["key"] if "replace" in change else [])


def test_a_reader_that_goes_on_puts_off_the_end_of_its_version(
    cache: RedisCache, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(cache, "key", b"old", content("old", LONG))
    with opened(cache, "key") as entry:
        start = entry.read(1 << 20)
        store(cache, "key", b"new", b"new")
        for name in pieces(client):
            client.expire(name, 5)
        # As if a third of the time had passed since it looked.
        monkeypatch.setattr(redisbodies, "_SEEN_TO", 1e9)
        start += entry.read(1 << 20)
        read, left = pieces(client)[:4], pieces(client)[8:]
        assert all(ttl(client, name) > redisscripts.GRACE - 5 for name in left)
        assert len(read) == 4
        assert start + entry.read() == content("old", LONG)


def test_a_writer_that_takes_long_puts_off_the_end_of_what_it_has_written(
    cache: RedisCache, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cache.writer("key") as writer:
        writer.write(content("body", LONG)[: 1 << 20])
        for name in pieces(client):
            client.expire(name, 5)
        monkeypatch.setattr(redisbodies, "_SEEN_TO", 1e9)
        writer.write(content("body", LONG)[1 << 20 :])
        assert all(ttl(client, name) > redisbodies.DRAFT - 5 for name in pieces(client))
        writer.commit(b"metadata")
    assert load(cache, "key") == (b"metadata", content("body", LONG))


# What a server has lost.


def test_a_body_with_a_piece_missing_is_a_miss_and_no_entry(cache: RedisCache, client: Any) -> None:
    for size in (100_000, LONG):
        for at in (0, -1):
            store(cache, "key", b"metadata", content("body", size))
            client.delete(pieces(client)[at])
            assert cache.open("key") is None
            assert list(cache.entries()) == []
            client.flushall()


@pytest.mark.parametrize("end", ["replace", "remove"])
def test_a_length_that_was_damaged_holds_up_no_server(
    cache: RedisCache, client: Any, end: str
) -> None:
    store(cache, "key", b"metadata", content("body", LONG))
    value = bytearray(client.get("key"))
    value[24 + 6] ^= 1  # of the length of the body, bit 48
    client.set("key", bytes(value))
    assert cache.get("key") is None
    if end == "remove":
        assert cache.delete("key")
    else:
        store(cache, "key", b"again", b"body")
        assert load(cache, "key") == (b"again", b"body")
    assert all(0 < ttl(client, name) <= redisscripts.GRACE for name in pieces(client))


def test_pruning_spares_what_was_replaced_meanwhile(cache: RedisCache, client: Any) -> None:
    for name in "abcd":
        store(cache, name, b"metadata", content("body", 1000))
    client.set("theirs", b"cc=4,value")

    def replace(done: int, _: int | None) -> None:
        if done == 1:
            for name in "abcd":
                store(cache, name, b"again", b"body")
            client.set("theirs", b"cc=4,another")

    report = cache.prune(max_bytes=10, progress=replace)
    assert [load(cache, name) for name in "abcd"] == [(b"again", b"body")] * 4
    assert client.get("theirs") == b"cc=4,another"
    assert report.removed.total() <= 1


def test_a_piece_that_is_lost_or_changed_while_a_body_is_read_ends_it(
    cache: RedisCache, client: Any
) -> None:
    damage: Callable[[bytes], object]
    for damage in (
        client.delete,
        lambda name: client.set(name, b"short"),
        lambda name: client.setrange(name, 0, b"wrong"),
    ):
        store(cache, "key", b"metadata", content("body", LONG))
        with opened(cache, "key") as entry:
            assert entry.read(1000) == content("body", LONG)[:1000]
            for name in pieces(client):
                if name.endswith(b":11"):
                    damage(name)
            with pytest.raises(BodyLost):
                entry.read()
        client.flushall()


def test_a_body_of_which_the_server_has_lost_a_part_is_not_published(
    cache: RedisCache, client: Any
) -> None:
    store(cache, "key", b"old", b"old")
    writer = cache.writer("key")
    writer.write(content("body", LONG))
    client.delete(pieces(client)[3])
    with pytest.raises(Exception, match="lost a part"):
        writer.commit(b"new")
    assert load(cache, "key") == (b"old", b"old")
    assert pieces(client) == []


@pytest.mark.parametrize("at", range(0, 160, 3))
def test_a_flipped_bit_is_never_served(cache: RedisCache, client: Any, at: int) -> None:
    store(cache, "key", b"metadata", content("body", 60))
    value = bytearray(client.get("key"))
    value[at % len(value)] ^= 1 << at % 8
    client.set("key", bytes(value))
    assert cache.get("key") in {None, bytes(value)}
    if value.startswith(b"\x89sf"):
        with pytest.raises(CorruptEntry):
            cache.open("key")
    cache.verify(repair=Repair.REMOVE)
    cache.remove("key")
    assert names(client) == set()


def test_scripts_that_the_server_has_forgotten_are_sent_again(
    cache: RedisCache, client: Any
) -> None:
    store(cache, "key", b"old", b"old")
    client.script_flush()
    version = store(cache, "key", b"metadata", content("body", LONG))
    client.script_flush()
    assert cache.update("key", b"newer", version=version)
    client.script_flush()
    assert load(cache, "key") == (b"newer", content("body", LONG))
    client.script_flush()
    assert cache.remove("key")


# All of it.


def test_clear_leaves_what_is_under_another_prefix(client: Any) -> None:
    with (
        RedisCache(client, prefix="a[b]*:", timeout=PATIENT) as mine,
        RedisCache(client, prefix="a[b]*", timeout=PATIENT) as shorter,
        RedisCache(client, prefix="ab:", timeout=PATIENT) as others,
    ):
        for number in range(1200):
            client.set(f"foreign {number}", b"value")
            client.set(f"a[b]*:{number}", b"value")
        store(others, "key", b"metadata", content("body", LONG))
        assert len(list(mine.entries())) == 1200
        mine.clear()
        assert list(mine.entries()) == []
        assert list(shorter.entries()) == []
        assert len(names(client)) == 1200 + 13
        assert load(others, "key") == (b"metadata", content("body", LONG))


def test_with_no_prefix_the_database_is_the_cache(cache: RedisCache, client: Any) -> None:
    client.set("foreign", b"value")
    client.hset("foreign hash", "a", "b")
    assert [info.key for info in cache.entries()] == ["foreign"]
    cache.clear()
    assert names(client) == set()


def test_pruning_keeps_what_the_server_says_was_used(
    cache: RedisCache, client: Any, clock: ManualClock
) -> None:
    clock.set(time.time())
    for key in "abc":
        store(cache, key, key.encode(), content(key, 10_000))
    wait_until(lambda: client.object("idletime", "b") >= 1, "time to pass")
    assert load(cache, "b") == (b"b", content("b", 10_000))
    clock.set(time.time())
    cache.prune(max_bytes=11_000)
    assert [info.key for info in cache.entries()] == ["b"]


def test_who_peeks_removes_nothing_and_puts_no_end_off(cache: RedisCache, client: Any) -> None:
    store(cache, "key", b"metadata", content("body", LONG), expires=60)
    for name in pieces(client):
        client.expire(name, 10)
    entry = cache.peek("key")
    assert entry is not None
    entry.close()
    assert all(ttl(client, name) <= 10 for name in pieces(client))
    client.delete(pieces(client)[0])
    before = names(client)
    assert cache.peek("key") is None
    assert names(client) == before
    assert cache.open("key") is None
    assert names(client) != before


def test_who_peeks_gets_a_long_body(cache: RedisCache, clock: ManualClock) -> None:
    store(cache, "key", b"metadata", content("body", LONG))
    entry = cache.peek("key")
    assert entry is not None
    with entry:
        assert entry.read() == content("body", LONG)


def test_what_a_group_took_along_is_told_so(redis_server: RedisServer, origin: Origin) -> None:
    fields = {"Cache-Control": "max-age=60", "Cache-Groups": '"g"'}
    url = origin.on("/", Reply(headers=fields, body=b"body"))
    gone = origin.on("/gone", Reply(headers={"Cache-Group-Invalidation": '"g"'}))
    with RedisCache.from_url(redis_server.url) as cache, CachedSession(cache) as session:
        cache.clear()
        session.get(url)
        session.post(gone)
        told = session.explain("GET", url)
        assert told.why.reason is Reason.GROUP_INVALIDATED
        assert session.get(url).cache.why == told.why


def test_a_listing_counts_a_long_body_where_it_is(cache: RedisCache) -> None:
    store(cache, "key", b"metadata", content("body", LONG))
    (info,) = cache.entries()
    assert LONG < info.size < LONG + 1000
    assert info.body_size == LONG


def test_it_shows_where_it_is(redis_server: RedisServer) -> None:
    where = f"127.0.0.1:{redis_server.port}"
    with redis_server.client() as client:
        assert repr(RedisCache(client, prefix="p:")) == f"RedisCache('{where}', prefix='p:')"


# As many as there are.


def test_a_cache_that_is_forgotten_leaves_no_connection(
    client: Any, redis_server: RedisServer
) -> None:
    made = RedisCache.from_url(redis_server.url + "?client_name=forgotten", timeout=PATIENT)
    made.set("key", b"value")
    assert sum(one["name"] == "forgotten" for one in client.client_list()) == 1
    del made
    wait_until(
        lambda: all(one["name"] != "forgotten" for one in client.client_list()), "it to be closed"
    )


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_limit_of_time_is_positive(client: Any, timeout: float) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        RedisCache(client, timeout=timeout)


# What the engine stores.


def test_a_response_is_kept_as_long_as_it_is_of_use(
    client: Any, clock: ManualClock, origin: Origin
) -> None:
    day = 86_400
    clock.set(time.time())
    plain = origin.on("/plain", Document(b"plain", etag=None))
    tagged = origin.on("/tagged", Document(b"tagged"))
    with RedisCache(client, timeout=PATIENT, clock=clock) as cache:
        session = CachedSession(cache, clock=clock)
        for url in (plain, tagged):
            assert session.get(url).content == session.get(url).content
        assert ttl(client, plain) == pytest.approx(60 + 60, abs=5)
        assert ttl(client, tagged) == pytest.approx(60 + 7 * day, abs=5)
        client.expire(tagged, 1000)
        clock.advance(100)
        # Confirmed by a 304, it is of use again as long.
        assert session.get(tagged).content == b"tagged"
        assert ttl(client, tagged) == pytest.approx(60 + 7 * day, abs=5)


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")
def test_a_response_that_cachecontrol_has_stored_is_served(client: Any, origin: Origin) -> None:
    url = origin.on("/page", Document(b"page"))
    theirs = requests.Session()
    their_cache = cachecontrol.caches.redis_cache.RedisCache(client)
    theirs.mount("http://", cachecontrol.CacheControlAdapter(their_cache))
    assert theirs.get(url).content == b"page"
    with RedisCache(client, timeout=PATIENT) as cache:
        found = CachedSession(cache).get(url)
    assert (found.content, vars(found)["from_cache"]) == (b"page", True)
    # It was stored long ago by its Date, and the origin has said that it is still good.
    assert origin.received_for("/page")[1].header("If-None-Match") == '"1"'


# Claims.


def test_one_of_all_claims_a_key(redis_server: RedisServer) -> None:
    with redis_server.client() as client, made(client) as cache, made(client) as other:
        claim = cache.claim("key", 60)
        assert claim is not None
        assert claim.others
        assert other.claim("key", 60) is None
        # Nobody waits for itself, and what it is given isn't its to end.
        mine = cache.claim("key", 60)
        assert mine is not None
        assert mine.others
        mine.release()
        assert other.claim("key", 60) is None
        another = other.claim("another", 60)
        assert another is not None
        # It is no entry, and in nobody's way.
        assert list(cache.entries()) == []
        store(cache, "key", b"metadata", b"body")
        assert load(other, "key") == (b"metadata", b"body")
        assert [entry.key for entry in cache.entries()] == ["key"]
        claim.release()
        again = other.claim("key", 60)
        assert again is not None
        # What isn't one's own any more isn't taken back.
        claim.release()
        assert cache.claim("key", 60) is None
        again.release()
        another.release()


def test_a_claim_ends_with_the_version_that_it_was_for(redis_server: RedisServer) -> None:
    with redis_server.client() as client, made(client) as cache, made(client) as other:
        claim = cache.claim("key", 60)
        assert claim is not None
        # Somebody else's version is not what it was for.
        version = store(cache, "key", b"metadata", b"body")
        assert cache.update("key", b"confirmed", version=version)
        assert other.claim("key", 60) is None
        claim.ending()
        version = store(cache, "key", b"metadata", b"body")
        again = other.claim("key", 60)
        assert again is not None
        again.ending()
        assert cache.update("key", b"confirmed", version=version)
        # What isn't one's own any more isn't taken back.
        claim.release()
        assert cache.claim("key", 60) is None
        assert other.update("key", b"confirmed again", version=version)
        third = cache.claim("key", 60)
        assert third is not None
        third.release()
        again.release()


@pytest.mark.parametrize(
    ("prefix", "keys"),
    [("{app}:", ("one", "another")), ("app:", ("https://x/{id}/1", "https://x/{id}/2"))],
)
def test_keys_that_share_a_hash_tag_share_no_claim(
    client: Any, prefix: str, keys: tuple[str, str]
) -> None:
    with RedisCache(client, prefix=prefix, timeout=PATIENT) as cache:
        claims = [cache.claim(key, 60) for key in keys]
        assert None not in claims
        assert all(ttl(client, name) == pytest.approx(60, abs=10) for name in names(client))
        assert list(cache.entries()) == []
        # They are not left for readers, as pieces are.
        cache.clear()
        assert names(client) == set()


def test_what_another_thread_has_seen_is_new_to_this_one(redis_server: RedisServer) -> None:
    with redis_server.client() as client, made(client) as cache, made(client) as other:
        cache.clear()
        assert cache.open("key") is None
        store(other, "key", b"metadata", b"body")
        seen = threading.Thread(target=lambda: load(cache, "key"))
        seen.start()
        seen.join()
        claim = cache.claim("key", 60)
        assert claim is not None
        assert claim.others
        claim.release()


def test_a_claim_tells_whether_there_is_something_new(redis_server: RedisServer) -> None:
    with redis_server.client() as client, made(client) as cache, made(client) as other:

        def changed(key: str) -> bool:
            claim = cache.claim(key, 60)
            assert claim is not None
            claim.release()
            return claim.others

        cache.clear()
        assert changed("key")
        assert cache.open("key") is None
        assert not changed("key")
        version = store(other, "key", b"metadata", b"body")
        assert changed("key")
        assert load(cache, "key") == (b"metadata", b"body")
        assert not changed("key")
        assert other.update("key", b"confirmed", version=version)
        assert changed("key")
        assert load(cache, "key") == (b"confirmed", b"body")
        other.remove("key")
        assert changed("key")
        client.lpush("claims:list", "somebody else's")
        with pytest.raises(CorruptEntry):
            cache.open("list")
        assert changed("list")


def test_what_was_damaged_since_one_looked_is_not_made_good_again(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client, made(client) as cache:
        version = store(cache, "key", b"metadata", b"body")
        assert load(cache, "key") == (b"metadata", b"body")
        value = bytearray(client.get("claims:key"))
        for at in range(frames.HEAD_SIZE):
            damaged = value.copy()
            damaged[at] ^= 1
            client.set("claims:key", bytes(damaged))
            for look in (False, True):
                if look:
                    with suppress(CorruptEntry):
                        assert cache.open("key") is None
                with suppress(CorruptEntry):
                    assert not cache.update("key", b"confirmed", version=version)
            assert client.get("claims:key") == bytes(damaged)


def test_a_child_ends_no_claim_of_its_parent(redis_server: RedisServer) -> None:
    with redis_server.client() as client, made(client) as cache, made(client) as other:
        claim = cache.claim("key", 60)
        assert claim is not None

        def child() -> bytes:
            assert cache.claim("key", 60) is None
            claim.ending()
            store(cache, "key", b"metadata", b"body")
            claim.release()
            mine = cache.claim("of the child", 60)
            assert mine is not None
            mine.release()
            return b""

        in_child(child)
        assert other.claim("key", 60) is None
        another = cache.claim("of the child", 60)
        assert another is not None
        another.release()
        claim.release()
        again = cache.claim("key", 60)
        assert again is not None
        again.release()


def test_a_miss_takes_two_round_trips_or_three_and_so_does_a_304(
    tmp_path: Path, clock: ManualClock, origin: Origin
) -> None:
    # Of its own: what others have left open counts as read when it is closed.
    with RedisServer(tmp_path) as server, server.client() as client:
        _count_round_trips(client, clock, origin)


def _count_round_trips(client: Any, clock: ManualClock, origin: Origin) -> None:
    def round_trips(expected: str) -> Any:
        before = client.info("stats")["total_reads_processed"]
        assert session.get(url).headers["Cache-Status"].startswith(f"stillfresh; {expected}")
        # Without this INFO.
        return client.info("stats")["total_reads_processed"] - before - 1

    url = origin.on("/page", Document(b"page"))
    clock.set(time.time())
    with RedisCache(client, timeout=PATIENT, clock=clock) as cache:
        session = CachedSession(cache, clock=clock)
        # The scripts are there, and the connection is.
        session.get(origin.on("/other", Document(b"other")))
        clock.advance(100)
        session.get(origin.on("/other", Document(b"other")))
        # One doesn't expect it yet.
        assert round_trips("fwd=uri-miss") == 3
        for name in ("/one", "/two"):
            url = origin.on(name, Document(b"page"))
            assert round_trips("fwd=uri-miss") == 2
        assert round_trips("hit") == 1
        clock.advance(100)
        assert round_trips("fwd=stale; fwd-status=304") == 3


def test_what_is_missing_again_is_claimed_with_the_look(redis_server: RedisServer) -> None:
    with redis_server.client() as client, made(client) as cache, made(client) as other:
        cache.clear()
        assert cache.open("missing") is None
        claim = cache.open_or_claim("key", lambda: 60)
        assert isinstance(claim, Claim)
        assert other.claim("key", 60) is None
        assert cache.open_or_claim("key", lambda: 60) is None
        mine = cache.claim("key", 60)
        assert mine is not None
        assert not mine.others
        # It has been taken up.
        claim.forgo()
        assert other.claim("key", 60) is None
        mine.ending()
        store(cache, "key", b"metadata", b"body")
        again = other.claim("key", 60)
        assert again is not None
        again.release()
        # And it ends with nobody else's version.
        assert load(cache, "key") == (b"metadata", b"body")
        assert cache.open("missing") is None
        entry = cache.open_or_claim("key", lambda: 60)
        assert isinstance(entry, Entry)
        assert entry.metadata == b"metadata"
        again = other.claim("key", 60)
        assert again is not None
        again.release()


def test_what_nobody_takes_up_is_given_back(redis_server: RedisServer) -> None:
    with redis_server.client() as client, made(client) as cache, made(client) as other:
        cache.clear()
        for let_go in (Claim.forgo, Claim.release, lambda _: None):
            assert cache.open("missing") is None
            claim = cache.open_or_claim("key", lambda: 60)
            assert isinstance(claim, Claim)
            let_go(claim)
            del claim
            again = other.claim("key", 60)
            assert again is not None
            again.release()


def test_what_another_thread_has_claimed_with_a_look_may_be_news(redis_server: RedisServer) -> None:
    with redis_server.client() as client, made(client) as cache:
        cache.clear()
        assert cache.open("missing") is None
        found: list[Any] = []
        look = threading.Thread(target=lambda: found.append(cache.open_or_claim("key", lambda: 60)))
        look.start()
        look.join()
        claim = cache.claim("key", 60)
        assert claim is found[0]
        assert claim is not None
        assert claim.others
        claim.release()


def test_nothing_is_claimed_where_that_is_not_wanted_or_the_value_is_strange(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client, made(client) as cache, made(client) as other:
        cache.clear()
        client.lpush("claims:list", "somebody else's")
        assert cache.open("missing") is None
        assert cache.open_or_claim("key", lambda: 0) is None
        with pytest.raises(CorruptEntry):
            cache.open_or_claim("list", lambda: 60)
        for key in ("key", "list"):
            claim = other.claim(key, 60)
            assert claim is not None
            claim.release()
        client.delete("claims:list")


def test_what_came_between_is_replaced_as_a_whole(redis_server: RedisServer) -> None:
    with redis_server.client() as client, made(client) as cache, made(client) as other:
        cache.clear()
        assert cache.open("key") is None
        long = os.urandom(600_000)
        store(other, "key", b"long", long)
        with opened(other, "key") as reading:
            beginning = reading.read(1000)
            # Stored as if there was nothing, which is not so any more.
            store(cache, "key", b"short", b"body")
            assert load(other, "key") == (b"short", b"body")
            assert beginning + reading.read() == long
        pieces = [name for name in client.keys("claims:*") if b":sf:" in name]
        assert pieces
        assert all(0 < client.ttl(name) <= 60 for name in pieces)
        cache.clear()


def test_a_claim_that_may_have_ended_ends_no_others(redis_server: RedisServer) -> None:
    with redis_server.client() as client, made(client) as cache, made(client) as other:
        cache.clear()
        assert cache.open("key") is None
        claim = cache.claim("key", 0.01)
        assert claim is not None
        granted = claimed_by(other)
        claim.ending()
        store(cache, "key", b"metadata", b"body")
        assert cache.claim("key", 60) is None
        granted.release()


def test_who_reads_on_while_it_asks_again_does_not_wait_for_itself(
    client: Any, origin: Origin
) -> None:
    url = origin.on("/page", Document(b"page"))
    with RedisCache(client, timeout=PATIENT) as cache:
        session = CachedSession(cache, policy=Policy(collapse_wait=600))
        first = session.get(url, stream=True)
        assert session.get(url).content == b"page"
        assert first.content == b"page"


def test_a_claim_ends_by_itself(redis_server: RedisServer) -> None:
    with redis_server.client() as client, made(client) as cache, made(client) as other:
        claim = cache.claim("key", 0.01)
        assert claim is not None
        granted = claimed_by(other)
        claim.release()
        assert cache.claim("key", 60) is None
        granted.release()


def claimed_by(other: RedisCache) -> Claim:
    """Wait for the end of another's claim of "key", and claim it then."""
    granted: list[Claim] = []

    def claimed() -> bool:
        found = other.claim("key", 60)
        granted.extend([found] if found is not None else [])
        return bool(granted)

    wait_until(claimed, "the end of a claim")
    return granted[0]


def made(client: Any) -> RedisCache:
    return RedisCache(client, prefix="claims:", timeout=PATIENT)


def test_who_asks_for_a_host_looks_at_nothing_of_others(redis_server: RedisServer) -> None:
    with redis_server.client() as client, made(client) as cache:
        cache.clear()
        for number in range(50):
            store(cache, f"http://{number}.example/", b"metadata", b"body")
        client.config_resetstat()
        (listed,) = cache.entries_of("7.example")
        assert listed.key == "http://7.example/"
        looks = client.info("commandstats")
        assert looks["cmdstat_strlen"]["calls"] == 1
        cache.clear()
