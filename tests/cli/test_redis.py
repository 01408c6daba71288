"""The commands about a cache on a server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stillfresh.caches.redis import RedisCache
from stillfresh.testing.conformance.tools import content, store
from tests.origin import Origin, Reply
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


def test_what_is_on_a_server_can_be_shown_explained_and_removed(
    redis_server: RedisServer, origin: Origin, tmp_path: Path
) -> None:
    cache = f"{redis_server.url}/7?prefix=look:&timeout=10"
    strong = {"Cache-Control": "max-age=3600", "ETag": '"1"'}
    urls = [origin.on(f"/{size}", Reply(headers=strong, body=b"x" * size)) for size in (5, 3 << 20)]
    for url in urls:
        assert stillfresh(cache, "get", "-o", "/dev/null", url).returncode == 0
        assert stillfresh(cache, "show", url).stdout.startswith(f"{url} (selected)\n")
        assert "serve, as 200: fresh" in stillfresh(cache, "explain", url).stdout
        file = tmp_path / "file"
        assert stillfresh(cache, "show", "-o", str(file), url).returncode == 0
        assert file.read_bytes() == b"x" * int(url.rpartition("/")[2])
        assert stillfresh(cache, "rm", url).stdout.startswith("removed 1 entry (")
        assert stillfresh(cache, "show", url).returncode == 78
        assert "nothing is stored" in stillfresh(cache, "explain", url).stdout
    assert len(origin.received) == 2


def test_clearing_leaves_what_is_under_other_names(redis_server: RedisServer) -> None:
    client = redis_server.client(db=8)
    client.set("theirs", "value")
    url = f"{redis_server.url}/8?timeout=10"
    with RedisCache.from_url(url) as cache:
        store(cache, "https://example.org/", b"", b"body")
    done = stillfresh(url, "clear", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("removed 1 entry (")
    assert done.stdout.endswith(f"127.0.0.1:{redis_server.port}/8 stillfresh:\n")
    assert client.keys() == [b"theirs"]


def test_a_whole_database_is_not_cleared_by_accident(redis_server: RedisServer) -> None:
    client = redis_server.client(db=9)
    client.set("theirs", "value")
    client.hset("table", "name", "value")
    url = f"{redis_server.url}/9?prefix=&timeout=10"
    done = stillfresh(url, "clear", "--yes")
    assert (done.returncode, done.stdout) == (2, "")
    assert "say --whole-database if they shall" in " ".join(done.stderr.split())
    assert sorted(client.keys()) == [b"table", b"theirs"]
    done = stillfresh(url, "clear", "--whole-database")
    assert done.returncode == 2
    assert "say --yes" in done.stderr
    assert sorted(client.keys()) == [b"table", b"theirs"]
    done = stillfresh(url, "clear", "--whole-database", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "and every other key there" in done.stdout
    assert client.keys() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "http://a.example/"],
        ["explain", "http://a.example/"],
        ["rm", "http://a.example/"],
        ["rm", "--host", "a.example"],
        ["clear", "--yes"],
    ],
)
def test_nothing_can_be_said_of_a_server_that_is_down(arguments: list[str]) -> None:
    done = stillfresh(f"redis://:hunter2@127.0.0.1:{free_port()}", *arguments)
    assert done.returncode == 74
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr
