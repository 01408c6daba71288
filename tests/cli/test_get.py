"""`stillfresh get`, run as a user runs it: as a process, against a server on this machine."""

from __future__ import annotations

import gzip
import os
import pty
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

from stillfresh import EntryWriter
from tests.cli.running import Command, InProcess, ended, within_this_process
from tests.origin import Cut, Document, Framing, Origin, Raw, Received, Reply

FRESH = {"Cache-Control": "max-age=3600"}


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """An environment with a home and a cache of the test's own, and nothing of this user's."""
    (tmp_path / "home").mkdir()
    foreign = ("_proxy", "netrc", "_ca_bundle", "python", "stillfresh", "xdg_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not any(part in name.lower() for part in foreign)
    }
    return {
        **kept,
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "home" / "caches"),
        "STILLFRESH_CACHE": (tmp_path / "cache").as_uri(),
        "TERM": "xterm",
        "COLUMNS": "100",
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working directory."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.fixture
def stillfresh(folder: Path, surroundings: dict[str, str]) -> Command:
    """The command as a process."""
    return Command(folder, surroundings)


@pytest.fixture
def in_process(
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    folder: Path,
    surroundings: dict[str, str],
) -> Iterator[InProcess]:
    """The command within this process, which is quicker: for what needs none of its own."""
    monkeypatch.chdir(folder)
    for name in os.environ.keys() - surroundings.keys():
        if not name.startswith("PYTEST"):
            monkeypatch.delenv(name)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)

    with within_this_process(monkeypatch, capfdbinary) as run:
        yield run


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What it says.


def test_a_miss_then_a_hit(stillfresh: Command, origin: Origin) -> None:
    url = origin.on("/page", Reply(headers=FRESH, body=b"x" * 4096))
    first = stillfresh("get", url)
    second = stillfresh("get", url)
    assert (first.status, first.out) == (0, b"x" * 4096)
    assert first.err.startswith(
        "miss, stored: nothing is stored for this URI (RFC 9111 §4) · 4.0 KiB in 0."
    )
    assert (second.status, second.out) == (0, b"x" * 4096)
    assert second.err.startswith("hit: fresh: max-age=3600, age ")
    assert " (RFC 9111 §4.2) · 4.0 KiB in 0." in second.err
    assert (first.err.count("\n"), second.err.count("\n")) == (1, 1)
    assert len(origin.received) == 1


def test_a_revalidation(in_process: InProcess, origin: Origin) -> None:
    headers = {"Cache-Control": "no-cache", "ETag": '"1"'}
    url = origin.on("/", Reply(headers=headers, body=b"body"), Reply(304, headers))
    in_process("get", url)
    second = in_process("get", url)
    assert second.out == b"body"
    assert second.err.startswith(
        "revalidated: the stored response says no-cache (RFC 9111 §5.2.2.4) · 4 B in "
    )


def test_what_is_not_stored_says_why(in_process: InProcess, origin: Origin) -> None:
    url = origin.on("/", Reply(headers={"Cache-Control": "no-store"}, body=b"body"))
    assert in_process("get", url).err.startswith(
        "miss, not stored: nothing is stored for this URI (RFC 9111 §4); "
        "the response says no-store (RFC 9111 §5.2.2.5) · 4 B in "
    )


def test_what_may_not_be_asked_for(in_process: InProcess, origin: Origin) -> None:
    done = in_process("get", "-H", "Cache-Control: only-if-cached", origin.url("/"))
    assert done.status == 22
    assert done.err.splitlines()[0] == "stillfresh: HTTP 504 Gateway Timeout"
    assert done.last.startswith("unsatisfiable: the request says only-if-cached")
    assert not origin.received


def test_quiet(stillfresh: Command, origin: Origin) -> None:
    done = stillfresh("get", "--quiet", origin.on("/", Reply(body=b"body")))
    assert (done.status, done.out, done.err) == (0, b"body", "")


def test_quiet_is_not_silent_about_errors(in_process: InProcess, origin: Origin) -> None:
    assert in_process("get", "-q", origin.url("/no")).err == "stillfresh: HTTP 404 Not Found\n"
    url = origin.on("/failed", Raw(b"HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n"))
    assert in_process("get", "-q", url).err == "stillfresh: HTTP 500\n"


def test_verbose_logs_what_the_cache_does(stillfresh: Command, origin: Origin) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"body"))
    lines = stillfresh("get", "-v", url).err.splitlines()
    assert lines[0].startswith(f"stillfresh: miss GET {url}: nothing is stored")
    assert lines[1].startswith(f"stillfresh: stored GET {url}: ")
    assert lines[-1].startswith("miss, stored: ")


def test_a_cache_that_fails_is_a_warning(
    stillfresh: Command, origin: Origin, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    digit = "0123456789abcdef"
    for first in digit:
        (tmp_path / "cache" / first).write_bytes(b"in the way")
    done = stillfresh("get", origin.on("/", Reply(headers=FRESH, body=b"body")))
    assert (done.status, done.out) == (0, b"body")
    assert done.err.startswith("stillfresh: cache failed at ")
    assert done.last.startswith("miss, not stored: ")


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_cache_that_fails_is_named_by_its_folder(
    stillfresh: Command, origin: Origin, tmp_path: Path, size: int
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    for first in "0123456789abcdef":
        (cache / first).write_bytes(b"in the way")
    url = origin.on("/", Reply(headers=FRESH, body=b"x" * size))
    *warnings, _ = stillfresh("get", url).err.splitlines()
    doing = "storing" if size == 10 else "writing a body"
    assert warnings == [
        f"stillfresh: cache failed at {operation} of {url!r}: "
        f"CacheUnavailable: {what} in {cache}: Not a directory"
        for operation, what in (
            ("open", "reading"),
            ("commit" if size == 10 else "write", doing),
        )
    ]


def test_a_body_that_is_missing_is_said_so_without_the_name_of_its_file(
    stillfresh: Command, origin: Origin, tmp_path: Path
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"x" * 100_000))
    stillfresh("get", url)
    for path in (tmp_path / "cache").rglob("*.body"):
        path.unlink()
    assert stillfresh("get", url).err.splitlines()[0] == (
        f"stillfresh: cache failed at open of {url!r}: CorruptEntry: the body file is missing"
    )


def test_what_others_send_cannot_steer_the_terminal(in_process: InProcess, origin: Origin) -> None:
    url = origin.on("/", Reply(404, reason="Not \x1b[31mFound"))
    assert in_process("get", url).err.startswith("stillfresh: HTTP 404 Not \\x1b[31mFound\n")


# What it asks for.


def test_the_request(in_process: InProcess, origin: Origin) -> None:
    url = origin.on("/", Reply())
    options = ["-H", "X-One: 1", "-H", "x-two:2 ", "-H", "X-ONE: ü", "-H", "X-Empty:"]
    assert in_process("get", *options, url).status == 0
    (request,) = origin.received
    assert request.method == "GET"
    assert request.header("X-One") == "1, ü".encode().decode("latin-1")
    assert request.header("X-Two") == "2"
    assert request.header("X-Empty") == ""
    assert request.header("User-Agent") == f"stillfresh/{version('stillfresh')}"


def test_a_url_in_a_locale_that_has_not_its_characters(
    in_process: InProcess, origin: Origin
) -> None:
    url = origin.on("/%C3%A9", Reply()).replace("%C3%A9", "\udcc3\udca9")
    assert in_process("get", url).status == 0
    assert [request.path for request in origin.received] == ["/%C3%A9"]


def test_a_header_of_the_users_is_not_replaced(
    in_process: InProcess, origin: Origin, tmp_path: Path
) -> None:
    (tmp_path / "home" / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    in_process("get", "-H", "authorization: Bearer t", "-H", "User-Agent: mine", origin.url("/"))
    (request,) = origin.received
    assert request.header("Authorization") == "Bearer t"
    assert request.header("User-Agent") == "mine"


def test_the_method(in_process: InProcess, origin: Origin) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"body"))
    done = in_process("get", "-X", "head", "-i", url)
    assert done.out.startswith(b"HTTP/1.1 200 OK\r\n")
    assert done.out.endswith(b"\r\n\r\n")
    assert [request.method for request in origin.received] == ["HEAD"]


def test_data_is_posted(
    in_process: InProcess, stillfresh: Command, origin: Origin, folder: Path
) -> None:
    url = origin.on("/", Reply())
    (folder / "data").write_bytes(b"from a file\0")
    in_process("get", "-d", "text", url)
    in_process("get", "-d", "@data", "-X", "PUT", url)
    stillfresh("get", "-d", "@-", url, given=b"from the standard input")
    assert [(request.method, request.body) for request in origin.received] == [
        ("POST", b"text"),
        ("PUT", b"from a file\0"),
        ("POST", b"from the standard input"),
    ]


def test_redirects_are_followed(in_process: InProcess, origin: Origin) -> None:
    origin.on("/there", Reply(body=b"body"))
    url = origin.on("/", Reply(302, {"Location": "/there"}, b"moved"))
    assert in_process("get", url).out == b"body"
    assert in_process("get", "--no-location", url).out == b"moved"


def test_the_head_is_included(in_process: InProcess, origin: Origin) -> None:
    headers = [*FRESH.items(), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    url = origin.on("/", Reply(headers=headers, body=b"body"))
    assert in_process("get", "--include", url).out == (
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Content-Length: 4\r\nCache-Status: stillfresh; fwd=uri-miss; fwd-status=200; stored; "
        b'detail="nothing is stored for this URI (RFC 9111 section 4)"\r\n'
        b"\r\nbody"
    )
    head, _, body = in_process("get", "--include", url).out.partition(b"\r\n\r\n")
    assert b"Cache-Status: stillfresh; hit; ttl=" in head
    assert body == b"body"


def test_an_encoded_body_is_decoded(in_process: InProcess, origin: Origin) -> None:
    encoded = gzip.compress(b"body" * 1000)
    headers = {**FRESH, "Content-Encoding": "gzip"}
    url = origin.on("/", Reply(headers=headers, body=encoded))
    assert in_process("get", url).out == b"body" * 1000
    assert in_process("get", url).out == b"body" * 1000


# Which cache.


def test_the_cache_option_comes_before_the_variable(
    stillfresh: Command, origin: Origin, tmp_path: Path
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"body"))
    other = (tmp_path / "other").as_uri()
    stillfresh("get", url, "--cache", other)
    assert not (tmp_path / "cache").exists()
    assert stillfresh("get", url).err.startswith("miss")
    assert stillfresh("get", url, "--cache", other).err.startswith("hit")


def test_the_default_cache_is_in_the_cache_folder(
    stillfresh: Command, origin: Origin, tmp_path: Path
) -> None:
    del stillfresh.environment["STILLFRESH_CACHE"]
    url = origin.on("/", Reply(headers=FRESH, body=b"body"))
    stillfresh("get", url)
    assert stillfresh("get", url).err.startswith("hit")
    assert listing(tmp_path / "home")
    assert not (tmp_path / "cache").exists()


# Where the body goes.


def test_a_file(stillfresh: Command, origin: Origin) -> None:
    (stillfresh.folder / "present").write_bytes(b"old")
    (stillfresh.folder / "present").chmod(0o640)
    url = origin.on("/", Reply(body=b"body"))
    for name in ("new", "present"):
        done = stillfresh("get", "-o", name, url)
        assert (done.status, done.out) == (0, b"")
        assert (stillfresh.folder / name).read_bytes() == b"body"
    umask = os.umask(0)
    os.umask(umask)
    assert (stillfresh.folder / "new").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (stillfresh.folder / "present").stat().st_mode & 0o777 == 0o640
    assert listing(stillfresh.folder) == ["new", "present"]


def test_a_link_stays_a_link(in_process: InProcess, folder: Path, origin: Origin) -> None:
    (folder / "link").symlink_to("target")
    in_process("get", "-o", "link", origin.on("/", Reply(body=b"body")))
    assert (folder / "link").is_symlink()
    assert (folder / "target").read_bytes() == b"body"


def test_a_device_is_written_and_not_replaced(
    stillfresh: Command, origin: Origin, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with stillfresh.start("get", "-o", str(pipe), origin.on("/", Reply(body=b"body"))) as process:
        assert pipe.read_bytes() == b"body"
        assert ended(process).status == 0
    assert pipe.is_fifo()


@pytest.mark.parametrize("output", ["no/such/folder", ".", "new/", ""])
def test_a_file_that_cannot_be_written(
    in_process: InProcess, origin: Origin, folder: Path, output: str
) -> None:
    done = in_process("get", "-o", output, origin.url("/"))
    assert done.status == 23
    assert done.err.startswith(f"stillfresh: cannot write {output}: ")
    assert not origin.received
    assert not listing(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to anything")
def test_a_file_that_is_protected(stillfresh: Command, origin: Origin) -> None:
    path = stillfresh.folder / "page"
    path.write_bytes(b"old")
    path.chmod(0o400)
    assert stillfresh("get", "-o", "page", origin.url("/")).status == 23
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(stillfresh: Command, origin: Origin) -> None:
    url = origin.on("/", Reply(body=b"body"))
    with Path("/dev/full").open("wb") as full:
        done = stillfresh("get", url, stdout=full.fileno())
    assert done.status == 23
    assert done.err.startswith("stillfresh: cannot write to the standard output: No space left")


def test_no_standard_output(stillfresh: Command, origin: Origin) -> None:
    done = stillfresh("get", origin.url("/"), before="import sys; sys.stdout = None")
    assert (done.status, done.err.count("\n")) == (23, 1)


def test_a_reader_that_stops_is_no_news(stillfresh: Command, origin: Origin) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"line\n" * 1_000_000))
    with stillfresh.start("get", url) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"line\n"
        process.stdout.close()
        process.stdout = None
        done = ended(process)
    assert (done.status, done.err) == (141, "")
    assert stillfresh("get", url).err.startswith("miss")


# How it fails.


def test_an_http_error_has_its_body(stillfresh: Command, origin: Origin) -> None:
    url = origin.on("/", Reply(404, body=b"sorry"))
    done = stillfresh("get", url)
    assert (done.status, done.out) == (22, b"sorry")
    assert done.err.splitlines()[0] == "stillfresh: HTTP 404 Not Found"
    assert done.last.startswith("miss, not stored: ")
    assert stillfresh("get", "-o", "page", url).status == 22
    assert (stillfresh.folder / "page").read_bytes() == b"sorry"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(headers=FRESH, body=b"x" * 100_000, cut_after=70_000),
        Reply(headers=FRESH, body=b"x" * 100_000, cut_after=70_000, cut_by=Cut.RESET),
        Reply(headers=FRESH, body=[b"x" * 70_000, b"y"], cut_after=70_000),
        Reply(headers={"Content-Encoding": "gzip"}, body=b"this is no gzip"),
    ],
    ids=["length", "reset", "chunked", "encoding"],
)
def test_a_body_that_breaks_off(stillfresh: Command, origin: Origin, reply: Reply) -> None:
    url = origin.on("/", reply)
    (stillfresh.folder / "page").write_bytes(b"old")
    done = stillfresh("get", "-o", "page", url)
    assert done.status == 18
    assert done.err.startswith(("stillfresh: the body broke off", "stillfresh: the body cannot"))
    assert done.err.count("\n") == 1
    assert (stillfresh.folder / "page").read_bytes() == b"old"
    assert listing(stillfresh.folder) == ["page"]


STRONG = {**FRESH, "ETag": '"1"'}
RESUMES = "stillfresh: what has come is kept in the cache: the same command goes on from there"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(headers=STRONG, body=b"x" * 100_000, cut_after=70_000),
        Reply(headers=STRONG, body=b"x" * 100_000, cut_after=70_000, cut_by=Cut.RESET),
        Reply(headers=STRONG, body=[b"x" * 70_000, b"y"], cut_after=70_000),
        Reply(headers={**STRONG, "Vary": "Accept-Encoding"}, body=b"x" * 9000, cut_after=7000),
    ],
    ids=["length", "reset", "chunked", "variant"],
)
def test_of_a_body_that_breaks_off_it_says_that_the_rest_can_be_fetched(
    in_process: InProcess, origin: Origin, folder: Path, reply: Reply
) -> None:
    url = origin.on("/", reply)
    first = in_process("get", "-o", "page", url)
    assert first.status == 18
    assert first.err.splitlines()[1:] == [RESUMES]
    size = len(reply.body) if isinstance(reply.body, bytes) else 100_000
    origin.on("/", Document(b"x" * size, headers=FRESH))
    second = in_process("get", "-o", "page", url)
    assert second.err.startswith("completed, stored: ")
    assert (folder / "page").read_bytes() == b"x" * size


@pytest.mark.parametrize("more", [0, 15_000])
def test_what_breaks_off_once_more_can_still_be_fetched(
    in_process: InProcess, origin: Origin, more: int
) -> None:
    document = Document(b"x" * 100_000, headers=FRESH, cuts=[70_000, more])
    url = origin.on("/", document)
    for _ in range(2):
        done = in_process("get", url)
        assert done.status == 18
        assert done.err.splitlines()[1:] == [RESUMES]
    third = in_process("get", url)
    assert (third.status, third.out) == (0, b"x" * 100_000)
    assert third.err.startswith("completed, stored: ")
    assert [status for status, _ in document.sent] == [200, 206, 206]


@pytest.mark.parametrize(
    ("headers", "options"),
    [
        (FRESH, []),
        ({**FRESH, "ETag": 'W/"1"'}, []),
        ({**STRONG, "Cache-Control": "no-store"}, []),
        (STRONG, ["-H", "Cache-Control: no-store"]),
        (STRONG, ["-H", "Range: bytes=0-"]),
        (STRONG, ["-H", 'If-None-Match: "2"']),
        (STRONG, ["-d", "content"]),
        (STRONG, ["--cache", "memory:"]),
        (STRONG, ["--quiet"]),
    ],
)
def test_it_does_not_say_so_where_it_is_not_so_or_not_wanted(
    in_process: InProcess, origin: Origin, headers: dict[str, str], options: list[str]
) -> None:
    url = origin.on("/", Reply(headers=headers, body=b"x" * 100_000, cut_after=70_000))
    done = in_process("get", *options, url)
    assert done.status == 18
    assert done.err == "stillfresh: the body broke off: 70000 bytes read, 30000 more expected\n"


def test_what_can_not_be_decoded_is_not_worth_another_try(
    in_process: InProcess, origin: Origin
) -> None:
    headers = {**STRONG, "Content-Encoding": "gzip"}
    url = origin.on("/", Reply(headers=headers, body=b"this is no gzip" * 100_000))
    done = in_process("get", url)
    assert done.status == 18
    assert done.err.startswith("stillfresh: the body cannot be decoded: ")
    assert done.err.count("\n") == 1


def test_a_part_that_can_not_be_kept_is_not_said_to_be(
    stillfresh: Command, origin: Origin, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    for first in "0123456789abcdef":
        (tmp_path / "cache" / first).write_bytes(b"in the way")
    url = origin.on("/", Reply(headers=STRONG, body=b"x" * 100_000, cut_after=70_000))
    assert stillfresh("get", url).last.startswith("stillfresh: the body broke off: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_of_an_output_that_fails_it_says_that_the_rest_can_be_fetched(
    in_process: InProcess, origin: Origin
) -> None:
    url = origin.on("/", Reply(headers=STRONG, body=b"x" * 3_000_000))
    done = in_process("get", "-o", "/dev/full", url)
    assert done.status == 23
    assert done.err.splitlines() == [
        "stillfresh: cannot write /dev/full: No space left on device",
        RESUMES,
    ]


def test_of_a_body_whose_length_nobody_knows_no_number_is_told(
    in_process: InProcess, origin: Origin
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=[b"x" * 70_000, b"y"], cut_after=70_000))
    assert in_process("get", url).err == (
        "stillfresh: the body broke off: the connection ended before it did\n"
    )


def test_a_body_that_broke_off_is_fetched_anew(in_process: InProcess, origin: Origin) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"body", cut_after=2), Reply(body=b"body"))
    first = in_process("get", url)
    assert first.status == 18
    assert first.err == "stillfresh: the body broke off: 2 bytes read, 2 more expected\n"
    second = in_process("get", url)
    assert (second.status, second.out) == (0, b"body")


def test_a_stored_body_that_is_damaged(
    in_process: InProcess, folder: Path, origin: Origin, tmp_path: Path
) -> None:
    # So long that its digest is known only at its end.
    url = origin.on("/", Reply(headers=FRESH, body=b"x" * 3 * 1024**2))
    in_process("get", "-o", "page", url)
    stored = max((tmp_path / "cache").rglob("*"), key=lambda path: path.stat().st_size)
    with stored.open("r+b") as file:
        file.seek(2 * 1024**2)
        file.write(b"y")
    done = in_process("get", "-o", "other", url)
    assert done.status == 18
    assert done.err.startswith("stillfresh: the stored body is damaged: ")
    assert listing(folder) == ["page"]


def test_what_has_come_is_written_before_more_comes(
    in_process: InProcess, origin: Origin, folder: Path
) -> None:
    gate = origin.gate()

    def body() -> Iterator[bytes]:
        yield b"x" * 1000
        gate.wait()
        yield b"y" * 1000

    url = origin.on("/", Reply(headers={**STRONG, "Content-Length": "2000"}, body=body()))
    os.mkfifo(folder / "pipe")
    read: list[bytes] = []

    def reader() -> None:
        with (folder / "pipe").open("rb") as pipe:
            read.append(pipe.read(1000))
            gate.set()
            read.append(pipe.read())

    thread = threading.Thread(target=reader)
    thread.start()
    done = in_process("get", "--timeout", "5", "-o", "pipe", url)
    thread.join()
    assert done.status == 0
    assert read == [b"x" * 1000, b"y" * 1000]


@pytest.mark.parametrize("coding", [None, "gzip"])
def test_what_came_before_it_took_too_long_is_kept(
    in_process: InProcess, origin: Origin, coding: str | None
) -> None:
    whole = b"".join(b"%d\n" % number for number in range(1000))
    sent = whole if coding is None else gzip.compress(whole)
    headers = STRONG if coding is None else {**STRONG, "Content-Encoding": coding}
    gate = origin.gate()

    def body() -> Iterator[bytes]:
        yield sent[:1000]
        gate.wait()

    length = {"Content-Length": str(len(sent))}
    url = origin.on("/", Reply(headers={**headers, **length}, body=body()))
    first = in_process("get", "--timeout", "0.5", url)
    assert (first.status, first.err.splitlines()[1:]) == (28, [RESUMES])
    document = Document(sent, headers=headers)
    origin.on("/", document)
    second = in_process("get", url)
    assert (second.status, second.out) == (0, whole)
    assert [status for status, _ in document.sent] == [206]


def test_a_body_that_ends_with_the_connection_is_whole(
    in_process: InProcess, origin: Origin
) -> None:
    url = origin.on("/", Reply(body=b"body", framing=Framing.CLOSE))
    done = in_process("get", url)
    assert (done.status, done.out) == (0, b"body")


def test_a_name_that_is_not_known(stillfresh: Command) -> None:
    unknown = (
        "import socket\n"
        "def unknown(*_): raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')\n"
        "socket.getaddrinfo = unknown"
    )
    done = stillfresh("get", "http://user:secret@nothing.invalid/", before=unknown)
    assert done.status == 6
    assert done.err == (
        "stillfresh: cannot resolve the name of nothing.invalid: Name or service not known\n"
    )


def test_nobody_listens(stillfresh: Command) -> None:
    with Origin() as gone:
        url = gone.url("/")
    done = stillfresh("get", url)
    assert done.status == 7
    assert done.err == (
        f"stillfresh: cannot connect to 127.0.0.1:{gone.port}: Connection refused\n"
    )


def test_no_proxy(stillfresh: Command) -> None:
    with Origin() as gone:
        stillfresh.environment["http_proxy"] = gone.url("/")
    done = stillfresh("get", "http://example.org/")
    assert done.status == 7
    assert "Connection refused" in done.err


def test_a_proxy_without_a_host(in_process: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:s3cret@")
    done = in_process("get", "http://example.invalid/")
    assert (done.status, done.err) == (
        2,
        "stillfresh: the request cannot be made: a proxy is named without a host\n",
    )


def test_no_answer_in_time(stillfresh: Command, origin: Origin) -> None:
    gate = origin.gate()

    def wait(_: Received) -> Reply:
        gate.wait()
        return Reply()

    done = stillfresh("get", "--timeout", "0.1", origin.on("/", wait))
    assert done.status == 28
    assert done.err == f"stillfresh: nothing came from 127.0.0.1:{origin.port} for 0.1 s\n"


def test_a_body_that_stands_still(stillfresh: Command, origin: Origin) -> None:
    gate = origin.gate()

    def body() -> Iterator[bytes]:
        yield b"first"
        gate.wait()

    done = stillfresh("get", "--timeout", "1", origin.on("/", Reply(body=body())))
    assert (done.status, done.out) == (28, b"first")


def test_no_tls(stillfresh: Command, origin: Origin) -> None:
    done = stillfresh("get", origin.url("/").replace("http:", "https:"))
    assert done.status == 35
    assert done.err.startswith(f"stillfresh: TLS with 127.0.0.1:{origin.port} failed: ")


def test_no_certificates(in_process: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    done = in_process("get", "https://127.0.0.1/")
    assert done.status == 35
    assert done.err.endswith("/no/such/file\n")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_that_nobody_vouches_for(stillfresh: Command, tmp_path: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", tmp_path / "key", "-out", tmp_path / "certificate"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    with Origin(context) as origin:
        url = origin.on("/", Reply(body=b"body"))
        done = stillfresh("get", url)
        assert done.status == 35
        assert "self-signed certificate" in done.err.replace("self signed", "self-signed")
        stillfresh.environment["REQUESTS_CA_BUNDLE"] = str(tmp_path / "certificate")
        assert stillfresh("get", url).out == b"body"


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabc"],
    ids=["nothing", "nonsense", "lengths"],
)
def test_no_http(stillfresh: Command, origin: Origin, answer: bytes) -> None:
    done = stillfresh("get", origin.on("/", Raw(answer)))
    assert done.status == 56
    assert done.err.startswith(f"stillfresh: no response from 127.0.0.1:{origin.port}: ")


def test_what_others_warn_of_is_one_line(stillfresh: Command, origin: Origin) -> None:
    # urllib3 logs the whole traceback of a head that can't be parsed to its end.
    done = stillfresh("get", origin.on("/", Raw(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n")))
    assert done.err.count("\n") == 2


@pytest.mark.parametrize("location", ["/", "ftp://127.0.0.1/", "http://[/"])
def test_redirects_that_lead_nowhere(in_process: InProcess, origin: Origin, location: str) -> None:
    done = in_process("get", "-L", origin.on("/", Reply(302, {"Location": location})))
    assert done.status == 47


@pytest.mark.parametrize("location", ["ftp://me:s3cret@a/", "http://me:s3cret@a:b/"])
def test_a_password_in_a_redirect_that_leads_nowhere_is_not_shown(
    in_process: InProcess, origin: Origin, location: str
) -> None:
    done = in_process("get", origin.on("/", Reply(302, {"Location": location})))
    assert done.status == 47
    assert done.err.startswith("stillfresh: a redirect leads nowhere: ")
    assert "s3cret" not in done.err


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_signals(stillfresh: Command, origin: Origin, number: signal.Signals, status: int) -> None:
    sent, gate = origin.gate(), origin.gate()

    def body() -> Iterator[bytes]:
        yield b"x" * 100_000
        sent.set()
        gate.wait()

    url = origin.on("/", Reply(headers={**FRESH, "Content-Length": "200000"}, body=body()))
    (stillfresh.folder / "page").write_bytes(b"old")
    with stillfresh.start("get", "-o", "page", url) as process:
        assert sent.wait(30)
        process.send_signal(number)
        assert ended(process).status == status
    assert (stillfresh.folder / "page").read_bytes() == b"old"
    assert listing(stillfresh.folder) == ["page"]


@pytest.mark.parametrize("headers", [FRESH, STRONG], ids=["nothing is kept", "kept"])
def test_an_interruption_says_whether_the_rest_can_be_fetched(
    stillfresh: Command, origin: Origin, headers: dict[str, str]
) -> None:
    sent, gate = origin.gate(), origin.gate()

    def body() -> Iterator[bytes]:
        yield b"x" * 100_000
        sent.set()
        gate.wait()

    length = {"Content-Length": "200000"}
    url = origin.on("/", Reply(headers={**headers, **length}, body=body()))
    with stillfresh.start("get", "-o", "page", url) as process:
        assert sent.wait(30)
        while not any(path.stat().st_size for path in stillfresh.folder.iterdir()):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        done = ended(process)
    assert done.status == 130
    kept = headers is STRONG
    assert done.err.splitlines() == ["stillfresh: interrupted", *([RESUMES] if kept else [])]
    origin.on("/", Document(b"x" * 200_000, headers=headers))
    again = stillfresh("get", "-o", "page", url)
    assert again.err.startswith("completed, stored: " if kept else "miss, stored: ")
    assert (stillfresh.folder / "page").read_bytes() == b"x" * 200_000


@pytest.mark.parametrize(
    ("number", "times", "status", "said"),
    [
        (signal.SIGINT, 1, 130, ["stillfresh: interrupted", RESUMES]),
        (signal.SIGTERM, 1, 143, [RESUMES]),
        (signal.SIGINT, 2, 130, ["stillfresh: interrupted"]),
    ],
    ids=["INT", "TERM", "INT, INT"],
)
def test_an_interruption_waits_until_what_has_come_is_kept(
    in_process: InProcess,
    origin: Origin,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    times: int,
    status: int,
    said: list[str],
) -> None:
    write = EntryWriter.write

    def interrupted(writer: EntryWriter, chunk: bytes) -> None:
        write(writer, chunk)
        for _ in range(times):
            signal.raise_signal(number)

    gate = origin.gate()

    def body() -> Iterator[bytes]:
        yield b"x" * 1000
        gate.wait()

    url = origin.on("/", Reply(headers={**STRONG, "Content-Length": "2000"}, body=body()))
    with monkeypatch.context() as patch:
        patch.setattr(EntryWriter, "write", interrupted)
        done = in_process("get", "--timeout", "5", url)
    assert (done.status, done.err.splitlines()) == (status, said)
    origin.on("/", Document(b"x" * 2000, headers=STRONG))
    again = in_process("get", url)
    assert again.err.startswith("completed, " if RESUMES in said else "miss, ")
    assert (again.status, again.out) == (0, b"x" * 2000)


# Progress.


def on_a_terminal(
    stillfresh: Command, *arguments: str, stdout_too: bool = False
) -> tuple[int, str]:
    """Run the command with its stderr on a terminal, and return what has shown there."""
    ours, theirs = pty.openpty()
    stdout = theirs if stdout_too else subprocess.DEVNULL
    with stillfresh.start(*arguments, stdout=stdout, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # the other side is closed
            pass
        os.close(ours)
        status = process.wait(30)
    return status, shown.decode()


def test_a_progress_bar(stillfresh: Command, origin: Origin) -> None:
    url = origin.on("/", Reply(body=b"x" * 3 * 1024**2))
    status, shown = on_a_terminal(stillfresh, "get", url)
    assert status == 0
    assert "3.0/3.0 MiB" in shown
    assert shown.rstrip().splitlines()[-1].rpartition("\x1b[2K")[2].startswith("miss, not stored: ")


def test_of_an_encoded_body_nobody_knows_the_size(stillfresh: Command, origin: Origin) -> None:
    encoded = gzip.compress(b"body" * 1024)
    url = origin.on("/", Reply(headers={"Content-Encoding": "gzip"}, body=encoded))
    _, shown = on_a_terminal(stillfresh, "get", url)
    assert "4.0/? KiB" in shown


@pytest.mark.parametrize("option", ["--no-progress", "--quiet"])
def test_no_progress_bar_where_none_is_wanted(
    stillfresh: Command, origin: Origin, option: str
) -> None:
    url = origin.on("/", Reply(body=b"x" * 1024))
    status, shown = on_a_terminal(stillfresh, "get", option, url)
    assert status == 0
    assert "\x1b" not in shown


def test_no_progress_bar_through_the_body(stillfresh: Command, origin: Origin) -> None:
    url = origin.on("/", Reply(body=b"body\n"))
    status, shown = on_a_terminal(stillfresh, "get", url, stdout_too=True)
    assert status == 0
    assert shown.startswith("body\r\nmiss, not stored: ")


# How it is used wrongly.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["example.org"], "'example.org' is neither http:// nor https://; did you mean https://"),
        (
            ["//example.org/"],
            "'//example.org/' is neither http:// nor https://; did you mean https://e",
        ),
        ([""], "'' is neither http:// nor https://\n"),
        (["http://example.org/\udcff"], "'http://example.org/\\udcff' is not UTF-8\n"),
        (["ftp://example.org/"], "'ftp://example.org/' is neither http:// nor https://\n"),
        (["http://"], "No host supplied"),
        (["http://[/"], "Invalid IPv6 URL"),
        (["http://a:99999/"], "Failed to parse"),
        (["http://a..b/"], "the request cannot be made: "),
        (["-H", "no colon", "http://a/"], "'no' is followed by no colon; write 'Name: value'"),
        (["-H", "Authorization Bearer s3cret", "http://a/"], "'Authorization' is followed by no"),
        (["-H", "s3cret", "http://a/"], "no colon; write 'Name: value'"),
        (["-H", "a b: c", "http://a/"], "'a b' can't be the name of a header"),
        (["-H", "a: b\nc: d", "http://a/"], "the value of a has a line break in it"),
        (["-X", "GE T", "http://a/"], "'GE T' can't be a method"),
        (["-d", "@no-such-file", "http://a/"], "no-such-file"),
        (["--timeout", "0", "http://a/"], "0 is not between 0 and 86400"),
        (["--timeout", "nan", "http://a/"], "nan is not between 0 and 86400"),
        (["--cache", "nonsense", "http://a/"], "'nonsense' is a path and no URL: write 'sqlite:"),
        (["--cache", "http://a/", "http://a/"], "'http://a/' names no cache known here: write "),
        (["--cache", "file:///dev/null", "http://a/"], "/dev/null"),
        ([], "Missing argument 'URL'"),
    ],
)
def test_wrong_usage(in_process: InProcess, arguments: list[str], message: str) -> None:
    done = in_process("get", *arguments)
    assert (done.status, done.out) == (2, b"")
    assert message in done.err


def test_wrong_usage_is_explained(stillfresh: Command) -> None:
    done = stillfresh("get", "--no-such-option")
    assert (done.status, done.out) == (2, b"")
    assert done.err.startswith("Usage: stillfresh get [OPTIONS] URL\n")
    assert "No such option" in done.err


# The command around it.


def test_the_help_names_all_options_and_statuses(in_process: InProcess) -> None:
    done = in_process("get", "--help")
    assert (done.status, done.err) == (0, "")
    text = done.out.decode()
    options = (
        "--output --include --method --header --data --location --no-location --cache --timeout"
        " --progress --no-progress --quiet --verbose STILLFRESH_CACHE"
    )
    for option in options.split():
        assert option in text
    statuses = text.partition("Exit status:\n")[2].splitlines()
    assert [int(line.split()[0]) for line in statuses] == [
        *(0, 2, 6, 7, 18, 22, 23, 28, 35, 47, 56, 130, 141, 143)
    ]


def test_the_group(in_process: InProcess) -> None:
    done = in_process("--help")
    assert done.status == 0
    assert b"Download URL through the cache" in done.out
    assert in_process("--version").out.decode() == f"stillfresh {version('stillfresh')}\n"
    assert in_process("no-such-command").status == 2


def test_it_is_installed_and_a_module_too(stillfresh: Command) -> None:
    (script,) = entry_points(group="console_scripts", name="stillfresh")
    assert script.value == "stillfresh.cli.main:main"
    for name in ("stillfresh", "stillfresh.cli"):
        module = subprocess.run(
            [sys.executable, "-m", name, "--version"],
            env=stillfresh.environment,
            capture_output=True,
            check=True,
        )
        assert module.stdout.decode() == f"stillfresh {version('stillfresh')}\n"


@pytest.mark.parametrize("missing", [["rich"], ["click", "requests", "rich"]])
def test_without_the_extra_it_says_which_is_missing(
    stillfresh: Command, missing: list[str]
) -> None:
    blocked = f"import sys; sys.modules.update(dict.fromkeys({missing!r}))"
    done = stillfresh("get", "http://127.0.0.1/", before=blocked)
    assert (done.status, done.out) == (2, b"")
    names = ", ".join(missing)
    assert done.err == f"stillfresh: the command needs {names}: pip install 'stillfresh[cli]'\n"
