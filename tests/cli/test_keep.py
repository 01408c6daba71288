"""`stillfresh stats`, `prune` and `verify`, on real folders."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from stillfresh import BaseCache, FileCache, SeparateBodyFileCache, cache_from_url
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance.tools import content, store
from tests.cli.running import Ended, ended, process
from tests.engine.world import legacy
from tests.origin import Origin, Reply

COMMANDS = ["stats", "prune", "verify"]
DAY = 86_400.0

Run: TypeAlias = Callable[..., Ended]


def fill(cache: BaseCache, count: int, size: int = 10_000) -> list[str]:
    keys = [f"https://example.org/{number}" for number in range(count)]
    for key in keys:
        store(cache, key, b"metadata", content(key, size))
    return keys


def last_used(cache: SeparateBodyFileCache, key: str, days_ago: float) -> None:
    then = time.time() - days_ago * DAY
    os.utime(cache.path(key), (then, then))


@pytest.fixture
def cache(folder: Path) -> Iterator[SeparateBodyFileCache]:
    """What the command sees too; ten of its entries were used on different days."""
    with SeparateBodyFileCache(folder) as made:
        for days_ago, key in enumerate(fill(made, 10)):
            last_used(made, key, days_ago + 0.5)
        yield made


def count(cache: BaseCache) -> int:
    return len(list(cache.entries()))


# What they say.


def test_stats_says_how_much_there_is_since_when_and_of_whom(run: Run, folder: Path) -> None:
    clock = ManualClock()
    with SeparateBodyFileCache(folder, clock=clock) as cache:
        store(cache, "https://example.org/a", b"", content("a", 10_000))
        store(cache, "https://example.com/", b"", content("b", 2000))
        clock.advance(DAY)
        store(cache, "https://example.org/b", b"", content("c", 10_000))
        store(cache, "no url", b"", b"")
    done = run("stats")
    assert (done.status, done.err) == (0, "")
    assert done.out.decode().splitlines() == [
        "4 entries, 21.9 KiB",
        "stored from 2023-11-14 22:13 UTC to 2023-11-15 22:13 UTC",
        "    19.7 KiB         2  example.org",
        "     2.1 KiB         1  example.com",
        "        86 B         1  no URL, or another program",
    ]


def test_stats_names_the_largest_hosts_and_counts_the_others(run: Run, folder: Path) -> None:
    with FileCache(folder) as cache:
        for number in range(13):
            store(cache, f"https://{number}.example.org/", b"", bytes(100 * number))
    lines = run("stats").out.decode().splitlines()
    assert [line.split()[-1] for line in lines[2:-1]] == [
        f"{number}.example.org" for number in range(12, 2, -1)
    ]
    assert lines[-1] == "and 3 more hosts"


def test_prune_removes_what_is_over_the_bounds(
    run: Run, cache: SeparateBodyFileCache, folder: Path
) -> None:
    store(cache, "expired", b"", b"", expires=1e-6)
    left = f"{cache.path('litter')}.0123456789abcdef.body"
    Path(left).parent.mkdir(parents=True)
    Path(left).write_bytes(bytes(3000))
    done = run("prune", "--max-bytes", "40K", "--max-age", "6")
    assert (done.status, done.err) == (0, "")
    lines = done.out.decode().splitlines()
    assert sorted(lines[:-1]) == [
        "1 entry: its time has passed",
        "2 entries: least recently used of more than max_bytes",
        "4 entries: not used for longer than max_age",
    ]
    assert lines[-1] == (
        "removed 7 entries (59.3 KiB) and 1 leftover (2.9 KiB); 4 entries (39.5 KiB) stay"
    )
    assert {info.key for info in cache.entries()} == {
        f"https://example.org/{number}" for number in range(4)
    }


def test_prune_says_what_would_go(run: Run, cache: SeparateBodyFileCache) -> None:
    for flag in ("-n", "--dry-run"):
        done = run("prune", flag, "--max-bytes", "40K")
        assert done.status == 0
        assert done.out.decode().splitlines() == [
            "6 entries: least recently used of more than max_bytes",
            "would remove 6 entries (59.2 KiB) and 0 leftovers (0 B); 4 entries (39.5 KiB) stay",
        ]
        assert count(cache) == 10


def test_prune_without_a_bound_leaves_all(run: Run, cache: SeparateBodyFileCache) -> None:
    done = run("prune")
    assert done.out.startswith(b"removed 0 entries (0 B) and 0 leftovers (0 B); 10 entries")
    assert count(cache) == 10


def test_the_bound_may_come_from_the_environment(
    run: Run, cache: SeparateBodyFileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLFRESH_MAX_BYTES", "40K")
    assert b"would remove 4 entries" in run("prune", "-n", "--max-bytes", "60K").out
    assert b"removed 6 entries" in run("prune").out
    monkeypatch.setenv("STILLFRESH_MAX_BYTES", "")
    assert b"removed 0 entries" in run("prune").out
    monkeypatch.setenv("STILLFRESH_MAX_BYTES", "lots")
    assert run("prune").status == 2
    assert run("stats").status == 0


def test_the_bound_may_stand_in_the_url(
    run: Run, cache: SeparateBodyFileCache, folder: Path
) -> None:
    url = f"{folder.as_uri()}?max_bytes=40K"
    assert b"removed 6 entries" in run("prune", "--cache", url).out
    assert count(cache) == 4


def test_an_age_is_in_days(run: Run, cache: SeparateBodyFileCache) -> None:
    assert b"would remove 7 entries" in run("prune", "-n", "--max-age", "3").out
    assert b"would remove 8 entries" in run("prune", "-n", "--max-age", "2.25").out
    assert b"would remove 0 entries" in run("prune", "-n", "--max-age", "inf").out
    assert b"removed 10 entries" in run("prune", "--max-age", "0").out


def test_verify_finds_what_is_damaged(run: Run, cache: SeparateBodyFileCache) -> None:
    done = run("verify")
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        b"10 entries are right, 0 of other programs bear no digest, 0 are damaged\n"
    )
    paths = [Path(cache.path(f"https://example.org/{number}")) for number in (2, 5)]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1])
    done = run("verify")
    assert done.status == 1
    *damaged, last = done.out.decode().splitlines()
    assert {line.partition(": ")[0] for line in damaged} == {path.name for path in paths}
    assert all(line.partition(": ")[2] for line in damaged)
    assert last == "8 entries are right, 0 of other programs bear no digest, 2 are damaged"
    assert count(cache) == 10


@pytest.mark.parametrize("command", ["ls", "stats", "prune"])
def test_only_verify_says_with_its_status_that_something_is_damaged(
    run: Run, cache: SeparateBodyFileCache, command: str
) -> None:
    path = Path(cache.path("https://example.org/1"))
    path.write_bytes(path.read_bytes()[:-1])
    assert (run(command).status, run("verify").status) == (0, 1)
    said = b"1 if what is damaged"
    assert (said in run(command, "--help").out, said in run("verify", "--help").out) == (
        False,
        True,
    )


def test_verify_repairs(run: Run, cache: SeparateBodyFileCache) -> None:
    path = Path(cache.path("https://example.org/2"))
    path.write_bytes(path.read_bytes()[:-1])
    done = run("verify", "--repair")
    assert done.status == 0
    assert done.out.decode().splitlines()[-1] == (
        "9 entries are right, 0 of other programs bear no digest, 1 is damaged, 1 of those removed"
    )
    assert not path.exists()
    assert run("verify").status == 0


def test_a_folder_of_another_program_can_be_looked_after(run: Run, folder: Path) -> None:
    folder.mkdir(mode=0o755)
    name = "0123456789" * 5 + "abcdef"
    entry = folder / "0" / "1" / "2" / "3" / "4" / name
    entry.parent.mkdir(parents=True)
    entry.write_bytes(b"a value")
    entry.with_name(f"{name}.body").write_bytes(bytes(5000))
    assert run("stats").out.decode().splitlines()[0] == "1 entry, 4.9 KiB"
    assert [one["content_length"] for one in documents(run("ls", "--json"))] == [5000]
    assert b"1 of another program bears no digest" in run("verify").out
    assert b"removed 1 entry (4.9 KiB)" in run("prune", "--max-bytes", "4K").out
    assert not entry.parent.exists()


def test_how_long_a_body_is_that_lies_in_another_programs_record_is_not_known(
    run: Run, folder: Path
) -> None:
    with FileCache(folder) as cache:
        path = Path(cache.path("http://a.example/page"))
    path.parent.mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    path.write_bytes(legacy(b"hello"))
    (document,) = documents(run("ls", "--json"))
    assert (document["foreign"], document["status"]) == (True, 200)
    assert document["content_length"] is None


@pytest.mark.parametrize("command", COMMANDS)
def test_where_there_is_nothing_nothing_is_made(run: Run, folder: Path, command: str) -> None:
    done = run(command)
    assert (done.status, done.err) == (0, f"stillfresh: there is no cache in {folder} yet\n")
    assert b"0 entries" in done.out
    assert not folder.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_any_cache_can_be_named(run: Run, command: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(0o700)
    for url in ("memory:", f"{tmp_path.as_uri()}/other?body=inside"):
        done = run(command, "--cache", url)
        assert (done.status, done.err) == (0, "")
        assert b"0 entries" in done.out


def test_without_a_name_it_is_the_default_cache(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STILLFRESH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert run("stats").out.startswith(b"0 entries")


# `ls`.


@pytest.mark.parametrize("url", ["sqlite://{}", "file://{}", "file://{}?body=inside"])
def test_what_is_stored_is_listed(run: Run, folder: Path, url: str) -> None:
    clock = ManualClock(time.time() - 4 * DAY)
    with cache_from_url(url.format(folder)) as cache:
        cache._clock = clock  # noqa: SLF001 - URLs have no clocks
        for number, key in enumerate(["http://b.example/1", "http://a.example/2", "no URL"]):
            store(cache, key, b"", bytes(1000 * (3 - number)))
            clock.advance(DAY)

    def listed(*options: str) -> list[str]:
        done = run("ls", "--cache", url.format(folder), *options)
        assert (done.status, done.err) == (0, "")
        return [line.split()[-1] for line in done.out.decode().splitlines()]

    assert sorted(listed()) == ["URL", "http://a.example/2", "http://b.example/1"]
    assert listed("--sort", "key") == ["http://a.example/2", "http://b.example/1", "URL"]
    assert listed("--sort", "size") == ["URL", "http://a.example/2", "http://b.example/1"]
    assert listed("--sort", "age") == ["http://b.example/1", "http://a.example/2", "URL"]
    assert listed("--host", "a.example") == ["http://a.example/2"]
    assert listed("--host", "b.example", "--sort", "use", "--long") == ["http://b.example/1"]
    assert listed("--host", "c.example") == []
    assert run("ls", "--sort", "colour").status == 2


@pytest.mark.parametrize("scheme", ["sqlite", "file"])
def test_what_is_only_a_part_is_marked_in_the_listing(
    run: Run, folder: Path, origin: Origin, scheme: str
) -> None:
    strong = {"Cache-Control": "max-age=60", "ETag": '"1"', "Content-Type": "text/plain"}
    part = {**strong, "Content-Range": "bytes 10-19/1024"}
    cut, unknown, asked, whole = (
        origin.on("/cut", Reply(headers=strong, body=b"x" * 4096, cut_after=1024)),
        origin.on("/unknown", Reply(headers=strong, body=[b"x" * 300, b"y"], cut_after=300)),
        origin.on("/asked", Reply(206, part, b"x" * 10)),
        origin.on("/whole", Reply(headers=strong, body=b"x" * 4096)),
    )
    url = f"{scheme}://{folder}"
    for options in ([cut], [unknown], ["-H", "Range: bytes=10-19", asked], [whole]):
        run("get", "--cache", url, *options)
    short = run("ls", "--cache", url).out.decode().splitlines()
    assert sorted(line[20:] for line in short) == [
        f"{asked} (part: 10 B of 1.0 KiB)",
        f"{cut} (part: 1.0 KiB of 4.0 KiB)",
        f"{unknown} (part: 300 B of an unknown length)",
        whole,
    ]
    long = run("ls", "--long", "--cache", url).out.decode().splitlines()
    assert sorted(line[51:] for line in long) == sorted(line[20:] for line in short)
    assert {line[20:51] for line in long} == {f"{'200  text/plain':<31}"}


def test_what_is_only_a_part_of_something_known_says_both(
    run: Run, folder: Path, origin: Origin
) -> None:
    page = b"<title>Links for demo</title>" + bytes(1000)
    strong = {"Cache-Control": "max-age=60", "ETag": '"1"', "Content-Type": "text/html"}
    url = origin.on("/", Reply(headers=strong, body=page, cut_after=100))
    run("get", url)
    assert run("ls").out.decode().endswith(f"{url} (index page of demo; part: 100 B of 1.0 KiB)\n")


# For programs.


def documents(done: Ended) -> list[dict[str, Any]]:
    """Read what was written, of which each line is to be a JSON document."""
    assert (done.status, done.err) == (0, "")
    assert done.out.isascii()
    assert not done.out or done.out.endswith(b"\n")
    return [json.loads(line) for line in done.out.splitlines()]


@pytest.mark.parametrize("scheme", ["sqlite", "file"])
def test_a_listing_in_json_has_one_document_a_line(
    run: Run, folder: Path, origin: Origin, scheme: str
) -> None:
    strong = {"Cache-Control": "max-age=60", "ETag": '"1"'}
    page = b"<title>Links for demo</title>"
    cut, whole = (
        origin.on("/cut", Reply(headers=strong, body=b"x" * 4096, cut_after=1024)),
        origin.on("/", Reply(headers={**strong, "Content-Type": "Text/HTML; a=b"}, body=page)),
    )
    url = f"{scheme}://{folder}"
    before = time.time()
    for each in (cut, whole):
        run("get", "--cache", url, each)
    with cache_from_url(url) as cache:
        store(cache, "no URL", b"", b"", expires=4_000_000_000 - time.time())
        listed = {entry.key: entry for entry in cache.entries()}
    found = {entry["key"]: entry for entry in documents(run("ls", "--json", "--cache", url))}
    for entry in found.values():
        for name in ("stored_at", "used_at"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry[name])
            moment = datetime.fromisoformat(entry.pop(name)).timestamp()
            assert before - 1 <= moment <= time.time()
        assert entry.pop("name") == listed[entry["key"]].name
        assert entry.pop("size") == listed[entry["key"]].size
    until = found["no URL"].pop("kept_until")
    assert abs(datetime.fromisoformat(until).timestamp() - 4_000_000_000) <= 1
    nothing = {"foreign": False, "about": None, "content_range": None}
    assert found == {
        whole: {
            **nothing,
            "url": whole,
            "key": whole,
            "status": 200,
            "media_type": "text/html",
            "about": "index page of demo",
            "content_length": len(page),
            "kept_until": None,
        },
        cut: {
            **nothing,
            "url": cut,
            "key": cut,
            "status": 200,
            "media_type": None,
            "content_length": 1024,
            "content_range": {"first_pos": 0, "last_pos": 1023, "complete_length": 4096},
            "kept_until": None,
        },
        "no URL": {
            **nothing,
            "url": None,
            "key": "no URL",
            "status": None,
            "media_type": None,
            "content_length": 0,
        },
    }
    names = [entry["key"] for entry in documents(run("ls", "--json", "-s", "key", "--cache", url))]
    assert names == [whole, cut, "no URL"]
    assert documents(run("ls", "--json", "--host", "elsewhere", "--cache", url)) == []


def test_a_length_that_nobody_knows_is_null(run: Run, origin: Origin) -> None:
    strong = {"Cache-Control": "max-age=60", "ETag": '"1"'}
    run("get", origin.on("/", Reply(headers=strong, body=[b"x" * 300, b"y"], cut_after=300)))
    (entry,) = documents(run("ls", "--json"))
    assert entry["content_range"] == {"first_pos": 0, "last_pos": 299, "complete_length": None}


def test_statistics_in_json_are_one_document(run: Run, folder: Path) -> None:
    clock = ManualClock()
    with SeparateBodyFileCache(folder, clock=clock) as cache:
        for number in range(12):
            store(cache, f"https://{number}.example.org/", b"", content("a", 1000 * number))
        clock.advance(DAY)
        store(cache, "no url", b"", b"")
        sizes = {entry.host: entry.size for entry in cache.entries()}
    (stats,) = documents(run("stats", "--json"))
    assert stats == {
        "entries": 13,
        "size": sum(sizes.values()),
        "oldest": "2023-11-14T22:13:20Z",
        "newest": "2023-11-15T22:13:20Z",
        "hits": None,
        "misses": None,
        "served": None,
        "hosts": [
            {"host": host or None, "entries": 1, "size": sizes[host]}
            for host in sorted(sizes, key=lambda host: sizes[host], reverse=True)
        ],
    }


def test_statistics_in_json_have_what_was_counted(run: Run, folder: Path) -> None:
    url = f"sqlite://{folder}"
    with cache_from_url(url) as cache:
        store(cache, "https://example.org/", b"", bytes(100))
        for key in ("https://example.org/", "https://example.org/2"):
            entry = cache.open(key)
            if entry is not None:
                with entry:
                    entry.read()
    (stats,) = documents(run("stats", "--json", "--cache", url))
    assert (stats["hits"], stats["misses"], stats["served"]) == (1, 1, 100)


def test_of_an_empty_cache_json_has_what_there_is(run: Run, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    assert documents(run("ls", "--json")) == []
    (stats,) = documents(run("stats", "--json"))
    assert (stats["entries"], stats["oldest"], stats["newest"]) == (0, None, None)
    assert stats["hosts"] == []


@pytest.mark.parametrize(
    "key",
    [
        "https://example.org/\x1b[2J",
        "https://a\nb\rc/",
        "https://ex\u00e4mple.org/\x7f\x00\u2028",
        "https://example.org/\ud800",
        'https://example.org/"\\',
    ],
    ids=ascii,
)
def test_in_json_any_key_is_what_it_is(run: Run, folder: Path, key: str) -> None:
    with FileCache(folder) as cache:
        store(cache, key, b"", b"body")
    done = run("ls", "--json")
    (entry,) = documents(done)
    assert (entry["url"], entry["key"]) == (key, key)
    assert all(32 <= byte < 127 or byte == 10 for byte in done.out)


@pytest.mark.parametrize("moment", [-1e18, 1e12, 1e300, float("inf")])
def test_in_json_a_moment_that_no_calendar_has_is_null(
    run: Run, folder: Path, moment: float
) -> None:
    with FileCache(folder, clock=ManualClock(moment)) as cache:
        store(cache, "https://example.org/", b"", b"body")
    (entry,) = documents(run("ls", "--json"))
    assert entry["stored_at"] is None
    (stats,) = documents(run("stats", "--json"))
    assert (stats["oldest"], stats["newest"]) == (None, None)


def test_json_has_no_secret(run: Run, origin: Origin) -> None:
    headers = {"Cache-Control": "max-age=60, private", "Vary": "Cookie", "Set-Cookie": "s=hunter2"}
    url = origin.on("/", Reply(headers=headers, body=b"body"))
    options = ["-H", "Authorization: Bearer hunter2", "-H", "Cookie: hunter2"]
    run("get", *options, url.replace("//", "//user:hunter2@"))
    assert documents(run("ls", "--json"))
    assert b"hunter2" not in run("ls", "--json").out + run("stats", "--json").out


# What they refuse.


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("mongodb://user:secret@host/", "names no cache known here"),
        ("/a/folder", "write 'sqlite:///a/folder' for a database there, or 'file:///a/folder' for"),
        ("file:///a?max_bytes=lots", "'lots' is no size"),
        ("file:///a?b=c", "unknown option 'b' of a file: URL; there are body, max_age and max_"),
        ("sqlite:///~nobody-here/x", "~nobody-here: whose home that is, nobody knows here"),
        ("file:///dev/null", "is not a directory"),
    ],
)
def test_a_cache_that_can_not_be_used(run: Run, command: str, url: str, because: str) -> None:
    done = run(command, "--cache", url)
    assert (done.status, done.out) == (2, b"")
    assert because in " ".join(done.err.split())
    assert "Invalid value for '--cache'" in done.err
    assert "secret" not in done.err


@pytest.mark.parametrize(
    ("arguments", "because"),
    [
        (["prune", "--max-bytes", "lots"], "is no size; write 4096, 64K, 500M or 2G"),
        (["prune", "--max-bytes", "-1"], "is no size"),
        (["prune", "--max-bytes", ""], "is no size"),
        (["prune", "--max-bytes", "1e9"], "is no size"),
        (["prune", "--max-bytes"], "requires an argument"),
        (["prune", "--max-age", "-1"], "is not in the range"),
        (["prune", "--max-age", "week"], "is not a valid float"),
        (["prune", "--max-age", "nan"], "'nan' is no number of days"),
        (["prune", "now"], "unexpected extra argument"),
        (["stats", "--max-bytes", "1"], "No such option"),
        (["verify", "--dry-run"], "No such option"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(
    run: Run, cache: SeparateBodyFileCache, arguments: list[str], because: str
) -> None:
    done = run(*arguments)
    assert (done.status, done.out) == (2, b"")
    assert because in done.err
    assert "'--cache'" not in done.err
    assert count(cache) == 10


@pytest.mark.parametrize("command", COMMANDS)
def test_each_explains_itself(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert b"--cache URL" in done.out
    assert b"74 if the cache cannot be read or changed" in b" ".join(done.out.split())
    assert command in run("--help").out.decode()


def test_two_never_prune_at_once(run: Run, cache: SeparateBodyFileCache, folder: Path) -> None:
    fd = os.open(folder / ".stillfresh-pruned", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        done = run("prune", "--max-bytes", "0")
    finally:
        os.close(fd)
    assert (done.status, done.out) == (74, b"")
    assert done.err == f"stillfresh: another process is pruning {folder}\n"
    assert count(cache) == 10
    assert run("prune", "--max-bytes", "0").status == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_others_may_write_to_is_not_trusted(
    run: Run, folder: Path, command: str
) -> None:
    folder.mkdir()
    folder.chmod(0o722)
    done = run(command)
    assert (done.status, done.out) == (2, b"")
    assert "may be written to by others" in " ".join(done.err.split())


def test_a_cache_that_fails_is_said_so(run: Run, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / ".stillfresh-pruned").mkdir()
    done = run("prune")
    assert (done.status, done.out) == (74, b"")
    assert done.err == f"stillfresh: pruning {folder}: Is a directory\n"


@pytest.mark.parametrize("scheme", ["file", "sqlite"])
@pytest.mark.parametrize("command", [*COMMANDS, "ls"])
def test_a_folder_that_can_not_be_looked_at_is_no_fault_of_the_output(
    run: Run, tmp_path: Path, command: str, scheme: str
) -> None:
    folder = tmp_path / ("long" * 100)
    done = run(command, "--cache", folder.as_uri().replace("file", scheme, 1))
    assert (done.status, done.out) == (74, b"")
    assert done.err == f"stillfresh: the cache in {folder} can't be read: File name too long\n"


@pytest.mark.parametrize("host", ["one.example", "ONE.example:8080"])
def test_a_host_is_named_with_its_port_or_without(run: Run, folder: Path, host: str) -> None:
    with SeparateBodyFileCache(folder) as cache:
        store(cache, "http://one.example:8080/", b"", b"")
        store(cache, "http://two.example:8080/", b"", b"")
        store(cache, "http://one.example.org/", b"", b"")
    for url in (folder.as_uri(), f"sqlite://{folder}-2"):
        with cache_from_url(url) as cache:
            store(cache, "http://one.example:8080/", b"", b"")
            store(cache, "http://one.example.org/", b"", b"")
        done = run("ls", "--cache", url, "--host", host)
        assert done.out.decode().split()[-1] == "http://one.example:8080/"
        assert done.out.count(b"http") == 1


@pytest.mark.parametrize("kind", ["file", "sqlite"])
@pytest.mark.parametrize(
    "host",
    [
        "m\u00fcnchen.example",
        "M\u00dcNCHEN.example:443",
        "XN--MNCHEN-3YA.example",
        "user:secret@m\u00fcnchen.example",
    ],
)
def test_a_host_may_be_named_as_people_write_it(
    run: Run, tmp_path: Path, kind: str, host: str
) -> None:
    url = f"{kind}://{tmp_path / 'hosts'}"
    there, *others = (
        "https://xn--mnchen-3ya.example/",
        "https://xn--mnchen-3ya.example.org/",
        "https://xn--mnchen-3ya.example:81/",
    )
    if ":443" not in host:
        others.pop()
    with cache_from_url(url) as cache:
        for key in (there, *others):
            store(cache, key, b"", b"")
    assert run("ls", "--cache", url, "--host", host).out.decode().split()[-1] == there
    assert run("rm", "--cache", url, "--host", host).status == 0
    with cache_from_url(url) as cache:
        assert {entry.key for entry in cache.entries()} == set(others)


@pytest.mark.parametrize("command", [*COMMANDS, "ls"])
def test_where_there_is_no_output_it_is_said_so(
    run: Run, cache: SeparateBodyFileCache, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    done = run(command)
    assert done.status == 23
    assert done.err == "stillfresh: there is no standard output to write to\n"


# What is in a cache is anybody's.


@pytest.mark.parametrize(
    "key",
    [
        "https://\x1b[2Jexample.org/",
        "https://a\nb\rc/",
        "https://\ud800/",
        "https://ex\u00e4mple.org/",
        "https://" + "x" * 5000 + "/",
        "https:///",
        "https://\u202eexample.org/",
    ],
    ids=ascii,
)
def test_no_key_can_move_the_cursor_or_stop_it(run: Run, folder: Path, key: str) -> None:
    with FileCache(folder) as cache:
        store(cache, key, b"", b"body")
    done = run("stats")
    assert (done.status, done.err) == (0, "")
    assert len(done.out.splitlines()) == 3
    assert all(32 <= byte < 127 or byte == 10 for byte in done.out)


@pytest.mark.parametrize("moment", [-1e18, -1e11, 1e12, 1e18, 1e300, float("inf")])
def test_no_moment_can_stop_it(run: Run, folder: Path, moment: float) -> None:
    with FileCache(folder, clock=ManualClock(moment)) as cache:
        store(cache, "https://example.org/", b"", b"body")
    done = run("stats")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(b"1 entry")


# As a process.


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_listens(
    environment: dict[str, str], cache: SeparateBodyFileCache, command: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with process(environment, command, stdout=writing) as started:
            done = ended(started)
    finally:
        os.close(writing)
    assert (done.status, done.err) == (141, "")


def test_the_disk_is_full(environment: dict[str, str], cache: SeparateBodyFileCache) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with process(environment, "stats", stdout=full) as started:
            done = ended(started)
    finally:
        os.close(full)
    assert done.status == 23
    assert done.err == "stillfresh: the output can't be written: No space left on device\n"


def test_on_a_terminal_there_is_a_bar(
    environment: dict[str, str], cache: SeparateBodyFileCache
) -> None:
    controller, terminal = pty.openpty()
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                shown.extend(os.read(controller, 4096))
            except OSError:
                return

    reader = threading.Thread(target=read)
    try:
        with process(environment, "verify", stderr=terminal) as started:
            os.close(terminal)
            reader.start()
            out, _ = started.communicate(timeout=30)
        reader.join(30)
    finally:
        os.close(controller)
    assert started.returncode == 0
    assert out.startswith(b"10 entries are right")
    assert b"verifying" in shown
    assert b"Traceback" not in shown


def test_the_command_leaves_a_cache_that_can_be_used(
    environment: dict[str, str], cache: SeparateBodyFileCache, folder: Path
) -> None:
    for arguments in (["stats"], ["prune", "--max-bytes", "40K"], ["verify", "--repair"]):
        with process(environment, *arguments) as started:
            assert ended(started).status == 0
    with cache_from_url(folder.as_uri()) as opened:
        fill(opened, 3)
        assert count(opened) == 4


def test_a_listing_is_no_use_and_can_not_move_the_cursor_about(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite://{tmp_path}/sql"
    monkeypatch.setenv("STILLFRESH_CACHE", url)
    with cache_from_url(url) as cache:
        store(cache, "https://example.org/\x1b[2J\nü", b"metadata", b"body")
    listed = run("ls", "-l")
    assert (listed.status, listed.out.decode().count("\n")) == (0, 1)
    assert "\\x1b[2J\\nü" in listed.out.decode()
    assert "\x1b" not in listed.out.decode()
    with cache_from_url(url) as cache:
        stats = cache.stats()
    assert (stats.hits, stats.misses) == (0, 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
@pytest.mark.parametrize(
    "arguments", [["ls"], ["--help"], ["get", "--help"], ["--version"]], ids=str
)
def test_an_answer_that_can_not_be_written_is_said_so(
    environment: dict[str, str], cache: SeparateBodyFileCache, arguments: list[str]
) -> None:
    with Path("/dev/full").open("wb") as full:
        process_ = process(environment, *arguments, stdout=full.fileno())
        _, told = process_.communicate(timeout=60)
    assert b"Traceback" not in told
    assert process_.returncode == 23
