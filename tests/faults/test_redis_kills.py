"""Redis: 4 writers and 2 readers of one key, in processes of their own, killed at random."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillfresh.caches.redis import RedisCache
from stillfresh.caches.redisbodies import DRAFT
from stillfresh.testing.conformance.tools import load
from tests.caches.helpers import start
from tests.faults.conftest import Effort
from tests.faults.tally import Tally
from tests.redis_servers import RedisServer, needs_redis

pytestmark = needs_redis

_COMMON = """
    import functools, hashlib, itertools, random, sys
    from stillfresh.caches.redis import RedisCache
    from stillfresh.errors import StoreError

    @functools.lru_cache
    def content(seed, size):
        return hashlib.shake_128(seed.encode()).digest(size)

    cache = RedisCache.from_url(sys.argv[1], prefix="kills:", timeout=10)
    chance = random.Random(sys.argv[2])
    print("ready", flush=True)
"""
_WRITER = (
    _COMMON
    + """
    for number in itertools.count():
        size = chance.choice([10, 4096, 65_536, 65_537, 300_000, 1_100_000, 3_000_000])
        seed = f"{sys.argv[2]} {number % 5} {size}"
        with cache.writer("key") as writer:
            body = content(seed, size)
            for at in range(0, size, 100_000):
                writer.write(body[at : at + 100_000])
            version = writer.commit(f"{size} {seed}".encode())
        cache.update("key", f"{size} {seed} again".encode(), version=version)
        if number % 20 == 7:
            cache.remove("key")
"""
)
_READER = (
    _COMMON
    + """
    looks = found = wrong = lost = 0
    while looks < 10_000_000:
        looks += 1
        entry = cache.open("key")
        if entry is None:
            continue
        with entry:
            size, seed = entry.metadata.decode().removesuffix(" again").split(" ", 1)
            try:
                body = b"".join(iter(lambda: entry.read(chance.randrange(1, 400_000)), b""))
            except StoreError:
                lost += 1
                continue
        found += 1
        wrong += body != content(seed, int(size))
        if found == 1 or looks % 50 == 0:
            print(found, wrong, lost, flush=True)
"""
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "server") as running:
        yield running


def test_nobody_reads_a_wrong_byte(server: RedisServer, effort: Effort, tally: Tally) -> None:
    tally.expect_no("wrong bodies", "lost bodies")
    chance = random.Random(9111)
    seconds = effort(1, soak=120)
    numbers = iter(range(10_000))
    with contextlib.ExitStack() as running:

        def begin(code: str) -> subprocess.Popen[str]:
            process = start(code, server.url, next(numbers))
            running.enter_context(process)
            running.callback(process.kill)
            return process

        def is_at_work(process: subprocess.Popen[str]) -> bool:
            assert process.stdout is not None
            return process.stdout.readline() == "ready\n"

        readers = [begin(_READER) for _ in range(2)]
        writers = [begin(_WRITER) for _ in range(4)]
        assert all(map(is_at_work, [*readers, *writers]))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            victim = chance.randrange(4)
            writers[victim].send_signal(signal.SIGKILL)
            writers[victim] = begin(_WRITER)
            assert is_at_work(writers[victim])
            tally.tried("kills")
        figures = []
        for reader in readers:
            assert reader.stdout is not None
            # On a busy machine it may take longer until one has found anything.
            told = [reader.stdout.readline()]
            reader.send_signal(signal.SIGKILL)
            told += reader.stdout.read().splitlines()
            figures.append([int(word) for word in told[-1].split()])
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
    for found, wrong, lost in figures:
        assert found > 0
        tally.tried("reads", found)
        tally.blame_unless(wrong == 0, "wrong bodies", wrong)
        tally.blame_unless(lost == 0, "lost bodies", lost)
    assert tally.blamed == []
    with RedisCache.from_url(server.url, prefix="kills:", timeout=10) as cache:
        assert cache.verify().is_sound
        load(cache, "key")
        cache.remove("key")
    with server.client() as client:
        # -1 is for ever; some have just expired.
        lasting = [name for name in client.scan_iter() if not -1 < client.ttl(name) <= DRAFT]
        assert [name for name in lasting if client.exists(name)] == []
