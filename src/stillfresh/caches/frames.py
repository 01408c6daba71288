"""How one entry is written as bytes: a frame.

    head (80 bytes) | body, when it rides along | key | metadata

The head carries the lengths, the digest of the body and a checksum over itself, the key and the
metadata. The key and the metadata stand last because they are known last: a body can be written
while it arrives, and the head is filled in at the commit. The key is there so that a listing can
name the entry, and so that a frame which strays under another key is noticed.

Behind a frame there may be amendments: each is other metadata for the same version, in whole and
with a checksum of its own. The last one counts. So a refresh after a 304 appends a few hundred
bytes, where replacing the file would have the file system write it out; and one that was torn
leaves what was there before.

All integers are little-endian, times are seconds since the epoch.
"""

from __future__ import annotations

import math
import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import xxhash

from stillfresh.errors import CorruptEntry

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from stillfresh.caches.writing import Seal

# Like PNG's: a byte with the high bit set and a line end, so that it is neither text nor a value
# that another cache writes, and so that a transfer in text mode breaks it visibly.
MAGIC: Final = b"\x89sfresh\n"
FORMAT: Final = 1
# So many of its bytes where they belong are no chance.
_ENOUGH_OF_MAGIC: Final = 5

_CHECKED_HEAD: Final = struct.Struct("<8s H H I Q Q 16s 8s d d")
#                      magic, format, flags, key, metadata, body, digest, version, stored, expires
_HEAD: Final = struct.Struct(f"{_CHECKED_HEAD.format} Q")  # and their checksum
_CHECKSUM_AT: Final = _CHECKED_HEAD.size
HEAD_SIZE: Final = _HEAD.size

_AMENDMENT_MAGIC: Final = b"+sf\n"
_AMENDMENT: Final = struct.Struct("<4s Q 8s d d Q")
#              magic, metadata, version, stored, expires, checksum
_AMENDMENT_VERSION_AT: Final = 12
_AMENDMENT_CHECKSUM_AT: Final = _AMENDMENT.size - 8

EMPTY_DIGEST: Final = xxhash.xxh3_128_digest(b"")


_WRONG_BODY: Final = "the body does not match its digest"

# What a frame says about its body.
HAS_BODY: Final = 1
BODY_ELSEWHERE: Final = 2


class StrayError(CorruptEntry):
    """A whole frame, where that of another key was looked for."""


class Frame(NamedTuple):
    """Everything about an entry but its body."""

    key: str
    metadata: bytes
    flags: int
    body_size: int
    digest: bytes
    version: str
    stored_at: float
    expires_at: float | None

    @property
    def inline_size(self) -> int:
        """The number of body bytes that stand between head and key."""
        return 0 if self.flags & BODY_ELSEWHERE else self.body_size


class Head(NamedTuple):
    """The fixed part of a frame, not yet verified: its checksum also covers the tail.

    Key and metadata begin at `tail_at`, and end with the frame.
    """

    magic: bytes
    format: int
    flags: int
    key_size: int
    metadata_size: int
    body_size: int
    digest: bytes
    version: bytes
    stored_at: float
    expires_at: float
    checksum: int
    tail_at: int
    frame_size: int


def new_version() -> str:
    """Name a version: 64 random bits in hexadecimal."""
    return os.urandom(8).hex()


def encode_key(key: str) -> bytes:
    """Encode any `str`, lone surrogates included."""
    return key.encode("utf-8", "surrogatepass")


def digest(body: Buffer) -> bytes:
    """Compute the digest that a frame carries for `body`."""
    return xxhash.xxh3_128_digest(body)


def encode(frame: Frame) -> tuple[bytes, bytes]:
    """Return head and tail; the body, if it rides along, goes between them."""
    return _encoded(encode_key(frame.key), *frame[1:])


def encode_sealed(key: bytes, seal: Seal, flags: int) -> tuple[bytes, bytes]:
    """Do `encode` for what has just been written, and whose key is encoded already."""
    metadata, _, size, body_digest, version, stored_at, expires_at = seal
    return _encoded(key, metadata, flags, size, body_digest, version, stored_at, expires_at)


def _encoded(
    key: bytes,
    metadata: bytes,
    flags: int,
    body_size: int,
    body_digest: bytes,
    version: str,
    stored_at: float,
    expires_at: float | None,
) -> tuple[bytes, bytes]:
    head = _CHECKED_HEAD.pack(
        MAGIC,
        FORMAT,
        flags,
        len(key),
        len(metadata),
        body_size,
        body_digest,
        bytes.fromhex(version),
        stored_at,
        math.inf if expires_at is None else expires_at,
    )
    tail = key + metadata
    return head + _checksum(head, tail).to_bytes(8, "little"), tail


def parse_head(data: bytes) -> Head:
    """Read the first `HEAD_SIZE` bytes of a frame.

    Raises:
        CorruptEntry: the bytes are no head of a format known here.
    """
    if len(data) < HEAD_SIZE:
        msg = f"truncated: {len(data)} bytes where a head has {HEAD_SIZE}"
        raise CorruptEntry(msg)
    parts = _HEAD.unpack_from(data)
    magic, number, flags, key_size, metadata_size, body_size, *_ = parts
    if magic != MAGIC or number != FORMAT:
        msg = "not a frame of a known format"
        raise CorruptEntry(msg)
    tail_at = HEAD_SIZE if flags & BODY_ELSEWHERE else HEAD_SIZE + body_size
    return Head._make((*parts, tail_at, tail_at + key_size + metadata_size))


def decode(head: Head, raw: bytes, tail: bytes) -> Frame:
    """Put a head and its tail together and check them against the `raw` bytes of the head.

    Raises:
        CorruptEntry: a bit of either is not what was written.
    """
    if (
        len(tail) != head.frame_size - head.tail_at
        or _checksum(raw[:_CHECKSUM_AT], tail) != head.checksum
    ):
        msg = "the checksum of head, key and metadata does not match"
        raise CorruptEntry(msg)
    try:
        key = tail[: head.key_size].decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        msg = "the key is not valid UTF-8"
        raise CorruptEntry(msg) from error
    return Frame(
        key,
        tail[head.key_size :],
        head.flags,
        head.body_size,
        head.digest,
        head.version.hex(),
        head.stored_at,
        None if head.expires_at == math.inf else head.expires_at,
    )


def body_of(frame: Frame, data: bytes) -> bytes:
    """Return the body that rides along in `data`, the beginning of a frame, and check it.

    Raises:
        CorruptEntry: it is not what was written.
    """
    body = data[HEAD_SIZE : HEAD_SIZE + frame.inline_size]
    if digest(body) != frame.digest:
        raise CorruptEntry(_WRONG_BODY)
    return body


def may_be_amended(frame: Frame) -> bool:
    """Tell whether an amendment of `frame` could not be taken for anything else.

    The last one is found by the version that it bears, so that stands nowhere in metadata.
    """
    return bytes.fromhex(frame.version) not in frame.metadata


def encode_amendment(frame: Frame) -> bytes:
    """Return what gives the frame of `frame.version` the metadata and times of `frame`."""
    head = _AMENDMENT.pack(
        _AMENDMENT_MAGIC,
        len(frame.metadata),
        bytes.fromhex(frame.version),
        frame.stored_at,
        math.inf if frame.expires_at is None else frame.expires_at,
        0,
    )[:_AMENDMENT_CHECKSUM_AT]
    return head + _checksum(head, frame.metadata).to_bytes(8, "little") + frame.metadata


def amended(frame: Frame, data: bytes) -> tuple[Frame, int]:
    """Apply the last of the amendments that stand in `data`.

    Returns the frame, and how many bytes made sense; the rest is a write that was cut short.

    Raises:
        CorruptEntry: the last one is damaged, or the rest is something else.
    """
    # The last one bears the version, which stands in no metadata (`may_be_amended`).
    last = data.rfind(bytes.fromhex(frame.version)) - _AMENDMENT_VERSION_AT
    found = None if last < 0 else _amendment(data, last)
    if found is None or found[0] != len(data):
        last, end = _last_amendment(data)
        if last < 0:
            return frame, end
        found = _amendment(data, last)
        if found is None or found[1].hex() != frame.version:
            msg = "an amendment is damaged"
            raise CorruptEntry(msg)
    end, _, stored_at, expires_at, metadata = found
    expires = None if expires_at == math.inf else expires_at
    key, _, flags, body_size, body_digest, version, *_ = frame
    changed = Frame(key, metadata, flags, body_size, body_digest, version, stored_at, expires)
    return changed, end


def _last_amendment(data: bytes) -> tuple[int, int]:
    """Return where the last amendment begins that seems to be whole, and where it ends.

    Raises:
        CorruptEntry: what follows is not the beginning of another one.
    """
    last, at, end = -1, 0, len(data)
    while at + _AMENDMENT.size <= end:
        magic, size, *_ = _AMENDMENT.unpack_from(data, at)
        following = at + _AMENDMENT.size + size
        if magic != _AMENDMENT_MAGIC or following > end:
            break
        last, at = at, following
    if not _AMENDMENT_MAGIC.startswith(data[at : at + 4]):
        msg = "what follows is no amendment"
        raise CorruptEntry(msg)
    return last, at


def _amendment(data: bytes, at: int) -> tuple[int, bytes, float, float, bytes] | None:
    """Read the amendment that begins at `at`: its end, version, times and metadata.

    None where there is none, or a damaged one.
    """
    metadata_at = at + _AMENDMENT.size
    if metadata_at > len(data):
        return None
    magic, size, version, stored_at, expires_at, checksum = _AMENDMENT.unpack_from(data, at)
    end = metadata_at + size
    metadata = data[metadata_at:end]
    if (
        magic != _AMENDMENT_MAGIC
        or end > len(data)
        or _checksum(data[at : at + _AMENDMENT_CHECKSUM_AT], metadata) != checksum
    ):
        return None
    return end, version, stored_at, expires_at, metadata


def decode_whole(data: bytes) -> tuple[Frame, bytes]:
    """Read a frame that is entirely in memory, with its body.

    The body is not checked against its digest; that is the reader's to do.

    Raises:
        CorruptEntry: the frame is truncated, overlong or damaged.
    """
    head = parse_head(data)
    if len(data) != head.frame_size:
        msg = f"{len(data)} bytes where the frame has {head.frame_size}"
        raise CorruptEntry(msg)
    return decode(head, data, data[head.tail_at :]), data[HEAD_SIZE : head.tail_at]


def unwrap(data: bytes, key: bytes) -> tuple[bytes, bytes, int, int, bytes, str, float | None]:
    """Read a frame that is entirely in memory, which is to be of `key`, and check all of it.

    This is `decode_whole` for a hit, in as few steps as it can be done. Returns the metadata, the
    body that rides along (checked against its digest), flags, the body's size, its digest, the
    version, and when it ends.

    Raises:
        CorruptEntry: the frame is truncated, overlong or damaged, or of another key.
    """
    if len(data) < HEAD_SIZE:
        msg = f"truncated: {len(data)} bytes where a head has {HEAD_SIZE}"
        raise CorruptEntry(msg)
    (
        magic,
        number,
        flags,
        key_size,
        metadata_size,
        body_size,
        body_digest,
        version,
        _,
        expires_at,
        checksum,
    ) = _HEAD.unpack_from(data)
    if magic != MAGIC or number != FORMAT:
        msg = "not a frame of a known format"
        raise CorruptEntry(msg)
    tail_at = HEAD_SIZE if flags & BODY_ELSEWHERE else HEAD_SIZE + body_size
    if len(data) != tail_at + key_size + metadata_size:
        msg = f"{len(data)} bytes where the frame has {tail_at + key_size + metadata_size}"
        raise CorruptEntry(msg)
    if _checksum(data[:_CHECKSUM_AT], data[tail_at:]) != checksum:
        msg = "the checksum of head, key and metadata does not match"
        raise CorruptEntry(msg)
    metadata_at = tail_at + key_size
    if key_size != len(key) or not data.startswith(key, tail_at):
        msg = "the entry of another key"
        raise StrayError(msg)
    body = data[HEAD_SIZE:tail_at]
    if not flags & BODY_ELSEWHERE and digest(body) != body_digest:
        raise CorruptEntry(_WRONG_BODY)
    return (
        data[metadata_at:],
        body,
        flags,
        body_size,
        body_digest,
        version.hex(),
        None if expires_at == math.inf else expires_at,
    )


def decode_under(key: str, data: bytes) -> tuple[Frame, bytes]:
    """Read a frame that is entirely in memory and was found under `key`, with its body.

    Raises:
        CorruptEntry: the frame is truncated, overlong or damaged, or has strayed.
    """
    frame, body = decode_whole(data)
    if frame.key != key:
        msg = "the entry of another key"
        raise StrayError(msg)
    return frame, body


def refuse_damaged(value: bytes) -> None:
    """Refuse what is no frame, but looks as if it had been one before it was damaged.

    Raises:
        CorruptEntry: it does.
    """
    common = sum(a == b for a, b in zip(value, MAGIC, strict=False))
    if value and common >= min(_ENOUGH_OF_MAGIC, len(value)):
        msg = "a damaged entry"
        raise CorruptEntry(msg)


def _checksum(head: bytes, tail: bytes) -> int:
    return xxhash.xxh3_64_intdigest(head + tail)
