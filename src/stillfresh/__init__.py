"""stillfresh: a persistent HTTP response cache with pluggable storage.

    from stillfresh.clients.requests import CachedSession

    session = CachedSession()
    session.get("https://example.org/").from_cache

Clients are in `stillfresh.clients`, one module for each library. Here are the caches, the policy,
the errors and the events.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from stillfresh.caches.base import BaseCache, Entry, EntryInfo, EntryWriter, SeparateBodyBaseCache
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.caches.foreign import adapt
from stillfresh.caches.memory import DictCache, MemoryCache
from stillfresh.caches.pruning import DryRun, PruneReport, Repair, Stats, VerifyReport
from stillfresh.caches.rows import Order
from stillfresh.caches.sqlite import SQLiteCache
from stillfresh.caches.urls import cache_from_url
from stillfresh.engine.answers import CacheInfo, Outcome
from stillfresh.engine.contents import Content, describe
from stillfresh.engine.hosts import is_of_host
from stillfresh.engine.inspection import (
    Explanation,
    Inspection,
    Variant,
    Verdict,
    explain,
    inspect_url,
    open_variant,
)
from stillfresh.engine.removal import Removed, remove_host, remove_url
from stillfresh.errors import (
    BodyLost,
    CacheClosed,
    CacheError,
    CacheFull,
    CacheUnavailable,
    ConfigError,
    CorruptEntry,
    StoreError,
)
from stillfresh.rfc9111.decisions import Reason, Why
from stillfresh.rfc9111.policy import Policy
from stillfresh.rfc9111.rules import ExpiresAfter, LastModified, OneDayCache, Rule

__all__ = [
    "AsyncRedisCache",
    "BaseCache",
    "BodyLost",
    "CacheClosed",
    "CacheError",
    "CacheFull",
    "CacheInfo",
    "CacheUnavailable",
    "ConfigError",
    "Content",
    "CorruptEntry",
    "DictCache",
    "DryRun",
    "Entry",
    "EntryInfo",
    "EntryWriter",
    "ExpiresAfter",
    "Explanation",
    "FileCache",
    "Inspection",
    "LastModified",
    "MemoryCache",
    "OneDayCache",
    "Order",
    "Outcome",
    "Policy",
    "PruneReport",
    "Reason",
    "RedisCache",
    "Removed",
    "Repair",
    "Rule",
    "SQLiteCache",
    "SeparateBodyBaseCache",
    "SeparateBodyFileCache",
    "Stats",
    "StoreError",
    "Variant",
    "Verdict",
    "VerifyReport",
    "Why",
    "__version__",
    "adapt",
    "cache_from_url",
    "describe",
    "explain",
    "inspect_url",
    "is_of_host",
    "open_variant",
    "remove_host",
    "remove_url",
]

if _TYPE_CHECKING:
    from stillfresh.caches.redis import AsyncRedisCache, RedisCache

    __version__: str
else:

    def __getattr__(name: str) -> object:
        """Look up what takes longer than all other imports, when it is asked for."""
        if name == "__version__":
            from importlib.metadata import version

            return version("stillfresh")
        if name in {"AsyncRedisCache", "RedisCache"}:
            from stillfresh.caches import redis

            return getattr(redis, name)
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message, name=name)
