"""What one cache on Redis has claimed, in this process.

On the server a claim is a key that names its holder, and that expires. Here it is known who has
which, so that nobody waits for a claim of its own process's, and what is stored ends the claim that
it is for.
"""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple

from stillfresh.caches.claims import Claim
from stillfresh.caches.frames import new_version
from stillfresh.forks import call_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.caches.rediswire import Command


class Hold(NamedTuple):
    """The key that says who has a claim, its holder, and until when that is sure (monotonic)."""

    name: bytes
    holder: bytes
    until: float

    def command(self) -> Command:
        """Return what asks for it."""
        left = max(1, int((self.until - time.monotonic()) * 1000))
        return (b"SET", self.name, self.holder, b"NX", b"PX", left)

    def lasts(self, seconds: float) -> bool:
        """Tell whether nobody else can have it for so long."""
        return time.monotonic() + seconds < self.until


NO_HOLD: Final = Hold(b"", b"", 0.0)


class RedisClaim(Claim):
    """A claim; as long as it is spare, it is for the next one here who claims its key."""

    __slots__ = ("__weakref__", "_claims", "_hold", "_key", "_take_back", "_who")

    def __init__(
        self,
        claims: Claims,
        key: str,
        hold: Hold,
        who: int,
        take_back: Callable[[Hold], None],
        *,
        others: bool = False,
    ) -> None:
        """Have what `who` holds; `take_back` ends it on the server, and never raises."""
        super().__init__(others=others)
        self._claims = claims
        self._key = key
        self._hold = hold
        self._who = who
        self._take_back = take_back

    def release(self) -> None:
        """Give it back, unless it has ended with a version."""
        if self._claims.ended(self._key, self._hold):
            self._take_back(self._hold)

    def forgo(self) -> None:
        """Give it back if nobody has taken it up."""
        if self._claims.no_longer_spare(self._key, self):
            self.release()

    def ending(self) -> None:
        """Have it end with the next version that is stored, or refreshed, under its key."""
        self._claims.about_to_end(self._key, self._hold)

    def taken_up(self, who: int) -> RedisClaim:
        """Give it to one who may not be the one that has looked when it was claimed."""
        self.others = who != self._who
        return self

    def kept_spare(self) -> RedisClaim:
        """Have it for the next one who takes it up."""
        self._claims.keep_spare(self._key, self)
        return self


class Claims:
    """All of them, by key."""

    def __init__(self) -> None:
        """Have none."""
        self._held: dict[str, Hold] = {}
        self._spare: dict[str, weakref.ref[RedisClaim]] = {}
        self._ending: dict[str, Hold] = {}
        self.begin()
        call_in_children(self.begin)

    def begin(self) -> None:
        """Have none, in a child: those of its parent are the parent's."""
        self._held.clear()
        self._spare.clear()
        self._ending.clear()
        self._who = new_version().encode()
        self._count = 0

    def new_hold(self, name: bytes, seconds: float) -> Hold:
        """Return what nobody has held before, if it is granted from now on."""
        self._count += 1
        return Hold(name, b"%b.%d" % (self._who, self._count), time.monotonic() + seconds)

    def holds(self, key: str) -> bool:
        """Tell whether it is claimed here."""
        held = self._held.get(key)
        return held is not None and held.lasts(0)

    def granted(self, key: str, hold: Hold) -> None:
        """Take note that a server has granted it."""
        self._held[key] = hold

    def keep_spare(self, key: str, claim: RedisClaim) -> None:
        """Have it for the next one who takes it up."""
        self._spare[key] = weakref.ref(claim)

    def at_hand(self, key: str, who: int) -> Claim | None:
        """Return the claim of one for whom there is nothing to ask a server: what was spare, if so.

        Who has gone on without waiting for one of its own process's doesn't wait for it now.
        """
        spare = self._spare.pop(key, None) if self._spare else None
        claim = None if spare is None else spare()
        if claim is not None:
            return claim.taken_up(who)
        return Claim(others=True) if self.holds(key) else None

    def no_longer_spare(self, key: str, claim: RedisClaim) -> bool:
        """Have nobody take it up, and tell whether nobody has."""
        spare = self._spare.get(key)
        if spare is None or spare() is not claim:
            return False
        return self._spare.pop(key, None) is not None

    def about_to_end(self, key: str, hold: Hold) -> None:
        """Have it end with what is stored next."""
        if self._held.get(key) is hold:
            self._ending[key] = hold

    def that_ends(self, key: str) -> Hold | None:
        """Return what is to end with what is stored now."""
        return self._ending.pop(key, None)

    def ended(self, key: str, hold: Hold) -> bool:
        """Take note that it ends, and tell whether it hadn't yet, as far as is known here."""
        if self._held.get(key) is not hold:
            return False
        self._held.pop(key, None)
        self._spare.pop(key, None)
        self._ending.pop(key, None)
        return True
