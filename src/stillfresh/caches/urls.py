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

A path whose first part is ~ or ~user, as in sqlite:///~/folder, is in that home. The other URLs of
Redis and Valkey are in `redisurls.py`: TLS, Unix sockets, Sentinel, Cluster.
"""

from __future__ import annotations

import os
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from stillfresh.caches.asynchronous import AsyncBaseCache
from stillfresh.caches.base import BaseCache
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.caches.foreign import ClassicCache, adapt
from stillfresh.caches.memory import DEFAULT_MAX_BYTES, MemoryCache
from stillfresh.caches.sqlite import DEFAULT_MAX_BYTES as SQLITE_MAX_BYTES
from stillfresh.caches.sqlite import SQLiteCache
from stillfresh.caches.urloptions import options_of
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
    if _is_path(url):
        raise ConfigError(_instead_of_a_path(url))
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
        msg = f"{_without_password(url)!r} names no cache known here: write {_EXAMPLES}"
        raise ConfigError(msg)
    return make(parts.netloc, parts.path, parts.query)


def _sqlite(netloc: str, path: str, query: str) -> BaseCache:
    folder = _folder("sqlite", netloc, path) if netloc or path else None
    options = options_of(query, _BOUNDS, "sqlite")
    size, age = options.get("max_bytes"), options.get("max_age")
    return SQLiteCache(
        folder,
        max_bytes=SQLITE_MAX_BYTES if size is None else parse_size(size),
        max_age=None if age is None else _seconds(age),
    )


def _folder(scheme: str, netloc: str, path: str) -> str:
    if netloc not in {"", "localhost"} or path in {"", "/"}:
        given = _without_password(f"{scheme}://{netloc}{path}")
        msg = f"{given}: write {scheme}:///path, with three slashes"
        raise ConfigError(msg)
    from urllib.request import url2pathname

    first, slash, below = path.removeprefix("/").partition("/")
    first = unquote(first)
    # Behind a scheme no shell has expanded it, and nobody means a folder of that name in the root.
    if first.startswith("~"):
        home = os.path.expanduser(first)
        if home == first:
            msg = f"{first}: whose home that is, nobody knows here; write the whole path"
            raise ConfigError(msg)
        return home + url2pathname(slash + below)
    return url2pathname(path)


def _file(netloc: str, path: str, query: str) -> BaseCache:
    folder = _folder("file", netloc, path)
    options = options_of(query, ("body", *_BOUNDS), "file")
    size, age = options.get("max_bytes"), options.get("max_age")
    max_bytes = None if size is None else parse_size(size)
    max_age = None if age is None else _seconds(age)
    match options.get("body", "apart"):
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


def _memory(netloc: str, path: str, query: str) -> BaseCache:
    if netloc or path:
        msg = "memory: has neither host nor path"
        raise ConfigError(msg)
    options = options_of(query, _BOUNDS, "memory")
    size, age = options.get("max_bytes"), options.get("max_age")
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
_BOUNDS: Final = ("max_bytes", "max_age")
_SCHEMES: Final[dict[str, Callable[[str, str, str], BaseCache]]] = {
    "file": _file,
    "memory": _memory,
    "sqlite": _sqlite,
}
_EXAMPLES: Final = (
    "sqlite:///path/to/folder, file:///path/to/folder, memory: or redis://host; also valkey://,"
    " rediss://, redis+sentinel://, redis+cluster:// and unix://"
)


def _is_path(url: str) -> bool:
    """Tell whether this is no URL, but the path of a folder."""
    scheme, colon, _ = url.partition(":")
    if not colon:
        return scheme.lower() not in {"", *_SCHEMES, *_OF_REDIS}
    return "/" in scheme


def _instead_of_a_path(path: str) -> str:
    """Say what to write instead."""
    if "@" in path or "password" in path.lower():
        # More likely a URL of Redis that lacks its colon.
        return f"that names no cache known here: write {_EXAMPLES}"
    from pathlib import Path

    folder, question, query = path.partition("?")
    absolute = os.path.abspath(os.path.expanduser(folder))
    written = Path(absolute).as_uri().removeprefix("file") + question + query
    return (
        f"{path!r} is a path and no URL: write 'sqlite{written}' for a database there, or"
        f" 'file{written}' for files"
    )


def _without_password(url: str) -> str:
    # Greedily: in a password that isn't quoted there may be anything.
    return re.sub(r"(//|^(?!.*//)).*@", r"\1***@", url, count=1, flags=re.DOTALL)
