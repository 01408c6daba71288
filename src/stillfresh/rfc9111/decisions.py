"""What a policy answers, and why.

Every answer carries a `Why`: a member of `Reason`, a sentence with the numbers in it, and the
section of the RFC that it rests on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from stillfresh.rfc9111.messages import Request, Response, StoredResponse
    from stillfresh.rfc9111.ranges import Span

Pieces: TypeAlias = "tuple[bytes | Span, ...]"
"""A body in pieces: bytes as they are, and spans of the stored body, counted from its first."""


class Reason(Enum):
    """Why a decision was taken; the value is what it means in general, with its section."""

    # Of a request.
    FRESH = "the stored response is fresh", "RFC 9111 §4.2"
    STALE_ALLOWED = "stale, and the request accepts that", "RFC 9111 §5.2.1.2"
    STALE_WHILE_REVALIDATE = "stale, and refreshed behind", "RFC 5861 §3"
    STALE_IF_ERROR = "stale, and the origin failed", "RFC 5861 §4"
    STALE = "the stored response is stale", "RFC 9111 §4.2"
    NO_STORED = "nothing is stored for this URI", "RFC 9111 §4"
    NOT_SELECTED = "what is stored was selected by other request fields", "RFC 9111 §4.1"
    GROUP_INVALIDATED = "a group of the stored response was invalidated", "RFC 9875 §2.2.1"
    INCOMPLETE = "only a part is stored", "RFC 9111 §3.3"
    METHOD = "the method is not answered from a cache", "RFC 9111 §4"
    REQUEST_NO_CACHE = "the request says no-cache", "RFC 9111 §5.2.1.4"
    REQUEST_MAX_AGE = "older than the request's max-age", "RFC 9111 §5.2.1.1"
    REQUEST_MIN_FRESH = "not fresh for as long as the request wants", "RFC 9111 §5.2.1.3"
    RESPONSE_NO_CACHE = "the stored response says no-cache", "RFC 9111 §5.2.2.4"
    ONLY_IF_CACHED = "the request says only-if-cached", "RFC 9111 §5.2.1.7"
    REQUEST_CONTENT = "the request has content, which the key leaves out", "RFC 9110 §9.3.1"
    PRECONDITION = "the request has a precondition for the origin", "RFC 9111 §4.3.2"
    UNVERIFIED = "the server's certificate is not verified", "RFC 9110 §4.3.4"
    UNSEEN = "the request got credentials behind the cache", "RFC 9111 §3.5"
    CACHE_FAILED = "the cache could not be read", "RFC 9111 §4"
    RULE_FRESH = "fresh by a rule of the policy", "against RFC 9111 §4.2"
    RULE_REVALIDATE = "a rule of the policy has it validated each time", "RFC 9111 §4.3"
    # Of a response.
    STORABLE = "the response may be stored", "RFC 9111 §3"
    PART_STORABLE = "the part may be stored", "RFC 9111 §3.3"
    JOINED = "the part joins what is stored", "RFC 9111 §3.4"
    COMPLETED = "the rest of the stored part came", "RFC 9111 §3.4"
    CUT_OFF = "cut off, and kept to be completed", "RFC 9111 §3.3"
    NOT_MODIFIED = "the stored response is still good", "RFC 9111 §4.3.4"
    OTHER_NOT_MODIFIED = "the 304 is about another response", "RFC 9111 §4.3.4"
    HEAD_AGREES = "HEAD shows the same response", "RFC 9111 §4.3.5"
    HEAD_DISAGREES = "HEAD shows another response", "RFC 9111 §4.3.5"
    METHOD_NOT_STORED = "responses to this method are not stored", "RFC 9111 §3"
    STATUS_NOT_STORED = "responses of this status are not stored", "RFC 9111 §3"
    NOT_UNDERSTOOD = "must-understand, and the status is unknown", "RFC 9111 §5.2.2.3"
    REQUEST_NO_STORE = "the request says no-store", "RFC 9111 §5.2.1.5"
    RESPONSE_NO_STORE = "the response says no-store", "RFC 9111 §5.2.2.5"
    PRIVATE = "private, and this cache is shared", "RFC 9111 §5.2.2.7"
    AUTHORIZATION = "the request was authorized, and this cache is shared", "RFC 9111 §3.5"
    VARY_ANYTHING = "Vary: * never matches again", "RFC 9111 §4.1"
    NOT_CACHEABLE = "nothing says that it may be stored", "RFC 9111 §3"
    NO_USE = "neither fresh nor to be validated", "RFC 9111 §3"
    TOO_LARGE = "larger than the policy stores", "RFC 9111 §3"
    PARTIAL = "a part that can't be stored", "RFC 9111 §3.3"
    STORED_IS_BETTER = "more of the same is stored already", "RFC 9111 §3.4"
    BROKEN_OFF = "the body didn't come to its end", "RFC 9111 §3.3"
    SERVER_FAILED = "the origin failed, and what is stored stays", "RFC 9111 §4.3.3"
    RULE_NEVER_STORE = "a rule of the policy forbids it", "RFC 9111 §3"
    NOT_KEPT = "the cache could not keep it", "RFC 9111 §3"
    INVALIDATED = "an unsafe request succeeded", "RFC 9111 §4.4"

    def __init__(self, meaning: str, section: str) -> None:
        """Give the general sentence and the section of the RFC their names."""
        self.meaning = meaning
        self.section = section


class Why(NamedTuple):
    """One decision's reason; `sentence` has its numbers."""

    reason: Reason
    sentence: str

    @property
    def section(self) -> str:
        """The section of the RFC it rests on."""
        return self.reason.section

    def __str__(self) -> str:
        """Give the sentence and the section."""
        return f"{self.sentence} ({self.reason.section})"


def why(reason: Reason, detail: str = "") -> Why:
    """Make a `Why` from the reason's general sentence and what is particular about the case."""
    return Why(reason, f"{reason.meaning}: {detail}" if detail else reason.meaning)


class Forwarded(Enum):
    """Why a request went to the origin, in the words of RFC 9211 §2.2."""

    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    MISS = "miss"
    REQUEST = "request"
    STALE = "stale"
    PARTIAL = "partial"


class Serve(NamedTuple):
    """Answer with the stored response; `response` is the head to send (§4, §5.1).

    `pieces` is what the body is made of, bytes as they are and spans of the stored body; None is
    all of that, nothing is a head alone. With `refresh` the stored response is validated behind.
    """

    why: Why
    response: Response
    age: float
    ttl: float
    pieces: Pieces | None = None
    refresh: bool = False


class Revalidate(NamedTuple):
    """Ask the origin, with the conditions in `request`, whether the stored one is still good."""

    why: Why
    request: Request
    forwarded: Forwarded


class Complete(NamedTuple):
    """Ask the origin with `request` for what is missing behind the stored part (§3.3)."""

    why: Why
    request: Request
    forwarded: Forwarded = Forwarded.PARTIAL


class Forward(NamedTuple):
    """Send the request on as it is."""

    why: Why
    forwarded: Forwarded


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """Answer 504: the request forbids what would be needed."""

    why: Why


class Store(NamedTuple):
    """Keep the response, and its body, as `stored`; it stays fresh for `ttl` seconds.

    `length` is that of the body that is on its way, None if unknown. Of a part that joins what is
    stored, `before` bytes of that go before the body, and what follows its `after`-th goes behind
    (§3.4).
    """

    why: Why
    stored: StoredResponse
    ttl: float
    length: int | None
    before: int = 0
    after: int | None = None


class Refresh(NamedTuple):
    """The stored response, its body untouched, is now described by `stored`."""

    why: Why
    stored: StoredResponse


class Pass(NamedTuple):
    """Hand the response on without keeping it; `drop` what is stored if that is contradicted."""

    why: Why
    drop: bool = False


RequestDecision: TypeAlias = Serve | Revalidate | Complete | Forward | Unsatisfiable
ResponseDecision: TypeAlias = Store | Refresh | Pass
