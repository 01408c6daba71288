"""How entries lie in Redis: the one implementation of it, for blocking and asynchronous callers.

    <prefix><key>                       a frame, with a body of up to 64 KiB in it
    <prefix>{<tag>}:sf:<version>:<n>    a piece of a longer body, 256 KiB each
    <prefix>{<tag>}:sf:<digest>:00      who is fetching the entry, for a moment

So a hit on a small entry is one GET. The tag is what decides on the slot of the first key, so all
keys of an entry are on one server of a Cluster (a prefix with a tag of its own brings all entries
to one). The name of the first key is the one that other programs give theirs: CacheControl's values
can be read.

A longer body is written first, under a version that nobody knows and with a short time to live;
the frame that names the version is set last, by a script that also gives the pieces the time of the
entry, all at once. What a killed writer leaves expires by itself. Pieces of a version that is
replaced or removed are not deleted but get some time to live, and readers that go on reading put
off their end. Redis runs a script in one go, which is also what makes `update` compare and swap.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from stillfresh.caches import frames
from stillfresh.caches.entry import EntryInfo
from stillfresh.caches.expiry import is_past
from stillfresh.caches.frames import BODY_ELSEWHERE, HAS_BODY, HEAD_SIZE, Frame, Head
from stillfresh.caches.redisbodies import Draft, Pieces
from stillfresh.caches.redisclaims import NO_HOLD, Claims
from stillfresh.caches.redisnames import IS_CLAIM, IS_PIECE, Names
from stillfresh.caches.redisscripts import (
    GRACE,
    RELEASE,
    REMOVE,
    UPDATE,
    accepted,
    time_to_live,
)
from stillfresh.errors import CacheUnavailable, CorruptEntry
from stillfresh.memo import brief

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from stillfresh.caches.redisclaims import Hold
    from stillfresh.caches.redislinks import Address, Line
    from stillfresh.caches.redisnames import Place
    from stillfresh.caches.rediswire import Command
    from stillfresh.caches.writing import Seal

T = TypeVar("T")

# How often an `update` begins again when another one has come between.
_TRIES: Final = 5
# Whom no thread and no task is.
_NOBODY: Final = -1
# How many entries are remembered as they were when last looked at.
_REMEMBERED: Final = 256
# Keys in one step of a listing, or of clearing: some hundred microseconds of the server's.
_PAGE: Final = 500


class Store:
    """The entries below one prefix. Its coroutines are given the line to ask on.

    Attributes:
        claims: what has been claimed here.
    """

    def __init__(self, prefix: str, clock: Callable[[], float]) -> None:
        """Know names only; nothing is asked."""
        self._names = Names(prefix)
        self._clock = clock
        # How values began when they were last looked at here, by key in brief; as nothing, if none
        # was. And by whom.
        self._seen: dict[str, tuple[bytes, int]] = {}
        # Whether there was nothing when one last looked for anything.
        self._has_missed = False
        self.claims = Claims()

    async def open(self, line: Line, key: str, who: int) -> Found | None:
        """Return the present version to some one. A value that is no frame is another program's."""
        place = self._names.place(key)
        (reply,) = await line.ask(place.name, (b"GET", place.name))
        value = accepted(reply)
        self._has_missed = value is None
        if value is None:
            self._see(key, b"", who)
            return None
        return await self._found(line, place, value, who)

    async def peek(self, line: Line, key: str) -> Found | None:
        """Return the present version, and leave no trace of that.

        A server before 7.2 counts it as a use.
        """
        place = self._names.place(key)
        on, off = ((b"CLIENT", b"NO-TOUCH", switch) for switch in (b"ON", b"OFF"))
        _, reply, _ = await line.ask(place.name, on, (b"GET", place.name), off)
        value = accepted(reply)
        if value is None:
            return None
        found = self._read(place, value)
        if found is None or not isinstance(found.body, Pieces):
            return found
        return found if await found.body.are_there(line) else None

    def hold_of_missing(self, key: str, seconds: Callable[[], float]) -> Hold | None:
        """Return what to ask for together with a look that is likely to find nothing.

        Who has missed will miss again, in a crawl or an empty cache; but not what it has stored. A
        hit is to stay one GET.
        """
        if not self._has_missed or self._seen.get(brief(key), (b"", 0))[0]:
            return None
        wanted = seconds()
        if wanted <= 0 or self.claims.holds(key):
            return None
        return self.hold(key, wanted)

    async def open_or_claim(self, line: Line, key: str, hold: Hold, who: int) -> Found | bool:
        """Return the present version to some one; where there is none, tell whether it is held."""
        place = self._names.place(key)
        # In this order: who has claimed it then sees what others have stored before.
        set_, value = await line.ask(place.name, hold.command(), (b"GET", place.name))
        is_held = isinstance(set_, bytes)
        if value is None and not is_held:
            is_held = await self._was_granted(line, hold)
        self._has_missed = value is None
        if value is None:
            self._see(key, b"", who)
            if is_held:
                self.claims.granted(key, hold)
            return is_held
        if is_held:
            await line.ask(place.name, (b"UNLINK", hold.name))
        return await self._found(line, place, accepted(value), who) or False

    async def _found(self, line: Line, place: Place, value: bytes, who: int) -> Found | None:
        key = place.key
        # What is damaged is not what has been seen.
        self._seen.pop(brief(key), None)
        found = self._read(place, value)
        if found is None or not value.startswith(frames.MAGIC):
            return found
        self._see(key, value, who)
        if not isinstance(found.body, Pieces) or await found.body.hold(line, 0):
            return found
        # Where there is no memory left, a server forgets what it likes. The rest is of no use.
        await REMOVE.run(line, place.name, place.stem, value[:HEAD_SIZE])
        self._see(key, b"", who)
        return None

    def _read(self, place: Place, value: bytes) -> Found | None:
        """Say what a value is; None if it has expired. Whether all pieces are there is not known.

        Raises:
            CorruptEntry: it is damaged.
        """
        if not value.startswith(frames.MAGIC):
            frames.refuse_damaged(value)
            version = f"foreign-{frames.digest(value).hex()}"
            return Found(value, version, 0, None, False, None, b"")
        metadata, body, flags, size, digest, version, expires_at = frames.unwrap(
            value, frames.encode_key(place.key)
        )
        if is_past(expires_at, self._clock()):
            return None
        has_body = bool(flags & HAS_BODY)
        if not flags & BODY_ELSEWHERE:
            return Found(metadata, version, size, None, has_body, expires_at, body)
        pieces = Pieces(place, version, size)
        return Found(metadata, version, size, digest, has_body, expires_at, pieces)

    def draft(self, key: str, version: str) -> Draft:
        """Begin a version."""
        return Draft(self._names.place(key), version)

    async def update(
        self,
        line: Line,
        key: str,
        seen: bytes | None,
        metadata: bytes,
        version: str,
        expires_at: float | None,
    ) -> bool:
        """Swap the metadata of `version`, and end the claim that it is for.

        If it has been `seen`, it must not have changed since.
        """
        place = self._names.place(key)
        hold = self.claims.that_ends(key)
        claim, holder, _ = hold or NO_HOLD
        # It has been looked at just now by who has validated it, most of the time.
        old, _ = self._seen.get(brief(key), (b"", 0))
        for _ in range(_TRIES):
            now = self._clock()
            head = _head_of(old, version)
            if head is None or is_past(head.expires_at, now) or not _is_of(old, head, key, seen):
                value = await self._value(line, place)
                if value is None or not value.startswith(frames.MAGIC):
                    return False
                present, _ = frames.decode_under(key, value)
                old = value[:HEAD_SIZE]
                head = _head_of(old, version)
                if head is None or is_past(head.expires_at, now):
                    return False
                if seen is not None and present.metadata != seen:
                    return False
            if is_past(expires_at, now):
                done = await REMOVE.run(line, place.name, place.stem, old) is not None
            else:
                frame = Frame(
                    key, metadata, head.flags, head.body_size, head.digest, version, now, expires_at
                )
                new, tail = frames.encode(frame)
                ttl = time_to_live(expires_at, now)
                changed = (old, new, tail, ttl, claim, holder)
                done = await UPDATE.run(line, place.name, place.stem, *changed) == 1
                if done and hold is not None:
                    self.claims.ended(key, hold)
            if done:
                return True
            old = b""
        msg = f"others have changed it {_TRIES} times meanwhile"
        raise CacheUnavailable(msg)

    async def remove(self, line: Line, key: str) -> bool:
        """Remove what is under a key, and say whether there was anything."""
        place = self._names.place(key)
        head = await REMOVE.run(line, place.name, place.stem, b"")
        if head is None:
            return False
        try:
            return not is_past(frames.parse_head(head).expires_at, self._clock())
        except CorruptEntry:
            # Another program's, or damaged: it was there.
            return True

    async def remove_listed(self, line: Line, listed: EntryInfo) -> bool:
        """Remove what is listed unless it was replaced meanwhile, and say whether it is gone."""
        if listed.key is None:
            return False
        place = self._names.place(listed.key)
        length, begin = await line.ask(
            place.name, (b"STRLEN", place.name), (b"GETRANGE", place.name, 0, HEAD_SIZE - 1)
        )
        head = _head(accepted(begin), accepted(length))
        if head is None:
            same = listed.foreign and length == listed.size
        else:
            present = (head.stored_at, _size(length, head))
            same = not listed.foreign and present == (listed.stored_at, listed.size)
        return same and await REMOVE.run(line, place.name, place.stem, begin) is not None

    async def publish(self, line: Line, draft: Draft, seal: Seal) -> None:
        """Make a version visible, and end the claim that it is for."""
        key = draft.place.key
        hold = self.claims.that_ends(key)
        nothing, _ = self._seen.get(brief(key), (None, 0))
        head = await draft.publish(line, seal, hold, is_first=nothing == b"")
        self._see(key, head, _NOBODY)
        if hold is not None:
            self.claims.ended(key, hold)

    def hold(self, key: str, seconds: float) -> Hold:
        """Return what may be granted by `claim`."""
        return self.claims.new_hold(self._names.place(key).claim(), seconds)

    async def claim(self, line: Line, key: str, hold: Hold, who: int) -> bool | None:
        """Note that a key is being fetched; None if another one does that.

        Tells whether there may be another version already than there was `who` last looked here.
        """
        place = self._names.place(key)
        begin: Command = (b"GETRANGE", place.name, 0, HEAD_SIZE - 1)
        set_, head = await line.ask(place.name, hold.command(), begin)
        if accepted(set_) is None and not await self._was_granted(line, hold):
            return None
        self.claims.granted(key, hold)
        return self._seen.get(brief(key)) != (head, who)

    async def _was_granted(self, line: Line, hold: Hold) -> bool:
        """Tell whether what is refused is its own: it was asked for twice, and granted at first."""
        if not line.repeats:
            return False
        (holder,) = await line.ask(hold.name, (b"GET", hold.name))
        return bool(holder == hold.holder)

    async def release(self, line: Line, hold: Hold) -> None:
        """Take a claim back, if it is still this holder's."""
        await RELEASE.run(line, hold.name, hold.holder)

    def _see(self, key: str, value: bytes, who: int) -> None:
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[brief(key)] = value[:HEAD_SIZE], who

    async def page(
        self, line: Line, address: Address, cursor: bytes, *, host: str | None = None
    ) -> tuple[bytes, list[EntryInfo]]:
        """List some entries of one server, and return where to go on; `0` is the end, too.

        Where only those of a host are wanted, no more is looked at than may be of it.
        """
        cursor, names = await self._scan(line, address, cursor, b"TYPE", b"string")
        names = [name for name in names if not IS_PIECE.search(name)]
        if host is not None:
            names = [name for name in names if self._names.may_be_of(name, host)]
        if not names:
            return cursor, []
        # Looking at a value would count as use of it, for a server that can't be told otherwise.
        commands: list[Command] = [(b"CLIENT", b"NO-TOUCH", b"ON")]
        for name in names:
            commands += (
                (b"OBJECT", b"IDLETIME", name),
                (b"STRLEN", name),
                (b"GETRANGE", name, 0, HEAD_SIZE - 1),
            )
        _, *replies = await line.ask_at(address, *commands)
        listed = [
            _Listed(name, replies[at], replies[at + 1], _head(replies[at + 2], replies[at + 1]))
            for at, name in zip(range(0, len(replies), 3), names, strict=True)
            # What is gone meanwhile has no length, and what has moved elsewhere has an error.
            if isinstance(replies[at + 1], int) and replies[at + 1]
        ]
        commands = [
            (b"GETRANGE", one.name, one.head.tail_at, one.head.tail_at + one.head.key_size - 1)
            for one in listed
            if one.head is not None and one.head.key_size
        ]
        done: Command = (b"CLIENT", b"NO-TOUCH", b"OFF")
        keys = iter(await line.ask_at(address, *commands, done))
        now = time.time()
        return cursor, [
            self._info(one, next(keys) if one.head and one.head.key_size else b"", now)
            for one in listed
        ]

    async def clear_page(self, line: Line, address: Address, cursor: bytes) -> tuple[bytes, int]:
        """Remove some of what one server has; return where to go on, and how much it was."""
        cursor, names = await self._scan(line, address, cursor)
        commands: list[Command] = [
            (b"EXPIRE", name, GRACE)
            if IS_PIECE.search(name) and not IS_CLAIM.search(name)
            else (b"UNLINK", name)
            for name in names
        ]
        if commands:
            for reply in await line.ask_at(address, *commands):
                accepted(reply)
        return cursor, len(commands)

    async def _value(self, line: Line, place: Place) -> bytes | None:
        (reply,) = await line.ask(place.name, (b"GET", place.name))
        value: bytes | None = accepted(reply)
        return value

    async def _scan(
        self, line: Line, address: Address, cursor: bytes, *only: bytes
    ) -> tuple[bytes, list[bytes]]:
        command: Command = (b"SCAN", cursor, b"MATCH", self._names.pattern, b"COUNT", _PAGE, *only)
        (reply,) = await line.ask_at(address, command)
        following, names = accepted(reply)
        return following, names

    def _info(self, one: _Listed, key: Any, now: float) -> EntryInfo:
        """Describe what is listed; that it is whole is for `verify` to say."""
        # Where a server counts uses in place of their time, it is as good as used now.
        used = now - one.idle if isinstance(one.idle, int) else now
        shown = one.name.decode("utf-8", "backslashreplace")
        head = one.head
        text = None if head is None else self._own_key(one.name, key)
        if head is None or text is None:
            key_of = self._names.key_of(one.name)
            return EntryInfo(key_of, shown, one.size, 0, used, used, None, foreign=True)
        size = _size(one.size, head)
        expires_at = None if head.expires_at == math.inf else head.expires_at
        used = max(head.stored_at, used)
        return EntryInfo(text, shown, size, head.body_size, head.stored_at, used, expires_at)

    def _own_key(self, name: bytes, key: Any) -> str | None:
        """Return the key that stands in a value, if it belongs where it was found."""
        try:
            text: str = key.decode("utf-8", "surrogatepass")
        except (AttributeError, UnicodeDecodeError):
            return None
        return text if self._names.place(text).name == name else None


class Walk(Generic[T]):
    """Takes a step after the other through all keys of all servers, each an operation by itself."""

    def __init__(
        self,
        do: Callable[[Callable[[Line], Coroutine[Any, Any, Any]]], Awaitable[Any]],
        step: Callable[[Line, Address, bytes], Coroutine[Any, Any, tuple[bytes, T]]],
    ) -> None:
        """Have operations done by `do`; a `step` goes from a cursor to the next one."""
        self._do = do
        self._step = step
        self._servers: list[Address] | None = None
        self._cursor = b"0"

    async def next(self) -> T | None:
        """Take the next step, and return what it brings; None at the end."""
        if self._servers is None:
            self._servers = await self._do(lambda line: line.all())
        if not self._servers:
            return None
        address, cursor = self._servers[0], self._cursor
        self._cursor, brought = await self._do(lambda line: self._step(line, address, cursor))
        if self._cursor == b"0":
            del self._servers[0]
        found: T = brought
        return found


class _Listed(NamedTuple):
    """A name, how many seconds nobody has used it, how long its value is, and how that begins."""

    name: bytes
    idle: Any
    size: int
    head: Head | None


class Found(NamedTuple):
    """What is known of a version, and its body or the pieces that it is in.

    Without a `digest` there is nothing left to check: it has been, or is another program's.
    """

    metadata: bytes
    version: str
    size: int
    digest: bytes | None
    has_body: bool
    expires_at: float | None
    body: bytes | Pieces


def _head_of(data: bytes, version: str) -> Head | None:
    """Return the head that `data` begins with, if it is one of a version."""
    if not data.startswith(frames.MAGIC):
        return None
    head = frames.parse_head(data)
    return head if head.version.hex() == version else None


def _is_of(data: bytes, head: Head, key: str, metadata: bytes | None) -> bool:
    """Tell whether the head that `data` is belongs to an entry with this metadata, if given."""
    if metadata is None:
        return True
    try:
        frames.decode(head, data, frames.encode_key(key) + metadata)
    except CorruptEntry:
        return False
    return True


def _head(data: Any, size: Any) -> Head | None:
    """Return the head of a value of so many bytes, or None if it is no frame."""
    try:
        head = frames.parse_head(data)
    except (CorruptEntry, TypeError):
        return None
    return head if head.frame_size == size else None


def _size(length: int, head: Head) -> int:
    """Return what an entry takes whose value has a length and begins with a head."""
    return length + (head.body_size if head.flags & BODY_ELSEWHERE else 0)
