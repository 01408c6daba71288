"""pip with our cache in the place of its own, and our caches on folders that pip wrote."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from stillfresh import SeparateBodyFileCache, describe
from tests.caches.helpers import files_below
from tests.integrations.pips import PATIENCE, PROJECT, Index, Pip, finish, make_pip, stillfresh
from tests.origin import Origin, Received, Reply

pytestmark = pytest.mark.skipif(os.name != "posix", reason="virtual environments are laid out so")

WHEEL: Final = f"/files/{PROJECT}-1.0-py3-none-any.whl"
NEWER: Final = f"/files/{PROJECT}-2.0-py3-none-any.whl"
PAGE: Final = f"/simple/{PROJECT}/"
# Too long to ride along in an entry file.
SIZE: Final = 100_000
MODULE: Final = b"answer = 42\n"
_KILLS: Final = 40


@pytest.fixture
def index(origin: Origin) -> Index:
    made = Index(origin, time.time())
    made.publish("1.0", MODULE, SIZE)
    return made


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Pip]:
    """Make a pip; all have one cache folder."""
    homes = (tmp_path / f"environment {number}" for number in range(9))
    return lambda *, ours: make_pip(next(homes), tmp_path / "cache", ours=ours)


@pytest.fixture
def pip(make: Callable[..., Pip]) -> Pip:
    """A pip with our cache."""
    return make(ours=True)


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that have ended when the test is over."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def entry_files(pip: Pip) -> list[str]:
    """Name the files in its folder, but for our notes in the root."""
    return [name for name in files_below(pip.http) if not name.startswith(".stillfresh-")]


def in_halves(index: Index, reached: threading.Event, go_on: threading.Event) -> None:
    """Send the wheel's first half, say so, and the rest when that is wanted."""
    document = index.publish("1.0", MODULE, SIZE)

    def answer(request: Received) -> Reply:
        whole = document(request)
        assert isinstance(whole.body, bytes)
        half = len(whole.body) // 2
        first, rest = whole.body[:half], whole.body[half:]

        def body() -> Iterator[bytes]:
            yield first
            reached.set()
            go_on.wait()
            yield rest

        headers = dict(whole.headers) | {"Content-Length": str(len(whole.body))}
        return Reply(headers=headers, body=body())

    index.origin.on(WHEEL, answer, document)


# Our cache in pip.


@pytest.mark.parametrize("ours", [True, False], ids=["our cache", "pip's own"])
def test_a_second_install_asks_for_the_page_alone(
    index: Index, make: Callable[..., Pip], *, ours: bool
) -> None:
    pip = make(ours=ours)
    assert pip.install(index) == ""
    assert index.taken() == [PAGE, WHEEL]
    assert pip.install(index) == ""
    (request,) = index.origin.received
    assert request.header("If-None-Match") == '"1 files"'
    assert index.taken() == [PAGE]
    assert pip.installed() == MODULE
    # It is ours that has been at work, or not.
    with SeparateBodyFileCache(pip.http) as cache:
        assert [entry.foreign for entry in cache.entries()] == [not ours] * 2
        assert cache.verify().is_sound


def test_a_new_release_is_found(index: Index, pip: Pip) -> None:
    pip.install(index)
    index.publish("2.0", b"answer = 43\n")
    index.taken()
    pip.install(index, release="2.0")
    assert index.taken() == [PAGE, NEWER]
    assert pip.installed() == b"answer = 43\n"


def test_without_a_cache_folder_nothing_is_kept(index: Index, pip: Pip) -> None:
    for _ in range(2):
        pip.install(index, "--no-cache-dir")
        assert index.taken() == [PAGE, WHEEL]
    assert not pip.cache.exists()


def test_a_pip_that_is_killed_leaves_nothing_wrong(
    index: Index, pip: Pip, running: list[subprocess.Popen[bytes]]
) -> None:
    reached = threading.Event()
    in_halves(index, reached, index.origin.gate())
    process = pip.start(index, f"{PROJECT}==1.0")
    running.append(process)
    assert reached.wait(PATIENCE)
    process.kill()
    process.wait()
    index.taken()
    pip.install(index)
    assert index.taken() == [PAGE, WHEEL]
    pip.install(index)
    assert index.taken() == [PAGE]
    assert pip.installed() == MODULE
    with SeparateBodyFileCache(pip.http) as cache:
        assert cache.verify().is_sound


def test_a_download_that_pip_had_to_resume_is_kept_as_a_whole(index: Index, pip: Pip) -> None:
    document = index.publish("1.0", MODULE, SIZE)
    document.cuts = [SIZE // 2]
    pip.install(index, "--resume-retries", "2")
    assert index.taken() == [PAGE, WHEEL, WHEEL]
    assert [status for status, _ in document.sent] == [200, 206]
    pip.install(index)
    assert index.taken() == [PAGE]
    assert pip.installed() == MODULE


def test_two_pips_at_once_get_what_they_came_for(
    index: Index, make: Callable[..., Pip], running: list[subprocess.Popen[bytes]]
) -> None:
    pips = make(ours=True), make(ours=True)
    document = index.publish("1.0", MODULE, SIZE)
    both = threading.Barrier(2)

    def answer(request: Received) -> Reply:
        both.wait(PATIENCE)
        return document(request)

    index.origin.on(WHEEL, answer)
    processes = [pip.start(index, f"{PROJECT}==1.0") for pip in pips]
    running += processes
    for process in processes:
        finish(process)
    index.taken()
    for pip in pips:
        assert pip.installed() == MODULE
        pip.install(index)
        assert index.taken() == [PAGE]
    with SeparateBodyFileCache(pips[0].http) as cache:
        assert cache.verify().is_sound
        # Of two who store the same, one may leave its body behind when the other takes too long.
        cache.prune()
    # A page and a wheel: an entry file each, and a body file for what is long.
    assert len(entry_files(pips[0])) == 3


def test_a_damaged_folder_does_not_damage_what_is_installed(index: Index, pip: Pip) -> None:
    pip.install(index)
    for file in entry_files(pip):
        path = pip.http / file
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    index.taken()
    # It is told, and no more than that.
    assert "WARNING" in pip.install(index)
    assert index.taken() == [PAGE, WHEEL]
    assert pip.installed() == MODULE


# A folder that pip wrote.


def test_a_folder_that_pip_wrote_is_warm_for_ours(index: Index, make: Callable[..., Pip]) -> None:
    make(ours=False).install(index)
    index.taken()
    pip = make(ours=True)
    pip.install(index)
    assert index.taken() == [PAGE]
    assert pip.installed() == MODULE


def test_a_folder_that_ours_wrote_is_no_obstacle_for_pip(
    index: Index, make: Callable[..., Pip]
) -> None:
    make(ours=True).install(index)
    index.taken()
    pip = make(ours=False)
    pip.install(index)
    assert index.taken() == [PAGE, WHEEL]
    pip.install(index)
    assert index.taken() == [PAGE]
    assert pip.installed() == MODULE


def test_a_folder_that_pip_wrote_is_listed_by_what_is_in_it(
    index: Index, make: Callable[..., Pip]
) -> None:
    pip = make(ours=False)
    pip.install(index)
    with SeparateBodyFileCache(pip.http) as cache:
        told = {describe(cache, listed).about for listed in cache.entries()}
    assert told == {f"{PROJECT} 1.0", f"index page of {PROJECT}"}
    lines = stillfresh("ls", cache=pip.http)
    assert f"{PROJECT} 1.0" in lines
    assert f"index page of {PROJECT}" in lines
    assert stillfresh("stats", cache=pip.http).startswith("2 entries, ")
    assert "2 of other programs bear no digest, 0 are damaged" in stillfresh(
        "verify", cache=pip.http
    )
    before = entry_files(pip)
    assert stillfresh("prune", "--max-bytes", "1G", cache=pip.http).startswith("removed 0 entries")
    assert entry_files(pip) == before


def test_pip_goes_on_using_a_folder_that_was_pruned(index: Index, make: Callable[..., Pip]) -> None:
    pip = make(ours=False)
    index.publish("2.0", b"answer = 43\n", SIZE)
    pip.install(index)
    pip.install(index, release="2.0")
    index.taken()
    with SeparateBodyFileCache(pip.http) as cache:
        wheels = [entry for entry in cache.entries() if entry.body_size > SIZE]
        assert len(wheels) == 2
        old = next(wheel for wheel in wheels if "1.0" in str(describe(cache, wheel).about))
        path = pip.http.joinpath(*old.name[:5], old.name)
        os.utime(path, (old.used_at - 9000, path.stat().st_mtime - 9000))
        report = cache.prune(max_age=5000)
        assert report.removed.total() == 1
        assert [entry.name for entry in cache.entries()].count(old.name) == 0
    pip.install(index, release="2.0")
    assert index.taken() == [PAGE]
    pip.install(index)
    assert index.taken() == [PAGE, WHEEL]
    assert pip.installed() == MODULE
    assert (
        stillfresh("prune", "--max-bytes", "0", cache=pip.http)
        .splitlines()[-1]
        .startswith("removed 3 entries")
    )
    assert entry_files(pip) == []
    pip.install(index)
    assert index.taken() == [PAGE, WHEEL]


# What takes its time.


@pytest.fixture
def soaking(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("soak"):
        pytest.skip("only with --soak")


def most_memory(process: subprocess.Popen[bytes]) -> int:
    """Wait for a pip that has to succeed, and return the most memory it had, in MiB.

    What the kernel tells of it afterwards is the test's own, from before it became a pip.
    """
    most = 0
    while process.poll() is None:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            most = max([most, *map(int, re.findall(r"VmHWM:\s+(\d+) kB", status))])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
    finish(process)
    return most >> 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nothing tells the memory")
@pytest.mark.usefixtures("soaking")
def test_a_large_wheel_takes_no_more_memory_than_with_pips_own_cache(
    index: Index, make: Callable[..., Pip], tmp_path: Path, record_property: Callable[..., None]
) -> None:
    index.publish("2.0", b"answer = 43\n", 120 << 20)
    most: dict[str, list[int]] = {}
    for ours in (True, False):
        made = make(ours=ours)
        whose = "ours" if ours else "theirs"
        pip = Pip(made.home, ours, tmp_path / whose)
        most[whose] = [most_memory(pip.start(index, f"{PROJECT}=={n}.0")) for n in (1, 2, 2)]
        assert index.taken() == [PAGE, WHEEL, PAGE, NEWER, PAGE]
    record_property("MiB: a small wheel, a large one, the large one from the cache", most)
    # To store it, CacheControl has the whole body in its memory as a file that is mapped.
    small, large, again = most["ours"]
    assert large < most["theirs"][1] + 16
    assert again < small + 16


@pytest.mark.usefixtures("soaking")
@pytest.mark.timeout(600)
def test_pips_that_are_killed_at_any_moment_leave_nothing_wrong(
    index: Index, make: Callable[..., Pip], running: list[subprocess.Popen[bytes]]
) -> None:
    pips = make(ours=True), make(ours=True)
    index.publish("2.0", MODULE, 5 << 20)
    started = time.monotonic()
    pips[0].install(index, release="2.0")
    usual = time.monotonic() - started
    for number in range(_KILLS):
        with SeparateBodyFileCache(pips[0].http) as cache:
            cache.clear()
        killed, other = (pip.start(index, f"{PROJECT}==2.0") for pip in pips)
        running += killed, other
        # Anywhere from its start to its end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            killed.wait(usual * 1.5 * number / _KILLS)
        killed.kill()
        finish(other)
        assert pips[1].installed() == MODULE
        with SeparateBodyFileCache(pips[0].http) as cache:
            assert cache.verify().is_sound
    pips[0].install(index, release="2.0")
    assert pips[0].installed() == MODULE
