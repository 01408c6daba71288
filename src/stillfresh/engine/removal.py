"""Throwing out what is stored, because somebody says so: of a URL, or of a host.

The primary goes first, and with it goes all that only it leads to. Then the rest is looked for in a
listing, so that nothing is left to take up room. What is kept of invalidations (RFC 9111 §4.4) is
no response, and stays as long as there may be any that it is about: without it they would seem good
again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stillfresh.caches.base import host_of
from stillfresh.engine import records
from stillfresh.engine.flights import flights_for
from stillfresh.engine.hosts import entries_of_host
from stillfresh.errors import BodyLost, ConfigError, CorruptEntry
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.keys import first_of, is_mark, primary_of, search_key
from stillfresh.rfc9111.messages import Request
from stillfresh.rfc9111.policy import Policy
from stillfresh.rfc9111.search import reduced, search_variance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stillfresh.caches.base import BaseCache, EntryInfo
    from stillfresh.rfc9111.search import SearchVariance


@dataclass(frozen=True, slots=True)
class Removed:
    """What has been removed.

    Attributes:
        entries: how many.
        size: the bytes that they took, bodies included, as far as that is known.
    """

    entries: int = 0
    size: int = 0

    def __add__(self, other: Removed) -> Removed:
        """Count both."""
        return Removed(self.entries + other.entries, self.size + other.size)


def remove_url(cache: BaseCache, url: str, *, policy: Policy | None = None) -> Removed:
    """Remove what is stored for a URL: all variants, parts, and answers to contents.

    By No-Vary-Search one response may be stored for several URLs; then it goes for all of them.
    What this process has asked for before and gets later is not stored.

    Raises:
        ConfigError: the URL is no absolute URL with a host.
        StoreError: the cache failed; what was found first has been removed.
    """
    try:
        key = (policy or Policy()).primary_key(Request("GET", url, Fields()))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    others = list(_equivalent(cache, key))
    keys = {key, *(other for other, variance in others if _is_for_several(cache, other, variance))}
    removed = Removed()
    for primary in sorted(keys):
        flights_for(cache).invalidated(primary)
        removed += _remove(cache, primary, _size(cache, primary))
    listing = [
        (listed.key, listed.size)
        for listed in cache.entries_of(host_of(key))
        if listed.key is not None and not is_mark(listed.key)
    ]
    # Answers to contents, which no response without one needs to be beside.
    keys |= {
        first
        for first in {first_of(known) for known, _ in listing}
        for other, variance in others
        if first.startswith(f"{other}#") and _is_for_several(cache, first, variance)
    }
    for known, size in listing:
        if primary_of(known) in keys or first_of(known) in keys:
            removed += _remove(cache, known, size)
    return removed


def remove_host(cache: BaseCache, host: str) -> Removed:
    """Remove what is stored of a host: of one of its ports if that is named, else of all of them.

    Another program's entries stay: they don't say whose they are.

    Raises:
        ConfigError: it is no host, but "", as of all that has no URL.
        StoreError: the cache failed; what was found first has been removed.
    """
    if not host:
        msg = "no host is named"
        raise ConfigError(msg)
    removed = Removed()
    marks: list[EntryInfo] = []
    for listed in entries_of_host(cache, host):
        if listed.key is None:
            continue
        if is_mark(listed.key):
            # As long as there is anything that they are about, they are needed.
            marks.append(listed)
        else:
            removed += _remove(cache, listed.key, listed.size)
    for mark in marks:
        removed += _remove(cache, mark.key or "", mark.size)
    return removed


def _equivalent(cache: BaseCache, key: str) -> Iterator[tuple[str, SearchVariance]]:
    """Return other primary keys that may be for this URL too, by which No-Vary-Search."""
    if "?" not in key:
        return
    index = _metadata(cache, search_key(key))
    for value in index.decode("utf-8", "replace").split("\n"):
        variance = search_variance(value)
        if variance is not None and (other := reduced(key, variance)) != key:
            yield other, variance


def _is_for_several(cache: BaseCache, key: str, variance: SearchVariance) -> bool:
    """Tell whether what is under a key says so itself."""
    with suppress(CorruptEntry):
        fields = records.decode(_metadata(cache, key)).response.fields
        return search_variance(fields.get("no-vary-search")) == variance
    return False


def _metadata(cache: BaseCache, key: str) -> bytes:
    """Return what is there; what is damaged says as little as what is not there."""
    with suppress(BodyLost, CorruptEntry):
        entry = cache.peek(key)
        if entry is not None:
            with entry:
                return entry.metadata
    return b""


def _size(cache: BaseCache, key: str) -> int:
    try:
        entry = cache.peek(key)
    except (BodyLost, CorruptEntry):
        # It has to go all the more.
        return 0
    if entry is None:
        return 0
    with entry:
        return len(entry.metadata) + entry.size


def _remove(cache: BaseCache, key: str, size: int) -> Removed:
    return Removed(1, size) if cache.remove(key) else Removed()
