"""Servers that are down, slow, full, of another role, or somewhere else by now."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
import redis.asyncio

from stillfresh import events
from stillfresh.caches import breaker
from stillfresh.caches.base import Claim, Entry
from stillfresh.caches.redis import AsyncRedisCache, RedisCache
from stillfresh.clients.requests import CachedSession
from stillfresh.errors import BodyLost, CacheFull, CacheUnavailable, ConfigError, StoreError
from stillfresh.events import StoreFailed
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance.tools import content, load, opened, store, together
from tests.origin import Document, Origin
from tests.redis_proxy import Mood, Proxy
from tests.redis_servers import (
    ClusterSetup,
    RedisServer,
    SentinelSetup,
    free_port,
    needs_redis,
    wait_until,
)

pytestmark = needs_redis

LIMIT = 0.25
# What a busy machine may add to it before the test says that it doesn't hold. The client library
# would wait for ever, or some seconds.
SLACK = 0.75
LONG = 3 << 20

USES: dict[str, Callable[[RedisCache], object]] = {
    "open": lambda cache: cache.open("key"),
    "store": lambda cache: store(cache, "key", b"metadata", b"body"),
    "store a long one": lambda cache: store(cache, "key", b"metadata", content("body", LONG)),
    "update": lambda cache: cache.update("key", b"metadata", version="0" * 16),
    "remove": lambda cache: cache.remove("key"),
}
T = TypeVar("T")
BAD_MOODS = [Mood.STALLING, Mood.DRIPPING, Mood.CLOSING]
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses so short that a test may wait for them."""
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(breaker, "LONGEST_PAUSE", 0.1)


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as running:
        yield running


@pytest.fixture
def cache(proxy: Proxy) -> Iterator[RedisCache]:
    # As most people make a client: with no limit of time at all.
    client = redis.Redis(port=proxy.port, socket_timeout=None, socket_connect_timeout=None)
    with RedisCache(client, prefix=f"trouble-{next(_numbers)}:") as made:
        yield made


def fails_in_time(use: Callable[[], object]) -> StoreError:
    """Do something that has to fail within the limit, and return its error."""
    before = time.monotonic()
    with pytest.raises(StoreError) as caught:
        use()
    assert time.monotonic() - before < LIMIT + SLACK
    return caught.value


def patiently(use: Callable[[], T]) -> T:
    """Do what a server should answer in time, again where the machine stood still for a moment."""
    for _ in range(20):
        with contextlib.suppress(CacheUnavailable):
            return use()
        time.sleep(0.05)
    return use()


def answers_again(cache: RedisCache) -> None:
    """Wait until a cache is of use."""

    def is_stored() -> bool:
        try:
            store(cache, "again", b"metadata", b"body")
        except StoreError:
            return False
        return load(cache, "again") == (b"metadata", b"body")

    wait_until(is_stored, "the cache to be of use again")


@pytest.mark.parametrize("with_the_look", [False, True])
def test_a_claim_whose_answer_got_lost_is_held(
    cache: RedisCache, proxy: Proxy, with_the_look: bool
) -> None:
    """The server granted it, and the connection went: asked again it says that it is taken."""

    def claimed() -> Claim | Entry | None:
        return cache.open_or_claim("key", lambda: 60) if with_the_look else cache.claim("key", 60)

    # Who has missed once claims with the next look.
    patiently(lambda: cache.open("another"))
    proxy.mood = Mood.LOSING
    claim = claimed()
    assert proxy.mood is Mood.PASSING
    assert isinstance(claim, Claim)
    with RedisCache(redis.Redis(port=proxy.port), prefix=cache.prefix) as other:
        assert patiently(lambda: other.claim("key", 60)) is None
        claim.release()
        assert isinstance(patiently(lambda: other.claim("key", 60)), Claim)


@pytest.mark.parametrize(
    ("begun", "mood", "use"),
    [
        *itertools.product([True, False], BAD_MOODS, ["open"]),
        *((True, Mood.STALLING, use) for use in USES if use != "open"),
    ],
    ids=lambda value: value.name if isinstance(value, Mood) else str(value),
)
def test_a_server_that_does_not_answer_is_a_failure_in_time(
    cache: RedisCache, proxy: Proxy, begun: bool, mood: Mood, use: str
) -> None:
    if begun:
        patiently(lambda: store(cache, "key", b"metadata", b"body"))
    proxy.mood = mood
    if mood is Mood.CLOSING:
        proxy.cut()
    assert isinstance(fails_in_time(lambda: USES[use](cache)), CacheUnavailable)
    proxy.mood = Mood.PASSING
    answers_again(cache)


def test_a_long_body_may_take_longer_than_one_operation(cache: RedisCache, proxy: Proxy) -> None:
    # In both directions two megabytes take as long as one operation may.
    body = content("body", 6 << 20)
    proxy.mood = Mood.SLOW
    patiently(lambda: store(cache, "key", b"metadata", body))
    assert patiently(lambda: load(cache, "key")) == (b"metadata", body)


def test_a_body_stops_in_time_when_the_server_does(cache: RedisCache, proxy: Proxy) -> None:
    patiently(lambda: store(cache, "key", b"metadata", content("body", LONG)))
    with opened(cache, "key") as entry:
        assert entry.read(1000) == content("body", LONG)[:1000]
        proxy.mood = Mood.STALLING
        fails_in_time(entry.read)
    proxy.mood = Mood.PASSING
    answers_again(cache)
    assert patiently(lambda: load(cache, "key")) == (b"metadata", content("body", LONG))


def test_what_came_too_late_is_not_taken_for_the_answer_to_another(
    cache: RedisCache, proxy: Proxy
) -> None:
    for key in "abcd":
        patiently(partial(store, cache, key, key.encode(), content(key, 1000)))
    for key in "abcd":
        proxy.mood = Mood.STALLING
        fails_in_time(partial(load, cache, key))
        proxy.mood = Mood.PASSING
        answers_again(cache)
        for other in "abcd":
            assert patiently(partial(load, cache, other)) == (other.encode(), content(other, 1000))


def test_threads_of_late_operations_end(cache: RedisCache, proxy: Proxy) -> None:
    proxy.mood = Mood.STALLING
    for _ in range(5):
        with pytest.raises(CacheUnavailable):
            cache.open("key")
        time.sleep(0.06)
    cache.close()
    wait_until(
        lambda: not any(one.name == "stillfresh-redis" for one in threading.enumerate()),
        "the threads to end",
    )


def test_while_it_is_left_alone_a_server_is_asked_nothing(
    cache: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 3600)
    proxy.mood = Mood.CLOSING
    first = fails_in_time(lambda: cache.open("key"))
    asked = proxy.accepted
    again = [fails_in_time(lambda: cache.open("key")) for _ in range(100)]
    assert proxy.accepted == asked
    assert isinstance(first, CacheUnavailable)
    assert {error.outage for error in again if isinstance(error, CacheUnavailable)} == {
        first.outage
    }


def test_an_idle_connection_that_was_closed_is_no_failure(cache: RedisCache, proxy: Proxy) -> None:
    patiently(lambda: store(cache, "key", b"metadata", b"body"))
    for _ in range(3):
        proxy.cut()
        assert load(cache, "key") == (b"metadata", b"body")


def test_the_first_that_tries_again_ends_an_outage(
    cache: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it has a connection to lose first."""
    clock = ManualClock()
    monkeypatch.setattr(breaker.Breaker.__init__, "__kwdefaults__", {"clock": clock})
    together(*[partial(store, cache, "key", b"metadata", content("body", LONG))] * 4)
    proxy.mood = Mood.CLOSING
    proxy.cut()
    with pytest.raises(CacheUnavailable):
        cache.open("key")
    proxy.mood = Mood.PASSING
    clock.advance(breaker.FIRST_PAUSE)
    assert load(cache, "key") == (b"metadata", content("body", LONG))


class _InterruptedError(Exception):
    pass


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that send signals")
def test_who_is_interrupted_while_it_connects_says_nothing_of_the_server(
    cache: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 1000.0)
    cache.timeout = 60
    proxy.mood = Mood.STALLING

    def interrupt(*_: object) -> None:
        raise _InterruptedError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(_InterruptedError):
            cache.open("key")
    finally:
        signal.signal(signal.SIGALRM, before)
    wait_until(
        lambda: all(thread.name != "stillfresh-redis" for thread in threading.enumerate()),
        "the thread that connects to end",
    )
    proxy.mood = Mood.PASSING
    assert cache.open("key") is None


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "server") as server:
        yield server


def test_a_server_that_is_down_at_the_start_is_used_when_it_is_up(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    with RedisCache.from_url(server.url) as cache:
        assert cache.get("key") is None
        cache.set("key", b"value")
        assert cache.delete("key") is False
        for question in (cache.stats, cache.verify, cache.prune, cache.clear):
            fails_in_time(question)
        with server:
            answers_again(cache)


def test_a_server_killed_and_started_again_is_used_again(own_server: RedisServer) -> None:
    with RedisCache.from_url(own_server.url) as cache:
        answers_again(cache)
        writer = cache.writer("key")
        writer.write(content("body", LONG))
        own_server.kill()
        fails_in_time(lambda: writer.commit(b"metadata"))
        assert cache.get("again") is None
        own_server.start()
        answers_again(cache)
        assert cache.get("key") is None


def test_a_full_server_says_so_and_goes_on_serving(own_server: RedisServer) -> None:
    with own_server.client() as client, RedisCache(client) as cache:
        patiently(lambda: store(cache, "key", b"metadata", b"body"))
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "100kb")
        for size in (100, LONG):
            assert isinstance(
                fails_in_time(partial(store, cache, "new", b"", content("new", size))),
                CacheFull,
            )
        cache.set("new", b"value")
        assert cache.get("new") is None
        assert load(cache, "key") == (b"metadata", b"body")
        client.config_set("maxmemory", "0")
        answers_again(cache)


def test_what_a_server_evicts_is_a_miss(own_server: RedisServer) -> None:
    with own_server.client() as client, RedisCache(client, timeout=5) as cache:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "12mb")
        lost = 0
        for number in range(10):
            # It may be a piece of what is just written.
            with contextlib.suppress(CacheUnavailable):
                store(cache, f"key {number}", b"metadata", content(f"{number}", LONG))
        for number in range(10):
            found = None
            # Or of what is just read.
            with contextlib.suppress(BodyLost):
                found = load(cache, f"key {number}")
            assert found in {None, (b"metadata", content(f"{number}", LONG))}
            lost += found is None
        assert lost >= 5


def test_a_replica_is_read_and_not_written(redis_sentinel: SentinelSetup) -> None:
    with (
        RedisCache(redis_sentinel.master.client(), prefix="r:") as master,
        RedisCache(redis_sentinel.replica.client(), prefix="r:") as replica,
    ):
        store(master, "key", b"metadata", content("body", LONG))
        wait_until(lambda: replica.get("key") is not None, "the replica to follow")
        assert load(replica, "key") == (b"metadata", content("body", LONG))
        assert replica.delete("key") is False
        fails_in_time(lambda: store(replica, "key", b"", b""))
        assert load(replica, "key") == (b"metadata", content("body", LONG))


def test_a_wrong_password_is_a_miss_and_is_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(tmp_path, "--requirepass", "right") as server:
        url = server.url.replace("//", "//:{}@")
        with RedisCache.from_url(url.format("right")) as right:
            answers_again(right)
            assert "right" not in repr(right)
        with RedisCache.from_url(url.format("wrong-one")) as wrong:
            assert wrong.get("again") is None
            error = fails_in_time(lambda: wrong.open("key"))
            assert "wrong-one" not in f"{error} {error.__cause__!r} {wrong!r} {caplog.text}"
        with RedisCache.from_url(server.url) as none:
            assert none.get("again") is None


# Where the servers change.


def test_clearing_says_what_the_server_refuses(own_server: RedisServer) -> None:
    with own_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "user", "on", "nopass", "~*", "+@all", "-unlink")
        mine = own_server.client(username="user", password="any")
        with mine, RedisCache(mine, prefix="mine:", timeout=5) as cache:
            cache.set("key", b"value")
            with pytest.raises(StoreError, match="refuses"):
                cache.clear()
            assert cache.get("key") == b"value"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e9])
def test_a_limit_that_makes_no_sense_is_refused(timeout: float) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        RedisCache(redis.Redis(), timeout=timeout)
    with pytest.raises(ConfigError, match="timeout"):
        RedisCache.from_url(f"redis://localhost?timeout={timeout}")


def test_an_operation_is_watched_though_there_was_no_thread_for_it_before(
    cache: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name == "stillfresh-watch":
            msg = "can't start new thread"
            raise RuntimeError(msg)
        start(thread)

    answers_again(cache)
    cache = RedisCache(redis.Redis(port=proxy.port), prefix=cache.prefix)
    with cache:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", fail)
            # What connects is done in a thread of its own; the next one would be watched.
            patiently(lambda: cache.open("again"))
            patiently(lambda: cache.open("again"))
        patiently(lambda: cache.open("again"))
        proxy.mood = Mood.STALLING
        fails_in_time(lambda: cache.open("again"))


def test_threads_may_ask_at_once_which_server_of_a_cluster_has_what(
    redis_cluster: ClusterSetup,
) -> None:
    before = sys.getswitchinterval()
    with RedisCache.from_url(redis_cluster.url, prefix="asked:", timeout=5) as cache:
        cache.set("key", b"value")

        def ask() -> None:
            for _ in range(150):
                # As after anything that goes wrong.
                cache._servers.moved()  # noqa: SLF001 - nothing public is as quick
                assert cache.get("key") == b"value"

        sys.setswitchinterval(1e-6)
        try:
            together(*[ask] * 6)
        finally:
            sys.setswitchinterval(before)


def test_a_failover_of_a_sentinels_master_is_followed(tmp_path: Path) -> None:
    with SentinelSetup(tmp_path, sentinels=1) as setup:
        # One of the Sentinels is down all the time.
        url = setup.url.replace("//", f"//127.0.0.1:{free_port()},")
        with RedisCache.from_url(url) as cache, setup.sentinels[0].client() as client:
            answers_again(cache)
            before = setup.master_port()
            wait_until(
                lambda: client.execute_command("SENTINEL", "FAILOVER", setup.service),
                "the replica to be good enough",
            )
            wait_until(lambda: setup.master_port() != before, "the failover")
            # As a Sentinel does, but in ten seconds: until then the old one takes what is written.
            with setup.master.client() as old:
                old.replicaof("127.0.0.1", setup.master_port())
            answers_again(cache)
        with setup.replica.client() as client:
            assert client.get("stillfresh:again") is not None


def test_a_master_that_has_become_a_replica_is_left_for_whom_the_name_leads_to(
    tmp_path: Path,
) -> None:
    with (
        RedisServer(tmp_path / "old") as old,
        RedisServer(tmp_path / "new") as new,
        Proxy(old.port) as proxy,
        RedisCache.from_url(f"redis://127.0.0.1:{proxy.port}") as cache,
        old.client() as demoted,
        new.client() as promoted,
    ):
        answers_again(cache)
        demoted.replicaof("127.0.0.1", new.port)
        proxy.leads_to = new.port
        answers_again(cache)
        assert promoted.get("stillfresh:again") is not None


def test_a_cluster_may_be_resharded_while_it_is_used(redis_cluster: ClusterSetup) -> None:
    client: Any = redis.RedisCluster(host="127.0.0.1", port=redis_cluster.nodes[0].port)
    with RedisCache(client, prefix="{moving}", timeout=5) as cache, client:
        slot = client.keyslot("{moving}")
        store(cache, "long", b"metadata", content("body", LONG))
        source_node = client.get_node_from_key("{moving}")
        source = next(one for one in redis_cluster.nodes if one.port == source_node.port)
        target = next(
            one for one in redis_cluster.nodes[: redis_cluster.masters] if one is not source
        )
        with source.client() as old, target.client() as new:
            old_id, new_id = (one.execute_command("CLUSTER", "MYID") for one in (old, new))
            new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
            old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
            # Its slot is on its way: what is there is served there, what is new goes ahead.
            assert load(cache, "long") == (b"metadata", content("body", LONG))
            store(cache, "new", b"metadata", b"body")
            assert load(cache, "new") == (b"metadata", b"body")
            for name in old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                old.execute_command("MIGRATE", "127.0.0.1", target.port, name, 0, 5000)
            assert load(cache, "new") == (b"metadata", b"body")
            for one in (new, old):
                one.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)
        assert load(cache, "long") == (b"metadata", content("body", LONG))
        assert cache.remove("long") is True
        assert {info.key for info in cache.entries()} == {"new"}


# What users see of it.


@pytest.fixture
def told() -> list[events.Event]:
    return []


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.message for one in caplog.records if one.levelno >= logging.WARNING]


def test_requests_go_on_and_each_outage_is_told_of_once(
    origin: Origin, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    url = origin.on("/page", Document(b"page"))
    with RedisCache.from_url(f"redis://127.0.0.1:{proxy.port}", prefix="once:") as cache:
        session = CachedSession(cache)
        for outage in range(1, 3):
            proxy.mood = Mood.CLOSING
            proxy.cut()
            for _ in range(5):
                assert session.get(url).content == b"page"
            assert len(warnings_in(caplog)) == outage
            proxy.mood = Mood.PASSING
            wait_until(lambda: vars(session.get(url))["from_cache"], "a hit")
            assert session.get(url).content == b"page"
    assert all("secret" not in text for text in warnings_in(caplog))


def test_the_classic_interface_tells_of_each_failure(
    cache: RedisCache, proxy: Proxy, told: list[events.Event]
) -> None:
    cache.hook = told.append
    proxy.mood = Mood.CLOSING
    assert cache.get("key") is None
    cache.set("key", b"value")
    assert cache.delete("key") is False
    assert [event.operation for event in told if isinstance(event, StoreFailed)] == [
        "get",
        "set",
        "delete",
    ]


# The same, awaited.


@pytest.mark.parametrize("mood", BAD_MOODS)
def test_an_awaited_cache_fails_in_time_as_well(redis_server: RedisServer, mood: Mood) -> None:
    async def use(cache: AsyncRedisCache, proxy: Proxy) -> None:
        await cache.set("key", b"value")
        proxy.mood = mood
        if mood is Mood.CLOSING:
            proxy.cut()
        for _ in range(3):
            before = time.monotonic()
            assert await cache.get("key") is None
            await cache.set("key", b"other")
            assert time.monotonic() - before < 2 * LIMIT + SLACK
            await asyncio.sleep(0.06)
        proxy.mood = Mood.PASSING
        for _ in range(1000):
            if await cache.get("key") is not None:
                return
            await asyncio.sleep(0.01)
        pytest.fail("it was never of use again")

    async def main() -> None:
        with Proxy(redis_server.port) as proxy:
            client = redis.asyncio.Redis(port=proxy.port)
            async with AsyncRedisCache(client, prefix=f"trouble-{next(_numbers)}:") as cache:
                await use(cache, proxy)

    asyncio.run(main())


def test_a_task_that_is_cancelled_leaves_no_answer_for_the_next(
    redis_server: RedisServer,
) -> None:
    async def main() -> None:
        with Proxy(redis_server.port) as proxy:
            client = redis.asyncio.Redis(port=proxy.port)
            async with AsyncRedisCache(client, prefix="cancelled:", timeout=5) as cache:
                for key in "abc":
                    await cache.set(key, key.encode())
                for key in "abcab":
                    proxy.mood = Mood.STALLING
                    task = asyncio.create_task(cache.get(key))
                    await asyncio.sleep(0.02)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    proxy.mood = Mood.PASSING
                    for other in "abc":
                        assert await cache.get(other) == other.encode()

    asyncio.run(main())


def test_servers_that_are_all_down_are_one_outage() -> None:
    ports = ",".join(f"127.0.0.1:{free_port()}" for _ in range(3))
    with RedisCache.from_url(f"redis+cluster://{ports}") as cache:
        outages = set()
        for _ in range(6):
            with pytest.raises(CacheUnavailable) as caught:
                cache.open("key")
            outages.add(caught.value.outage)
    assert len(outages) == 1
