"""Files where there are no locks, and none that is open can be replaced or removed: on Windows."""

import os
from pathlib import Path
from textwrap import dedent

import pytest

from tests.caches.helpers import run

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files not told")

PRELUDE = """
import os, sys
sys.modules["fcntl"] = None
from stillfresh.caches import directory
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.caches.pruning import Repair

directory._BY_DESCRIPTOR = False

def if_not_open(change):
    def changed(*paths, **options):
        closed = [path for path in paths if os.path.lexists(path)]
        for fd in os.listdir("/proc/self/fd"):
            opened = os.path.realpath(f"/proc/self/fd/{fd}")
            if opened in closed:
                raise PermissionError(13, "is open", opened)
        change(*paths)
    return changed

os.replace, os.unlink = if_not_open(os.replace), if_not_open(os.unlink)
cache = {"FileCache": FileCache, "SeparateBodyFileCache": SeparateBodyFileCache}[sys.argv[1]](
    sys.argv[2]
)

def store():
    with cache.writer("key") as writer:
        writer.write(bytes(int(sys.argv[3])))
        return writer.commit(b"metadata")

def metadata():
    with cache.open("key") as entry:
        entry.read()
        return entry.metadata

store()
version = store()
"""


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("kind", ["FileCache", "SeparateBodyFileCache"])
@pytest.mark.parametrize(
    "code",
    [
        """
        for number in range(50):
            assert cache.update("key", b"%d" % number * 500, version=version)
            assert metadata() == b"%d" % number * 500
        """,
        """
        assert cache.swap("key", b"metadata", bytes(20_000), version=version)
        assert metadata() == bytes(20_000)
        """,
        """
        assert cache.update("key", b"", version=version, expires=-1)
        assert cache.open("key") is None
        """,
        """
        assert cache.prune(max_bytes=0).kept == 0
        assert cache.open("key") is None
        """,
        """
        with open(cache.path("key"), "r+b") as file:
            file.write(bytes(8))
        assert cache.verify(repair=Repair.REMOVE).repaired == 1
        """,
    ],
    ids=["refresh", "swap", "end", "prune", "repair"],
)
def test_no_open_file_is_replaced_or_removed(
    tmp_path: Path, code: str, kind: str, size: int
) -> None:
    run(PRELUDE + dedent(code), kind, os.path.realpath(tmp_path / "cache"), size)
