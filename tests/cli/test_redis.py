"""The commands about a cache on a server."""

from __future__ import annotations

import subprocess
import sys

from stillfresh.caches.redis import RedisCache
from stillfresh.testing.conformance.tools import content, store
from tests.redis_servers import RedisServer, free_port, needs_redis

pytestmark = needs_redis


def stillfresh(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stillfresh.cli", arguments[0], "--cache", url, *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_on_a_server_can_be_listed_counted_checked_and_pruned(
    redis_server: RedisServer,
) -> None:
    url = f"{redis_server.url}/7?prefix=cli:"
    with RedisCache.from_url(url, timeout=10) as cache:
        for number in range(3):
            store(cache, f"https://example.org/{number}", b"", content("body", 400_000))
        assert stillfresh(url, "ls").stdout.count("https://example.org/") == 3
        assert stillfresh(url, "stats").stdout.startswith("3 entries, 1.1 MiB\n")
        assert "3 entries are right" in stillfresh(url, "verify").stdout
        assert "2 entries (781.4 KiB) stay" in stillfresh(url, "prune", "--max-bytes", "1M").stdout
        assert len(list(cache.entries())) == 2


def test_a_server_that_is_down_is_told_of_without_its_password() -> None:
    done = stillfresh(f"redis://:hunter2@127.0.0.1:{free_port()}", "stats")
    assert done.returncode == 74
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
