"""Requests and responses as the law sees them: heads, no bodies.

They are named tuples, since several are made for each hit and a frozen dataclass costs three
times as much.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar, TypeVarTuple
from urllib.parse import quote

from stillfresh.memo import remembered

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.rfc9111.fields import Fields
    from stillfresh.rfc9111.ranges import Part

A = TypeVar("A")
Ts = TypeVarTuple("Ts")

Selection: TypeAlias = tuple[tuple[str, str | None], ...]
"""The request fields that select a variant, by lower-case name; None is an absent field."""

# Scheme, userinfo, and host with its port.
_AUTHORITY: Final = re.compile(r"([^:/?#]+://)((?:[^/?#]*@)?)([^/?#]*)")
_IN_AUTHORITY: Final = "!$&'()*+,;=:[]%"


class Request(NamedTuple):
    """A request; `url` is the target URI as the client has it.

    `content` is that of a request whose rule makes it a part of the key, where it is at hand.
    """

    method: str
    url: str
    fields: Fields
    content: bytes | None = None


def targeted(request: Request) -> Request:
    """Return the request for its target URI, whose authority Host says (RFC 9110 §7.1)."""
    host = request.fields.get("host")
    if not host:
        return request
    target = _target((request.url, host))
    return request if target == request.url else request._replace(url=target)


@remembered(1 << 17)
def _target(asked: tuple[str, str]) -> str:
    url, host = asked
    parts = _AUTHORITY.match(url)
    if parts is None or parts[3] == host:
        return url
    return f"{parts[1]}{parts[2]}{quote(host, safe=_IN_AUTHORITY)}{url[parts.end() :]}"


class Response(NamedTuple):
    """The head of a response; `version` is 11 for HTTP/1.1."""

    status: int
    fields: Fields
    reason: str = ""
    version: int = 11


class _StoredResponse(NamedTuple):
    url: str
    response: Response
    request_time: float
    response_time: float
    selection: Selection = ()
    generation: str = ""
    others: tuple[tuple[str, ...], ...] = ()
    legacy: bool = False
    part: Part | None = None
    variants: tuple[tuple[str, str], ...] = ()


class StoredResponse(_StoredResponse):
    """A response that a cache holds, with what §3 and §4.2.3 want known about it.

    Attributes:
        url: the target URI it answers, normalised.
        response: its head, without what is not stored (§3.1).
        request_time: when the request was made, seconds since the epoch.
        response_time: when the response came.
        selection: what selected it (§4.1); digests where the field is a credential.
        generation: names the set of variants that go together under one URI.
        others: the field names that other variants of the set are selected by.
        legacy: another program stored it, with less known about it.
        part: the run of bytes that the stored body is of the representation's (§3.3); None where
            it is all of them.
        variants: key and entity tag of others of the set, the newest last (§4.3.1).
    """

    def known(self, question: Callable[[StoredResponse, *Ts], A], *details: *Ts) -> A:
        """Return what `question` answers about it, given `details`.

        It is asked once: what it is about never changes, and hits of one record share it.
        """
        answers: dict[Any, A] = self.__dict__
        asked = (question, details)
        answer = answers.get(asked)
        if answer is None:
            answer = answers[asked] = question(self, *details)
        return answer
