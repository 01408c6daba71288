"""Claims in a directory: one holder at a time, in all processes, and never one that is dead."""

from __future__ import annotations

import fcntl
import os
import pickle
import stat
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stillfresh import CacheClosed, FileCache, MemoryCache, SeparateBodyFileCache
from stillfresh.caches import claims
from stillfresh.caches.base import BaseCache, Claim
from stillfresh.caches.directory import TAG
from stillfresh.caches.sqlite import SQLiteCache
from stillfresh.testing.conformance.tools import in_child
from tests.caches.helpers import finish, run, start

KINDS: list[Callable[[Path], BaseCache]] = [FileCache, SeparateBodyFileCache, SQLiteCache]
LOCKS = ".stillfresh-claims"
HOLDER = """
    import sys
    from stillfresh import FileCache
    claim = FileCache(sys.argv[1]).claim("key", 5)
    print(claim is not None, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def taken(claim: Claim | None) -> Claim:
    assert claim is not None
    return claim


@pytest.mark.parametrize("kind", KINDS)
def test_one_has_it_at_a_time(root: Path, kind: Callable[[Path], BaseCache]) -> None:
    with kind(root) as mine, kind(root) as other:
        assert mine.place == other.place
        claim = taken(mine.claim("key", 5))
        assert other.claim("key", 5) is None
        taken(other.claim("another", 5)).release()
        claim.release()
        claim.release()
        again = taken(other.claim("key", 5))
        assert mine.claim("key", 5) is None
        again.release()


def test_what_is_forgotten_is_given_back(root: Path) -> None:
    with FileCache(root) as mine, FileCache(root) as other:
        claim: Claim | None = taken(mine.claim("key", 5))
        assert other.claim("key", 5) is None
        del claim
        claim = other.claim("key", 5)
        assert claim is not None


def test_it_tells_whether_there_are_others(root: Path) -> None:
    with FileCache(root) as mine:
        assert not taken(mine.claim("key", 5)).others
        with FileCache(root) as other:
            # It is there from its own first claim on.
            taken(other.claim("something", 5)).release()
            assert taken(mine.claim("key", 5)).others
        assert not taken(mine.claim("key", 5)).others


def test_who_goes_on_without_waiting_gives_nothing_back(root: Path) -> None:
    with FileCache(root) as mine, FileCache(root) as other:
        first = taken(mine.claim("key", 5))
        taken(mine.claim("key", 5)).release()
        assert other.claim("key", 5) is None
        first.release()
        assert other.claim("key", 5) is not None


def test_nothing_is_left_of_it_but_one_empty_file(root: Path) -> None:
    with FileCache(root) as cache:
        for number in range(100):
            taken(cache.claim(f"key {number}", 5)).release()
        assert sorted(path.name for path in root.iterdir()) == sorted([TAG, LOCKS])
        assert (root / LOCKS).stat().st_size == 0
        assert stat.S_IMODE((root / LOCKS).stat().st_mode) == 0o600
        assert list(cache.entries()) == []


def test_a_dead_process_has_nothing(root: Path) -> None:
    holder = start(HOLDER, root)
    with holder, FileCache(root) as cache:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert cache.claim("key", 5) is None
        assert taken(cache.claim("other", 5)).others
        holder.kill()
        holder.wait(10)
        assert not taken(cache.claim("key", 5)).others


def test_a_child_has_nothing_of_its_parents(root: Path) -> None:
    """And doesn't keep it for its parent when that is gone."""

    def in_the_child() -> bytes:
        claim.release()
        assert cache.claim("key", 5) is None
        assert cache.claim("of the child", 5) is not None
        return b""

    with FileCache(root) as cache, FileCache(root) as other:
        claim = taken(cache.claim("key", 5))
        in_child(in_the_child)
        assert other.claim("key", 5) is None
        claim.release()
        assert other.claim("key", 5) is not None


def test_a_program_that_is_started_has_nothing_of_it(root: Path) -> None:
    with FileCache(root) as cache, FileCache(root) as other:
        claim = taken(cache.claim("key", 5))
        other_program = start("import sys; sys.stdin.read()")
        claim.release()
        cache.close()
        assert not taken(other.claim("key", 5)).others
        finish(other_program)


@pytest.mark.parametrize("how", ["flock", "lockf", "of the open file", "shared"])
def test_a_strangers_lock_delays_nobody(root: Path, how: str) -> None:
    """Whoever locks all of the file, for good, claims nothing."""
    root.mkdir(mode=0o700)
    with Path(root, LOCKS).open("x+b") as file, FileCache(root) as mine, FileCache(root) as other:
        if how == "flock":
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif how == "lockf":
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            kind = fcntl.F_WRLCK if how == "of the open file" else fcntl.F_RDLCK
            all_of_it = struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, all_of_it)
        for cache in (mine, other):
            assert cache.claim("key", 5) is not None


def test_a_file_that_was_removed_is_made_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FileCache(root) as mine, FileCache(root) as other:
        old = taken(mine.claim("key", 5))
        (root / LOCKS).unlink()
        new = taken(other.claim("key", 5))
        # It is looked for once in a second.
        later = time.monotonic() + 2
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert mine.claim("key", 5) is None
        old.release()
        assert mine.claim("key", 5) is None
        new.release()
        assert mine.claim("key", 5) is not None


@pytest.mark.parametrize("what", ["link", "directory", "fifo", "unwritable root", "file"])
def test_where_there_can_be_no_locks_it_is_granted(root: Path, tmp_path: Path, what: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    cache = FileCache(root)
    if what == "file":
        root.write_bytes(b"")
    else:
        root.mkdir(mode=0o700)
    if what == "link":
        (root / LOCKS).symlink_to(victim)
    elif what == "directory":
        (root / LOCKS).mkdir()
    elif what == "fifo":
        os.mkfifo(root / LOCKS)
    elif what == "unwritable root":
        root.chmod(0o777)
    with cache:
        for _ in range(2):
            assert taken(cache.claim("key", 5)).others
    assert victim.read_bytes() == b"precious"


def test_where_locks_belong_to_processes_these_keep_each_other_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_OWNED", False)
    asking = """
        import sys
        from stillfresh import FileCache
        from stillfresh.caches import claims
        claims._OWNED = False
        with FileCache(sys.argv[1]) as cache:
            print(cache.claim("key", 5), cache.claim("other", 5) is not None)
    """
    with FileCache(root) as cache:
        claim = taken(cache.claim("key", 5))
        assert claim.others
        assert run(asking, root) == "None True\n"
        claim.release()
        assert not run(asking, root).startswith("None")


def test_keys_may_be_anything(root: Path) -> None:
    with FileCache(root) as cache:
        for key in ("", "\ud800", "\0", "k" * 100_000):
            assert cache.claim(key, 5) is not None


def test_threads_may_claim_at_once(root: Path) -> None:
    """Each of a thousand claims is granted, and given back."""

    def claim() -> None:
        for number in range(100):
            taken(cache.claim(f"key {number % 7}", 5)).release()

    with FileCache(root) as cache, FileCache(root) as other:
        threads = [threading.Thread(target=claim) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(7):
            assert other.claim(f"key {number}", 5) is not None


def test_closed_it_claims_nothing(root: Path) -> None:
    cache, other = FileCache(root), FileCache(root)
    claim = taken(cache.claim("key", 5))
    cache.close()
    with pytest.raises(CacheClosed):
        cache.claim("key", 5)
    claim.release()
    assert other.claim("key", 5) is not None
    other.close()


def test_it_is_no_part_of_a_pickle(root: Path) -> None:
    with FileCache(root) as cache:
        claim = taken(cache.claim("key", 5))
        with pickle.loads(pickle.dumps(cache)) as copy:  # noqa: S301 - its own
            assert copy.claim("key", 5) is None
        claim.release()


def test_other_caches_grant_it_always() -> None:
    with MemoryCache() as cache:
        assert cache.place is None
        both = [taken(cache.claim("key", 5)) for _ in range(2)]
        assert not any(claim.others for claim in both)
