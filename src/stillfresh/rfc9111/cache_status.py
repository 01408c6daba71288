"""The Cache-Status field (RFC 9211): what a cache did, for whoever reads the response."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stillfresh.rfc9111.decisions import Forwarded
    from stillfresh.rfc9111.fields import Fields

NAME: Final = "stillfresh"
_UNPRINTABLE: Final = re.compile(r"[^ -~]")


def hit(ttl: float) -> str:
    """Write the member for a response that came from the cache (§2.1); `ttl` in seconds."""
    return f"{NAME}; hit; ttl={_integer(ttl)}"


def forwarded(
    reason: Forwarded,
    *,
    status: int | None = None,
    stored: bool = False,
    ttl: float | None = None,
) -> str:
    """Write the member for a request that went to the origin (§2.2 to §2.5)."""
    member = f"{NAME}; fwd={reason.value}"
    if status is not None:
        member += f"; fwd-status={status}"
    if ttl is not None:
        member += f"; ttl={_integer(ttl)}"
    if stored:
        member += "; stored"
    return member


def unsatisfiable(detail: str) -> str:
    """Write the member for a 504 of the cache's own (§2.8)."""
    # A String is printable ASCII (RFC 8941 §3.3.3).
    plain = _UNPRINTABLE.sub("?", detail.replace("§", "section "))
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'{NAME}; detail="{quoted}"'


def appended(fields: Fields, member: str) -> Fields:
    """Return `fields` with `member` after what caches nearer to the origin said (§2)."""
    return fields.adding("Cache-Status", member)


def _integer(seconds: float) -> int:
    return int(seconds // 1)
