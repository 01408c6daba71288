"""Sessions to compare: requests alone, with stillfresh, and with CacheControl."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import requests

import stillfresh
from stillfresh.clients.requests import CachedSession

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stillfresh.caches.base import BaseCache

OURS: Final[dict[str, Callable[[Path], BaseCache]]] = {
    "stillfresh FileCache": stillfresh.FileCache,
    "stillfresh SeparateBodyFileCache": stillfresh.SeparateBodyFileCache,
    "stillfresh MemoryCache": lambda _: stillfresh.MemoryCache(),
}
# Compared with caches in files where it is measured what a client adds; else in `sqlite`.
DATABASE: Final = "stillfresh SQLiteCache"
THEIRS: Final = ("CacheControl FileCache", "CacheControl SeparateBodyFileCache")


def their_cache(name: str, place: Path) -> Any:
    from cachecontrol.caches import file_cache

    kind = file_cache.FileCache if name == THEIRS[0] else file_cache.SeparateBodyFileCache
    return kind(str(place))


def without_environment(session: requests.Session) -> requests.Session:
    """Look for proxies nowhere: it costs all the same, and drowns the differences."""
    session.trust_env = False
    return session


def session_with(name: str, place: Path) -> requests.Session:
    """Return a session that caches below `place`, in a directory named after it."""
    place /= name.replace(" ", "-")
    session: requests.Session
    if name == DATABASE:
        session = CachedSession(stillfresh.SQLiteCache(place))
    elif name in OURS:
        session = CachedSession(OURS[name](place))
    else:
        from cachecontrol import CacheControlAdapter

        session = requests.Session()
        session.mount("http://", CacheControlAdapter(their_cache(name, place)))
    return without_environment(session)
