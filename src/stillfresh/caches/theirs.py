"""The records of CacheControl and pip: whether they can be whole, with the body beside them.

They bear no digest. What can be told is whether a record can be read at all, by the form that
CacheControl's own controller needs, and whether the body has the length that it says.
"""

from __future__ import annotations

import calendar
from typing import TYPE_CHECKING, Any, Final

import msgpack

if TYPE_CHECKING:
    from stillfresh.caches.entry import Entry

# How a record begins; a msgpack map follows.
_RECORD: Final = b"cc=4,"
# Kept without their bodies, whatever length they say.
_BODILESS: Final = frozenset({301, 308})
# What a record holds of a response; older versions wrote `strict` as well.
_HELD: Final[dict[str, Any]] = {
    "body": bytes | str,
    "headers": dict,
    "status": int,
    "version": int | None,
    "reason": str | None,
    "decode_content": bool | None,
    "strict": object,
}


def problem(entry: Entry) -> str | None:
    """Say what is wrong with a record, or with what is beside it; None too of what is no record."""
    if not entry.metadata.startswith(_RECORD):
        return None
    try:
        record = msgpack.unpackb(memoryview(entry.metadata)[len(_RECORD) :], raw=False)
        response = _readable(record)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        return f"a damaged record: {error!r}"
    size = entry.size if entry.has_body else len(response["body"])
    if size == 0 and response["status"] in _BODILESS:
        return None
    length = response["headers"].get("content-length", "")
    if size == 0 and not entry.has_body and not length:
        return "a record whose body is not there"
    if length.isascii() and length.isdigit() and length.lstrip("0") != str(size).lstrip("0"):
        return f"a body of {size} bytes beside a record that says {length}"
    return None


def _readable(record: Any) -> dict[str, Any]:
    """Return the response of a record, names of fields in lower case, if CacheControl can read it.

    Of a record that is otherwise it makes an exception, in the middle of somebody's request.
    """
    response: dict[str, Any] = record["response"]
    strange = response.keys() - _HELD.keys()
    if strange:
        msg = f"a response with {', '.join(map(repr, strange))}"
        raise ValueError(msg)
    for name, kinds in _HELD.items():
        if not isinstance(response.get(name), kinds):
            msg = f"the {name} is {response.get(name)!r}"
            raise TypeError(msg)
    headers, varied = response["headers"], record.get("vary", {})
    if not all(isinstance(text, str) for text in [*headers, *headers.values(), *varied.keys()]):
        msg = "fields that are not text"
        raise TypeError(msg)
    headers = {name.lower(): text for name, text in headers.items()}
    if "date" in headers:
        from email.utils import parsedate_tz

        # It doesn't ask whether this is one.
        calendar.timegm(parsedate_tz(headers["date"])[:6])
    return response | {"headers": headers}
