import os
import pwd
import re
from pathlib import Path
from typing import Any

import pytest

from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.caches.memory import DEFAULT_MAX_BYTES, MemoryCache
from stillfresh.caches.sqlite import SQLiteCache, default_directory
from stillfresh.caches.urls import cache_from_url, cache_of, parse_size
from stillfresh.errors import ConfigError


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    for url in (f"file://{tmp_path}/cache", f"file://localhost{tmp_path}/cache"):
        cache = cache_from_url(url)
        assert isinstance(cache, SeparateBodyFileCache)
        assert cache.path("key").startswith(f"{tmp_path}/cache/")
    assert not (tmp_path / "cache").exists()


def test_a_file_url_says_where_bodies_go(tmp_path: Path) -> None:
    assert type(cache_from_url(f"file://{tmp_path}?body=inside")) is FileCache
    assert type(cache_from_url(f"file://{tmp_path}?body=apart")) is SeparateBodyFileCache


def test_a_path_in_a_url_is_unquoted(tmp_path: Path) -> None:
    cache = cache_from_url(f"file://{tmp_path}/a%20b%23c%3Fd")
    assert cache.path("key").startswith(f"{tmp_path}/a b#c?d/")  # type: ignore[attr-defined]


def test_a_memory_url_is_a_memory_cache() -> None:
    cache = cache_from_url("memory:")
    assert isinstance(cache, MemoryCache)
    assert cache.max_bytes == DEFAULT_MAX_BYTES
    cache = cache_from_url("MEMORY:?max_bytes=64M")
    assert isinstance(cache, MemoryCache)
    assert cache.max_bytes == 64 * 1024**2


def test_a_file_url_says_how_much_is_kept(tmp_path: Path) -> None:
    for body in ("apart", "inside"):
        cache = cache_from_url(f"file://{tmp_path}?max_bytes=1.5G&max_age=3600&body={body}")
        assert isinstance(cache, FileCache | SeparateBodyFileCache)
        assert (cache.max_bytes, cache.max_age) == (3 << 29, 3600.0)
    cache = cache_from_url(f"file://{tmp_path}")
    assert isinstance(cache, SeparateBodyFileCache)
    assert (cache.max_bytes, cache.max_age) == (None, None)


def test_a_sqlite_url_is_a_database(tmp_path: Path) -> None:
    cache = cache_from_url(f"sqlite://{tmp_path}/a%20cache?max_bytes=2G&max_age=60")
    assert isinstance(cache, SQLiteCache)
    assert cache.directory == f"{tmp_path}/a cache"
    assert (cache.max_bytes, cache.max_age) == (2 << 30, 60.0)
    for url in ("sqlite:", "sqlite://"):
        cache = cache_from_url(url)
        assert isinstance(cache, SQLiteCache)
        assert (cache.directory, cache.max_bytes) == (default_directory(), 1 << 30)


def test_a_memory_url_says_how_long_is_kept() -> None:
    cache = cache_from_url("memory:?max_age=0.5")
    assert isinstance(cache, MemoryCache)
    assert (cache.max_bytes, cache.max_age) == (DEFAULT_MAX_BYTES, 0.5)


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("", "names no cache known here: write sqlite:///path/to/folder, file:///"),
        ("http://localhost/0", "names no cache known here: write sqlite:///path/to/folder"),
        ("redis://localhost/0?speed=1", "unknown option 'speed' of a redis: URL; there are client"),
        ("redis://:a@host?speed=1&db=1&x=", "unknown options 'speed' and 'x' of a redis: URL"),
        ("redis://localhost?Speed=1", "unknown option of a redis: URL; there are client_name"),
        ("redis://localhost?timeout=soon", "timeout=soon"),
        ("redis://localhost?timeout=0", "number of seconds"),
        ("redis://localhost/first", "a number"),
        ("redis://localhost/0/1", "at most a database"),
        ("redis://one,two", "one server"),
        ("redis://localhost:99999", "host:port"),
        ("redis+cluster://localhost/0", "only one database"),
        ("redis+sentinel://localhost", "name of a service"),
        ("unix://localhost/socket", "three slashes"),
        ("unix://", "three slashes"),
        ("rediss://localhost?ssl_check_hostname=maybe", "true or false"),
        ("redis://localhost?prefix={", "hash tag"),
        ("C:\\cache", "names no cache"),
        (
            "/var/cache",
            (
                "^'/var/cache' is a path and no URL: write "
                "'sqlite:///var/cache' for a database there, or 'file:///var/cache' for files$"
            ),
        ),
        ("/var/a b?max_bytes=2G", "'file:///var/a%20b?max_bytes=2G' for files"),
        ("/var/c:d", "write 'sqlite:///var/c%3Ad' for"),
        ("relative/path", "/relative/path' for a database there"),
        ("~/cache", "/cache' for files"),
        ("memory", "'memory' names no cache known here: write sqlite:///"),
        ("file:", "three slashes"),
        ("file://", "three slashes"),
        ("file://host/path", "three slashes"),
        ("sqlite://host/path", "three slashes"),
        (
            "sqlite:///path?body=inside",
            "^unknown option 'body' of a sqlite: URL; there are max_age and max_bytes$",
        ),
        ("sqlite:///path?max_bytes=much", "no size"),
        ("file:///path?body=both", "body=both"),
        ("file:///path?max_size=1", "unknown option 'max_size' of a file: URL; there are body, "),
        (
            "FILE:///path?dirmode=0700&filemode&body=inside&x=1",
            (
                "^unknown options 'dirmode', 'filemode' and 'x' of a file: URL; "
                "there are body, max_age and max_bytes$"
            ),
        ),
        ("file:///path?dirmode=0700&max_bytes=much", "unknown option 'dirmode'"),
        ("file:///path?max_bytes=much", "no size"),
        ("file:///path?max_bytes=-1", "no size"),
        ("file:///path?max_bytes=", "no size"),
        ("file:///path?max_age=long", "a number of seconds"),
        ("file:///path?max_age=", "a number of seconds"),
        ("file:///path?max_age=-1", "a number of seconds"),
        ("file:///path?max_age=nan", "a number of seconds"),
        ("file:///path?max_age=1d", "a number of seconds"),
        ("memory:?max_age=-1", "a number of seconds"),
        ("memory:?max_age=long", "a number of seconds"),
        ("file:///path?body", "body="),
        ("file:///path#1", "'#' in a path is written %23"),
        ("file:///pa%00th", "can't be a path"),
        ("file://[::1/path", "no URL"),
        ("memory://host", "neither host nor path"),
        ("memory:path", "neither host nor path"),
        ("memory:?size=1", "unknown option 'size'"),
        ("memory:?max_bytes=", "no size"),
        ("memory:?max_bytes=lots", "no size"),
        ("memory:?max_bytes=-1", "no size"),
        ("memory:?max_bytes=0", "positive"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused(url: str, because: str) -> None:
    with pytest.raises(ConfigError, match=because.replace("?", "\\?").replace("(", "\\(")):
        cache_from_url(url)


@pytest.mark.parametrize("url", ["/var/a b", "/var/a#b", "/var/50%", "~/x", "relative"])
def test_what_is_to_be_written_for_a_path_names_it(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        cache_from_url(url)
    sqlite, file = re.findall("'([a-z]+://[^']*)'", str(caught.value))
    path = str(Path(url).expanduser().absolute())
    for written in (sqlite, file):
        assert cache_from_url(written).directory == path  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["file", "sqlite"])
@pytest.mark.parametrize("url", ["{}:///~/a%20b", "{}:~/a%20b", "{}:///%7E/a%20b", "{}:///~me/a b"])
def test_a_tilde_is_the_home_folder(
    scheme: str, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    me = pwd.getpwuid(os.getuid())
    home = me.pw_dir if "~me" in url else str(tmp_path)
    cache = cache_from_url(url.format(scheme).replace("~me", f"~{me.pw_name}"))
    assert cache.directory == f"{home}/a b"  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["file", "sqlite"])
def test_a_tilde_that_begins_no_path_is_one(scheme: str, tmp_path: Path) -> None:
    for path in (f"{tmp_path}/~", f"{tmp_path}/~/x", "/./~/x"):
        cache = cache_from_url(f"{scheme}://{path}")
        assert cache.directory == path  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["file", "sqlite"])
def test_a_home_that_nobody_knows_is_refused(scheme: str) -> None:
    with pytest.raises(ConfigError, match="~no-such-user: whose home that is"):
        cache_from_url(f"{scheme}:///~no-such-user/x")


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@host/0?x",
        "redis://user:secret@host/first",
        "redis://user:s@secret@host/first",
        "redis://user:secret@[::1/0",
        "redis://user:sec/secret@host",
        "redis://user:secret?secret@host",
        "redis://user:1?2/secret@host",
        "redis+sentinel://user:secret@host",
        "redis+cluster://:a/secret@host",
        "unix://:secret@host/socket",
        "memory://user:secret@host/?x=y",
        "memory://user:1?secret@host",
        "memory:?x=1&secret@host",
        "file://user:secret@host/path",
        "file://user:1?secret@host/path",
        "sqlite://user:secret@host/path?x=y",
        "redis://:1?x=1&secret@host",
        "redis://:1?secret#2@host",
        "user:secret@host/path",
        "rediss+clster://user:sec/secret@host",
        "postgres://user:s#secret@host/",
    ],
)
def test_no_error_tells_a_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cache_from_url(url)
    assert "secret" not in str(caught.value)


def test_whatever_names_a_cache_becomes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Classic:
        def get(self, key: str) -> bytes | None:
            return b"value of " + key.encode()

        def set(self, key: str, value: bytes) -> None: ...

        def delete(self, key: str) -> None: ...

    cache = MemoryCache()
    assert cache_of(cache) is cache
    assert isinstance(cache_of("memory:"), MemoryCache)
    assert isinstance(cache_of(tmp_path), SeparateBodyFileCache)
    assert cache_of(Classic()).get("key") == b"value of key"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    default = cache_of(None)
    assert isinstance(default, SQLiteCache)
    assert default.directory == default_directory()
    assert default_directory().startswith(str(tmp_path))
    # It grows no further than it may be expected to.
    assert default.max_bytes == 1 << 30


@pytest.mark.parametrize("thing", [5, object(), b"file:///path", {}])
def test_what_names_no_cache_is_refused(thing: Any) -> None:
    with pytest.raises(ConfigError):
        cache_of(thing)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64K", 64 * 1024),
        ("64k", 64 * 1024),
        (" 1.5 GiB ", 3 * 1024**3 // 2),
        ("2GB", 2 * 1024**3),
        ("10m", 10 * 1024**2),
        ("1T", 1024**4),
        ("7B", 7),
        ("0.5", 0),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "K", "-1", "1e3", "1,5K", "0x10", "1 P", "nan", "inf", "1.K", "\u0661", "1K2", "9" * 5000],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no size"):
        parse_size(text)


@pytest.mark.parametrize(
    "url",
    [
        "redis//user:s3cret@host/0",
        "//user:s3cret@host:6379/0",
        "redis/:s3cret@host",
        "host/0?password=s3cret",
    ],
)
def test_what_may_be_a_password_in_something_like_a_path_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="names no cache known here") as caught:
        cache_from_url(url)
    assert "s3cret" not in str(caught.value)
