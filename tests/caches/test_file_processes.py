"""Several processes on one directory, some of which die."""

import signal
from pathlib import Path

import pytest

from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.testing.conformance.tools import content, load, load_pair, store
from tests.caches.helpers import files_below, finish, start

# What each process begins with: `cache`, and pairs that tell whether they are mixed.
PRELUDE = """
import contextlib, random, sys
from stillfresh.errors import StoreError
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.testing.conformance.tools import content, load, load_pair, store

cache = SeparateBodyFileCache(sys.argv[1])
SIZES = (20, 5_000, 40_000, 200_000, 1_100_000)

def body_of(value):
    size, name = value.decode().split()
    return content(name, int(size))

def a_pair(chance, name):
    value = f"{chance.choice(SIZES)} {name}".encode()
    return value, body_of(value)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(root: Path) -> SeparateBodyFileCache:
    return SeparateBodyFileCache(root)


def kill_after(code: str, *arguments: object) -> None:
    """Run `code` until it prints a line, and kill it then."""
    process = start(PRELUDE + code, *arguments)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL


BETWEEN_SET_AND_SET_BODY = """
cache.set("key", b"new")
print("now", flush=True)
sys.stdin.read()
"""
BETWEEN_GET_AND_SET = """
assert cache.get("key") is not None
cache.set("key", b"new")
print("now", flush=True)
sys.stdin.read()
"""
IN_SET_BODY = """
class Body:
    given = False
    def read(self, size):
        if self.given:
            print("now", flush=True)
            sys.stdin.read()
        self.given = True
        return bytes(300_000)

cache.set("key", b"new")
cache.set_body("key", Body())
"""
IN_A_WRITER = """
writer = cache.writer("key")
writer.write(bytes(300_000))
print("now", flush=True)
sys.stdin.read()
"""
DEATHS = [BETWEEN_SET_AND_SET_BODY, BETWEEN_GET_AND_SET, IN_SET_BODY, IN_A_WRITER]
IDS = ["between set and set_body", "between get and set", "in set_body", "in a writer"]


@pytest.mark.parametrize("death", DEATHS, ids=IDS)
@pytest.mark.parametrize("size", [10, 300_000])
def test_of_a_writer_that_is_killed_nothing_is_seen(
    cache: SeparateBodyFileCache, root: Path, death: str, size: int
) -> None:
    body = content("old", size)
    cache.set("key", b"old")
    cache.set_body("key", body)
    kill_after(death, root)
    for seen in (cache, SeparateBodyFileCache(root)):
        assert load_pair(seen, "key") == (b"old", body)
        assert [info.key for info in seen.entries()] == ["key"]
    store(cache, "key", b"new", b"new body")
    assert load(cache, "key") == (b"new", b"new body")


@pytest.mark.parametrize("death", [DEATHS[0], *DEATHS[2:]], ids=[IDS[0], *IDS[2:]])
def test_a_key_whose_first_writer_is_killed_is_not_there(
    cache: SeparateBodyFileCache, root: Path, death: str
) -> None:
    kill_after(death, root)
    assert load_pair(cache, "key") is None
    cache.set("key", b"newer")
    cache.set_body("key", b"newer body")
    assert load_pair(cache, "key") == (b"newer", b"newer body")


def test_what_a_killed_writer_leaves_can_be_cleared(
    cache: SeparateBodyFileCache, root: Path
) -> None:
    kill_after(IN_A_WRITER, root)
    assert files_below(root) != []
    cache.clear()
    assert files_below(root) == []


def test_a_process_that_ends_by_an_exception_refreshes_nothing(
    cache: SeparateBodyFileCache, root: Path
) -> None:
    # The exception may have come between the two calls.
    cache.set("key", b"old")
    cache.set_body("key", b"old body")
    process = start(
        PRELUDE
        + """
sys.stderr = None
cache.set("key", b"new")
raise KeyboardInterrupt
""",
        root,
    )
    with process:
        process.communicate()
    assert process.returncode != 0
    assert load_pair(cache, "key") == (b"old", b"old body")


WRITE_PAIRS = """
chance = random.Random(sys.argv[2])
for round in range(40):
    value, body = a_pair(chance, f"{sys.argv[2]}-{round}")
    cache.set("key", value)
    cache.set_body("key", body)
"""
WRITE_ENTRIES = """
chance = random.Random(sys.argv[2])
for round in range(40):
    value, body = a_pair(chance, f"{sys.argv[2]}-{round}")
    version = store(cache, "key", value, body)
    with contextlib.suppress(StoreError):
        cache.update("key", value, version=version)
"""
READ_PAIRS = """
for round in range(80):
    value, body = load_pair(cache, "key")
    assert body == body_of(value)
"""
READ_ENTRIES = """
for round in range(80):
    value, body = load(cache, "key")
    assert body == body_of(value)
"""


@pytest.mark.parametrize("write", [WRITE_PAIRS, WRITE_ENTRIES], ids=["pairs", "entries"])
def test_processes_never_mix_value_and_body(
    cache: SeparateBodyFileCache, root: Path, write: str
) -> None:
    store(cache, "key", b"20 first", content("first", 20))
    jobs = [write, write, READ_PAIRS, READ_ENTRIES]
    processes = [start(PRELUDE + job, root, number) for number, job in enumerate(jobs)]
    for process in processes:
        finish(process)
    value, body = load_pair(cache, "key") or (b"", b"")
    size, name = value.decode().split()
    assert body == content(name, int(size))
    # One entry, and the one body file that it may have.
    assert len(files_below(root)) <= 2


def test_processes_that_refresh_and_replace_do_not_undo_each_other(
    cache: SeparateBodyFileCache, root: Path
) -> None:
    store(cache, "key", b"20 first", content("first", 20))
    refresher = start(
        PRELUDE
        + """
for round in range(400):
    with cache.open("key") as entry:
        value, version = entry.metadata, entry.version
    with contextlib.suppress(StoreError):
        cache.update("key", value, version=version)
""",
        root,
    )
    writer = start(
        PRELUDE
        + """
for round in range(200):
    value = f"{SIZES[round % 3]} {round}".encode()
    version = store(cache, "key", value, body_of(value))
    with cache.open("key") as entry:
        assert (entry.metadata, entry.version) == (value, version)
""",
        root,
    )
    finish(writer)
    finish(refresher)
    assert len(files_below(root)) <= 2


@pytest.mark.parametrize("kind", [FileCache, SeparateBodyFileCache])
def test_processes_may_store_while_one_clears(
    root: Path, kind: type[FileCache | SeparateBodyFileCache]
) -> None:
    code = f"cache = {kind.__name__}(sys.argv[1])"
    write = """
cache.hook = lambda event: sys.exit(repr(event))
for round in range(200):
    cache.set(f"{sys.argv[2]} {round}", b"value")
"""
    clear = """
for round in range(100):
    cache.clear()
"""
    jobs = [write, write, clear, clear]
    for process in [
        start(f"{PRELUDE}{code}{job}", root, number) for number, job in enumerate(jobs)
    ]:
        finish(process)
    kind(root).set("key", b"value")
    assert kind(root).get("key") == b"value"
