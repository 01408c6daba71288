"""The Cache-Status field (RFC 9211): what a cache did, for whoever reads the response."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from stillfresh.memo import remembered
from stillfresh.rfc9111.messages import Response

if TYPE_CHECKING:
    from stillfresh.rfc9111.decisions import Forwarded

NAME: Final = "stillfresh"
_GREATEST: Final = 999_999_999_999_999
_UNPRINTABLE: Final = re.compile(r"[^ -~]")


def hit(ttl: float, *, key: str | None = None, detail: str | None = None) -> str:
    """Write the member for a response that came from the cache (§2.1); `ttl` in seconds."""
    member = f"{NAME}; hit; ttl={_integer(ttl)}"
    return member if key is detail is None else member + _more(key, detail)


def forwarded(
    reason: Forwarded,
    *,
    status: int | None = None,
    stored: bool = False,
    collapsed: bool | None = None,
    ttl: float | None = None,
    key: str | None = None,
    detail: str | None = None,
) -> str:
    """Write the member for a request that went to the origin (§2.2 to §2.8).

    One that was collapsed went there as another; `collapsed` is False if that was of no use.
    """
    member = f"{NAME}; fwd={reason.value}"
    if status is not None:
        member += f"; fwd-status={status}"
    if ttl is not None:
        member += f"; ttl={_integer(ttl)}"
    if stored:
        member += "; stored"
    if collapsed is not None:
        member += "; collapsed" if collapsed else "; collapsed=?0"
    return member + _more(key, detail)


def unsatisfiable(detail: str) -> str:
    """Write the member for a 504 of the cache's own (§2.8)."""
    return NAME + _more(None, detail)


def appended(response: Response, member: str) -> Response:
    """Return `response` with `member` after what caches nearer to the origin said (§2)."""
    status, fields, reason, version = response
    return Response(status, fields.adding("Cache-Status", member), reason, version)


def _integer(seconds: float) -> int:
    """Round down to an Integer, which has 15 digits at most (RFC 9651 §3.3.1)."""
    if -_GREATEST <= seconds <= _GREATEST:
        return math.floor(seconds)
    return _GREATEST if seconds > 0 else -_GREATEST


def _more(key: str | None, detail: str | None) -> str:
    """Write the parameters that are text (§2.7, §2.8)."""
    text = "" if key is None else f"; key={_string(key)}"
    return text if detail is None else f"{text}; detail={_string(detail)}"


@remembered()
def _string(text: str) -> str:
    """Write a String, which is printable ASCII (RFC 9651 §3.3.3)."""
    plain = _UNPRINTABLE.sub("?", text.replace("§", "section "))
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
