"""What was read last, so that it need not be read again by who comes back in a moment.

Whoever validates a stored response opens its entry, asks the origin, and refreshes the entry; and
what is used once is used again. What is remembered may have changed since: that is for its user to
see.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

# Of so many entries. Who comes back later reads again.
_MANY: Final = 32
# Of one that is longer nothing is kept: half a megabyte for all.
_LONG: Final = 1 << 14


class Lately(Generic[K, V]):
    """What was read of the last entries of a cache, by name. Threads may share it."""

    def __init__(self) -> None:
        """Know nothing."""
        self._read: dict[K, V] = {}

    def note(self, name: K, read: V, size: int) -> None:
        """Remember what was read of an entry, which takes so many bytes."""
        if size > _LONG:
            return
        if len(self._read) >= _MANY and name not in self._read:
            self._read.clear()
        self._read[name] = read

    def last(self, name: K) -> V | None:
        """Return what was read last, if that is remembered."""
        return self._read.get(name)
