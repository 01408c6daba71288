"""Of which host a stored response is, as people name hosts: with a port, or without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillfresh.rfc9111.keys import DEFAULT_PORTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stillfresh.caches.base import BaseCache, EntryInfo


def is_of_host(entry: EntryInfo, host: str) -> bool:
    """Tell whether an entry is of a host: of one of its ports if that is named, else of any.

    The default port of a scheme is not in a key (RFC 9110 §4.2.3), and may be named all the same.
    """
    name, port = _parts(host.lower())
    its_name, its_port = _parts(entry.host)
    if not name or name != its_name:
        return False
    if not port:
        return True
    scheme = (entry.key or "").partition(":")[0].lower()
    return port == (its_port or str(DEFAULT_PORTS.get(scheme, "")))


def entries_of_host(cache: BaseCache, host: str) -> Iterator[EntryInfo]:
    """List what is of a host, by the index of the cache where that is of use.

    Raises:
        StoreError: the cache failed.
    """
    name, port = _parts(host.lower())
    if not port:
        listed = cache.entries()
        yield from (entry for entry in listed if is_of_host(entry, host))
        return
    yield from cache.entries_of(f"{name}:{port}")
    if port in map(str, DEFAULT_PORTS.values()):
        yield from (entry for entry in cache.entries_of(name) if is_of_host(entry, host))


def _parts(host: str) -> tuple[str, str]:
    """Take a host and its port apart; the one of an address in brackets has colons of its own."""
    name, colon, port = host.rpartition(":")
    if colon and (not port or (port.isascii() and port.isdigit())) and not name.endswith(":"):
        return name, port
    return host, ""
