"""Where a RedisCache may be, and how it is named: URLs, and clients that users have."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import redis.sentinel
import valkey.asyncio

from stillfresh import cache_from_url
from stillfresh.caches.redis import AsyncRedisCache, RedisCache
from stillfresh.errors import CacheUnavailable
from stillfresh.testing.conformance.tools import content, load, store
from tests.redis_servers import (
    ClusterSetup,
    RedisServer,
    SentinelSetup,
    free_port,
    needs_redis,
)

pytestmark = needs_redis

PATIENT = 10.0
LONG = 600_000
_numbers = itertools.count()


def is_of_use(cache: RedisCache) -> None:
    """Store, find and remove a short entry and a long one."""
    with cache:
        for size in (10, LONG):
            store(cache, "key", b"metadata", content("body", size))
            assert load(cache, "key") == (b"metadata", content("body", size))
            assert [info.key for info in cache.entries()] == ["key"]
        assert cache.remove("key") is True


def is_of_use_awaited(make: Callable[[], AsyncRedisCache]) -> None:
    async def main() -> None:
        async with make() as cache:
            async with cache.writer("key") as writer:
                await writer.write(content("body", LONG))
                await writer.commit(b"metadata")
            entry = await cache.open("key")
            assert entry is not None
            assert await entry.read() == content("body", LONG)
            assert await cache.remove("key") is True

    asyncio.run(main())


def from_url(url: str) -> RedisCache:
    made = cache_from_url(f"{url}{'&' if '?' in url else '?'}timeout={PATIENT:g}")
    assert isinstance(made, RedisCache)
    return made


def prefix() -> str:
    return f"places-{next(_numbers)}:"


# URLs.


def test_a_database_of_a_server(redis_server: RedisServer) -> None:
    is_of_use(from_url(f"{redis_server.url}/4?prefix={prefix()}"))
    with from_url(f"{redis_server.url}/3") as cache, redis_server.client(db=3) as client:
        cache.set("key", b"value")
        assert client.keys() == [b"stillfresh:key"]
        assert from_url(f"{redis_server.url}/?db=3").get("key") == b"value"
        assert from_url(f"{redis_server.url}/2").get("key") is None
        client.set("other", b"another's")
        assert from_url(f"{redis_server.url}/3?prefix=").get("other") == b"another's"
        cache.clear()


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_either_name_of_a_server(redis_server: RedisServer, scheme: str) -> None:
    url = redis_server.url.replace("redis", scheme) + f"?prefix={prefix()}"
    is_of_use(from_url(url))
    is_of_use_awaited(lambda: AsyncRedisCache.from_url(url.partition("?")[0], timeout=PATIENT))


def test_sentinels_and_clusters(redis_sentinel: SentinelSetup, redis_cluster: ClusterSetup) -> None:
    is_of_use(from_url(f"{redis_sentinel.url}/2?prefix={prefix()}"))
    is_of_use(from_url(f"{redis_cluster.url}?prefix={prefix()}"))
    # Some of them may be down.
    cluster = redis_cluster.url.replace("//", f"//127.0.0.1:{free_port()},")
    is_of_use(from_url(f"{cluster}?prefix={prefix()}"))


def test_of_sentinels_that_are_down_no_more_is_told_than_that() -> None:
    url = f"redis+sentinel://user:hunter2@127.0.0.1:{free_port()}/service"
    with pytest.raises(CacheUnavailable) as caught:
        from_url(url).open("key")
    assert str(caught.value) == "MasterNotFoundError: No master found for 'service'"


def test_a_socket_of_the_file_system_and_a_user(tmp_path: Path) -> None:
    socket = tmp_path / "redis socket"
    with RedisServer(tmp_path, "--unixsocket", str(socket)) as server:
        with server.client() as client:
            client.acl_setuser(
                "some@one", enabled=True, passwords=["+p@ss/wo:rd"], categories=["+@all"], keys="*"
            )
            client.config_set("requirepass", "other")
        path = str(socket).replace(" ", "%20")
        is_of_use(from_url(f"unix://some%40one:p%40ss%2Fwo%3Ard@{path}"))
        is_of_use(from_url(f"unix://:other@{path}?db=1"))
        is_of_use(from_url(f"redis://:other@127.0.0.1:{server.port}"))
        made = from_url(f"unix://:wrong@{path}")
        with pytest.raises(CacheUnavailable) as caught:
            made.open("key")
        assert "wrong" not in f"{caught.value} {made!r}"
        assert str(socket) in repr(made)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_server_over_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        *("-keyout", str(key), "-out", str(certificate)),
    ]
    subprocess.run(command, check=True, capture_output=True)
    port = free_port()
    options = [
        *("--tls-port", str(port), "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
    ]
    with RedisServer(tmp_path, *options):
        url = f"rediss://127.0.0.1:{port}"
        is_of_use(from_url(f"{url}?ssl_ca_certs={certificate}"))
        trusting = partial(redis.asyncio.Redis, ssl=True, ssl_ca_certs=str(certificate))
        is_of_use_awaited(lambda: AsyncRedisCache(trusting(port=port), timeout=PATIENT))
        # Nobody vouches for it.
        assert from_url(url).get("key") is None


# Clients.


@pytest.mark.parametrize("library", ["redis", "valkey"])
def test_a_client_of_either_library(
    redis_server: RedisServer,
    redis_sentinel: SentinelSetup,
    redis_cluster: ClusterSetup,
    library: str,
) -> None:
    name = library.capitalize()
    blocking: Any = importlib.import_module(library)
    awaited: Any = importlib.import_module(f"{library}.asyncio")
    port = redis_server.port
    addresses = [("127.0.0.1", sentinel.port) for sentinel in redis_sentinel.sentinels]
    node = {"host": "127.0.0.1", "port": redis_cluster.nodes[0].port}

    def made(client: Any) -> RedisCache:
        return RedisCache(client, prefix=prefix(), timeout=PATIENT)

    is_of_use(made(getattr(blocking, name)(port=port)))
    is_of_use(made(getattr(blocking, name)(port=port, protocol=3, health_check_interval=1)))
    sentinel = importlib.import_module(f"{library}.sentinel").Sentinel(addresses)
    is_of_use(made(sentinel.master_for(redis_sentinel.service)))
    is_of_use(made(getattr(blocking, f"{name}Cluster")(**node)))

    def make() -> AsyncRedisCache:
        return AsyncRedisCache(getattr(awaited, name)(port=port), prefix=prefix(), timeout=PATIENT)

    is_of_use_awaited(make)


def test_valkeys_errors_are_known_as_well(redis_server: RedisServer) -> None:
    client: Any = valkey.Valkey(port=redis_server.port)
    with RedisCache(client, prefix="errors:", timeout=PATIENT) as cache:
        client.script_flush()
        client.rpush("errors:key", "a list")
        assert cache.get("key") is None
        cache.set("key", b"value")
        assert cache.get("key") == b"value"
    with RedisCache(valkey.Valkey(port=free_port())) as down:
        assert down.get("key") is None
