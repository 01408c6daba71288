"""`stillfresh rm` and `clear`."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillfresh import BaseCache, FileCache, SeparateBodyFileCache, SQLiteCache, cache_from_url
from stillfresh.testing.conformance.tools import content, store
from tests.caches.helpers import stranger
from tests.cli.running import RUN, Ended, InProcess, ended, process
from tests.origin import Document, Origin, Received, Reply

FRESH = {"Cache-Control": "max-age=3600", "ETag": '"1"'}


@pytest.fixture
def cache(url_of_cache: str) -> Iterator[BaseCache]:
    """A cache of each kind, which the command finds in its environment."""
    with cache_from_url(url_of_cache) as made:
        yield made


def keys(cache: BaseCache) -> set[str | None]:
    return {entry.key for entry in cache.entries()}


def by_language(request: Received) -> Reply:
    name = request.header("Accept-Language") or "none"
    fields = {**FRESH, "Vary": "Accept-Language", "ETag": f'"{name}"'}
    return Reply(headers=fields, body=name.encode())


# `rm`.


def test_all_that_is_stored_for_a_url_is_removed(
    run: InProcess, cache: BaseCache, origin: Origin
) -> None:
    one, other = origin.on("/1", by_language), origin.on("/2", by_language)
    for name in ("de", "en", "fr"):
        run("get", "-H", f"Accept-Language: {name}", one)
    run("get", other)
    done = run("rm", one)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(b"removed 3 entries (")
    assert done.out.endswith(f"): {one}\n".encode())
    assert keys(cache) == {other}


def test_a_part_is_removed(run: InProcess, cache: BaseCache, origin: Origin) -> None:
    url = origin.on("/", Document(b"x" * 4096, cuts=[1024]))
    run("get", url)
    assert run("rm", url).status == 0
    assert keys(cache) == set()


def test_several_urls_may_be_named_and_each_is_answered(
    run: InProcess, cache: BaseCache, origin: Origin
) -> None:
    urls = [origin.on(f"/{number}", Reply(headers=FRESH, body=b"body")) for number in range(3)]
    for url in urls:
        run("get", url)
    done = run("rm", urls[0], f"{urls[1]}/none", urls[2])
    assert done.status == 78
    assert done.err == f"stillfresh: nothing is stored for {urls[1]}/none\n"
    assert [line.rpartition(" ")[2] for line in done.out.decode().splitlines()] == urls[::2]
    assert keys(cache) == {urls[1]}
    assert run("rm", urls[0]).status == 78


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        ("http://a.example/b", "HTTP://A.example:80/x/../b#c"),
        ("http://a.example/b", "http://user:hunter2@a.example/b"),
        ("http://xn--bcher-kva.example/", "http://b\u00fccher.example/"),
        ("http://a.example/a%20b", "http://a.example/a b"),
        ("http://a.example/a|b", "http://a.example/a|b"),
        ("http://a.example/?", "http://a.example/?"),
    ],
)
def test_a_url_may_be_spelt_as_it_is_typed_or_listed(
    run: InProcess, cache: BaseCache, stored: str, named: str
) -> None:
    store(cache, stored, b"metadata", b"body")
    done = run("rm", named)
    assert (done.status, done.err) == (0, "")
    assert b"hunter2" not in done.out
    assert keys(cache) == set()


def test_all_of_a_host_is_removed(run: InProcess, cache: BaseCache) -> None:
    for url in ("http://a.example/1", "https://a.example:81/2", "http://b.example/"):
        store(cache, url, b"metadata", b"body")
    done = run("rm", "--host", "A.example", "--host", "c.example", "http://b.example/")
    assert done.status == 78
    assert done.err == "stillfresh: nothing is stored for c.example\n"
    assert [line.rpartition(": ")[2] for line in done.out.decode().splitlines()] == [
        "http://b.example/",
        "a.example",
    ]
    assert keys(cache) == set()


def test_what_is_damaged_is_removed(run: InProcess, folder: Path, origin: Origin) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"body"))
    run("get", url)
    (entry,) = (path for path in folder.rglob("*") if len(path.name) == 56)
    entry.write_bytes(entry.read_bytes()[:-1])
    assert run("rm", url).status == 0
    assert not entry.exists()


@pytest.mark.parametrize("command", [["rm", "http://a.example/"], ["prune", "--max-bytes", "0"]])
def test_who_is_changing_the_database_is_waited_for(
    run: InProcess, tmp_path: Path, command: list[str]
) -> None:
    folder = tmp_path / "database"
    with SQLiteCache(folder) as cache:
        store(cache, "http://a.example/", b"", b"")
        with stranger(folder) as other:
            other.execute("BEGIN IMMEDIATE")
            # Twice as long as a request would wait.
            done = threading.Timer(0.5, other.execute, ["ROLLBACK"])
            done.start()
            try:
                assert run(*command, "--cache", f"sqlite://{folder}").status == 0
            finally:
                done.join()
        assert keys(cache) == set()


@pytest.mark.parametrize(
    ("arguments", "because"),
    [
        ([], "name a URL, or a host with --host"),
        (["a.example"], "did you mean https://a.example?"),
        (["http://a.example/", "file:///a"], "is neither http:// nor https://"),
        (["--host", ""], "no host is named"),
        (["--cache", "mongodb://me:secret@host", "http://a.example/"], "names no cache known"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(
    run: InProcess, folder: Path, arguments: list[str], because: str
) -> None:
    with SeparateBodyFileCache(folder) as cache:
        store(cache, "http://a.example/", b"metadata", b"body")
        done = run("rm", *arguments)
        assert (done.status, done.out) == (2, b"")
        assert because in " ".join(done.err.split())
        assert "secret" not in done.err
        assert keys(cache) == {"http://a.example/"}


def test_all_is_removed_though_nobody_listens(
    run: InProcess, environment: dict[str, str], folder: Path
) -> None:
    urls = [f"http://a.example/{number}" for number in range(3)]
    with FileCache(folder) as cache:
        for url in urls:
            store(cache, url, b"metadata", b"body")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with process(environment, "rm", *urls, stdout=writing) as started:
            done = ended(started)
    finally:
        os.close(writing)
    assert (done.status, done.err) == (141, "")
    with FileCache(folder) as cache:
        assert keys(cache) == set()


# `clear`.


def fill(cache: BaseCache) -> None:
    for number in range(3):
        store(cache, f"http://a.example/{number}", b"metadata", content("body", 1000))


def test_all_is_removed_and_it_is_said_from_where(
    run: InProcess, cache: BaseCache, folder: Path
) -> None:
    fill(cache)
    done = run("clear", "--yes")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(b"removed 3 entries (3.")
    assert done.out.endswith(f"{folder}\n".encode())
    assert keys(cache) == set()
    fill(cache)
    assert len(keys(cache)) == 3


def test_other_programs_entries_are_said_to_go(run: InProcess, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    name = "0123456789" * 5 + "abcdef"
    entry = folder / "0" / "1" / "2" / "3" / "4" / name
    entry.parent.mkdir(parents=True)
    entry.write_bytes(b"a value")
    done = run("clear", "-y")
    assert done.out == f"removed 1 entry (7 B), 1 of other programs, in {folder}\n".encode()
    assert not entry.exists()


def test_without_a_terminal_nobody_is_asked(run: InProcess, cache: BaseCache) -> None:
    fill(cache)
    done = run("clear")
    assert (done.status, done.out) == (2, b"")
    assert "there is no terminal to ask on: say --yes" in done.err
    assert len(keys(cache)) == 3


def answer(environment: dict[str, str], typed: bytes, *arguments: str) -> Ended:
    """Run the command with something typed on its terminal; the question is on stderr."""
    controller, terminal = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-c", RUN, "clear", *arguments],
            env=environment,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as started:
            os.close(terminal)
            os.write(controller, typed)
            return ended(started)
    finally:
        os.close(controller)


@pytest.mark.parametrize(
    ("typed", "status", "left"),
    [(b"y\n", 0, 0), (b"n\n", 1, 3), (b"\n", 1, 3), (b"perhaps\nyes\n", 0, 0), (b"\x04", 130, 3)],
)
def test_on_a_terminal_it_asks(
    run: InProcess,
    environment: dict[str, str],
    folder: Path,
    typed: bytes,
    status: int,
    left: int,
) -> None:
    with SeparateBodyFileCache(folder) as cache:
        fill(cache)
        done = answer(environment, typed)
        assert done.status == status
        assert f"Remove 3 entries (3.2 KiB) in {folder}? [y/N]:" in done.err
        # Before 8.2, Click writes the blank behind its question to the output.
        assert done.out.lstrip().startswith(b"removed 3 entries") == (status == 0)
        assert ("nothing was removed" in done.err) == (status == 1)
        assert len(keys(cache)) == left


def test_where_there_is_nothing_nothing_is_asked(run: InProcess, folder: Path) -> None:
    done = run("clear")
    assert (done.status, done.out) == (0, b"")
    assert done.err == f"stillfresh: there is no cache in {folder} yet\n"
    assert not folder.exists()


def test_what_can_not_be_listed_can_be_cleared(run: InProcess, folder: Path) -> None:
    url = f"sqlite://{folder}"
    with cache_from_url(url) as cache:
        fill(cache)
    (database,) = folder.rglob("*.sqlite")
    held = bytearray(database.read_bytes())
    held[4096:] = bytes(len(held) - 4096)
    database.write_bytes(held)
    assert run("clear", "--yes", "--cache", url).status == 0
    with cache_from_url(url) as cache:
        assert keys(cache) == set()
        fill(cache)
        assert len(keys(cache)) == 3


@pytest.mark.parametrize("command", ["rm", "clear"])
def test_each_explains_itself(run: InProcess, command: str) -> None:
    done = run(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert b"74 if the cache cannot be read or changed" in b" ".join(done.out.split())
