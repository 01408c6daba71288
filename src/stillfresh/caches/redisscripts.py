"""What the server does in one go: scripts in Lua, and the form of their arguments.

The scripts make the names of pieces by themselves, since those of an earlier version are not known
before; all are in the slot of the key that they are given.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, Final

from stillfresh.caches.frames import BODY_ELSEWHERE, HEAD_SIZE
from stillfresh.caches.rediswire import Refusal

if TYPE_CHECKING:
    from stillfresh.caches.redislinks import Line
    from stillfresh.caches.rediswire import Argument

# Of pieces: long enough that a round trip each doesn't count, short enough to come through in the
# time that one operation has. It can't be changed, since nothing says how many there are.
PIECE: Final = 1 << 18
# Seconds. What was replaced lives so long from the last time that somebody read of it.
GRACE: Final = 60
# A time to live beyond this is none: Redis has a last moment, and this is short of it.
_LONGEST: Final = 100 * 366 * 86_400


class Script:
    """A program for the server, sent in full only where it doesn't know it."""

    def __init__(self, source: str) -> None:
        """Have a source in Lua."""
        self.source = source.encode()
        self._digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()

    async def run(self, line: Line, name: bytes, *arguments: Argument) -> Any:
        """Run it on the key `name`.

        Raises:
            StoreError: the server refuses.
        """
        (reply,) = await line.ask(name, (b"EVALSHA", self._digest, 1, name, *arguments))
        if isinstance(reply, Refusal) and reply.code == "NOSCRIPT":
            (reply,) = await line.ask(name, (b"EVAL", self.source, 1, name, *arguments))
        return accepted(reply)


# A length that was damaged may be of any number of pieces, and nobody else is served while a script
# runs: after so many in a row that aren't there, there are no more.
_MISSING: Final = 64
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
  local missing = 0
  for at = 0, count - 1 do
    local name = name_of(version, at)
    local left = redis.call('PTTL', name)
    missing = left == -2 and missing + 1 or 0
    if missing == {_MISSING} then break end
    if left == -1 or left > {GRACE * 1000} then redis.call('PEXPIRE', name, {GRACE * 1000}) end
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

PUBLISH: Final = Script(
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

UPDATE: Final = Script(
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

REMOVE: Final = Script(
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

HOLD: Final = Script(
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


RELEASE: Final = Script(
    """
if redis.pcall('GET', KEYS[1]) == ARGV[1] then redis.call('UNLINK', KEYS[1]) end
return 1
"""
)


def accepted(reply: Any) -> Any:
    """Return a reply, unless it is a refusal: that is raised, as a `StoreError`."""
    if isinstance(reply, Refusal):
        raise reply.as_error()
    return reply


def time_to_live(expires_at: float | None, now: float) -> bytes:
    """Return a time to live in milliseconds, as scripts take it; nothing is for ever."""
    if expires_at is None or expires_at - now > _LONGEST:
        return b""
    return b"%d" % max(1, math.ceil((expires_at - now) * 1000))
