"""May a stored response answer this request, and as what (RFC 9111 §4)?

The order is that of the RFC: what can't be answered from a cache at all, whether there is a
response, whether it may be used as it is (§4.2), and else how to ask the origin about it (§4.3).
What may be used is then given as the request wants it: all of it, a part (RFC 9110 §14), or the
news that the caller has it already (§4.3.2).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from stillfresh.rfc9111 import freshness, ranges, storing, validation
from stillfresh.rfc9111.decisions import (
    Complete,
    Forward,
    Forwarded,
    Reason,
    RequestDecision,
    Revalidate,
    Serve,
    Unsatisfiable,
    Why,
    why,
)
from stillfresh.rfc9111.directives import request_directives
from stillfresh.rfc9111.messages import Request, Response, StoredResponse

if TYPE_CHECKING:
    from stillfresh.rfc9111.directives import RequestDirectives, ResponseDirectives
    from stillfresh.rfc9111.freshness import Lifetime
    from stillfresh.rfc9111.policy import Policy

# Fields by which a request may be one that only the origin can answer, and those by which it wants
# another answer than all of a response.
# For how many seconds a response is worth keeping beyond the time for which it is fresh: where it
# can't be validated, in case that somebody takes it stale; where it can, as long again, but at
# least a week and at most a month. And all told, a year, which is as long as any is fresh in
# practice (RFC 9111 §5.3).
_AT_LEAST: Final = 60.0
_WORTH_ASKING: Final = 7 * 86_400.0
_LONG_FORGOTTEN: Final = 30 * 86_400.0
LONGEST_USE: Final = 366 * 86_400.0

_FOR_ORIGIN: Final = validation.FOR_ORIGIN | {"content-length", "transfer-encoding"}
_PROTECTING: Final = validation.FOR_ORIGIN | {"if-none-match"}
# RFC 9110 §13.1.2, §13.1.3: the methods by which a caller asks for news.
_NEWS_FOR: Final = frozenset({"GET", "HEAD"})
_ALONE: Final = _FOR_ORIGIN | validation.OF_CALLER
_WANTS: Final = validation.ASKS_FOR_NEWS | {"range"}
# By which a request says how old or how fresh it takes a response.
_TIMED: Final = frozenset({"cache-control", "pragma"})
# What a request alone is to blame for: another could be answered.
_OF_REQUEST: Final = frozenset(
    {Reason.REQUEST_NO_CACHE, Reason.REQUEST_MAX_AGE, Reason.REQUEST_MIN_FRESH}
)


def decide(
    policy: Policy,
    request: Request,
    stored: StoredResponse | None,
    now: float,
    size: int | None,
    missed: Forwarded,
) -> RequestDecision:
    """Answer `Policy.on_request`."""
    asked = request_directives(request.fields)
    if not policy.looks_up(request):
        if policy.terms(request, None).never_store:
            return _only(asked, Forward(why(Reason.RULE_NEVER_STORE), Forwarded.BYPASS))
        return Forward(why(Reason.METHOD, request.method), Forwarded.METHOD)
    own = _for_the_origin(policy, request)
    if own is not None:
        return _only(asked, Forward(own, Forwarded.REQUEST))
    if stored is None:
        reason = Reason.NOT_SELECTED if missed is Forwarded.VARY_MISS else Reason.NO_STORED
        return _only(asked, Forward(why(reason), missed))
    said, limit = policy.understood(request, stored)
    age = freshness.current_age(stored, now)
    ttl = limit.seconds - age
    obstacle = _obstacle(policy, request, stored, asked, said, age, limit)
    if obstacle is None:
        served = _as_wanted(request, stored, size, age, ttl, _why_usable(asked, limit, age))
        return served or _only(asked, _missing(request, stored, asked))
    # A part isn't refreshed behind: to ask about it without its caller is to ask for all of it.
    late = obstacle.reason is Reason.STALE and stored.part is None
    if late and _may_be_late(policy, asked, said, -ttl):
        usable = why(Reason.STALE_WHILE_REVALIDATE, f"{limit.source}, age {int(age)}")
        served = _as_wanted(request, stored, size, age, ttl, usable)
        if served is not None:
            return served._replace(refresh=True)
    kind = Forwarded.REQUEST if ttl > 0 and obstacle.reason in _OF_REQUEST else Forwarded.STALE
    return _only(asked, _ask(request, stored, asked, Forward(obstacle, kind)))


def stands(policy: Policy, request: Request, decision: Serve) -> bool:
    """Answer `Policy.stands`."""
    return (
        decision.why.reason is Reason.FRESH
        and decision.pieces is None
        and not policy.rules
        and request.fields.names.isdisjoint(_TIMED)
    )


def again(
    policy: Policy, request: Request, stored: StoredResponse, now: float, last: Serve
) -> Serve | None:
    """Answer `Policy.again`."""
    _, limit = policy.understood(request, stored)
    age = freshness.current_age(stored, now)
    ttl = limit.seconds - age
    if ttl <= 0:
        return None
    if int(age) == int(last.age):
        return Serve(last.why, last.response, age, ttl)
    reason = _why_usable(request_directives(request.fields), limit, age)
    return Serve(reason, with_age(stored.response, age), age, ttl)


def answer(
    policy: Policy,
    request: Request,
    stored: StoredResponse,
    now: float,
    size: int | None,
    reason: Why,
) -> Serve | None:
    """Answer `Policy.answer`."""
    age = freshness.current_age(stored, now)
    ttl = policy.lifetime(request, stored).seconds - age
    return _as_wanted(request, stored, size, age, ttl, reason)


def on_failure(
    policy: Policy,
    request: Request,
    stored: StoredResponse,
    now: float,
    size: int | None,
    failure: str,
) -> Serve | None:
    """Answer `Policy.on_failure`."""
    if _for_the_origin(policy, request) is not None:
        return None
    asked = request_directives(request.fields)
    said, limit = policy.understood(request, stored)
    age = freshness.current_age(stored, now)
    obstacle = _obstacle(policy, request, stored, asked, said, age, limit)
    ttl = limit.seconds - age
    allowed = policy.stale_if_error
    if allowed is None:
        allowed = max(said.stale_if_error or 0, asked.stale_if_error or 0)
    if obstacle is not None and (
        obstacle.reason is not Reason.STALE
        or -ttl > allowed
        or allowed == 0
        or must_not_be_stale(said, shared=policy.shared)
    ):
        return None
    reason = why(Reason.STALE_IF_ERROR, f"{failure}, {limit.source}, age {int(age)}")
    return _as_wanted(request, stored, size, age, ttl, reason)


def may_share(policy: Policy, request: Request) -> bool:
    """Tell whether what another request gets may answer this one, and the other way round (§4)."""
    if request.method != "GET" or not _ALONE.isdisjoint(request.fields.names):
        return False
    asked = request_directives(request.fields)
    return not (asked.no_store or asked.no_cache or asked.only_if_cached) and not (
        policy.rules and policy.terms(request, None).never_store
    )


def must_not_be_stale(said: ResponseDirectives, *, shared: bool) -> bool:
    """Tell whether the response forbids to be served stale (§4.2.4)."""
    if said.must_revalidate:
        return True
    # §5.2.2.10: s-maxage carries the meaning of proxy-revalidate.
    return shared and (said.proxy_revalidate or said.s_maxage is not None)


def useful_for(policy: Policy, request: Request, stored: StoredResponse) -> float:
    """Answer `Policy.useful_for`."""
    said, lifetime = policy.understood(request, stored)
    response, limit = stored.response, lifetime.seconds
    fresh = max(0.0, limit - freshness.current_age(stored, stored.response_time))
    after = _AT_LEAST
    if "etag" in response.fields or "last-modified" in response.fields:
        after = min(max(limit, _WORTH_ASKING), _LONG_FORGOTTEN)
    if not must_not_be_stale(said, shared=policy.shared):
        for allowed, by_response in (
            (policy.stale_while_revalidate, said.stale_while_revalidate),
            (policy.stale_if_error, said.stale_if_error),
        ):
            after = max(after, (by_response or 0) if allowed is None else allowed)
    return min(fresh + after, LONGEST_USE)


def with_age(response: Response, age: float) -> Response:
    """Return the head of a stored response as it is sent: with its age (§4, §5.1)."""
    status, fields, reason, version = response
    line = ("Age", str(int(age)))
    # Most have none, and adding costs less.
    fields = fields.replacing(line) if "age" in fields else fields.adding(*line)
    return Response(status, fields, reason, version)


def _for_the_origin(policy: Policy, request: Request) -> Why | None:
    """Return why only the origin can answer, whatever is stored."""
    names = request.fields.names
    if request.method not in _NEWS_FOR:
        # RFC 9110 §13.1.2: of another method, If-None-Match says whether it is to be done.
        return why(Reason.PRECONDITION) if not names.isdisjoint(_PROTECTING) else None
    if names.isdisjoint(_FOR_ORIGIN):
        return None
    if not names.isdisjoint(validation.FOR_ORIGIN):
        return why(Reason.PRECONDITION)
    if storing.has_content(request) and not policy.keys_content(request):
        return why(Reason.REQUEST_CONTENT)
    return None


def _only(asked: RequestDirectives, decision: RequestDecision) -> RequestDecision:
    """Leave it at what is stored where the request wants that (§5.2.1.7)."""
    if asked.only_if_cached:
        return Unsatisfiable(why(Reason.ONLY_IF_CACHED, decision.why.sentence))
    return decision


def _obstacle(
    policy: Policy,
    request: Request,
    stored: StoredResponse,
    asked: RequestDirectives,
    said: ResponseDirectives,
    age: float,
    limit: Lifetime,
) -> Why | None:
    """Return what keeps a stored response from being served as it is, or None (§4)."""
    if asked.no_cache:
        return why(Reason.REQUEST_NO_CACHE)
    if said.no_cache:
        return why(Reason.RESPONSE_NO_CACHE)
    if policy.rules and policy.terms(request, stored.response).always_revalidate:
        return why(Reason.RULE_REVALIDATE)
    ttl = limit.seconds - age
    # RFC 8246 §2: an immutable response doesn't change while it is fresh, so a reload, which says
    # max-age=0, has nothing to ask.
    settled = said.immutable and ttl > 0
    if asked.max_age is not None and age > asked.max_age and not settled:
        return why(Reason.REQUEST_MAX_AGE, f"max-age={asked.max_age}, age {int(age)}")
    if asked.min_fresh is not None and ttl < asked.min_fresh:
        detail = f"min-fresh={asked.min_fresh}, fresh for {max(0.0, ttl):.0f}"
        return why(Reason.REQUEST_MIN_FRESH, detail)
    if ttl > 0:
        return None
    if (
        asked.max_stale is not None
        and -ttl <= asked.max_stale
        and not must_not_be_stale(said, shared=policy.shared)
    ):
        return None
    return Why(Reason.STALE, f"stale: {limit.source}, age {int(age)}")


def _why_usable(asked: RequestDirectives, limit: Lifetime, age: float) -> Why:
    seconds, source, against = limit
    if seconds <= age:
        detail = f"stale: {source}, age {int(age)}, max-stale={asked.max_stale}"
        return Why(Reason.STALE_ALLOWED, detail)
    if against:
        return why(Reason.RULE_FRESH, f"{source}, age {int(age)}")
    return Why(Reason.FRESH, f"fresh: {source}, age {int(age)}")


def _may_be_late(
    policy: Policy, asked: RequestDirectives, said: ResponseDirectives, staleness: float
) -> bool:
    """Tell whether a stale response may be served while it is validated (RFC 5861 §3).

    Not where the request says how old or how stale it takes (§5.2.1.1), nor where it leaves nothing
    to be refreshed by.
    """
    if asked.no_store or asked.max_stale is not None or asked.max_age is not None:
        return False
    allowed = policy.stale_while_revalidate
    if allowed is None:
        allowed = said.stale_while_revalidate or 0
    return 0 < allowed >= staleness and not must_not_be_stale(said, shared=policy.shared)


# Answering as the request wants it.


def _as_wanted(
    request: Request,
    stored: StoredResponse,
    size: int | None,
    age: float,
    ttl: float,
    reason: Why,
) -> Serve | None:
    """Make the answer; None if the bytes that it takes are not stored."""
    fields, part = request.fields, stored.part
    response = with_age(stored.response, age)
    wants = response.status == 200 and not fields.names.isdisjoint(_WANTS)
    if (
        wants
        and request.method in _NEWS_FOR
        and validation.asks_for_news(request)
        and validation.is_unmodified(fields, stored)
    ):
        return Serve(reason, validation.not_modified_head(response), age, ttl, ())
    if request.method == "HEAD":
        return Serve(reason, response, age, ttl, ())
    if (
        wants
        and size is not None
        and request.method == "GET"
        and "range" in fields
        and ranges.range_applies(fields, stored.response.fields, stored.response_time)
    ):
        wanted = fields.get("range") or ""
        if part is not None:
            spans = ranges.satisfies(part, wanted)
            if spans is None:
                return None
            return _parts(reason, stored, response, spans, part.size, age, ttl)
        whole = ranges.requested_spans(wanted, size)
        if whole == ():
            refusal = ranges.unsatisfiable_head(response, size)
            return Serve(reason, refusal, age, ttl, ())
        if whole is not None:
            return _parts(reason, stored, response, whole, size, age, ttl)
    return Serve(reason, response, age, ttl) if part is None else None


def _parts(
    reason: Why,
    stored: StoredResponse,
    response: Response,
    spans: tuple[ranges.Span, ...],
    size: int | None,
    age: float,
    ttl: float,
) -> Serve | None:
    """Answer with 206; `size` is that of the whole representation."""
    first = 0 if stored.part is None else stored.part.first
    if len(spans) == 1:
        head = ranges.partial_head(response, spans[0], size)
        return Serve(reason, head, age, ttl, (_stored_at(spans[0], first),))
    if size is None:
        return None
    head, pieces = ranges.multipart(response, spans, size, _boundary(stored, spans))
    moved = tuple(
        piece if isinstance(piece, bytes) else _stored_at(piece, first) for piece in pieces
    )
    return Serve(reason, head, age, ttl, moved)


def _boundary(stored: StoredResponse, spans: tuple[ranges.Span, ...]) -> str:
    """Make a line that no body has by chance (RFC 2046 §5.1.1)."""
    text = f"{stored.url} {stored.response_time} {spans}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=15).hexdigest()


def _stored_at(span: ranges.Span, first: int) -> ranges.Span:
    return ranges.Span(span.first - first, span.last - first)


# Asking the origin.


def _ask(
    request: Request, stored: StoredResponse, asked: RequestDirectives, plain: Forward
) -> RequestDecision:
    """Ask whether the stored response is still good, or plainly where it can't be asked (§4.3)."""
    # What a 304 says would be stored, which a request with no-store forbids (§5.2.1.5); and only
    # to GET and HEAD there are such answers (RFC 9110 §13.1.2).
    if asked.no_store or request.method != "GET":
        return plain
    if stored.part is not None:
        wanted = request.fields.get("range")
        if wanted is None:
            return _rest(request, stored, plain)
        if ranges.satisfies(stored.part, wanted) is None:
            return plain
    conditions = validation.conditions(request, stored)
    if conditions is None:
        return plain
    fields = request.fields.replacing(*conditions)
    asking = Request(request.method, request.url, fields, request.content)
    return Revalidate(plain.why, asking if conditions else request, plain.forwarded)


def _missing(request: Request, stored: StoredResponse, asked: RequestDirectives) -> RequestDecision:
    """Ask for what a stored part lacks, though it is fresh."""
    plain = Forward(why(Reason.INCOMPLETE), Forwarded.PARTIAL)
    if asked.no_store or request.method != "GET" or "range" in request.fields:
        return plain
    return _rest(request, stored, plain)


def _rest(request: Request, stored: StoredResponse, plain: Forward) -> RequestDecision:
    """Ask for what follows a stored beginning (§3.3), if it can be known to be of the same."""
    part = stored.part
    validator = ranges.strong_validator(stored.response.fields, stored.response_time)
    caller_asks = not request.fields.names.isdisjoint(validation.ASKS_FOR_NEWS)
    if part is None or not part.is_prefix or validator is None or caller_asks:
        return plain
    detail = f"{part.length} of {'?' if part.size is None else part.size} bytes"
    asking = request.fields.replacing(("Range", f"bytes={part.length}-"), ("If-Range", validator))
    return Complete(why(Reason.INCOMPLETE, detail), request._replace(fields=asking))
