"""Remembering what was found out about a text, in so much memory and no more.

`functools.lru_cache` counts what it keeps, however long that is; but the texts here are fields and
URLs, and whoever sends those may send a thousand, each as long as a head can be. So there is room
for a number of characters instead. What takes too much of it is found out each time; when it is
used up all is forgotten, since what is in use comes again at once.

What remembers is a dictionary that finds out what it doesn't have. A hit of that costs half of what
one of `lru_cache` does (40 ns for 80), where looking at the length in Python first would add 50.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

K = TypeVar("K", bound="str | tuple[str, ...]")
V = TypeVar("V")

# Several hundred fields as they usually are. Read, a list of short names takes sixty times as much
# as its text: 2 MiB, if somebody is at it.
_ROOM: Final = 1 << 15
# One text gets a 32nd of the room, about 1 KiB: longer ones are rare, and may not displace others.
_PARTS: Final = 32
# What a text takes beside its characters, of the room: its entry, and objects of their own.
_EACH: Final = 32
# From so many characters on a digest is shorter than a text by far.
_BRIEF: Final = 256


def remembered(room: int = _ROOM) -> Callable[[Callable[[K], V]], Callable[[K], V]]:
    """Have a function that always says the same of a text, or of several, remember what it said.

    There is `room` for so many characters. What it raises isn't remembered.
    """

    def remembering(find: Callable[[K], V]) -> Callable[[K], V]:
        return _Remembered(find, room).__getitem__

    return remembering


def brief(text: str) -> str:
    """Return what stands for a text where it would be kept: a digest, if it is long."""
    if len(text) <= _BRIEF:
        return text
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class _Remembered(dict[K, V]):
    __slots__ = ("_find", "_left", "_room")

    def __init__(self, find: Callable[[K], V], room: int) -> None:
        self._find = find
        self._room = self._left = room

    def __missing__(self, text: K) -> V:
        found = self._find(text)
        size = _EACH + (len(text) if isinstance(text, str) else _together(text))
        if size <= self._room // _PARTS:
            # Threads that do this at the same time count wrong, by no more than an entry each.
            left = self._left - size
            if left < 0:
                self.clear()
                left = self._room - size
            self._left = left
            self[text] = found
        return found


def _together(texts: tuple[str, ...]) -> int:
    return sum(map(len, texts)) + _EACH * len(texts)
