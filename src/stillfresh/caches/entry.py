"""Entries: one committed version to read (`reading`), and the writer that makes one (`writing`).

Both are finished here once for every cache: lengths, digests, the states a writer can be in and
what happens to it after `fork()` or when it is forgotten.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from stillfresh.caches.coroutines import at_once, run
from stillfresh.caches.reading import Reading
from stillfresh.caches.writing import Writing

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from stillfresh.caches.expiry import Expires
    from stillfresh.caches.reading import BodySource
    from stillfresh.caches.writing import EntrySink

# The beginning of a URL: its scheme, and the authority.
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.ASCII | re.IGNORECASE)


def host_of(key: str) -> str:
    """Return the host of a key that is a URL, with its port; "" for all others."""
    url = _URL.match(key)
    if url is None:
        return ""
    host = url[1].rpartition("@")[2].lower()
    return host if host.isascii() else host.encode("ascii", "replace").decode()


class Entry:
    """One committed version: metadata and body that belong together.

    Attributes:
        metadata: the bytes kept beside the body; whole and checked.
        version: names this version; a cache's `update` swaps metadata of just this one.
        size: length of the body in bytes.
        has_body: whether a body was ever written; an empty one counts.
        expires_at: the moment it stops existing, in seconds since the epoch.
    """

    __slots__ = (
        "__weakref__",
        "_at",
        "_body",
        "_reading",
        "expires_at",
        "has_body",
        "metadata",
        "size",
        "version",
    )

    def __init__(
        self,
        metadata: bytes,
        *,
        version: str,
        size: int,
        source: BodySource | bytes,
        digest: bytes | None,
        has_body: bool = True,
        expires_at: float | None = None,
    ) -> None:
        """Describe a version; without a `digest` (another program's entry) nothing is checked.

        A source of bytes is the whole body, which has been checked already.
        """
        self.metadata = metadata
        self.version = version
        self.size = size
        self.has_body = has_body
        self.expires_at = expires_at
        # One of the two: a body that is here, and how far it was read; or how it comes here.
        self._at = 0
        if isinstance(source, bytes):
            self._body: bytes | None = source
            self._reading: Reading | None = None
        else:
            self._body = None
            self._reading = Reading(source, size, digest, at_once)

    def check(self) -> None:
        """Check as much of the body as can be known to be right before it is read.

        That is all of a body of up to 1 MiB; of a longer one its length, which is known.

        Raises:
            BodyLost: it is not what was written.
            ValueError: the entry is closed.
        """
        if self._body is None:
            reading = self._open_reading()
            if not reading.is_here():
                run(reading.check())

    def verify(self) -> None:
        """Check the whole body, whatever its size, in constant memory. It can be read after that.

        Raises:
            BodyLost: it is not what was written.
            ValueError: the entry is closed, or reading has begun.
        """
        self.check()
        if self._reading is not None and not self._reading.is_here():
            run(self._reading.verify())

    def read(self, size: int = -1, /) -> bytes:
        """Return the next `size` bytes of the body, all that are left if it is negative.

        Fewer bytes come back only at the end of the body, and then `b""`.

        Raises:
            BodyLost: the body is not what was written, or can't be read to its end.
            ValueError: the entry is closed.
        """
        body = self._body
        if body is None:
            reading = self._open_reading()
            return reading.take(size) if reading.is_here() else run(reading.read(size))
        start, end = self._at, len(body)
        if not start and (size < 0 or size >= end):
            self._at = end
            return body
        self._at = end if size < 0 else min(start + size, end)
        return body[start : self._at]

    def seek(self, offset: int, /) -> None:
        """Go on reading at `offset`, counted from the first byte.

        The whole body is checked before, since a part of it can't be.

        Raises:
            BodyLost: the body is not what was written.
            ValueError: the entry is closed, or there is no such byte.
        """
        if self._body is None:
            run(self._open_reading().seek(offset))
            return
        if not 0 <= offset <= self.size:
            msg = f"byte {offset} of {self.size}"
            raise ValueError(msg)
        self._at = offset

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` from the body and return how many bytes were written.

        Raises:
            BodyLost: as `read`.
        """
        with memoryview(buffer).cast("B") as view:
            chunk = self.read(len(view))
            view[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        """Let go of files and memory. May be called twice."""
        self._body = None
        if self._reading is not None:
            self._reading.close()

    def _open_reading(self) -> Reading:
        if self._reading is None:
            msg = "read of a closed entry"
            raise ValueError(msg)
        return self._reading

    def __enter__(self) -> Self:
        """Close the entry at the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the entry."""
        self.close()

    def __repr__(self) -> str:
        """Name the version and its size."""
        return f"<Entry {self.version} of {self.size} bytes>"


class EntryWriter:
    """Writes one entry, which nobody sees before `commit()`.

    Leaving the `with` block without a commit, or forgetting the writer, leaves no trace. One
    thread at a time may use it, and only the process that made it.
    """

    __slots__ = ("__weakref__", "_writing")

    def __init__(
        self,
        sink: EntrySink,
        *,
        version: str,
        clock: Callable[[], float],
        remove: Callable[[], object],
    ) -> None:
        """Write `version` to `sink`; `remove` drops what is stored under the key now."""
        self._writing = Writing(sink, version, clock, remove, None)

    @property
    def size(self) -> int:
        """The bytes of body written so far."""
        return self._writing.size

    def write(self, chunk: Buffer, /) -> None:
        """Append to the body. After an error the writer is aborted.

        Raises:
            StoreError: the backend failed.
            ValueError: the writer has ended.
        """
        run(self._writing.write(chunk))

    def commit(self, metadata: Buffer, *, expires: Expires = None) -> str:
        """Publish metadata and body together and return the new version.

        An entry without any `write` has no body. Where `expires` is already past, nothing is
        stored and what was stored under the key is removed.

        Raises:
            StoreError: the backend failed; nothing has changed.
            ValueError: the writer has ended.
        """
        return run(self._writing.commit(metadata, expires))

    def abort(self) -> None:
        """End without a trace. Does nothing after `commit()` or another `abort()`."""
        if self._writing.is_open:
            run(self._writing.abort())

    def __enter__(self) -> Self:
        """Abort at the end of the block unless it was committed."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Abort unless committed."""
        self.abort()

    def __del__(self) -> None:
        """Abort unless committed."""
        try:
            if self._writing.is_open:
                self.abort()
        except Exception:  # noqa: BLE001, S110 - at interpreter exit anything may be gone already
            pass


class EntryInfo(NamedTuple):
    """One line of a listing.

    Attributes:
        key: the key, or None where it can't be known (another program's entry).
        name: what the backend calls the entry.
        size: bytes it takes in the backend, body included.
        body_size: bytes of the body.
        stored_at: when it was written, seconds since the epoch.
        used_at: when it was last used, to within an hour.
        expires_at: when it stops existing, or None.
        foreign: another program wrote it.
    """

    key: str | None
    name: str
    size: int
    body_size: int
    stored_at: float
    used_at: float
    expires_at: float | None
    foreign: bool = False

    @property
    def host(self) -> str:
        """The host of a key that is a URL, with its port; "" for all others."""
        return "" if self.key is None else host_of(self.key)
