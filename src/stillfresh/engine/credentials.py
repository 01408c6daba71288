"""Keeping users apart without keeping their secrets.

What a variant was selected by is compared, never read; so of a credential only a keyed digest is
kept. The key is the policy's, or a random one that lies in the cache itself: whoever can use the
entries can use it, whoever gets hold of one record can't try passwords against it.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.engine.guard import Guard
    from stillfresh.engine.ports import E, W

# No URL normalises to this, so no response can take its place.
SECRET_KEY: Final = "stillfresh:secret"  # noqa: S105 - the name of the entry, not the secret
_LENGTH: Final = 32
_KEYED: Final = "keyed:"
_DIGEST: Final = re.compile(r"keyed:[0-9a-f]{32}")


# The entry is used once in so many seconds, lest it be pruned as one that nobody has a use for;
# and sooner where the cache has failed.
_HOUR: Final = 3600.0
_MINUTE: Final = 60.0


class Vault:
    """The key of a client's digests, fetched when it is first needed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Know nothing yet; `clock` has the seconds."""
        self._clock = clock
        self._secret: bytes | None = None
        self._seen = self._due = 0.0

    async def secret(self, guard: Guard[E, W]) -> bytes:
        """Return the key that lies in the cache, or put one there.

        Where the cache fails, the last one known goes on to be used, or one that nobody else knows.
        """
        now = self._clock()
        if self._secret is None or not self._seen <= now < self._due:
            # Of many at once, one looks again; should it be cancelled, another one does soon.
            self._seen, self._due = now, now + _MINUTE
            mine = self._secret or os.urandom(_LENGTH)
            theirs = await self._agreed(guard, mine)
            if theirs is not None:
                self._due = now + _HOUR
            self._secret = theirs or mine
        return self._secret

    async def seen(self, guard: Guard[E, W]) -> bytes:
        """Return the key that `secret` would, but put none there, and remember nothing.

        Where there is none, nothing was stored by it, and one that opens nothing will do.
        """
        mine = self._secret
        if mine is not None and self._seen <= self._clock() < self._due:
            return mine
        return await guard.metadata(SECRET_KEY) or mine or os.urandom(_LENGTH)

    async def _agreed(self, guard: Guard[E, W], mine: bytes) -> bytes | None:
        """Return the key that all have, which is `mine` where there was none; None on failure."""
        known = await guard.metadata(SECRET_KEY)
        if known or guard.failed:
            return known
        writer = await guard.writer(SECRET_KEY)
        if writer is None or await guard.commit(SECRET_KEY, writer, mine) is None:
            return None
        # Another process may have put its own there at the same time: the last one counts.
        return await guard.metadata(SECRET_KEY)


class KeyOfOthers(Vault):
    """The key of a client's digests, for who only looks: none is made."""

    def __init__(self, vault: Vault) -> None:
        """Look with the eyes of the client that has this `vault`."""
        self._vault = vault

    async def secret(self, guard: Guard[E, W]) -> bytes:
        """Return the key, or one that opens nothing."""
        return await self._vault.seen(guard)


def is_digest(value: str) -> bool:
    """Tell whether a selecting value is what `concealer` keeps, by whatever policy."""
    return _DIGEST.fullmatch(value) is not None


def concealer(secret: bytes, concealed: frozenset[str]) -> Callable[[str, str], str]:
    """Return what makes of a selecting value that which is kept of it."""

    def conceal(name: str, value: str) -> str:
        if name not in concealed:
            return value
        text = f"{name}: {value}".encode("utf-8", "surrogatepass")
        return _KEYED + hashlib.blake2b(text, key=secret[:64], digest_size=16).hexdigest()

    return conceal
