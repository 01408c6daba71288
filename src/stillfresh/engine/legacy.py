"""Records that CacheControl and pip wrote (`cc=4,` and a msgpack map).

They say less than ours: not when the response came (its Date stands in), nor who had asked (they
are taken for answers to requests without credentials). Fields that came twice were joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgpack

from stillfresh.errors import CorruptEntry
from stillfresh.rfc9111.fields import Fields, content_length
from stillfresh.rfc9111.freshness import date_of
from stillfresh.rfc9111.keys import normalised
from stillfresh.rfc9111.messages import Response, StoredResponse

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX: Final = b"cc=4,"


def is_legacy(metadata: bytes) -> bool:
    """Tell whether another program's record begins here."""
    return metadata.startswith(PREFIX)


def decode(
    metadata: bytes, url: str, conceal: Callable[[str, str], str]
) -> tuple[StoredResponse, bytes]:
    """Read a record, and the body where the record holds it.

    `url` is that of the request, as the record doesn't say it.

    Raises:
        CorruptEntry: it is none, or damaged.
    """
    try:
        record = msgpack.unpackb(memoryview(metadata)[len(PREFIX) :], raw=False)
        return _read(record, url, conceal)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        msg = f"a damaged record of CacheControl's: {error!r}"
        raise CorruptEntry(msg) from error


def check_body(stored: StoredResponse, size: int) -> None:
    """Refuse a body that can't be the one of the record.

    Nothing ties the two together but their length, where the response said it.

    Raises:
        CorruptEntry: the lengths differ.
    """
    length = content_length(stored.response.fields)
    if length is not None and length != size:
        msg = f"a body of {size} bytes beside a record of CacheControl's that says {length}"
        raise CorruptEntry(msg)


def _read(
    record: Any, url: str, conceal: Callable[[str, str], str]
) -> tuple[StoredResponse, bytes]:
    held = record["response"]
    status = int(held["status"])
    if not 100 <= status <= 999:
        msg = f"no response has the status {status}"
        raise ValueError(msg)
    fields = Fields((str(name), str(value)) for name, value in held["headers"].items())
    fields = fields.without({"transfer-encoding", "connection", "keep-alive"})
    # Without a Date its age is unknown, so it counts from the beginning of time: to be validated.
    received = date_of(fields, 0.0)
    selection: dict[str, str | None] = {"authorization": None}
    if "private" in (fields.get("cache-control") or "").lower():
        selection["cookie"] = None
    for name, value in (record.get("vary") or {}).items():
        lowered = str(name).lower()
        selection[lowered] = (
            None if value is None else conceal(lowered, normalised(lowered, str(value)))
        )
    stored = StoredResponse(
        url=url,
        response=Response(
            status, fields, str(held.get("reason") or ""), int(held["version"] or 11)
        ),
        request_time=received,
        response_time=received,
        selection=tuple(sorted(selection.items())),
        legacy=True,
    )
    body = held.get("body") or b""
    return stored, body if isinstance(body, bytes) else body.encode("latin-1")
