"""Processes that share a cache make one request together, and none waits for a dead one."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.caches.helpers import start
from tests.clients.behaviours.stale import Held
from tests.origin import Document, Origin
from tests.redis_servers import needs_redis

PROCESSES, THREADS = 4, 10
# For each line that it reads, so many seconds later, all threads get the page at once.
CROWD = """
    import sys, threading
    from concurrent.futures import ThreadPoolExecutor
    import stillfresh
    from stillfresh import Policy
    from stillfresh.clients.requests import CachedSession
    from stillfresh.testing import ManualClock

    kind, root, url, threads = sys.argv[1:]
    clock, threads = ManualClock(), int(threads)
    if kind == "RedisCache":
        from stillfresh.caches.redis import RedisCache

        cache = RedisCache.from_url(root, timeout=30, clock=clock)
    else:
        cache = getattr(stillfresh, kind)(root, clock=clock)
    session = CachedSession(cache, policy=Policy(collapse_wait=600), clock=clock)
    session.trust_env = False
    ready = threading.Barrier(threads)

    def get(_):
        ready.wait(30)
        response = session.get(url, timeout=30)
        return f"{response.text} {response.cache.outcome.value} {response.cache.collapsed}"

    with ThreadPoolExecutor(threads) as pool:
        print("ready", flush=True)
        for line in sys.stdin:
            clock.advance(float(line))
            print(*pool.map(get, range(threads)), sep=", ", flush=True)
"""


class Crowd:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._said = process.stdin
        self._answers = process.stdout
        assert self.answer() == "ready"

    def go(self, seconds: float = 0) -> None:
        self._said.write(f"{seconds}\n")
        self._said.flush()

    def answer(self) -> str:
        return self._answers.readline().strip()


@contextlib.contextmanager
def crowds(number: int, *arguments: object) -> Iterator[list[Crowd]]:
    processes = [start(CROWD, *arguments) for _ in range(number)]
    try:
        yield [Crowd(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture
def place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where a cache of that kind has its entries."""
    if kind != "RedisCache":
        return str(tmp_path / "cache")
    url: str = request.getfixturevalue("redis_server").url
    return f"{url}?prefix={tmp_path.name}"


@pytest.mark.parametrize(
    "kind",
    [
        "FileCache",
        "SeparateBodyFileCache",
        "SQLiteCache",
        pytest.param("RedisCache", marks=needs_redis),
    ],
)
def test_all_threads_of_all_processes_make_one_request(
    origin: Origin, place: str, kind: str
) -> None:
    document = Document(b"hello", headers={"Cache-Control": "max-age=60, must-revalidate"})
    url = origin.on("/", document)
    with crowds(PROCESSES, kind, place, url, THREADS) as all_of_them:
        # Nothing is stored; then it is stale; then it is fresh, and nobody asks.
        for seconds, asked in ((0, [None]), (61, [None, '"1"']), (0, [None, '"1"'])):
            for crowd in all_of_them:
                crowd.go(seconds)
            answers = [
                tuple(answer.split())
                for crowd in all_of_them
                for answer in crowd.answer().split(", ")
            ]
            assert {body for body, _, _ in answers} == {"hello"}
            assert len(answers) == PROCESSES * THREADS
            assert [request.header("If-None-Match") for request in origin.received] == asked


def test_who_is_killed_is_not_waited_for(origin: Origin, tmp_path: Path) -> None:
    document = Document(b"hello")
    held = Held(origin, document)
    url = origin.on("/", held, document)
    with crowds(2, "SeparateBodyFileCache", tmp_path / "cache", url, 2) as (first, second):
        first.go()
        assert held.asked.wait(30)
        second.go()
        first.process.kill()
        bodies = [answer.split()[0] for answer in second.answer().split(", ")]
        assert bodies == ["hello", "hello"]
        assert len(origin.received) == 2
