"""Storing responses: may this one be kept, and what of it (RFC 9111 §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stillfresh.rfc9111.dates import format_date
from stillfresh.rfc9111.decisions import Reason, Why, why
from stillfresh.rfc9111.fields import DESCRIBING, Fields, field_names
from stillfresh.rfc9111.keys import vary_names

if TYPE_CHECKING:
    from collections.abc import Collection

    from stillfresh.rfc9111.directives import RequestDirectives, ResponseDirectives
    from stillfresh.rfc9111.messages import Request, Response

# RFC 9110 §15.1, RFC 7725 §3.
HEURISTICALLY_CACHEABLE: Final = frozenset(
    {200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 451, 501}
)

# The final status codes of RFC 9110 and RFC 7725 whose caching is as for any other.
UNDERSTOOD: Final = HEURISTICALLY_CACHEABLE | {
    *(201, 202, 205, 302, 303, 307),
    *(400, 401, 402, 403, 406, 407, 408, 409, 411, 413, 415, 417, 421, 422, 426),
    *(500, 502, 503, 504, 505),
}
# 304 is about another response, 412 about a condition and 416 about a range; the others must not
# be stored (RFC 6585 §3 to §6).
_NEVER: Final = frozenset({304, 412, 416, 428, 429, 431, 511})

# §3.1, beside Connection and what it lists.
_NOT_STORED: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    }
)

# What caches go by is for every recipient, and so is what says how to read the body: no sender may
# list it in Connection (RFC 9110 §7.6.1). A response that lost it would be reused as it must not
# be, or be other bytes to whoever reads it, so it is kept in any case.
_ALWAYS_KEPT: Final = DESCRIBING | {
    *("age", "cache-control", "cache-groups", "date", "expires", "no-vary-search", "vary"),
}


def refusal(
    request: Request,
    response: Response,
    asked: RequestDirectives,
    said: ResponseDirectives,
    *,
    shared: bool,
    stores: bool,
    keyed: bool,
    statuses: Collection[int] | None,
    ruled: bool,
) -> Why | None:
    """Walk through §3 in its order; return the clause that forbids storing, or None.

    `stores` says whether responses to this request are stored at all, `keyed` whether its content
    is a part of the key, `statuses` which alone are, `ruled` whether a rule of the user's says how
    long this one is fresh.
    """
    status = response.status
    if not stores:
        return why(Reason.METHOD_NOT_STORED, request.method)
    if request.method == "GET" and not keyed and has_content(request):
        return why(Reason.REQUEST_CONTENT)
    wanted = statuses is None or status in statuses
    if not 200 <= status < 600 or status in _NEVER or not wanted:
        return why(Reason.STATUS_NOT_STORED, str(status))
    refused = prohibition(request, status, asked, said, shared=shared)
    if refused is not None:
        return refused
    if "*" in vary_names(response.fields):
        return why(Reason.VARY_ANYTHING)
    if not ruled and not _allowed(response, said, shared=shared):
        return why(Reason.NOT_CACHEABLE, f"status {status}, no explicit freshness")
    return None


def prohibition(
    request: Request,
    status: int,
    asked: RequestDirectives,
    said: ResponseDirectives,
    *,
    shared: bool,
) -> Why | None:
    """Return the directive that forbids to store a response, or to go on storing it; or None."""
    if said.must_understand and status not in UNDERSTOOD:
        return why(Reason.NOT_UNDERSTOOD, str(status))
    # §5.2.2.3: understood, must-understand overrides no-store.
    if said.no_store and not said.must_understand:
        return why(Reason.RESPONSE_NO_STORE)
    if asked.no_store:
        return why(Reason.REQUEST_NO_STORE)
    if shared and said.private:
        return why(Reason.PRIVATE)
    if shared and "authorization" in request.fields and not is_for_everybody(said):
        return why(Reason.AUTHORIZATION)
    return None


def has_content(request: Request) -> bool:
    """Tell whether a request has content, which the cache key says nothing about."""
    fields = request.fields
    return "transfer-encoding" in fields or fields.get("content-length") not in {None, "0"}


def is_for_everybody(said: ResponseDirectives) -> bool:
    """Tell whether a response to a request with Authorization may be given to others (§3.5)."""
    return said.public or said.must_revalidate or said.s_maxage is not None


def storable_fields(
    fields: Fields, said: ResponseDirectives, received: float, *, shared: bool
) -> Fields:
    """Return the fields that are stored (§3.1), with a Date in any case."""
    return dated(fields.without(unstorable(fields, said, shared=shared)), received)


def dated(fields: Fields, received: float) -> Fields:
    """Return the fields of a message received then, with a Date in any case (RFC 9110 §6.6.1)."""
    return fields if "date" in fields else fields.adding("Date", format_date(received))


def unstorable(fields: Fields, said: ResponseDirectives, *, shared: bool) -> frozenset[str]:
    """Return the names of the fields that are not stored (§3.1).

    Fields named by `no-cache` could not be used without validation (§5.2.2.4), and validation
    brings them anew; those named by `private` are not for a shared cache (§5.2.2.7).
    """
    named = said.no_cache_fields
    if "connection" in fields:
        named |= field_names(fields.get("connection"))
    if shared:
        named |= said.private_fields
    # That is what most of them name, if any.
    if named <= _NOT_STORED:
        return _NOT_STORED
    return _NOT_STORED | {name for name in named if not _is_always_kept(name)}


def _is_always_kept(name: str) -> bool:
    # Targeted fields (RFC 9213) have names like these.
    return name in _ALWAYS_KEPT or name.endswith("-cache-control")


def _allowed(response: Response, said: ResponseDirectives, *, shared: bool) -> bool:
    return (
        said.public
        or (said.private and not shared)
        or ("expires" in response.fields and not said.targeted)
        or said.max_age is not None
        or (shared and said.s_maxage is not None)
        or response.status in HEURISTICALLY_CACHEABLE
    )
