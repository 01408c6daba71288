"""Asking whether a stored response is still good, and taking the answer (RFC 9111 §4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stillfresh.rfc9111.directives import response_directives
from stillfresh.rfc9111.storing import storable_fields

if TYPE_CHECKING:
    from stillfresh.rfc9111.fields import Fields
    from stillfresh.rfc9111.messages import Request, Response, StoredResponse

# RFC 9110 §13.1.
PRECONDITIONS: Final = frozenset(
    {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"}
)

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


def has_preconditions(request: Request) -> bool:
    """Tell whether the caller's request has preconditions of its own."""
    return not PRECONDITIONS.isdisjoint(request.fields.names)


def validators(response: Response) -> tuple[tuple[str, str], ...]:
    """Return the conditions that ask about `response` (§4.3.1); none if it has no validator."""
    conditions = []
    etag = response.fields.get("etag")
    if etag is not None and is_entity_tag(etag):
        conditions.append(("If-None-Match", etag))
    modified = response.fields.get("last-modified")
    if modified is not None:
        conditions.append(("If-Modified-Since", modified))
    return tuple(conditions)


def is_entity_tag(value: str) -> bool:
    """Tell whether `value` is one entity-tag that can be sent back (RFC 9110 §8.8.3).

    Servers that forget the quotes know their own tag again, so only what would mean something
    else in a list is refused.
    """
    opaque = value.removeprefix("W/")
    if len(opaque) >= 2 and opaque[0] == opaque[-1] == '"':
        return '"' not in opaque[1:-1]
    return bool(opaque) and not any(character in '", \t*' for character in opaque)


def not_modified_is_about(stored: StoredResponse, response: Response) -> bool:
    """Tell whether a 304 selects the stored response that was asked about (§4.3.4).

    A validator that it has must be the stored one's; tags are compared weakly, since servers that
    weaken the tag of what they compress forget to in a 304. Without any it is about the only
    response in question.
    """
    etag = response.fields.get("etag")
    ours = stored.response.fields.get("etag")
    if etag is not None and ours is not None:
        return etag.removeprefix("W/") == ours.removeprefix("W/")
    modified = response.fields.get("last-modified")
    if modified is None:
        return etag is None
    return modified == stored.response.fields.get("last-modified")


def head_agrees(stored: StoredResponse, response: Response) -> bool:
    """Tell whether a response to HEAD describes the stored response (§4.3.5)."""
    if response.status != stored.response.status:
        return False
    return all(
        name not in response.fields or response.fields.get(name) == stored.response.fields.get(name)
        for name in ("etag", "last-modified", "content-length")
    )


def updated(
    stored: StoredResponse,
    response: Response,
    request_time: float,
    response_time: float,
    *,
    shared: bool,
) -> StoredResponse:
    """Return `stored` with the fields of a 304, or of an agreeing HEAD (§3.2)."""
    said = response_directives(response.fields)
    new = storable_fields(response.fields, said, response_time, shared=shared)
    fields = _merged(stored.response.fields, new.without(_NOT_UPDATED))
    # What either says of no-cache and private fields counts for those of both.
    said = response_directives(fields)
    fields = storable_fields(fields, said, response_time, shared=shared)
    return stored._replace(
        response=stored.response._replace(fields=fields),
        request_time=request_time,
        response_time=response_time,
    )


def _merged(old: Fields, new: Fields) -> Fields:
    # A response that was validated is of the age that the validating one states, or of none.
    return old.without({"age"}).replacing(*new.lines)
