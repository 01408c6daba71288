"""Our caches in the place of CacheControl's: one import changes.

    from stillfresh.integrations.cachecontrol import FileCache  # was: cachecontrol.caches

    session = CacheControl(requests.Session(), cache=FileCache(".web"))

Each class is one of ours and of CacheControl's base class too, which its controller asks for. So
the same object is bounded, listed, pruned and verified as any of ours, and our own clients take it
as well. An existing directory stays warm.

CacheControl makes a response of whatever a cache answers: where the body of a pair is missing, an
empty one. So what can't be a whole response is refused here, where that can be told: a record that
is damaged, one beside a body of another length, one whose body is gone.

In two matters these follow CacheControl and not the rest of stillfresh. `close()` ends nothing,
because a session closes its cache though others may share it. And `directory`, `filemode` and
`dirmode` may be assigned to.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Final

from stillfresh.caches import file, memory, redis, theirs
from stillfresh.caches.base import BaseCache, Entry, Expires, as_bytes
from stillfresh.caches.directory import Directory
from stillfresh.caches.entryfiles import FOREIGN, file_name
from stillfresh.errors import CorruptEntry, StoreError

try:
    from cachecontrol import cache as classic
    from cachecontrol.controller import CacheController
except ImportError as error:
    msg = f"{__name__} needs CacheControl: pip install 'stillfresh[cachecontrol]'"
    raise ImportError(msg) from error

try:
    from filelock import FileLock
except ImportError:
    FileLock = None  # type: ignore[assignment, misc]

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from typing_extensions import Buffer

__all__ = ["DictCache", "FileCache", "RedisCache", "SeparateBodyFileCache", "url_to_file_path"]

# How much of a body is copied at once.
_STEP: Final = 1 << 20
# What says where entries are and how they are made.
_PLACE: Final = ("directory", "filemode", "dirmode")


class _Alone(BaseCache):
    """A cache whose values are whole responses: it is asked for no bodies."""

    def get(self, key: str) -> bytes | None:
        """Return the value under `key`; None where its body is kept apart from it."""
        try:
            entry = self.open(key)
        except StoreError as error:
            self._swallow("get", key, error)
            return None
        if entry is None:
            return None
        with entry:
            return None if entry.has_body else entry.metadata

    def close(self) -> None:
        """Do nothing: another session may share the cache."""


class _InDirectory(file.DirectoryCache):
    """What CacheControl's file caches have in common beside their constructor."""

    encode = staticmethod(file_name)

    def _fn(self, name: str) -> str:
        """Return the path of the entry file of a key, as `path` does."""
        return self.path(name)

    @property
    def lock_class(self) -> Callable[[str], Any] | None:
        """The class that was given, or where none was, filelock's `FileLock` if that is installed.

        Only one that was given is ever used: nothing here needs a lock.
        """
        return self._lock_class or FileLock

    @lock_class.setter
    def lock_class(self, lock_class: Callable[[str], Any] | None) -> None:
        self._lock_class = self._present.lock_class = lock_class

    def __setattr__(self, name: str, value: Any) -> None:
        """Go elsewhere when what says where is assigned to.

        Raises:
            ConfigError: as the constructor; nothing has changed.
        """
        if name in _PLACE and "_pruner" in vars(self):
            # What a thread has set belongs where the cache was then.
            self._check_open()
            place = {each: getattr(self, each) for each in _PLACE} | {name: value}
            self._tree = Directory(place.pop("directory"), trusted=self._trusted, **place)
            self._begin()
        super().__setattr__(name, value)

    def _open_foreign(self, name: str, data: bytes, fd: int, status: os.stat_result) -> Entry:
        return _whole(super()._open_foreign(name, data, fd, status))


# Theirs doesn't say whether `delete` has removed anything: that is what mypy has against the bases.


class FileCache(_InDirectory, _Alone, file.FileCache, classic.BaseCache):  # type: ignore[misc]
    """In the place of `cachecontrol.caches.FileCache`: one file an entry, body included.

    The arguments are those of `stillfresh.FileCache`, the first five of them CacheControl's.
    """


class SeparateBodyFileCache(  # type: ignore[misc]
    _InDirectory, file.SeparateBodyFileCache, classic.SeparateBodyBaseCache
):
    """In the place of `cachecontrol.caches.SeparateBodyFileCache`, and of pip's `SafeFileCache`.

    The arguments are those of `stillfresh.SeparateBodyFileCache`, the first five of them
    CacheControl's.
    """

    def open(self, key: str) -> Entry | None:
        """Follow the entry file to the version it names; a record without its body is refused."""
        entry = super().open(key)
        return entry if entry is None or entry.size else _whole(entry)

    def update(self, key: str, metadata: Buffer, *, version: str, expires: Expires = None) -> bool:
        """Swap the metadata of exactly `version`; a pair of another program's is written anew.

        That isn't one step: what others store in the moment before its end is lost.
        """
        if super().update(key, metadata, version=version, expires=expires):
            return True
        entry = self.open(key) if version.startswith(FOREIGN) else None
        if entry is None:
            return False
        with entry:
            if not entry.has_body or entry.version != version:
                return False
            return self._write_anew(key, entry, as_bytes(metadata), expires)

    # Of other programs' entries the engine makes its own.
    swap = file.SeparateBodyFileCache.swap

    def _write_anew(self, key: str, entry: Entry, metadata: bytes, expires: Expires) -> bool:
        with self.writer(key) as writer:
            writer.write(b"")
            while chunk := entry.read(_STEP):
                writer.write(chunk)
            present = self.open(key)
            if present is None:
                return False
            present.close()
            if present.version != entry.version:
                return False
            writer.commit(metadata, expires=expires)
        return True

    def set_body_from_io(self, key: str, body_file: IO[bytes]) -> None:
        """Publish what is in a file together with the value that this thread has `set`."""
        self.set_body(key, body_file)

    def close(self) -> None:
        """Let what was set take effect, and no more: another session may share the cache."""
        self._pairing.close()


class DictCache(_Alone, memory.MemoryCache, classic.BaseCache):  # type: ignore[misc]
    """In the place of `cachecontrol.cache.DictCache`: in memory, and bounded by `max_bytes`.

    The arguments are those of `stillfresh.MemoryCache`. Values are bytes; `init_dict` is copied.
    """


class RedisCache(_Alone, redis.RedisCache, classic.BaseCache):  # type: ignore[misc]
    """In the place of `cachecontrol.caches.RedisCache`: what that has stored can be read.

    The arguments are those of `stillfresh.RedisCache`; the first is CacheControl's. As there,
    without a `prefix` the whole database is the cache, and `clear()` empties it.

    Attributes:
        conn: the client that was given.
    """

    def __init__(self, conn: Any, **options: Any) -> None:
        """Use the server of a client of redis-py or valkey-py, which is never closed."""
        super().__init__(conn, **options)
        self.conn = conn


def url_to_file_path(url: str, filecache: FileCache | SeparateBodyFileCache) -> str:
    """Return the path where a response of `url` is kept, if there is one."""
    return filecache.path(CacheController.cache_url(url))


def _whole(entry: Entry) -> Entry:
    """Return an entry that may be a whole response, as far as a record of CacheControl's tells.

    Raises:
        CorruptEntry: it can't be; it has been closed.
    """
    problem = theirs.problem(entry)
    if problem is None:
        return entry
    entry.close()
    raise CorruptEntry(problem)
