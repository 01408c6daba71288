"""What can go wrong, and who has to care.

A `StoreError` means that a cache failed to do its part: the request can go on without it. Wrong use
(`ConfigError`, `CacheClosed`) is the caller's to fix and is always raised.
"""

from __future__ import annotations


class CacheError(Exception):
    """Everything stillfresh raises on purpose."""


class StoreError(CacheError):
    """A cache could not do what it was asked; the cause is in `__cause__`."""


class CorruptEntry(StoreError):
    """What was found under a key is damaged, truncated or somebody else's."""


class BodyLost(StoreError, OSError):
    """A body stopped being readable, or turned out to be wrong, before its end.

    It is an `OSError` too, since it reaches whoever reads the body as a file.
    """


class CacheFull(StoreError):
    """There was no room: a full disk, a quota, a size limit."""


class CacheUnavailable(StoreError):
    """The backend could not be reached or used at all.

    Attributes:
        outage: is the same in all errors of one outage, which is told of once; None where the
            cache doesn't know.
    """

    outage: object = None


class ConfigError(CacheError, ValueError):
    """An option, a URL or a directory that cannot be used as given."""


class CacheClosed(CacheError):
    """The cache was used after `close()`."""
