"""A cache that fails when it is told to.

It stands in front of any other and passes everything on, but for the calls that a `Fault` names.
What it raises is what a backend would raise there, so a test can see what its callers make of a
full disk at the commit or of a body that ends in the middle.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from stillfresh.caches.base import (
    BaseCache,
    Claim,
    Entry,
    EntryInfo,
    EntryWriter,
    Expires,
    SeparateBodyBaseCache,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

    from stillfresh.errors import StoreError


class Operation(Enum):
    """What can be made to fail."""

    OPEN = "open"
    CHECK = "check"
    READ = "read"
    WRITER = "writer"
    WRITE = "write"
    COMMIT = "commit"
    UPDATE = "update"
    REMOVE = "remove"
    CLEAR = "clear"
    ENTRIES = "entries"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        operation: the call that fails, without having done anything.
        error: what it raises.
        nth: only the n-th call of the operation fails, counted from 1 over the cache's life; None
            is each.
        at_byte: only a `READ` or a `WRITE` of this byte of a body fails, counted from 0; None is
            any, and any number of bytes.
    """

    operation: Operation
    error: type[StoreError]
    nth: int | None = None
    at_byte: int | None = None

    def strikes(self, operation: Operation, call: int, first: int, end: int) -> bool:
        """Tell whether a call fails that is the `call`-th, on the bytes from `first` to `end`."""
        return (
            operation is self.operation
            and (self.nth is None or self.nth == call)
            and (self.at_byte is None or first <= self.at_byte < end)
        )


class _Faults:
    """Counts calls and raises what is due."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.planned = list(faults)
        # A count needs no lock, which a child after fork() might inherit locked.
        self._calls = {operation: itertools.count(1) for operation in Operation}

    def meet(self, operation: Operation, first: int = 0, end: int = 0) -> None:
        call = next(self._calls[operation])
        for fault in list(self.planned):
            if fault.strikes(operation, call, first, end):
                msg = f"{operation.value} number {call} was made to fail"
                raise fault.error(msg)


class FaultyCache(BaseCache):
    """Passes everything on to another cache, and fails where a fault says so.

        FaultyCache(MemoryCache(), [Fault(Operation.COMMIT, CacheFull)])
        FaultyCache(MemoryCache(), [Fault(Operation.READ, BodyLost, at_byte=100_000)])

    Attributes:
        inner: the cache that does the work.
        faults: what goes wrong from now on; the list may be changed at any time.
    """

    def __init__(
        self,
        inner: BaseCache,
        faults: Iterable[Fault] = (),
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Fail by `faults`; those that come first are looked at first."""
        super().__init__(clock=clock)
        self.inner = inner
        self._faults = _Faults(faults)
        self.faults = self._faults.planned

    def __repr__(self) -> str:
        """Name what it stands in front of."""
        return f"{type(self).__name__}({self.inner!r})"

    def open(self, key: str) -> Entry | None:
        """Open, or fail at `OPEN`; what is returned fails at `CHECK` and `READ`."""
        self._check_open()
        self._faults.meet(Operation.OPEN)
        entry = self.inner.open(key)
        return None if entry is None else _FaultyEntry(entry, self._faults)

    def writer(self, key: str) -> EntryWriter:
        """Begin a version, or fail at `WRITER`; what is returned fails at `WRITE` and `COMMIT`."""
        self._check_open()
        self._faults.meet(Operation.WRITER)
        return _FaultyWriter(self.inner.writer(key), self._faults)

    def update(self, key: str, metadata: Buffer, *, version: str, expires: Expires = None) -> bool:
        """Swap metadata, or fail at `UPDATE`."""
        self._check_open()
        self._faults.meet(Operation.UPDATE)
        return self.inner.update(key, metadata, version=version, expires=expires)

    def swap(
        self, key: str, old: Buffer, new: Buffer, *, version: str, expires: Expires = None
    ) -> bool:
        """Swap metadata, or fail at `UPDATE`."""
        self._check_open()
        self._faults.meet(Operation.UPDATE)
        return self.inner.swap(key, old, new, version=version, expires=expires)

    def remove(self, key: str) -> bool:
        """Remove, or fail at `REMOVE`."""
        self._check_open()
        self._faults.meet(Operation.REMOVE)
        return self.inner.remove(key)

    def entries(self) -> Iterator[EntryInfo]:
        """List, or fail at `ENTRIES`."""
        self._check_open()
        self._faults.meet(Operation.ENTRIES)
        yield from self.inner.entries()

    @property
    def place(self) -> str | None:
        """Where the other cache has its entries."""
        return self.inner.place

    def claim(self, key: str, seconds: float) -> Claim | None:
        """Claim what the other cache lets be claimed."""
        self._check_open()
        return self.inner.claim(key, seconds)

    def clear(self) -> None:
        """Clear, or fail at `CLEAR`."""
        self._check_open()
        self._faults.meet(Operation.CLEAR)
        self.inner.clear()

    def close(self) -> None:
        """Close the other cache too."""
        super().close()
        self.inner.close()


class FaultySeparateBodyCache(FaultyCache, SeparateBodyBaseCache):
    """A `FaultyCache` with `get_body` and `set_body`; these run into the same faults."""


class _Onward:
    """The body of another entry, read in its order or from where that is told to go on."""

    __slots__ = ("_entry", "at")

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self.at = 0

    def read_at(self, offset: int, size: int) -> bytes:
        if offset != self.at:
            self._entry.seek(offset)
        chunk = self._entry.read(size)
        self.at = offset + len(chunk)
        return chunk

    def close(self) -> None:
        self._entry.close()


class _FaultyEntry(Entry):
    __slots__ = ("_faults", "_inner", "_onward", "_read")

    def __init__(self, inner: Entry, faults: _Faults) -> None:
        self._onward = _Onward(inner)
        super().__init__(
            inner.metadata,
            version=inner.version,
            size=inner.size,
            source=self._onward,
            digest=None,  # the other entry checks
            has_body=inner.has_body,
            expires_at=inner.expires_at,
        )
        self._inner = inner
        self._faults = faults
        self._read = 0

    def check(self) -> None:
        self._faults.meet(Operation.CHECK)
        self._inner.check()

    def verify(self) -> None:
        self._faults.meet(Operation.CHECK)
        self._inner.verify()

    def seek(self, offset: int, /) -> None:
        self._faults.meet(Operation.CHECK)
        # At once, since the other entry checks all of the body before.
        self._inner.seek(offset)
        super().seek(offset)
        self._onward.at = self._read = offset

    def read(self, size: int = -1, /) -> bytes:
        left = self.size - self._read
        self._faults.meet(
            Operation.READ, self._read, self._read + (left if size < 0 else min(size, left))
        )
        chunk = super().read(size)
        self._read += len(chunk)
        return chunk


class _FaultyWriter(EntryWriter):
    """Has nothing of its own: all state is in the writer behind it."""

    __slots__ = ("_faults", "_inner")

    def __init__(self, inner: EntryWriter, faults: _Faults) -> None:
        self._inner = inner
        self._faults = faults

    @property
    def size(self) -> int:
        return self._inner.size

    def write(self, chunk: Buffer, /) -> None:
        self._meet(Operation.WRITE, self.size, self.size + memoryview(chunk).nbytes)
        self._inner.write(chunk)

    def commit(self, metadata: Buffer, *, expires: Expires = None) -> str:
        self._meet(Operation.COMMIT)
        return self._inner.commit(metadata, expires=expires)

    def abort(self) -> None:
        self._inner.abort()

    def __exit__(self, *exc: object) -> None:
        self.abort()

    def _meet(self, operation: Operation, first: int = 0, end: int = 0) -> None:
        try:
            self._faults.meet(operation, first, end)
        except BaseException:
            self.abort()
            raise
