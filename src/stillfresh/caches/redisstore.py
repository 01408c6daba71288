"""How entries lie in Redis: the one implementation of it, for blocking and asynchronous callers.

    <prefix><key>                       a frame, with a body of up to 64 KiB in it
    <prefix>{<tag>}:sf:<version>:<n>    a piece of a longer body, 256 KiB each
    <prefix>{<tag>}:sf:0000000000000000:0   who is fetching the entry, for a moment

So a hit on a small entry is one GET. The tag is what decides on the slot of the first key, so all
keys of an entry are on one server of a Cluster (a prefix with a tag of its own brings all entries
to one). The name of the first key is the one that other programs give theirs: CacheControl's values
can be read.

A longer body is written first, under a version that nobody knows and with a short time to live;
the frame that names the version is set last, by a script that also gives the pieces the time of the
entry, all at once. What a killed writer leaves expires by itself. Pieces of a version that is
replaced or removed are not deleted but get some time to live, and readers that go on reading put
off their end. Redis runs a script in one go, which is also what makes `update` compare and swap.

The scripts make the names of pieces by themselves, since those of an earlier version are not known
before; all are in the slot of the key that they are given.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import time
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

import xxhash

from stillfresh.caches import frames
from stillfresh.caches.entry import EntryInfo
from stillfresh.caches.expiry import is_past
from stillfresh.caches.frames import BODY_ELSEWHERE, HAS_BODY, HEAD_SIZE, Frame, Head
from stillfresh.caches.redislinks import hash_part, lacks_script, refusal
from stillfresh.errors import CacheUnavailable, ConfigError, CorruptEntry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from stillfresh.caches.redislinks import Address, Command, Line
    from stillfresh.caches.writing import Seal

T = TypeVar("T")

# Bodies up to this size are in the value, and come with it.
INLINE_LIMIT: Final = 1 << 16
# Of pieces: long enough that a round trip each doesn't count, short enough to come through in the
# time that one operation has. It can't be changed, since nothing says how many there are.
PIECE: Final = 1 << 18
# Pieces that are sent or fetched at once: two take hardly longer than one, on a network that has
# the time of an operation for either.
_AT_ONCE: Final = 2
# Seconds. What is being written lives so long from each time that it is seen to.
DRAFT: Final = 120
# And what was replaced, from the last time that somebody read of it.
GRACE: Final = 60
# Either is seen to this often within its time.
_SEEN_TO: Final = 3
# A time to live beyond this is none: Redis has a last moment, and this is short of it.
_LONGEST: Final = 100 * 366 * 86_400
# How often an `update` begins again when another one has come between.
_TRIES: Final = 5
# How many entries are remembered as they were when last looked at.
_REMEMBERED: Final = 256
# Keys in one step of a listing, or of clearing: some hundred microseconds of the server's.
_PAGE: Final = 500
_IS_PIECE: Final = re.compile(rb":sf:[0-9a-f]{16}:\d+\Z")
# How the name of a claim ends. By its name it is a piece, of a version that no entry has: so it is
# in no listing.
_IS_CLAIM: Final = re.compile(rb":00\Z")
_GLOB: Final = re.compile(rb"([*?\[\]^\\-])")


class Script:
    """A program for the server, sent in full only where it doesn't know it."""

    def __init__(self, source: str) -> None:
        """Have a source in Lua."""
        self.source = source.encode()
        self._digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()

    async def run(self, line: Line, name: bytes, *arguments: bytes | int) -> Any:
        """Run it on the key `name`.

        Raises:
            StoreError: the server refuses.
        """
        (reply,) = await line.ask(name, (b"EVALSHA", self._digest, 1, name, *arguments))
        if lacks_script(reply):
            (reply,) = await line.ask(name, (b"EVAL", self.source, 1, name, *arguments))
        return _accepted(reply)


# Parts of the scripts. `pieces_of` takes a head apart (frames.py): its magic, the flags at byte 10,
# the length of the body at 24 and the version at 48.
_PIECES: Final = f"""
local function pieces_of(head)
  if #head < {HEAD_SIZE} or string.sub(head, 1, 8) ~= '\\137sfresh\\n' then return nil, 0 end
  local flags = struct.unpack('<I2', head, 11)
  if flags % {2 * BODY_ELSEWHERE} < {BODY_ELSEWHERE} then return nil, 0 end
  local version = string.gsub(string.sub(head, 49, 56), '.',
    function(byte) return string.format('%02x', string.byte(byte)) end)
  return version, math.ceil(struct.unpack('<I8', head, 25) / {PIECE})
end
local function name_of(version, at)
  return stem .. version .. ':' .. string.format('%d', at)
end
local function retire(head)
  local version, count = pieces_of(head)
  for at = 0, count - 1 do
    local name = name_of(version, at)
    local left = redis.call('PTTL', name)
    if left < 0 or left > {GRACE * 1000} then redis.call('PEXPIRE', name, {GRACE * 1000}) end
  end
end
local function let_live(version, count, ttl)
  for at = 0, count - 1 do
    if ttl == '' then redis.call('PERSIST', name_of(version, at))
    else redis.call('PEXPIRE', name_of(version, at), ttl + {GRACE * 1000}) end
  end
end
local function put(value, ttl)
  if ttl == '' then redis.call('SET', KEYS[1], value)
  else redis.call('SET', KEYS[1], value, 'PX', ttl) end
end
local function let_go(claim, holder)
  if claim ~= '' and redis.pcall('GET', claim) == holder then redis.call('UNLINK', claim) end
end
local function present()
  local head = redis.pcall('GETRANGE', KEYS[1], 0, {HEAD_SIZE - 1})
  return type(head) == 'string' and head or ''
end
"""

_PUBLISH: Final = Script(
    f"""
local stem, value, ttl = ARGV[1], ARGV[2], ARGV[3]
{_PIECES}
local version, count = pieces_of(value)
for at = 0, count - 1 do
  if redis.call('EXISTS', name_of(version, at)) == 0 then return 0 end
end
local before = present()
if string.sub(before, 49, 56) ~= string.sub(value, 49, 56) then retire(before) end
put(value, ttl)
let_live(version, count, ttl)
let_go(ARGV[4], ARGV[5])
return 1
"""
)

_UPDATE: Final = Script(
    f"""
local stem, old, new, tail, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
{_PIECES}
if present() ~= old then return 0 end
local version, count = pieces_of(old)
local body = ''
if not version then
  local size = struct.unpack('<I8', old, 25)
  if size > 0 then body = redis.call('GETRANGE', KEYS[1], {HEAD_SIZE}, {HEAD_SIZE - 1} + size) end
end
put(new .. body .. tail, ttl)
let_live(version, count, ttl)
let_go(ARGV[6], ARGV[7])
return 1
"""
)

_REMOVE: Final = Script(
    f"""
local stem, only = ARGV[1], ARGV[2]
{_PIECES}
local head = present()
if only ~= '' and head ~= only then return false end
local removed = redis.call('UNLINK', KEYS[1])
if removed == 0 then return false end
retire(head)
return head
"""
)

_HOLD: Final = Script(
    f"""
local stem, version, ttl = ARGV[1], ARGV[2], ARGV[5] * 1000
{_PIECES}
local found = 0
for at = tonumber(ARGV[3]), tonumber(ARGV[4]) - 1 do
  local name = name_of(version, at)
  local left = redis.call('PTTL', name)
  if left ~= -2 then found = found + 1 end
  if left >= 0 and left < ttl then redis.call('PEXPIRE', name, ttl) end
end
return found
"""
)


_RELEASE: Final = Script(
    """
if redis.pcall('GET', KEYS[1]) == ARGV[1] then redis.call('UNLINK', KEYS[1]) end
return 1
"""
)


class Place(NamedTuple):
    """Where one key's entry is."""

    key: str
    name: bytes
    stem: bytes

    def claim(self) -> bytes:
        """Return the name of what says that somebody is fetching it."""
        return b"%b%016x:00" % (self.stem, xxhash.xxh3_64_intdigest(self.name))


class Names:
    """The names that keys have in the database."""

    def __init__(self, prefix: str) -> None:
        """Have all names begin with `prefix`.

        Raises:
            ConfigError: an opening brace in it isn't closed, or has nothing in it.
        """
        self._prefix = frames.encode_key(prefix)
        self._has_tag = hash_part(self._prefix) != self._prefix
        if b"{" in self._prefix and not self._has_tag:
            msg = f"in the prefix {prefix!r}, a hash tag is opened and not closed, or empty"
            raise ConfigError(msg)
        self.pattern = _GLOB.sub(rb"\\\1", self._prefix) + b"*"

    def place(self, key: str) -> Place:
        """Say where the entry of a key is.

        For a few odd keys the name is a digest: no piece could be in the slot of the key's own
        name, or that would look like a piece's.
        """
        name = self._prefix + frames.encode_key(key)
        tag = hash_part(name)
        if not tag or b"}" in tag or (b":sf:" in name and _IS_PIECE.search(name)):
            name = self._prefix + b"sf:" + hashlib.sha256(name).hexdigest().encode()
            tag = hash_part(name)
        if self._has_tag:
            return Place(key, name, self._prefix + b":sf:")
        return Place(key, name, self._prefix + b"{" + tag + b"}:sf:")

    def key_of(self, name: bytes) -> str | None:
        """Return the key of another program's value, or None if it can't be told."""
        try:
            key = name[len(self._prefix) :].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return None
        return key if self.place(key).name == name else None


class Store:
    """The entries below one prefix. Its coroutines are given the line to ask on."""

    def __init__(self, prefix: str, clock: Callable[[], float]) -> None:
        """Know names only; nothing is asked."""
        self._names = Names(prefix)
        self._clock = clock
        # How values began when they were last looked at here, by key; as nothing, if none was. And
        # by whom.
        self._seen: dict[str, tuple[bytes, int]] = {}
        # Who has claimed what, of those that use this, and what it was for if that is about to be
        # stored; a child has none of its parent's.
        self._held: dict[str, bytes] = {}
        self._ending: dict[str, bytes] = {}
        self._pid = os.getpid()

    async def open(self, line: Line, key: str, who: int) -> Found | None:
        """Return the present version to some one. A value that is no frame is another program's."""
        place = self._names.place(key)
        value = await self._value(line, place)
        if value is None:
            self._see(key, b"", who)
            return None
        # What is damaged is not what has been seen.
        self._seen.pop(key, None)
        if not value.startswith(frames.MAGIC):
            frames.refuse_damaged(value)
            version = f"foreign-{frames.digest(value).hex()}"
            return Found(value, version, 0, None, False, None, b"")
        metadata, body, flags, size, digest, version, expires_at = frames.unwrap(
            value, frames.encode_key(key)
        )
        if is_past(expires_at, self._clock()):
            return None
        self._see(key, value, who)
        has_body = bool(flags & HAS_BODY)
        if not flags & BODY_ELSEWHERE:
            return Found(metadata, version, size, None, has_body, expires_at, body)
        pieces = Pieces(place, version, size)
        found = Found(metadata, version, size, digest, has_body, expires_at, pieces)
        # Where there is no memory left, a server forgets what it likes.
        return found if await pieces.hold(line, 0) else None

    def draft(self, key: str, version: str) -> Draft:
        """Begin a version."""
        return Draft(self._names.place(key), version)

    async def update(
        self, line: Line, key: str, metadata: bytes, version: str, expires_at: float | None
    ) -> bool:
        """Swap the metadata of `version`, and end the claim that it is for."""
        place = self._names.place(key)
        claim, holder = self._ended_by(place)
        # It has been looked at just now by who has validated it, most of the time.
        old, _ = self._seen.get(key, (b"", 0))
        for _ in range(_TRIES):
            now = self._clock()
            head = _head_of(old, version)
            if head is None or is_past(head.expires_at, now):
                value = await self._value(line, place)
                if value is None or not value.startswith(frames.MAGIC):
                    return False
                frames.decode_under(key, value)
                old = value[:HEAD_SIZE]
                head = _head_of(old, version)
                if head is None or is_past(head.expires_at, now):
                    return False
            if is_past(expires_at, now):
                done = await _REMOVE.run(line, place.name, place.stem, old) is not None
            else:
                frame = Frame(
                    key, metadata, head.flags, head.body_size, head.digest, version, now, expires_at
                )
                new, tail = frames.encode(frame)
                ttl = _ttl(expires_at, now)
                changed = (old, new, tail, ttl, claim, holder)
                done = await _UPDATE.run(line, place.name, place.stem, *changed) == 1
                if done:
                    self.end_claim(key, holder)
            if done:
                return True
            old = b""
        msg = f"others have changed it {_TRIES} times meanwhile"
        raise CacheUnavailable(msg)

    async def remove(self, line: Line, key: str) -> bool:
        """Remove what is under a key, and say whether there was anything."""
        place = self._names.place(key)
        head = await _REMOVE.run(line, place.name, place.stem, b"")
        if head is None:
            return False
        try:
            return not is_past(frames.parse_head(head).expires_at, self._clock())
        except CorruptEntry:
            # Another program's, or damaged: it was there.
            return True

    async def publish(self, line: Line, draft: Draft, seal: Seal) -> None:
        """Make a version visible, and end the claim that it is for."""
        claim, holder = self._ended_by(draft.place)
        await draft.publish(line, seal, claim, holder)
        self.end_claim(draft.place.key, holder)

    async def claim(
        self, line: Line, key: str, holder: bytes, seconds: float, who: int
    ) -> bool | None:
        """Note that `holder` is fetching a key, for so many seconds; None if another one is.

        Tells whether there may be another version already than there was `who` last looked here.
        """
        place = self._names.place(key)
        name, ttl = place.claim(), max(1, int(seconds * 1000))
        reply, head = await line.ask(
            name,
            (b"SET", name, holder, b"NX", b"PX", ttl),
            (b"GETRANGE", place.name, 0, HEAD_SIZE - 1),
        )
        if _accepted(reply) is None:
            return None
        self._begin_in_a_child()
        self._held[key] = holder
        return self._seen.get(key) != (head, who)

    def about_to_end(self, key: str, holder: bytes) -> None:
        """Have a claim end with the next version that is stored, or refreshed, under its key."""
        if self._held.get(key) == holder:
            self._ending[key] = holder

    def end_claim(self, key: str, holder: bytes) -> bool:
        """Take note that a claim ends, and tell whether it hadn't yet, as far as is known here."""
        self._begin_in_a_child()
        held = holder != b"" and self._held.get(key) == holder
        if held:
            self._held.pop(key, None)
            self._ending.pop(key, None)
        return held

    async def release(self, line: Line, key: str, holder: bytes) -> None:
        """Take a claim back, if it is still this holder's."""
        await _RELEASE.run(line, self._names.place(key).claim(), holder)

    def _ended_by(self, place: Place) -> tuple[bytes, bytes]:
        """Return the name of the claim that ends with what is stored now, and its holder."""
        self._begin_in_a_child()
        holder = self._ending.pop(place.key, b"")
        return place.claim() if holder else b"", holder

    def _begin_in_a_child(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._held.clear()
            self._ending.clear()

    def _see(self, key: str, value: bytes, who: int) -> None:
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[key] = value[:HEAD_SIZE], who

    async def page(
        self, line: Line, address: Address, cursor: bytes
    ) -> tuple[bytes, list[EntryInfo]]:
        """List some entries of one server, and return where to go on; `0` is the end, too."""
        cursor, names = await self._scan(line, address, cursor, b"TYPE", b"string")
        names = [name for name in names if not _IS_PIECE.search(name)]
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
            if _IS_PIECE.search(name) and not _IS_CLAIM.search(name)
            else (b"UNLINK", name)
            for name in names
        ]
        if commands:
            await line.ask_at(address, *commands)
        return cursor, len(commands)

    async def _value(self, line: Line, place: Place) -> bytes | None:
        (reply,) = await line.ask(place.name, (b"GET", place.name))
        value: bytes | None = _accepted(reply)
        return value

    async def _scan(
        self, line: Line, address: Address, cursor: bytes, *only: bytes
    ) -> tuple[bytes, list[bytes]]:
        command: Command = (b"SCAN", cursor, b"MATCH", self._names.pattern, b"COUNT", _PAGE, *only)
        (reply,) = await line.ask_at(address, command)
        following, names = _accepted(reply)
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
        size = one.size + (head.body_size if head.flags & BODY_ELSEWHERE else 0)
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


class Draft:
    """One version that is being written.

    Attributes:
        place: where its entry is.
    """

    def __init__(self, place: Place, version: str) -> None:
        """Have nothing yet."""
        self.place = place
        self._version = version
        self._held = bytearray()
        self._count = 0
        self._seen_to = 0.0

    def take(self, chunk: memoryview) -> Iterator[None]:
        """Take the next bytes, and stop as often as there are pieces to be sent."""
        for at in range(0, len(chunk), PIECE * _AT_ONCE):
            self._held += chunk[at : at + PIECE * _AT_ONCE]
            if len(self._held) >= PIECE:
                yield

    @property
    def is_begun(self) -> bool:
        """Whether anything of it is on the server."""
        return self._count > 0

    async def send(self, line: Line) -> None:
        """Send the pieces that are whole."""
        await self._send(line, len(self._held) // PIECE)

    async def publish(self, line: Line, seal: Seal, claim: bytes, holder: bytes) -> None:
        """Make the version visible, and end a claim of `holder`, if it has the name of one."""
        place, flags, body = self.place, HAS_BODY if seal.has_body else 0, b""
        if self._count or len(self._held) > INLINE_LIMIT:
            if self._held:
                await self._send(line, 1)
            flags |= BODY_ELSEWHERE
        else:
            body = bytes(self._held)
        frame = Frame(
            place.key,
            seal.metadata,
            flags,
            seal.size,
            seal.digest,
            seal.version,
            seal.stored_at,
            seal.expires_at,
        )
        head, tail = frames.encode(frame)
        value = b"".join((head, body, tail))
        ttl = _ttl(seal.expires_at, seal.stored_at)
        if await _PUBLISH.run(line, place.name, place.stem, value, ttl, claim, holder) == 0:
            msg = "the server has lost a part of the body while it was written"
            raise CacheUnavailable(msg)

    async def discard(self, line: Line) -> None:
        """Remove what has been sent."""
        names = [self._piece(at) for at in range(self._count)]
        self._count = 0
        for at in range(0, len(names), _PAGE):
            await line.ask(self.place.name, (b"UNLINK", *names[at : at + _PAGE]))

    def forget(self) -> None:
        """Let go of what is held here."""
        self._held = bytearray()

    async def _send(self, line: Line, count: int) -> None:
        commands: list[Command] = []
        for at in range(count):
            data = bytes(self._held[at * PIECE : (at + 1) * PIECE])
            commands.append((b"SET", self._piece(self._count + at), data, b"EX", DRAFT))
        for reply in await line.ask(self.place.name, *commands):
            _accepted(reply)
        now = time.monotonic()
        if not self._count:
            self._seen_to = now
        self._count += count
        del self._held[: count * PIECE]
        if now - self._seen_to > DRAFT / _SEEN_TO:
            self._seen_to = now
            arguments = (self.place.stem, self._version.encode(), 0, self._count, DRAFT)
            await _HOLD.run(line, self.place.name, *arguments)

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
        place = self._place
        found = await _HOLD.run(
            line, place.name, place.stem, self._version, first, self._count, GRACE
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
        replies = [_accepted(reply) for reply in await line.ask(self._place.name, *commands)]
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


def _accepted(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise refusal(reply)
    return reply


def _ttl(expires_at: float | None, now: float) -> bytes:
    """Return a time to live in milliseconds, as scripts take it; nothing is for ever."""
    if expires_at is None or expires_at - now > _LONGEST:
        return b""
    return b"%d" % max(1, math.ceil((expires_at - now) * 1000))


def _head_of(data: bytes, version: str) -> Head | None:
    """Return the head that `data` begins with, if it is one of a version."""
    if not data.startswith(frames.MAGIC):
        return None
    head = frames.parse_head(data)
    return head if head.version.hex() == version else None


def _head(data: Any, size: Any) -> Head | None:
    """Return the head of a value of so many bytes, or None if it is no frame."""
    try:
        head = frames.parse_head(data)
    except (CorruptEntry, TypeError):
        return None
    return head if head.frame_size == size else None
