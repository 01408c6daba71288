"""What an unsafe request throws out (RFC 9111 §4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

from stillfresh.rfc9111.keys import primary_key

if TYPE_CHECKING:
    from stillfresh.rfc9111.messages import Request, Response

# RFC 9110 §9.2.1, and QUERY (safe by its definition). An unknown method is taken for unsafe.
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})


def invalidated_keys(request: Request, response: Response) -> tuple[str, ...]:
    """Return the primary keys that are doubtful after this exchange, the target's first.

    Location and Content-Location count where they are of the target's origin; elsewhere a server
    could throw out what is another's.
    """
    if request.method in SAFE or not 200 <= response.status < 400:
        return ()
    keys = [primary_key(request.url)]
    for name in ("location", "content-location"):
        reference = response.fields.get(name)
        if reference is None:
            continue
        try:
            key = primary_key(urljoin(request.url, reference.strip(" \t")))
        except ValueError:
            continue
        if _origin(key) == _origin(keys[0]) and key not in keys:
            keys.append(key)
    return tuple(keys)


def is_of_target(request: Request, reference: str | None) -> bool:
    """Tell whether a Content-Location names the target of the request itself (RFC 9110 §8.7)."""
    if reference is None:
        return False
    try:
        return primary_key(urljoin(request.url, reference.strip(" \t"))) == primary_key(request.url)
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
