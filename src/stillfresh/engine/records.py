"""Records: a `StoredResponse` as the metadata bytes of an entry, and back.

A record is a prefix that names its format, then one msgpack array. What doesn't decode into
exactly the types that belong there is damage, whatever wrote it.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from stillfresh.errors import CorruptEntry
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Response, StoredResponse

PREFIX: Final = b"stillfresh/1\n"
# Lone surrogates come from clients that decode header bytes with surrogateescape.
_STRINGS: Final = "surrogatepass"


def encode(stored: StoredResponse) -> bytes:
    """Write a record."""
    response = stored.response
    packed: bytes = msgpack.packb(
        (
            stored.url,
            response.status,
            response.reason,
            response.version,
            response.fields.lines,
            stored.request_time,
            stored.response_time,
            stored.selection,
            stored.generation,
            stored.others,
        ),
        unicode_errors=_STRINGS,
    )
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


def _read(record: Any) -> StoredResponse:
    (
        url,
        status,
        reason,
        version,
        lines,
        request_time,
        response_time,
        selection,
        generation,
        others,
    ) = record
    _require(
        isinstance(url, str)
        and isinstance(status, int)
        and isinstance(reason, str)
        and isinstance(version, int)
        and isinstance(request_time, float)
        and isinstance(response_time, float)
        and isinstance(generation, str)
    )
    for name, value in lines:
        _require(isinstance(name, str) and isinstance(value, str))
    for name, value in selection:
        _require(isinstance(name, str) and (value is None or isinstance(value, str)))
    for names in others:
        _require(isinstance(names, tuple) and all(isinstance(name, str) for name in names))
    return StoredResponse(
        url=url,
        response=Response(status, Fields(lines), reason, version),
        request_time=request_time,
        response_time=response_time,
        selection=selection,
        generation=generation,
        others=others,
    )


def _require(condition: bool) -> None:  # noqa: FBT001 - an assertion
    if not condition:
        msg = "a value of the wrong type"
        raise TypeError(msg)
