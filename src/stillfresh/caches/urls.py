"""A cache from a URL, and the one to use where nobody says.

sqlite:///path/to/folder               SQLiteCache
sqlite:///path/to/folder?max_bytes=2G  SQLiteCache(..., max_bytes=2 * 1024**3)
sqlite:                                SQLiteCache(), in the platform's cache folder
file:///path/to/folder                 SeparateBodyFileCache
file:///path/to/folder?body=inside     FileCache
memory:                                MemoryCache
memory:?max_bytes=64M                  MemoryCache(max_bytes=64 * 1024**2)
redis://host:6379/0                    RedisCache, with names that begin with "stillfresh:"
redis://host?prefix=app:&timeout=0.1   RedisCache(..., prefix="app:", timeout=0.1)

The other URLs of Redis and Valkey are in `redisurls.py`: TLS, Unix sockets, Sentinel, Cluster.
"""

from __future__ import annotations

import os
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from stillfresh.caches.asynchronous import AsyncBaseCache
from stillfresh.caches.base import BaseCache
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.caches.foreign import ClassicCache, adapt
from stillfresh.caches.memory import DEFAULT_MAX_BYTES, MemoryCache
from stillfresh.caches.sqlite import DEFAULT_MAX_BYTES as SQLITE_MAX_BYTES
from stillfresh.caches.sqlite import SQLiteCache
from stillfresh.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

CacheLike: TypeAlias = BaseCache | ClassicCache | str | os.PathLike[str]
"""A cache, an object to `adapt`, a URL, or the path of a folder."""

_SIZE: Final = re.compile(
    r"(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE | re.ASCII
)
_UNITS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int:
    """Read a number of bytes: `4096`, `64K`, `1.5 GiB`. Units are powers of 1024.

    Raises:
        ConfigError: it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        msg = f"{text!r} is no size; write 4096, 64K, 500M or 2G"
        raise ConfigError(msg)
    return int(Fraction(match[1]) * 1024 ** _UNITS[match[2].lower()])


def cache_of(cache: CacheLike | None) -> BaseCache:
    """Make a cache of whatever the user named; None is the default.

    Raises:
        ConfigError: it can't be made sense of.
    """
    if cache is None:
        return SQLiteCache()
    if isinstance(cache, BaseCache):
        return cache
    if isinstance(cache, str):
        return cache_from_url(cache)
    if isinstance(cache, os.PathLike):
        return SeparateBodyFileCache(cache)
    return adapt(cache)


def async_cache_of(cache: CacheLike | AsyncBaseCache | None) -> BaseCache | AsyncBaseCache:
    """Make a cache for an event loop of whatever the user named.

    That is one to be awaited where a URL names Redis. Others are used as they are: a local one
    answers sooner than a loop turns.

    Raises:
        ConfigError: it can't be made sense of.
    """
    if isinstance(cache, AsyncBaseCache):
        return cache
    if isinstance(cache, str) and cache.partition(":")[0].lower() in _OF_REDIS:
        from stillfresh.caches.redis import AsyncRedisCache

        return AsyncRedisCache.from_url(cache)
    return cache_of(cache)


def cache_from_url(url: str) -> BaseCache:
    """Make a cache from a URL.

    Raises:
        ConfigError: the scheme, an option or its value is unknown.
    """
    if url.partition(":")[0].lower() in _OF_REDIS:
        from stillfresh.caches.redis import RedisCache

        return RedisCache.from_url(url)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        msg = f"{_without_password(url)!r} is no URL: {error}"
        raise ConfigError(msg) from error
    if parts.fragment:
        msg = f"{_without_password(url)!r}: a '#' in a path is written %23"
        raise ConfigError(msg)
    make = _SCHEMES.get(parts.scheme)
    if make is None:
        known = ", ".join(f"{scheme}:" for scheme in (*_SCHEMES, *_OF_REDIS))
        msg = f"{_without_password(url)!r} names no cache known here; there are {known}"
        if "://" not in url:
            msg += f" (for a folder: {_as_file_url(url)!r})"
        raise ConfigError(msg)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    cache = make(parts.netloc, parts.path, options)
    if options:
        msg = f"{_without_password(url)!r}: unknown option {next(iter(options))!r}"
        raise ConfigError(msg)
    return cache


def _sqlite(netloc: str, path: str, options: dict[str, str]) -> BaseCache:
    folder = _folder("sqlite", netloc, path) if netloc or path else None
    size, age = options.pop("max_bytes", None), options.pop("max_age", None)
    return SQLiteCache(
        folder,
        max_bytes=SQLITE_MAX_BYTES if size is None else parse_size(size),
        max_age=None if age is None else _seconds(age),
    )


def _folder(scheme: str, netloc: str, path: str) -> str:
    if netloc not in {"", "localhost"} or path in {"", "/"}:
        msg = f"{scheme}://{netloc}{path}: write {scheme}:///path, with three slashes"
        raise ConfigError(msg)
    from urllib.request import url2pathname

    return url2pathname(path)


def _file(netloc: str, path: str, options: dict[str, str]) -> BaseCache:
    folder = _folder("file", netloc, path)
    size, age = options.pop("max_bytes", None), options.pop("max_age", None)
    max_bytes = None if size is None else parse_size(size)
    max_age = None if age is None else _seconds(age)
    match options.pop("body", "apart"):
        case "apart":
            return SeparateBodyFileCache(folder, max_bytes=max_bytes, max_age=max_age)
        case "inside":
            return FileCache(folder, max_bytes=max_bytes, max_age=max_age)
        case other:
            msg = f"body={other}: write body=apart or body=inside"
            raise ConfigError(msg)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        msg = f"max_age={text}: write a number of seconds"
        raise ConfigError(msg) from None


def _memory(netloc: str, path: str, options: dict[str, str]) -> BaseCache:
    if netloc or path:
        msg = "memory: has neither host nor path"
        raise ConfigError(msg)
    size, age = options.pop("max_bytes", None), options.pop("max_age", None)
    return MemoryCache(
        max_bytes=DEFAULT_MAX_BYTES if size is None else parse_size(size),
        max_age=None if age is None else _seconds(age),
    )


_OF_REDIS: Final = (
    *(
        f"{name}{tls}{kind}"
        for name in ("redis", "valkey")
        for tls in ("", "s")
        for kind in ("", "+cluster", "+sentinel")
    ),
    "unix",
)
_SCHEMES: Final[dict[str, Callable[[str, str, dict[str, str]], BaseCache]]] = {
    "file": _file,
    "memory": _memory,
    "sqlite": _sqlite,
}


def _as_file_url(path: str) -> str:
    return "file://" + os.path.abspath(path)


def _without_password(url: str) -> str:
    # Greedily: in a password that isn't quoted there may be anything.
    return re.sub(r"//.*@", "//***@", url, flags=re.DOTALL)
