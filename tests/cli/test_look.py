"""`stillfresh show` and `explain`, about what `stillfresh get` has stored."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stillfresh import BaseCache, SeparateBodyFileCache, cache_from_url
from stillfresh.clients.requests import CachedSession
from stillfresh.testing.conformance.tools import store
from tests.cli.running import RUN, Ended, InProcess, ended, process
from tests.engine.world import legacy
from tests.origin import Document, Origin, Received, Reply

FRESH = {"Cache-Control": "max-age=3600", "ETag": '"1"'}


@pytest.fixture
def cache(url_of_cache: str) -> Iterator[BaseCache]:
    with cache_from_url(url_of_cache) as made:
        store(made, "something else", b"value", b"body")
        yield made


def by_language(request: Received) -> Reply:
    name = request.header("Accept-Language") or "none"
    fields = {**FRESH, "Vary": "Accept-Language", "ETag": f'"{name}"'}
    return Reply(headers=fields, body=name.encode())


def lines(done: Ended) -> list[str]:
    assert (done.status, done.err) == (0, "")
    return done.out.decode().splitlines()


def rows(text: list[str]) -> dict[str, str]:
    """Read what is said of one response, or of one request."""
    found = [line for line in text if line.startswith("  ") and line[2:15].strip() in LABELS]
    return {line[2:15].strip(): line[15:] for line in found}


LABELS = {
    *("status", "selected by", "freshness", "plain GET", "validators", "body", "received", "key"),
    "stored by",
}


def steps(text: list[str]) -> dict[str, str]:
    return {line[2:13].strip(): line[13:] for line in text[1:-1]}


def document(done: Ended) -> Any:
    (line,) = lines(done)
    return json.loads(line)


def state(cache: BaseCache) -> list[Any]:
    stats = cache.stats()
    return [sorted(map(repr, cache.entries())), stats.hits, stats.misses]


# `show`.


def test_what_is_stored_is_shown(run: InProcess, cache: BaseCache, origin: Origin) -> None:
    fields = {**FRESH, "Content-Type": "text/plain", "Vary": "Accept-Encoding"}
    url = origin.on("/page", Reply(headers=fields, body=b"x" * 2048))
    run("get", url)
    text = lines(run("show", url))
    assert text[0] == f"{url} (selected)"
    shown = rows(text)
    assert shown.keys() == LABELS - {"key", "stored by"}
    assert shown["status"] == "200 OK"
    assert shown["selected by"].startswith("accept-encoding: deflate,gzip")
    assert shown["selected by"].endswith("; authorization: absent")
    assert shown["freshness"].startswith("fresh for 60 min more, until ")
    assert ": max-age=3600, age " in shown["freshness"]
    assert shown["plain GET"].startswith("fresh: max-age=3600, age ")
    assert shown["validators"] == 'ETag: "1" (strong)'
    assert shown["body"] == "2.0 KiB"
    assert "  Content-Type: text/plain" in text
    assert len(origin.received) == 1


def test_every_variant_is_shown(run: InProcess, cache: BaseCache, origin: Origin) -> None:
    url = origin.on("/", by_language)
    for name in ("de", "en"):
        run("get", "-H", f"Accept-Language: {name}", url)
    text = lines(run("show", url))
    assert [line for line in text if line and line[0] != " "] == [url, url]
    text = lines(run("show", "-H", "Accept-Language: en", url))
    assert text[0] == f"{url} (selected)"
    assert rows(text)["selected by"].startswith("accept-language: en")
    assert "#variant=" in rows(text)["key"]
    none = run("show", "-H", "Accept-Language: fr", url)
    assert (none.status, none.out) == (78, b"")
    assert none.err == (
        f"stillfresh: 2 responses are stored for {url}, and this request selects none"
        " (RFC 9111 §4.1)\n"
    )


def test_credentials_are_concealed(
    run: InProcess, cache: BaseCache, origin: Origin, tmp_path: Path
) -> None:
    fields = {"Cache-Control": "max-age=60, private", "Set-Cookie": "s=hunter2"}
    url = origin.on("/", Reply(headers=fields, body=b"body"))
    options = ["-H", "Authorization: Bearer hunter2", "-H", "Cookie: hunter2"]
    named = url.replace("//", "//me:hunter2@")
    run("get", *options, named)
    for command in ("show", "explain"):
        for more in ([], ["--json"], options):
            done = run(command, *more, named)
            assert done.out
            assert b"hunter2" not in done.out + done.err.encode()
    text = lines(run("show", *options, url))
    assert rows(text)["selected by"] == "authorization: (concealed); cookie: (concealed)"
    assert "  Set-Cookie: (concealed)" in text


def test_a_password_of_a_netrc_is_used_as_get_does(
    run: InProcess, cache: BaseCache, origin: Origin, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    (home / ".netrc").chmod(0o600)
    url = origin.on("/", Reply(headers=FRESH, body=b"body"))
    run("get", url)
    assert origin.received[0].header("Authorization") is not None
    assert lines(run("explain", url))[-1].startswith("serve, as 200: ")
    assert run("explain", "-H", "Authorization: other", url).out.count(b"forward: ") == 1


def test_what_is_stale_says_since_when(run: InProcess, cache: BaseCache, origin: Origin) -> None:
    fields = {"Cache-Control": "max-age=60", "Age": "3660", "Last-Modified": "yesterday"}
    url = origin.on("/", Reply(headers=fields, body=b"body"))
    run("get", url)
    shown = rows(lines(run("show", url)))
    assert shown["freshness"].startswith("stale for 1 h, since ")
    assert shown["validators"] == "Last-Modified: yesterday (weak)"


def test_a_part_says_which(run: InProcess, cache: BaseCache, origin: Origin) -> None:
    url = origin.on("/", Document(b"x" * 4096, cuts=[1024]))
    run("get", url)
    shown = rows(lines(run("show", url)))
    assert shown["body"] == "1.0 KiB, only a part: bytes 0 to 1023 of 4096"
    assert shown["plain GET"].startswith("only a part is stored: 1024 of 4096 bytes")


def test_what_was_invalidated_counts_as_gone(
    run: InProcess, cache: BaseCache, origin: Origin
) -> None:
    url = origin.on("/", Reply(headers={**FRESH, "Cache-Groups": '"g"'}, body=b"body"))
    other = origin.on("/other", Reply(headers={"Cache-Group-Invalidation": '"g"'}, body=b""))
    run("get", url)
    run("get", "-X", "POST", other)
    for options in ([], ["--body"]):
        done = run("show", *options, url)
        assert (done.status, done.out) == (78, b"")
        assert done.err == (
            "stillfresh: what is stored counts as gone: a group of the stored response was"
            " invalidated (RFC 9875 §2.2.1)\n"
        )
    text = lines(run("explain", url))
    assert steps(text)["stored"] == "yes, but it counts as gone"
    assert text[-1].startswith("forward: a group of the stored response was invalidated")


def test_what_is_served_while_it_is_refreshed_says_so(
    run: InProcess, cache: BaseCache, origin: Origin
) -> None:
    fields = {"Cache-Control": "max-age=60, stale-while-revalidate=600", "Age": "100"}
    url = origin.on("/", Reply(headers=fields, body=b"body"))
    run("get", url)
    text = lines(run("explain", url))
    assert steps(text)["origin"] == "is asked behind, for the next time"
    assert text[-1].startswith("serve, as 200: stale, and refreshed behind")


def test_nobody_may_be_asked(run: InProcess, cache: BaseCache, origin: Origin) -> None:
    text = lines(run("explain", "-H", "Cache-Control: only-if-cached", origin.url("/")))
    assert text[-1].startswith("unsatisfiable, 504: the request says only-if-cached")
    assert steps(text)["origin"] == "is not asked"


def test_a_variant_that_is_damaged_hides_no_other(
    run: InProcess, folder: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLFRESH_CACHE", f"sqlite://{folder}")
    url = origin.on("/", by_language)
    for name in ("de", "en", "fr"):
        run("get", "-H", f"Accept-Language: {name}", url)
    (path,) = folder.glob("*.sqlite")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        changed = database.execute(
            "UPDATE entry SET frame = zeroblob(length(frame)) WHERE rid ="
            " (SELECT max(rid) FROM entry WHERE CAST(key AS TEXT) LIKE '%#variant=%')"
        )
        assert changed.rowcount == 1
    done = run("show", url)
    assert done.status == 1
    assert done.out.decode().count("\n  selected by  ") == 2
    assert done.err.startswith("stillfresh: what is stored is damaged: ")
    assert done.err.count("\n") == 1
    assert run("rm", url).out.startswith(b"removed 3 entries")


@pytest.mark.parametrize("command", ["show", "explain"])
def test_where_there_is_nothing_nothing_is_made(
    run: InProcess, url_of_cache: str, folder: Path, command: str
) -> None:
    done = run(command, "-H", "Authorization: x", "http://a.example/")
    assert done.status == (78 if command == "show" else 0)
    assert done.err.startswith(f"stillfresh: there is no cache in {folder} yet\n")
    assert not folder.exists()


def test_looking_is_no_use(run: InProcess, cache: BaseCache, origin: Origin) -> None:
    url = origin.on("/", by_language)
    for name in ("de", "en"):
        run("get", "-H", f"Accept-Language: {name}", url)
    before = state(cache)
    for arguments in (["show"], ["show", "--body", "-H", "Accept-Language: de"], ["explain"]):
        run(*arguments, url)
    assert state(cache) == before


def test_json_is_one_document_a_response(run: InProcess, cache: BaseCache, origin: Origin) -> None:
    fields = {**FRESH, "Set-Cookie": "a=b"}
    url = origin.on("/", Document(b"x" * 4096, headers=fields, cuts=[1024]))
    run("get", url)
    shown = document(run("show", "--json", url))
    moments = [shown.pop("received_at"), shown.pop("fresh_until")]
    assert all(moment.endswith("Z") for moment in moments)
    assert 0 <= shown.pop("age") < 60
    assert shown.pop("why")["reason"] == "incomplete"
    header = {line["name"]: line["value"] for line in shown.pop("header")}
    assert (header["ETag"], header["Set-Cookie"]) == ('"1"', None)
    assert shown == {
        "url": url,
        "key": url,
        "status": 200,
        "reason": "OK",
        "selected": True,
        "selected_by": [{"name": "authorization", "value": None, "concealed": False}],
        "content_length": 1024,
        "content_range": {"first_pos": 0, "last_pos": 1023, "complete_length": 4096},
        "freshness_lifetime": 3600,
        "lifetime_source": "max-age=3600",
        "strong_validator": True,
        "foreign": False,
    }


def test_another_programs_entry_is_shown(run: InProcess, folder: Path) -> None:
    url = "http://a.example/page"
    with SeparateBodyFileCache(folder) as cache:
        path = Path(cache.path(url))
        path.parent.mkdir(parents=True, mode=0o700)
        folder.chmod(0o700)
        path.write_bytes(legacy(Content_Length="5"))
        path.with_name(f"{path.name}.body").write_bytes(b"hello")
    assert rows(lines(run("show", url)))["stored by"].startswith("another program")
    done = run("show", "--body", url)
    assert (done.status, done.out, done.err) == (0, b"hello", "")
    path.with_name(f"{path.name}.body").write_bytes(b"hell")
    done = run("show", "--body", url)
    assert (done.status, done.out) == (1, b"")
    assert "a body of 4 bytes beside a record of CacheControl's that says 5" in done.err
    assert run("rm", url).status == 0


# Its body.


@pytest.mark.parametrize("size", [0, 5, 100_000, 3_000_000])
def test_the_body_is_written(
    run: InProcess, cache: BaseCache, origin: Origin, tmp_path: Path, size: int
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"x" * size))
    run("get", url)
    done = run("show", "--body", url)
    assert (done.status, done.out, done.err) == (0, b"x" * size, "")
    file = tmp_path / "file"
    done = run("show", "-o", file, url)
    assert (done.status, done.out, done.err) == (0, b"", "")
    assert file.read_bytes() == b"x" * size


def test_the_body_is_as_it_came(run: InProcess, cache: BaseCache, origin: Origin) -> None:
    body = gzip.compress(b"hello")
    url = origin.on("/", Reply(headers={**FRESH, "Content-Encoding": "gzip"}, body=body))
    run("get", url)
    done = run("show", "--body", url)
    assert (done.status, done.out) == (0, body)
    assert done.err == "stillfresh: the body is as it came: Content-Encoding: gzip\n"


def test_the_body_is_that_of_what_is_selected(
    run: InProcess, cache: BaseCache, origin: Origin
) -> None:
    url = origin.on("/", by_language)
    for name in ("de", "en"):
        run("get", "-H", f"Accept-Language: {name}", url)
    assert run("show", "--body", "-H", "Accept-Language: en", url).out == b"en"
    done = run("show", "--body", url)
    assert (done.status, done.out) == (78, b"")
    assert "this request selects none" in done.err


def test_a_part_of_a_body_is_never_taken_for_all(
    run: InProcess, cache: BaseCache, origin: Origin
) -> None:
    url = origin.on("/", Document(b"x" * 4096, cuts=[1024]))
    run("get", url)
    done = run("show", "--body", url)
    assert (done.status, done.out) == (18, b"x" * 1024)
    assert done.err == "stillfresh: that is only a part: bytes 0 to 1023 of 4096\n"


@pytest.mark.parametrize("size", [5000, 3_000_000])
def test_of_a_damaged_body_nothing_is_written(
    run: InProcess, folder: Path, origin: Origin, tmp_path: Path, size: int
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"x" * size))
    run("get", url)
    body = max(folder.rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    held = bytearray(body.read_bytes())
    held[held.index(b"xxxx") + size // 2] ^= 1
    body.write_bytes(held)
    file = tmp_path / "file"
    file.write_bytes(b"before")
    for options in (["--body"], ["-o", file]):
        done = run("show", *options, url)
        assert (done.status, done.out) == (1, b"")
        # What is small is checked when it is opened, before it is known whose body it is.
        what = "what is stored" if size < 1 << 20 else "the stored body"
        assert done.err.startswith(f"stillfresh: {what} is damaged: ")
    assert file.read_bytes() == b"before"
    told = run("explain", url)
    assert told.status == (1 if size < 1 << 20 else 0)
    assert run("explain", url).status == told.status


def test_a_damaged_record_is_said_so(run: InProcess, folder: Path, origin: Origin) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"body"))
    run("get", url)
    (entry,) = (path for path in folder.rglob("*") if len(path.name) == 56)
    entry.write_bytes(entry.read_bytes()[:-1])
    for command in ("show", "explain"):
        done = run(command, url)
        assert done.status == 1
        assert done.err.startswith("stillfresh: what is stored is damaged: ")
    assert entry.exists()


def test_a_large_body_takes_no_memory(
    environment: dict[str, str], folder: Path, origin: Origin, tmp_path: Path
) -> None:
    size = 200 << 20
    stream = (b"x" * (1 << 20) for _ in range(200))
    url = origin.on("/", Reply(headers=FRESH, body=stream))
    with CachedSession(folder.as_uri()) as session, session.get(url, stream=True) as response:
        for _ in response.iter_content(1 << 20):
            pass
    limit = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (150 << 20, 150 << 20)); "
    command = [sys.executable, "-c", limit + RUN, "show", "-o", str(tmp_path / "file"), url]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as started:
        done = ended(started)
    assert (done.status, done.err) == (0, "")
    assert (tmp_path / "file").stat().st_size == size


# `explain`.


def test_each_step_is_explained(run: InProcess, cache: BaseCache, origin: Origin) -> None:
    url = origin.on("/", Document(b"body", headers={"Cache-Control": "max-age=3600"}))
    text = lines(run("explain", "-X", "GET", url))
    assert text[0] == f"GET {url}"
    assert text[-1] == "forward: nothing is stored for this URI (RFC 9111 §4)"
    assert steps(text) == {
        "stored": "no",
        "selected": "-",
        "freshness": "-",
        "origin": "is asked, with the request as it is",
    }
    assert origin.received == []
    run("get", url)
    text = lines(run("explain", url))
    assert text[-1].startswith("serve, as 200: fresh: max-age=3600, age ")
    found = steps(text)
    assert found["stored"] == "yes: 200 OK, 4 B"
    assert found["selected"] == "yes, by authorization: absent"
    assert found["freshness"].startswith("fresh for 60 min more, until ")
    assert found["origin"] == "is not asked"
    text = lines(run("explain", "-H", "Cache-Control: no-cache", url))
    assert text[-1] == "revalidate: the request says no-cache (RFC 9111 §5.2.1.4)"
    assert steps(text)["origin"] == 'is asked, with If-None-Match: "1"'
    assert len(origin.received) == 1


def test_what_is_explained_is_what_is_done(
    run: InProcess, cache: BaseCache, origin: Origin
) -> None:
    url = origin.on("/", by_language)
    run("get", "-H", "Accept-Language: de", url)
    for headers in (
        ["Accept-Language: de"],
        ["Accept-Language: en"],
        ["Accept-Language: de", "Cache-Control: no-cache"],
        ["Accept-Language: de", "Range: bytes=0-0"],
        ["Accept-Language: de", "If-Match: x"],
        ["Cache-Control: only-if-cached"],
    ):
        options = [word for header in headers for word in ("-H", header)]
        why = lines(run("explain", *options, url))[-1].partition(": ")[2].partition(", age")[0]
        assert why in run("get", *options, url).err


def test_what_differs_is_named(run: InProcess, cache: BaseCache, origin: Origin) -> None:
    url = origin.on("/", by_language)
    run("get", "-H", "Accept-Language: de", url)
    found = steps(lines(run("explain", "-H", "Authorization: x", url)))
    assert found["selected"] == (
        "no: it was selected by accept-language: de; authorization: absent"
    )


def test_the_method_may_be_one_that_is_not_cached(
    run: InProcess, cache: BaseCache, origin: Origin
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"body"))
    run("get", url)
    text = lines(run("explain", "-X", "delete", url))
    assert text[0] == f"DELETE {url}"
    assert text[-1].startswith("forward: the method is not answered from a cache: DELETE")
    assert steps(text)["stored"] == "not looked at"
    assert lines(run("explain", "-X", "HEAD", url))[-1].startswith("serve, as 200")


def test_an_explanation_in_json_is_one_document(
    run: InProcess, cache: BaseCache, origin: Origin
) -> None:
    url = origin.on("/", Document(b"body"))
    nothing = document(run("explain", "--json", url))
    assert nothing == {
        "method": "GET",
        "url": url,
        "key": url,
        "decision": "forward",
        "why": {
            "reason": "no_stored",
            "sentence": "nothing is stored for this URI",
            "section": "RFC 9111 §4",
        },
        "status": None,
        "stored": None,
        "selected": None,
        "differing": [],
        "origin_asked": True,
        "added": [],
        "refreshed_behind": False,
    }
    run("get", url)
    told = document(run("explain", "--json", "-H", "Cache-Control: no-cache", url))
    assert told["decision"] == "revalidate"
    assert told["added"] == [{"name": "If-None-Match", "value": '"1"'}]
    assert told["stored"] == told["selected"]
    assert told["selected"]["status"] == 200


# What they refuse, and how they end.


@pytest.mark.parametrize("command", ["show", "explain"])
@pytest.mark.parametrize(
    ("arguments", "because"),
    [
        ([], "Missing argument 'URL'"),
        (["ftp://a.example/"], "is neither http:// nor https://"),
        (["a.example"], "did you mean https://a.example?"),
        (["http://"], "No host supplied"),
        (["-H", "no colon", "http://a.example/"], "'no' is followed by no colon"),
        (["--cache", "mongodb://me:secret@host", "http://a.example/"], "names no cache known"),
        (["--cache", "file:///dev/null", "http://a.example/"], "is not a directory"),
        (["http://a.example:99999/"], "."),
    ],
)
def test_wrong_usage(run: InProcess, command: str, arguments: list[str], because: str) -> None:
    done = run(command, *arguments)
    assert (done.status, done.out) == (2, b"")
    assert because in " ".join(done.err.split())
    assert "secret" not in done.err


@pytest.mark.parametrize("command", ["get", "show", "explain", "rm"])
@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@a:99999/",
        "htp://me:hunter2@a/",
        "me:hunter2@a/",
        "hunter2@a/",
        "http://me:hunter2@/",
        "http://me:hunter2/2@a/",
        "http://me:hunter2@[/",
        "http:/me:hunter2@a/",
        "http://me:hunter2@a/\udcff",
    ],
)
def test_a_password_in_what_is_no_url_is_not_shown(run: InProcess, command: str, url: str) -> None:
    refused = run(command, url)
    assert refused.status == 2
    assert "Invalid value for" in refused.err
    assert "hunter2" not in refused.err


@pytest.mark.parametrize("url", ["http://me:hunter2@a.example/", "me:hunter2@a.example/"])
@pytest.mark.parametrize("before", [[], ["ls"], ["get", "http://a.example/"]], ids=str)
def test_a_password_in_a_url_that_has_no_place_is_not_shown(
    run: InProcess, before: list[str], url: str
) -> None:
    refused = run(*before, url)
    assert refused.status == 2
    assert "a.example/" in refused.err.splitlines()[-1]
    assert "hunter2" not in refused.err


def test_a_document_has_no_body(run: InProcess) -> None:
    assert run("show", "--json", "--body", "http://a.example/").status == 2
    assert run("explain", "-X", "a b", "http://a.example/").status == 2


@pytest.mark.parametrize("arguments", [["show"], ["show", "--body"], ["explain"]])
def test_nobody_listens(
    run: InProcess, environment: dict[str, str], origin: Origin, arguments: list[str]
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"x" * 3_000_000))
    run("get", "-o", "/dev/null", url)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with process(environment, *arguments, url, stdout=writing) as started:
            done = ended(started)
    finally:
        os.close(writing)
    assert (done.status, done.err) == (141, "")


def test_an_interruption_is_no_traceback(
    run: InProcess, environment: dict[str, str], origin: Origin
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"x" * 3_000_000))
    run("get", "-o", "/dev/null", url)
    with process(environment, "show", "--body", url) as started:
        assert started.stdout is not None
        # The rest doesn't fit into the pipe.
        assert started.stdout.read(1) == b"x"
        started.send_signal(signal.SIGINT)
        done = ended(started)
    assert (done.status, done.err.strip()) == (130, "")
    assert len(done.out) < 3_000_000 - 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
@pytest.mark.parametrize("arguments", [["show"], ["show", "--body"], ["explain"]])
def test_the_disk_is_full(
    run: InProcess, environment: dict[str, str], origin: Origin, arguments: list[str]
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"body"))
    run("get", "-o", "/dev/null", url)
    with (
        Path("/dev/full").open("wb") as full,
        process(environment, *arguments, url, stdout=full.fileno()) as started,
    ):
        done = ended(started)
    assert done.status == 23
    assert "No space left on device" in done.err


def test_nothing_that_others_sent_can_move_the_cursor(
    run: InProcess, cache: BaseCache, origin: Origin
) -> None:
    fields = {**FRESH, "X-Mine": "a\x1b[2Jb", "Vary": "X-Asked"}
    url = origin.on("/", Reply(headers=fields, body=b"body"))
    run("get", url, "-H", "X-Asked: \x1b[2J")
    for command in ("show", "explain"):
        done = run(command, url)
        assert b"\x1b" not in done.out + done.err.encode()
