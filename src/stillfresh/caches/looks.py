"""What the entry files looked like that were opened last.

Whoever validates a stored response opens its entry, asks the origin, and refreshes the entry; and
what is used once is used again. Where nobody has touched the file since, it is known how it was
reached and what stands in its head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stillfresh.caches.entryfiles import Look

# Of so many. Who comes back later reads the file again.
_LOOKS: Final = 32
# Of an entry with a longer key and metadata none is kept: half a megabyte for all.
_LONG: Final = 1 << 14


class Looks:
    """The last looks at the entry files of a cache, by name. Threads may share it."""

    def __init__(self) -> None:
        """Know nothing."""
        self._looks: dict[str, Look] = {}

    def note(self, name: str, look: Look) -> None:
        """Remember how a file was found."""
        if len(look.frame.key) + len(look.frame.metadata) > _LONG:
            return
        if len(self._looks) >= _LOOKS and name not in self._looks:
            self._looks.clear()
        self._looks[name] = look

    def last(self, name: str) -> Look | None:
        """Return the last look at a file."""
        return self._looks.get(name)
