"""AsyncRedisCache: what its blocking sibling does, awaited."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from stillfresh import MemoryCache
from stillfresh.caches.asynchronous import AsyncEntry
from stillfresh.caches.claims import Claim
from stillfresh.caches.redis import AsyncRedisCache, RedisCache
from stillfresh.caches.urls import async_cache_of
from stillfresh.engine.ports import AsyncCachePorts
from stillfresh.errors import BodyLost, CacheClosed, ConfigError
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance.tools import SIZES, content
from stillfresh.testing.conformance.tools import load as load_blocking
from tests.redis_proxy import Mood, Proxy
from tests.redis_servers import ClusterSetup, RedisServer, SentinelSetup, needs_redis, wait_until

pytestmark = needs_redis

PATIENT = 10.0
LONG = 3 << 20
_numbers = itertools.count()
Use = Callable[[AsyncRedisCache], Awaitable[None]]
Run = Callable[[Use], None]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["one", "sentinel", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    fixture = {"one": "redis_server", "sentinel": "redis_sentinel", "cluster": "redis_cluster"}
    setup: RedisServer | SentinelSetup | ClusterSetup = request.getfixturevalue(
        fixture[request.param]
    )
    return setup.url


@pytest.fixture
def prefix() -> str:
    return f"async-{next(_numbers)}:"


@pytest.fixture
def run(url: str, prefix: str, clock: ManualClock) -> Run:
    """Return what uses a cache in a loop of its own."""

    def in_loop(use: Use) -> None:
        async def main() -> None:
            made = AsyncRedisCache.from_url(url, prefix=prefix, timeout=PATIENT, clock=clock)
            async with made as cache:
                await use(cache)

        asyncio.run(main())

    return in_loop


async def store(
    cache: AsyncRedisCache, key: str, metadata: bytes, body: bytes | None, expires: Any = None
) -> str:
    async with cache.writer(key) as writer:
        if body is not None:
            for at in range(0, max(1, len(body)), 300_000):
                await writer.write(body[at : at + 300_000])
        return await writer.commit(metadata, expires=expires)


async def load(cache: AsyncRedisCache, key: str) -> tuple[bytes, bytes | None] | None:
    entry = await cache.open(key)
    if entry is None:
        return None
    async with entry:
        body = await entry.read()
        return entry.metadata, body if entry.has_body else None


def test_what_goes_in_comes_out(run: Run) -> None:
    async def use(cache: AsyncRedisCache) -> None:
        for size in (*SIZES, None):
            body = None if size is None else content("body", size)
            version = await store(cache, "key", b"metadata", body)
            assert await load(cache, "key") == (b"metadata", body)
            assert await cache.update("key", b"newer", version=version) is True
            assert await cache.update("key", b"never", version="0" * 16) is False
            assert await load(cache, "key") == (b"newer", body)
        assert await cache.remove("key") is True
        assert await cache.remove("key") is False
        assert await cache.open("key") is None

    run(use)


def test_a_body_is_read_in_steps_and_from_anywhere(run: Run) -> None:
    async def use(cache: AsyncRedisCache) -> None:
        body = content("body", LONG)
        await store(cache, "key", b"metadata", body)
        entry = await cache.open("key")
        assert entry is not None
        async with entry:
            await entry.check()
            assert [await entry.read(1000) for _ in range(3)] == [
                body[at : at + 1000] for at in (0, 1000, 2000)
            ]
            for offset in (LONG // 2, 0, LONG - 10, 7):
                await entry.seek(offset)
                assert await entry.read(50_000) == body[offset : offset + 50_000]
            with pytest.raises(ValueError, match="byte"):
                await entry.seek(LONG + 1)
            await entry.seek(LONG)
            assert await entry.read() == b""
        with pytest.raises(ValueError, match="closed"):
            await entry.read()

    run(use)


@pytest.mark.parametrize("change", ["replace", "remove", "clear", "expire"])
def test_a_reader_keeps_its_version(run: Run, clock: ManualClock, change: str) -> None:
    async def use(cache: AsyncRedisCache) -> None:
        body = content("old", LONG)
        await store(cache, "key", b"old", body, expires=60)
        entry = await cache.open("key")
        assert entry is not None
        async with entry:
            start = await entry.read(5)
            match change:
                case "replace":
                    await store(cache, "key", b"new", content("new", LONG))
                case "remove":
                    await cache.remove("key")
                case "clear":
                    await cache.clear()
                case "expire":
                    clock.advance(3600)
            assert start + await entry.read() == body

    run(use)


def test_a_version_that_is_not_committed_leaves_no_trace(run: Run) -> None:
    async def use(cache: AsyncRedisCache) -> None:
        for size in (10, LONG):
            async with cache.writer("key") as writer:
                await writer.write(content("body", size))
                assert writer.size == size
            with pytest.raises(ValueError, match="ended"):
                await writer.commit(b"metadata")
        assert await cache.open("key") is None
        forgotten = cache.writer("key")
        await forgotten.write(b"body")
        del forgotten
        assert await cache.open("key") is None

    run(use)


def test_the_classic_interface_is_there_too(run: Run, clock: ManualClock) -> None:
    async def use(cache: AsyncRedisCache) -> None:
        assert await cache.get("key") is None
        await cache.set("key", b"value", expires=60)
        assert await cache.get("key") == b"value"
        clock.advance(60)
        assert await cache.get("key") is None
        await cache.set("key", b"value")
        assert await cache.delete("key") is True
        await cache.set("key", b"value")
        await cache.set("key", b"value", expires=0)
        assert await cache.delete("key") is False

    run(use)


def test_what_is_there_can_be_listed_and_cleared(run: Run) -> None:
    async def use(cache: AsyncRedisCache) -> None:
        for number in range(30):
            await store(cache, f"key {number}", b"metadata", content("body", 100_000))
        listed = [info async for info in cache.entries()]
        assert {info.key for info in listed} == {f"key {number}" for number in range(30)}
        assert len(listed) == 30
        await cache.clear()
        assert [info async for info in cache.entries()] == []

    run(use)


def test_versions_are_never_mixed(run: Run) -> None:
    bodies = {f"{size}".encode(): content(f"{size}", size) for size in (50, 100_000, 1_200_000)}

    async def use(cache: AsyncRedisCache) -> None:
        async def write() -> None:
            for _ in range(5):
                for metadata, body in bodies.items():
                    await store(cache, "key", metadata, body)

        async def read() -> None:
            for _ in range(20):
                found = await load(cache, "key")
                assert found is None or found[1] == bodies[found[0]]

        await asyncio.gather(write(), write(), read(), read(), read())

    run(use)


def test_a_blocking_cache_at_the_same_place_sees_the_same(
    run: Run, url: str, prefix: str, clock: ManualClock
) -> None:
    async def use(cache: AsyncRedisCache) -> None:
        for size in (10, LONG):
            await store(cache, "key", b"metadata", content("body", size))

            def look(size: int = size) -> None:
                with RedisCache.from_url(url, prefix=prefix, timeout=PATIENT, clock=clock) as other:
                    assert load_blocking(other, "key") == (b"metadata", content("body", size))

            await asyncio.to_thread(look)

    run(use)


def test_a_closed_cache_can_not_be_used(run: Run) -> None:
    async def use(cache: AsyncRedisCache) -> None:
        writer = cache.writer("key")
        await cache.close()
        for refused in (cache.get("key"), cache.clear(), writer.commit(b"metadata")):
            with pytest.raises(CacheClosed):
                await refused

    run(use)


def test_it_may_be_used_in_one_loop_after_another(redis_server: RedisServer, prefix: str) -> None:
    cache = AsyncRedisCache(
        redis.asyncio.Redis(port=redis_server.port), prefix=prefix, timeout=PATIENT
    )

    async def first() -> None:
        await cache.set("key", b"value")
        await cache._lines.close()  # noqa: SLF001 - as nobody has to; the loop would complain

    async def second() -> None:
        assert await cache.get("key") == b"value"
        await cache.close()

    asyncio.run(first())
    asyncio.run(second())


def test_it_may_be_used_in_several_loops_at_once(redis_server: RedisServer, prefix: str) -> None:
    cache = AsyncRedisCache(
        redis.asyncio.Redis(port=redis_server.port), prefix=prefix, timeout=PATIENT
    )
    together = threading.Barrier(3)

    async def use(name: str) -> None:
        async def some(number: int) -> None:
            for _ in range(20):
                await cache.set(f"{name}{number}", name.encode())
                assert await cache.get(f"{name}{number}") == name.encode()

        for _ in range(5):
            together.wait(10)
            await asyncio.gather(*map(some, range(5)))
        await cache._lines.close()  # noqa: SLF001 - as nobody has to; the loop would complain

    with ThreadPoolExecutor(3) as pool:
        for used in [pool.submit(asyncio.run, use(name)) for name in "abc"]:
            used.result(60)


def test_a_callers_cluster_is_used_whether_it_has_been_asked_yet_or_not(
    redis_cluster: ClusterSetup, prefix: str
) -> None:
    async def main() -> None:
        for asked in (False, True):
            port = redis_cluster.nodes[0].port
            client = redis.asyncio.RedisCluster(host="127.0.0.1", port=port)
            if asked:
                await client.initialize()
            async with AsyncRedisCache(client, prefix=prefix, timeout=PATIENT) as cache:
                for number in range(10):
                    await cache.set(f"key {number}", b"value")
                    assert await cache.get(f"key {number}") == b"value"
            # redis-py has called it by two names.
            await getattr(client, "aclose", client.close)()

    asyncio.run(main())


def test_a_blocking_client_is_refused(redis_server: RedisServer) -> None:
    with (
        redis_server.client() as client,
        pytest.raises(ConfigError, match=r"redis\.asyncio"),
    ):
        AsyncRedisCache(client)


def test_the_engine_may_use_it_by_its_ports(run: Run) -> None:
    async def use(cache: AsyncRedisCache) -> None:
        ports = AsyncCachePorts(cache)
        body = content("body", LONG)
        writer = await ports.writer("key")
        await ports.write(writer, body)
        version = await ports.commit(writer, b"metadata", lambda: 60)
        entry = await ports.open("key")
        assert entry is not None
        assert ports.describe(entry) == (b"metadata", version, LONG, True)
        assert entry.expires_at is not None
        await ports.prime(entry)
        await ports.seek(entry, 10)
        assert await ports.read(entry, 100) == body[10:110]
        embedded = ports.embed(entry, b"embedded")
        assert await ports.read(embedded, -1) == b"embedded"
        await ports.close(entry)
        await ports.close(embedded)
        assert await ports.update("key", b"metadata", b"newer", version, lambda: 600)
        again = await ports.open("key")
        assert again is not None
        assert again.expires_at is not None
        assert again.expires_at - entry.expires_at == pytest.approx(540, abs=5)
        given_up = await ports.writer("other")
        await ports.write(given_up, body)
        await ports.abort(given_up)
        assert await ports.open("other") is None
        assert await ports.remove("key") is True

    run(use)


def test_a_piece_that_is_lost_ends_a_body(redis_server: RedisServer, prefix: str) -> None:
    async def main() -> None:
        url = redis_server.url
        async with AsyncRedisCache.from_url(url, prefix=prefix, timeout=PATIENT) as cache:
            await store(cache, "key", b"metadata", content("body", LONG))
            entry = await cache.open("key")
            assert entry is not None
            assert await entry.read(10) == content("body", LONG)[:10]
            with redis_server.client() as client:
                for name in client.scan_iter(f"{prefix}*:11"):
                    client.delete(name)
            with pytest.raises(BodyLost):
                await entry.read()

    asyncio.run(main())


def test_many_tasks_share_a_few_connections(redis_server: RedisServer, prefix: str) -> None:
    async def main() -> None:
        url = f"{redis_server.url}?client_name=tasks"
        async with AsyncRedisCache.from_url(url, prefix=prefix, timeout=PATIENT) as cache:
            await asyncio.gather(*(cache.set(f"{number}", b"value") for number in range(300)))
            found = await asyncio.gather(*(cache.get(f"{number}") for number in range(300)))
            assert set(found) == {b"value"}
            with redis_server.client() as client:
                names = [one["name"] for one in client.client_list()]
            assert 1 <= names.count("tasks") <= 64

    asyncio.run(main())


def test_a_url_of_redis_is_for_an_event_loop_awaited(redis_server: RedisServer) -> None:
    made = async_cache_of(f"{redis_server.url}/1?prefix=p:&timeout=3")
    assert isinstance(made, AsyncRedisCache)
    assert (made.prefix, made.timeout) == ("p:", 3)
    assert async_cache_of(made) is made
    assert isinstance(async_cache_of("memory:"), MemoryCache)


def test_what_is_missing_again_is_claimed_with_the_look(run: Run, url: str, prefix: str) -> None:
    async def use(cache: AsyncRedisCache) -> None:
        assert await cache.open("missing") is None
        claim = await cache.open_or_claim("key", lambda: 60)
        assert isinstance(claim, Claim)
        with RedisCache.from_url(url, prefix=prefix, timeout=PATIENT) as blocking:
            assert blocking.claim("key", 60) is None
            assert await cache.claim("key", 60) is claim
            claim.ending()
            async with cache.writer("key") as writer:
                await writer.commit(b"metadata")
            again = blocking.claim("key", 60)
            assert again is not None
            again.release()
        assert await cache.open("missing") is None
        entry = await cache.open_or_claim("key", lambda: 60)
        assert isinstance(entry, AsyncEntry)
        assert entry.metadata == b"metadata"
        assert await cache.open("missing") is None
        claim = await cache.open_or_claim("another", lambda: 60)
        assert isinstance(claim, Claim)
        # It is taken back by a task, before the cache is closed.
        claim.forgo()

    run(use)
    with RedisCache.from_url(url, prefix=prefix, timeout=PATIENT) as blocking:
        for key in ("key", "another"):
            claim = blocking.claim(key, 60)
            assert claim is not None
            claim.release()


@pytest.mark.parametrize("at_once", [False, True])
def test_what_is_claimed_for_one_that_is_cancelled_is_given_back(
    redis_server: RedisServer, prefix: str, at_once: bool
) -> None:
    async def claim(cache: AsyncRedisCache) -> None:
        await (cache.open_or_claim("key", lambda: 60) if at_once else cache.claim("key", 60))

    async def main(proxy: Proxy, client: Any) -> None:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with AsyncRedisCache.from_url(url, prefix=prefix, timeout=PATIENT) as cache:
            assert await cache.open("missing") is None
            proxy.mood = Mood.DRIPPING
            claiming = asyncio.create_task(claim(cache))
            granted = partial(client.keys, f"{prefix}*")
            await asyncio.to_thread(wait_until, granted, "the server to grant it")
            claiming.cancel()
            proxy.mood = Mood.PASSING
            with pytest.raises(asyncio.CancelledError):
                await claiming

    with Proxy(redis_server.port) as proxy, redis_server.client() as client:
        asyncio.run(main(proxy, client))
        assert not client.keys(f"{prefix}*")


def test_one_of_all_claims_a_key(run: Run, url: str, prefix: str) -> None:
    async def use(cache: AsyncRedisCache) -> None:
        claim = await cache.claim("key", 60)
        assert claim is not None
        # Nobody waits for itself.
        assert await cache.claim("key", 60) is not None
        with RedisCache.from_url(url, prefix=prefix, timeout=PATIENT) as blocking:
            assert blocking.place == cache.place
            assert blocking.claim("key", 60) is None
        # It is taken back by a task, before the cache is closed.
        claim.release()

    run(use)
    with RedisCache.from_url(url, prefix=prefix, timeout=PATIENT) as blocking:
        claim = blocking.claim("key", 60)
        assert claim is not None
        claim.release()


def test_a_master_that_has_become_a_replica_is_left_for_whom_the_name_leads_to(
    tmp_path: Path,
) -> None:
    async def main(old: RedisServer, new: RedisServer, proxy: Proxy) -> None:
        url = f"redis://127.0.0.1:{proxy.port}"
        with old.client() as demoted, new.client() as promoted:
            async with AsyncRedisCache.from_url(url, timeout=PATIENT) as cache:
                await cache.set("key", b"value")
                demoted.replicaof("127.0.0.1", new.port)
                proxy.leads_to = new.port
                async with asyncio.timeout(PATIENT):
                    # What is refused is no value, and nothing is raised.
                    while promoted.get("stillfresh:key") is None:
                        await cache.set("key", b"value")
                assert await cache.get("key") == b"value"

    with (
        RedisServer(tmp_path / "old") as old,
        RedisServer(tmp_path / "new") as new,
        Proxy(old.port) as proxy,
    ):
        asyncio.run(main(old, new, proxy))
