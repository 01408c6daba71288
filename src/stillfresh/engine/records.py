"""Records: a `StoredResponse` as the metadata bytes of an entry, and back.

A record is a prefix that names its format, then one msgpack array. What doesn't decode into
exactly the types that belong there is damage, whatever wrote it.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Any, Final

import msgpack

from stillfresh.errors import CorruptEntry
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Response, StoredResponse
from stillfresh.rfc9111.ranges import Part

PREFIX: Final = b"stillfresh/1\n"
# Lone surrogates come from clients that decode header bytes with surrogateescape. They are rare,
# and looking for them takes as long as all the rest.
_STRINGS: Final = "surrogatepass"
# What msgpack allots at first, in bytes; a quarter of a MiB by itself. For more than this the C
# library's allocator tidies up first, which takes longer than writing the record.
_ROOM: Final = 1024
# Of the records that were read and written last, those of up to this many bytes are remembered, and
# what has been found out about them with them. Most hits are of few.
_SHORT: Final = 2048
# And of up to so many lines, and members of lists: many short ones take sixty times as much when
# they are read.
_LINES: Final = 64
_COMMAS: Final = 128
_REMEMBERED: Final = 256
_last: Final[dict[bytes, StoredResponse]] = {}

_TYPES: Final = (str, int, str, int, tuple, float, float, tuple, str, tuple, tuple, tuple)


def encode(stored: StoredResponse) -> bytes:
    """Write a record."""
    response = stored.response
    record = (
        stored.url,
        response.status,
        response.reason,
        response.version,
        tuple(chain.from_iterable(response.fields.lines)),
        # Clocks may count whole seconds.
        float(stored.request_time),
        float(stored.response_time),
        stored.selection,
        stored.generation,
        stored.others,
        stored.part or (),
        stored.variants,
    )
    try:
        packed: bytes = msgpack.packb(record, buf_size=_ROOM)
    except UnicodeEncodeError:
        packed = msgpack.packb(record, unicode_errors=_STRINGS)
    return PREFIX + packed


def decode(metadata: bytes) -> StoredResponse:
    """Read a record.

    Raises:
        CorruptEntry: the bytes are no record of a format known here.
    """
    if not metadata.startswith(PREFIX):
        msg = "not a record of a known format"
        raise CorruptEntry(msg)
    try:
        return _read(
            msgpack.unpackb(
                memoryview(metadata)[len(PREFIX) :],
                use_list=False,
                unicode_errors=_STRINGS,
            )
        )
    except (ValueError, TypeError, RecursionError) as error:
        msg = f"a damaged record: {error}"
        raise CorruptEntry(msg) from error


def read(metadata: bytes) -> StoredResponse:
    """Decode a record, or remember what it says.

    Raises:
        CorruptEntry: as `decode`.
    """
    stored = _last.get(metadata)
    if stored is None:
        stored = decode(metadata)
        _remember(metadata, stored)
    return stored


def written(stored: StoredResponse) -> bytes:
    """Encode a record that will be read again, by all likelihood soon."""
    metadata = encode(stored)
    if not stored.legacy:
        _remember(metadata, stored)
    return metadata


def _remember(metadata: bytes, stored: StoredResponse) -> None:
    is_small = len(metadata) <= _SHORT and len(stored.response.fields) <= _LINES
    if is_small and metadata.count(b",") <= _COMMAS:
        if len(_last) >= _REMEMBERED:
            _last.clear()
        _last[metadata] = stored


def _read(record: Any) -> StoredResponse:
    if not isinstance(record, tuple) or tuple(map(type, record)) != _TYPES:
        msg = "the record has not the values it should have"
        raise TypeError(msg)
    url, status, reason, version, lines, requested, received, *more = record
    selection, generation, others, part, variants = more
    if not math.isfinite(requested + received):
        msg = "a moment that never was"
        raise ValueError(msg)
    # Joining is the quickest way to have every member be a string.
    "".join(lines)
    for pair in selection:
        name, value = _pair(pair)
        "".join((name, "" if value is None else value))
    for names in others:
        "".join(_tuple(names))
    for pair in variants:
        "".join(_pair(pair))
    return StoredResponse(
        url=url,
        response=Response(
            status, Fields(zip(lines[::2], lines[1::2], strict=True)), reason, version
        ),
        request_time=requested,
        response_time=received,
        selection=selection,
        generation=generation,
        others=others,
        part=_part(*part) if part else None,
        variants=variants,
    )


def _tuple(value: Any) -> tuple[Any, ...]:
    if type(value) is not tuple:
        msg = "something else where a tuple should be"
        raise TypeError(msg)
    return value


def _pair(value: Any) -> tuple[Any, Any]:
    if type(value) is not tuple or len(value) != 2:
        msg = "something else where a pair should be"
        raise TypeError(msg)
    return value


def _part(first: Any, last: Any, size: Any) -> Part:
    types = (type(first), type(last), type(size))
    if types not in {(int, int, int), (int, int, type(None))}:
        msg = "a part without numbers"
        raise TypeError(msg)
    if not 0 <= first <= last or (size is not None and last >= size):
        msg = "a part that is none"
        raise ValueError(msg)
    return Part(first, last, size)
