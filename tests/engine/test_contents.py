"""What can be told of an entry, ours or another program's."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path

import pytest
import requests
from cachecontrol import CacheControlAdapter
from cachecontrol.caches import FileCache as TheirFileCache
from cachecontrol.caches import SeparateBodyFileCache as TheirSeparateBodyFileCache

from stillfresh import BaseCache, Content, FileCache, MemoryCache, SeparateBodyFileCache, describe
from stillfresh.clients.requests import CachedSession
from stillfresh.rfc9111.ranges import Part
from tests.origin import Origin, Reply

SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"


def wheel(padding: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("demo/__init__.py", b"x" * padding)
        archive.writestr(
            "demo-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.2\n"
        )
    return file.getvalue()


PAGES: dict[str, tuple[dict[str, str], bytes, str | None]] = {
    "a wheel": ({"Content-Type": "application/octet-stream"}, wheel(), "demo 1.2"),
    "a large wheel": ({"Content-Type": "application/zip"}, wheel(2 << 20), "demo 1.2"),
    "a zip that is no wheel": ({}, b"PK\5\6" + bytes(18), None),
    "a page of an index": (
        {"Content-Type": "text/html; charset=utf-8"},
        b"<html><head><title>Links for demo</title></head></html>",
        "index page of demo",
    ),
    "a page of an index in JSON": (
        {"Content-Type": SIMPLE_JSON},
        json.dumps({"name": "demo", "files": []}).encode(),
        "index page of demo",
    ),
    "a compressed one": (
        {"Content-Type": SIMPLE_JSON, "Content-Encoding": "gzip"},
        gzip.compress(b'{"name": "demo"}'),
        "index page of demo",
    ),
    "broken JSON": ({"Content-Type": SIMPLE_JSON}, b"{", None),
    "JSON of another kind": ({"Content-Type": SIMPLE_JSON}, b'{"name": 1}', None),
    "broken compression": (
        {"Content-Type": SIMPLE_JSON, "Content-Encoding": "gzip"},
        b"no gzip",
        None,
    ),
    "JSON that is a list": ({"Content-Type": SIMPLE_JSON}, b"[]", None),
    "JSON that is too deep": ({"Content-Type": SIMPLE_JSON}, b"[" * 200_000, None),
    "an archive without a directory": (
        {},
        bytes(52) + b"PK\5\6" + bytes(8) + b"\x2e" + bytes(9),
        None,
    ),
    "any page": ({"Content-Type": "text/html"}, b"<title>Hello</title>", None),
    "nothing": ({}, b"", None),
}


def told(cache: BaseCache) -> list[Content]:
    return [describe(cache, listed) for listed in cache.entries()]


@pytest.mark.parametrize("name", PAGES)
def test_what_an_entry_of_ours_is_about(origin: Origin, name: str) -> None:
    headers, body, about = PAGES[name]
    url = origin.on("/x", Reply(headers={"Cache-Control": "max-age=60", **headers}, body=body))
    cache = MemoryCache()
    with CachedSession(cache) as session:
        session.get(url, stream=True).raw.read(decode_content=False)
    content_type = headers.get("Content-Type", "").partition(";")[0] or None
    assert told(cache) == [Content(url, 200, content_type, about)]


@pytest.mark.parametrize("name", ["a wheel", "a page of an index", "a page of an index in JSON"])
@pytest.mark.parametrize("kind", [TheirFileCache, TheirSeparateBodyFileCache])
def test_what_another_programs_entry_is_about(
    origin: Origin, tmp_path: Path, name: str, kind: type[TheirFileCache]
) -> None:
    headers, body, about = PAGES[name]
    # Without a Date theirs stores nothing.
    headers = {"Cache-Control": "max-age=60", "Date": formatdate(usegmt=True), **headers}
    url = origin.on("/x", Reply(headers=headers, body=body))
    with requests.Session() as session:
        session.mount("http://", CacheControlAdapter(kind(str(tmp_path))))
        assert session.get(url).content
    ours = FileCache if kind is TheirFileCache else SeparateBodyFileCache
    [content] = told(ours(tmp_path))
    assert content.url is None  # nobody wrote it down
    assert (content.status, content.about) == (200, about)


def test_a_value_that_is_no_response(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache")
    cache.set("https://example.org/", b"value")
    cache.set("key", b"value")
    assert sorted(told(cache), key=str) == [Content("https://example.org/"), Content()]


def test_what_is_gone_or_damaged_tells_its_url_only(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache")
    cache.set("https://example.org/", b"value")
    [listed] = cache.entries()
    Path(cache.path("https://example.org/")).write_bytes(b"\x89sfresh\n damaged")
    assert describe(cache, listed) == Content("https://example.org/")
    cache.clear()
    assert describe(cache, listed) == Content("https://example.org/")


STRONG = {"Cache-Control": "max-age=60", "ETag": '"1"'}


@pytest.mark.parametrize(
    ("reply", "part"),
    [
        (Reply(headers=STRONG, body=b"x" * 1000, cut_after=300), (0, 299, 1000)),
        (Reply(headers=STRONG, body=[b"x" * 300, b"y"], cut_after=300), (0, 299, None)),
        (
            Reply(206, {**STRONG, "Content-Range": "bytes 10-19/1000"}, b"x" * 10),
            (10, 19, 1000),
        ),
        (Reply(206, {**STRONG, "Content-Range": "bytes 0-9/10"}, b"x" * 10), None),
        (Reply(headers=STRONG, body=b"x" * 1000), None),
    ],
    ids=["cut off", "of unknown length", "asked for", "asked for, and all of it", "whole"],
)
def test_what_is_only_a_part_says_so(
    origin: Origin, reply: Reply, part: tuple[int, int, int | None] | None
) -> None:
    cache = MemoryCache()
    url = origin.on("/", reply)
    headers = {"Range": "bytes=0-"} if reply.status == 206 else {}
    with CachedSession(cache) as session, suppress(requests.RequestException):
        session.get(url, headers=headers)
    assert told(cache) == [Content(url, 200, None, None, None if part is None else Part(*part))]
