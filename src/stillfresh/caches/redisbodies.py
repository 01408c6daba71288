"""Bodies on their way to Redis and back, in constant memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from stillfresh.caches import frames
from stillfresh.caches.frames import BODY_ELSEWHERE, HAS_BODY
from stillfresh.caches.redisclaims import NO_HOLD
from stillfresh.caches.redisscripts import GRACE, HOLD, PIECE, PUBLISH, accepted, time_to_live
from stillfresh.caches.writing import appended
from stillfresh.errors import CacheUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stillfresh.caches.redisclaims import Hold
    from stillfresh.caches.redislinks import Line
    from stillfresh.caches.redisnames import Place
    from stillfresh.caches.rediswire import Command, Pieced
    from stillfresh.caches.writing import Seal

# Bodies up to this size are in the value, and come with it.
INLINE_LIMIT: Final = 1 << 16
# Pieces that are sent or fetched at once: two take hardly longer than one, on a network that has
# the time of an operation for either.
_AT_ONCE: Final = 2
# Seconds. What is being written lives so long from each time that it is seen to.
DRAFT: Final = 120
# That, and what was replaced, is seen to so often within its time.
_SEEN_TO: Final = 3
# So many names go into one command.
_PAGE: Final = 500


class Draft:
    """One version that is being written.

    Attributes:
        place: where its entry is.
    """

    def __init__(self, place: Place, version: str) -> None:
        """Have nothing yet."""
        self.place = place
        self._version = version
        self._held: bytes | bytearray = b""
        self._count = 0
        self._seen_to = 0.0

    def take(self, chunk: bytes | memoryview) -> Iterator[None]:
        """Take the next bytes, and stop as often as there are pieces to be sent."""
        for at in range(0, len(chunk), PIECE * _AT_ONCE):
            self._held = appended(self._held, chunk[at : at + PIECE * _AT_ONCE])
            if len(self._held) >= PIECE:
                yield

    @property
    def is_begun(self) -> bool:
        """Whether anything of it is on the server."""
        return self._count > 0

    async def send(self, line: Line) -> None:
        """Send the pieces that are whole."""
        await self._send(line, len(self._held) // PIECE)

    async def publish(self, line: Line, seal: Seal, hold: Hold | None, *, is_first: bool) -> bytes:
        """Make the version visible, and end a claim with it; return how its value begins.

        That it `is_first`, with nothing before it, need not be so; it costs less if it is.
        """
        place, flags = self.place, HAS_BODY if seal.has_body else 0
        body: bytes | bytearray = b""
        if self._count or len(self._held) > INLINE_LIMIT:
            if self._held:
                await self._send(line, 1)
            flags |= BODY_ELSEWHERE
        else:
            body = self._held
        head, tail = frames.encode_sealed(frames.encode_key(place.key), seal, flags)
        value: Pieced = (head, body, tail)
        ttl = time_to_live(seal.expires_at, seal.stored_at)
        if is_first and not flags & BODY_ELSEWHERE and await self._add(line, value, ttl, hold):
            return head
        claim, holder, _ = hold or NO_HOLD
        if await PUBLISH.run(line, place.name, place.stem, value, ttl, claim, holder) == 0:
            msg = "the server has lost a part of the body while it was written"
            raise CacheUnavailable(msg)
        return head

    async def _add(self, line: Line, value: Pieced, ttl: bytes, hold: Hold | None) -> bool:
        """Set a value that has no pieces where there is none, and tell whether that was so.

        It takes the server a fifth of the time that a script does.
        """
        name, lifetime = self.place.name, (b"PX", ttl) if ttl else ()
        add: Command = (b"SET", name, value, b"NX", *lifetime)
        if hold is None:
            (added,) = await line.ask(name, add)
        elif hold.lasts(line.limit):
            # Nobody else can have it by then, so nobody needs to look whose it is.
            added, _ = await line.ask(name, add, (b"UNLINK", hold.name))
        else:
            return False
        return accepted(added) is not None

    async def discard(self, line: Line) -> None:
        """Remove what has been sent."""
        names = [self._piece(at) for at in range(self._count)]
        self._count = 0
        for at in range(0, len(names), _PAGE):
            await line.ask(self.place.name, (b"UNLINK", *names[at : at + _PAGE]))

    def forget(self) -> None:
        """Let go of what is held here."""
        self._held = b""

    async def _send(self, line: Line, count: int) -> None:
        commands: list[Command] = []
        for at in range(count):
            data = bytes(self._held[at * PIECE : (at + 1) * PIECE])
            commands.append((b"SET", self._piece(self._count + at), data, b"EX", DRAFT))
        for reply in await line.ask(self.place.name, *commands):
            accepted(reply)
        now = time.monotonic()
        if not self._count:
            self._seen_to = now
        self._count += count
        self._held = self._held[count * PIECE :]
        if now - self._seen_to > DRAFT / _SEEN_TO:
            self._seen_to = now
            arguments = (self.place.stem, self._version.encode(), 0, self._count, DRAFT)
            await HOLD.run(line, self.place.name, *arguments)

    def _piece(self, at: int) -> bytes:
        return b"%b%b:%d" % (self.place.stem, self._version.encode(), at)


class Pieces:
    """A long body, of a version that may have been replaced meanwhile."""

    def __init__(self, place: Place, version: str, size: int) -> None:
        """Read nothing yet."""
        self._place = place
        self._version = version.encode()
        self._size = size
        self._count = -(-size // PIECE)
        # The last pieces that were fetched, and which is the first of them.
        self._first = 0
        self._here = b""
        self._seen_to = 0.0

    async def hold(self, line: Line, first: int) -> bool:
        """Put off the end of the pieces from `first` on; answers whether all are there."""
        self._seen_to = time.monotonic()
        return await self._held(line, first, GRACE)

    async def are_there(self, line: Line) -> bool:
        """Answer whether all pieces are there, and change nothing."""
        return await self._held(line, 0, 0)

    async def _held(self, line: Line, first: int, seconds: int) -> bool:
        place = self._place
        found = await HOLD.run(
            line, place.name, place.stem, self._version, first, self._count, seconds
        )
        return bool(found == self._count - first)

    def here(self, offset: int, size: int) -> bytes:
        """Return what has been fetched already of `size` bytes from `offset`."""
        start = offset - self._first * PIECE
        return self._here[start : start + size] if 0 <= start < len(self._here) else b""

    async def fetch(self, line: Line, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`. Raises `OSError` where a piece is lost."""
        first = offset // PIECE
        last = min(first + _AT_ONCE, -(-min(offset + size, self._size) // PIECE))
        if time.monotonic() - self._seen_to > GRACE / _SEEN_TO:
            await self.hold(line, first)
        stem = self._place.stem + self._version + b":"
        commands = [(b"GET", b"%b%d" % (stem, at)) for at in range(first, last)]
        replies = [accepted(reply) for reply in await line.ask(self._place.name, *commands)]
        for at, piece in enumerate(replies, first):
            if piece is None or len(piece) != min(PIECE, self._size - at * PIECE):
                msg = f"piece {at} of {self._count} is lost"
                raise OSError(msg)
        self._first = first
        self._here = replies[0] if len(replies) == 1 else b"".join(replies)
        return self.here(offset, size)

    def forget(self) -> None:
        """Let go of what is held here."""
        self._here = b""
