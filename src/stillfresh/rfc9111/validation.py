"""Asking whether a stored response is still good, and taking the answer (RFC 9111 §4.3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stillfresh.rfc9111.dates import parse_date
from stillfresh.rfc9111.fields import Fields, split_list
from stillfresh.rfc9111.freshness import date_of
from stillfresh.rfc9111.messages import Response

if TYPE_CHECKING:
    from stillfresh.rfc9111.messages import Request, StoredResponse

# §4.3.2: by these a caller asks whether it has the present response already.
ASKS_FOR_NEWS: Final = frozenset({"if-none-match", "if-modified-since"})
# Fields that are about what the caller has and wants, and no part of a request made for the cache.
OF_CALLER: Final = ASKS_FOR_NEWS | {"range", "if-range"}
# §4.3.2: these protect what an origin is to do, and are not a cache's to evaluate.
FOR_ORIGIN: Final = frozenset({"if-match", "if-unmodified-since"})

# RFC 9110 §15.4.5: a 304 says which response it is about and what is new of it; what describes a
# body is not sent without one.
_OF_CONTENT: Final = frozenset(
    {
        "content-encoding",
        "content-language",
        "content-length",
        "content-md5",
        "content-range",
        "content-type",
        "digest",
        "content-digest",
    }
)

# No field value has these (RFC 9110 §5.5), though some clients let them in, and others refuse to
# send them. An HTAB is no part of a validator.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

# §3.2: what tells which body is stored and how it is to be read is not changed by a message
# without one. A tag that came later, or came weak and comes strong, may be another body's.
_NOT_UPDATED: Final = frozenset(
    {
        "content-digest",
        "content-encoding",
        "content-length",
        "content-md5",
        "content-range",
        "etag",
    }
)
_AGE: Final = frozenset({"age"})


def asks_for_news(request: Request) -> bool:
    """Tell whether a request has validators of its caller's (§4.3.2)."""
    return not ASKS_FOR_NEWS.isdisjoint(request.fields.names)


def is_unmodified(request: Fields, stored: StoredResponse) -> bool:
    """Tell whether a caller's validators say that it has `stored` already (§4.3.2).

    If-None-Match goes before If-Modified-Since (RFC 9110 §13.2.2). A response without
    Last-Modified is as new as its Date.
    """
    fields = stored.response.fields
    tags = request.get("if-none-match")
    if tags is not None:
        ours = fields.get("etag")
        if tags.strip(" \t") == "*":
            return True
        return ours is not None and _opaque(ours) in map(_opaque, split_list(tags))
    received = stored.response_time
    since = parse_date(request.get("if-modified-since") or "", received)
    if since is None:
        return False
    modified = parse_date(fields.get("last-modified") or "", received)
    return (date_of(fields, received) if modified is None else modified) <= since


def not_modified_head(response: Response) -> Response:
    """Return the head of a 304 about a stored response (RFC 9110 §15.4.5)."""
    fields = response.fields.without(_OF_CONTENT)
    return Response(304, fields, "Not Modified", response.version)


def conditions(request: Request, stored: StoredResponse) -> tuple[tuple[str, str], ...] | None:
    """Return the fields that ask about `stored` beside what the caller asks (§4.3.1).

    None if nothing would come of asking; nothing, where the caller's validators say it all. A
    caller's If-None-Match gets the stored tag as one more; If-Modified-Since would be ignored
    beside a tag (RFC 9110 §13.1.3), so that is left as it is.
    """
    ours = validators(stored.response)
    tags = request.fields.get("if-none-match")
    if not ours or not asks_for_news(request):
        return ours or None
    name, tag = ours[0]
    if tags is None or name != "If-None-Match" or tags.strip(" \t") == "*":
        return ()
    if _opaque(tag) in map(_opaque, split_list(tags)):
        return ()
    return ((name, f"{tags}, {tag}"),)


def validators(response: Response) -> tuple[tuple[str, str], ...]:
    """Return the conditions that ask about `response` (§4.3.1); none if it has no validator."""
    conditions = []
    etag = response.fields.get("etag")
    if etag is not None and is_entity_tag(etag):
        conditions.append(("If-None-Match", etag))
    modified = response.fields.get("last-modified")
    if modified is not None and not _CONTROL.search(modified):
        conditions.append(("If-Modified-Since", modified))
    return tuple(conditions)


def is_entity_tag(value: str) -> bool:
    """Tell whether `value` is one entity-tag that can be sent back (RFC 9110 §8.8.3).

    Servers that forget the quotes know their own tag again, so only what would mean something
    else in a list is refused, and what no client sends: control characters.
    """
    if _CONTROL.search(value):
        return False
    opaque = value.removeprefix("W/")
    if len(opaque) >= 2 and opaque[0] == opaque[-1] == '"':
        return '"' not in opaque[1:-1]
    return bool(opaque) and not any(character in '", \t*' for character in opaque)


def not_modified_is_about(request: Request, stored: StoredResponse, response: Response) -> bool:
    """Tell whether a 304 selects the stored response that was asked about (§4.3.4).

    A validator that it has must be the stored one's; tags are compared weakly, since servers that
    weaken the tag of what they compress forget to in a 304. Without any it is about the only
    response in question, which it isn't where the caller has asked about one of its own.
    """
    etag = response.fields.get("etag")
    ours = stored.response.fields.get("etag")
    if etag is not None and ours is not None:
        return _opaque(etag) == _opaque(ours)
    modified = response.fields.get("last-modified")
    if modified is None:
        return etag is None and not asks_for_news(request)
    return modified == stored.response.fields.get("last-modified")


def head_agrees(stored: StoredResponse, response: Response) -> bool:
    """Tell whether a response to HEAD describes the stored response (§4.3.5)."""
    if response.status != stored.response.status:
        return False
    return all(
        name not in response.fields or response.fields.get(name) == stored.response.fields.get(name)
        for name in ("etag", "last-modified", "content-length")
    )


def updated(stored: Fields, new: Fields, unstorable: frozenset[str]) -> Fields:
    """Return stored fields updated by those of a 304, of an agreeing HEAD, or of another part.

    That is §3.2. `unstorable` names those of the new ones that are not to be stored.
    """
    brought = new.without(_NOT_UPDATED | unstorable)
    # A response that was validated is of the age that the validating one states, or of none.
    return stored.updated(brought, but=_AGE)


def _opaque(etag: str) -> str:
    """Return what weak comparison compares (RFC 9110 §8.8.3.2)."""
    return etag.removeprefix("W/")
