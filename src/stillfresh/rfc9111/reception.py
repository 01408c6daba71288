"""What becomes of a response of the origin's (RFC 9111 §3, §4.3).

It is stored, brings what is stored up to date or joins it, or is passed on as it came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stillfresh.rfc9111 import freshness, invalidation, ranges, storing, validation
from stillfresh.rfc9111.decisions import Pass, Reason, Refresh, ResponseDecision, Store, Why, why
from stillfresh.rfc9111.directives import request_directives
from stillfresh.rfc9111.fields import content_length
from stillfresh.rfc9111.messages import Request, Response, StoredResponse

if TYPE_CHECKING:
    from stillfresh.rfc9111.directives import ResponseDirectives
    from stillfresh.rfc9111.policy import Policy

# What a newer answer may not be kept is no reason to go on with an older one.
_SUPERSEDING: Final = frozenset({Reason.RESPONSE_NO_STORE, Reason.PRIVATE, Reason.VARY_ANYTHING})
_WITHOUT_BODY: Final = frozenset({204})
# To put parts together takes copying what is stored before the caller gets the first byte: up to
# this many bytes, a moment's work on any disk.
_COPIED: Final = 1 << 22


def decide(
    policy: Policy,
    request: Request,
    response: Response,
    stored: StoredResponse | None,
    request_time: float,
    response_time: float,
) -> ResponseDecision:
    """Answer `Policy.on_response`."""
    status = response.status
    if stored is not None:
        if status == 304:
            if not validation.not_modified_is_about(request, stored, response):
                own = validation.asks_for_news(request)
                return Pass(why(Reason.OTHER_NOT_MODIFIED), drop=not own)
            reason = Reason.NOT_MODIFIED
            return _refreshed(
                policy, reason, request, stored, response, request_time, response_time
            )
        if request.method == "HEAD" and status == 200:
            if not validation.head_agrees(stored, response):
                return Pass(why(Reason.HEAD_DISAGREES), drop=True)
            reason = Reason.HEAD_AGREES
            return _refreshed(
                policy, reason, request, stored, response, request_time, response_time
            )
        if status >= 500:
            return Pass(why(Reason.SERVER_FAILED, str(status)))
    said = policy.said(request, response)
    refused = storing.refusal(
        request,
        response,
        request_directives(request.fields),
        said,
        shared=policy.shared,
        stores=policy.stores(request) or _answers_a_get(policy, request, response, said),
        keyed=policy.keys_content(request),
        statuses=policy.statuses,
        ruled=bool(policy.rules) and policy.terms(request, response).gives_lifetime,
    )
    if refused is not None:
        superseded = stored is not None and refused.reason in _SUPERSEDING
        return Pass(refused, drop=superseded)
    if policy.rules and policy.terms(request, None).never_store:
        return Pass(why(Reason.RULE_NEVER_STORE))
    return _store(policy, request, response, said, stored, request_time, response_time)


def complete(
    policy: Policy,
    request: Request,
    response: Response,
    stored: StoredResponse,
    request_time: float,
    response_time: float,
) -> Store | None:
    """Answer `Policy.on_completion`."""
    part, came = stored.part, ranges.content_range(response.fields.get("content-range"))
    if part is None or came is None or response.status != 206:
        return None
    size = came.last + 1
    # One of them has to know where the end is.
    if not part.is_prefix or came.first != part.length or {came.size, part.size} - {None} != {size}:
        return None
    came_as = stored._replace(response=response, response_time=response_time)
    if not is_the_same(stored, came_as) or not _has_length(response, came):
        return None
    updated, said = _updated(policy, request, stored, response, request_time, response_time)
    whole = updated._replace(
        response=ranges.complete_head(updated.response, size), part=None, legacy=False
    )
    if _prohibition(policy, request, whole, said) is not None:
        return None
    ttl = _ttl(policy, request, whole)
    detail = f"{part.length} of {size} bytes were stored"
    return Store(why(Reason.COMPLETED, detail), whole, ttl, size)


def cut_off(stored: StoredResponse, size: int) -> StoredResponse | None:
    """Return what is stored of a response whose body broke off after `size` bytes (§3.3).

    None if nothing could be done with it: without a strong validator it can't be completed.
    """
    response = stored.response
    first = 0 if stored.part is None else stored.part.first
    validator = ranges.strong_validator(response.fields, stored.response_time)
    if response.status != 200 or validator is None or size <= 0:
        return None
    whole = content_length(response.fields) if stored.part is None else stored.part.size
    if whole is not None and first + size > whole:
        return None
    return stored._replace(part=ranges.Part(first, first + size - 1, whole))


def is_the_same(stored: StoredResponse, other: StoredResponse) -> bool:
    """Tell whether both are of one representation, by a strong validator (§3.4)."""
    return ranges.same_representation(
        stored.response.fields, other.response.fields, stored.response_time, other.response_time
    )


def _store(
    policy: Policy,
    request: Request,
    response: Response,
    said: ResponseDirectives,
    stored: StoredResponse | None,
    request_time: float,
    response_time: float,
) -> ResponseDecision:
    if "transfer-encoding" in response.fields:
        # It overrides Content-Length (RFC 9112 §6.3), which then says nothing about the body.
        response = response._replace(fields=response.fields.without({"content-length"}))
    length = content_length(response.fields)
    if policy.max_body is not None and length is not None and length > policy.max_body:
        too_large = why(Reason.TOO_LARGE, f"{length} bytes of at most {policy.max_body}")
        return Pass(too_large, drop=stored is not None)
    fields = storing.storable_fields(response.fields, said, response_time, shared=policy.shared)
    kept = StoredResponse(
        policy.primary_key(request),
        Response(response.status, fields, response.reason, response.version),
        request_time,
        response_time,
    )
    limit = policy.lifetime(request, kept)
    useful = limit.seconds > 0 or validation.validators(kept.response)
    if not useful and not said.stale_while_revalidate and not said.stale_if_error:
        return Pass(why(Reason.NO_USE, limit.source), drop=stored is not None)
    ttl = limit.seconds - freshness.current_age(kept, response_time)
    if response.status == 206:
        if "range" not in request.fields:
            return Pass(why(Reason.PARTIAL, "nobody asked for a part"))
        decision = _store_part(kept, stored, response, ttl)
        if not isinstance(decision, Store):
            return decision
        if decision.why.reason is Reason.JOINED and stored is not None:
            return _described(policy, request, response, stored, decision)
        if "if-range" in request.fields:
            # RFC 9110 §15.3.7: its sender has the other fields, so it may lack them.
            return Pass(why(Reason.PARTIAL, "it may lack fields"))
        return decision
    if response.status in _WITHOUT_BODY:
        length = 0
    return Store(why(Reason.STORABLE, limit.source), kept, ttl, length)


def _store_part(
    kept: StoredResponse, stored: StoredResponse | None, response: Response, ttl: float
) -> ResponseDecision:
    """Keep a 206 by itself or joined to what is stored (§3.3, §3.4)."""
    came = ranges.content_range(response.fields.get("content-range"))
    kind = (response.fields.get("content-type") or "").lower()
    # §14.6: several parts have their places in them.
    if came is None or not _has_length(response, came) or kind.startswith("multipart/byteranges"):
        return Pass(why(Reason.PARTIAL, "no Content-Range that agrees with its length"))
    new = ranges.Part(*came)
    alone = Store(why(Reason.PART_STORABLE, str(came)), _as_part(kept, new), ttl, new.length)
    if stored is None or stored.response.status != 200:
        return alone
    old = stored.part
    if not is_the_same(stored, kept):
        # Of another representation; or nobody knows, and a part doesn't outweigh the whole.
        if old is not None or ranges.is_strong(kept.response.fields.get("etag")):
            return alone
        return Pass(why(Reason.STORED_IS_BETTER, "without a strong validator"))
    if old is None:
        return Pass(why(Reason.STORED_IS_BETTER, "all of it is stored"))
    together = ranges.joined(old, new)
    if together is None and new.length > old.length:
        return alone
    if together is None or (together.first, together.last) == (old.first, old.last):
        return Pass(why(Reason.STORED_IS_BETTER, f"bytes {old.first}-{old.last} are stored"))
    before, behind = max(0, new.first - old.first), max(0, old.last - new.last)
    if before + behind > _COPIED:
        return Pass(why(Reason.STORED_IS_BETTER, f"{before + behind} bytes would be copied"))
    return Store(
        why(Reason.JOINED, f"bytes {together.first}-{together.last}"),
        _as_part(kept, together),
        ttl,
        new.length,
        before,
        old.length - behind if behind else None,
    )


def _described(
    policy: Policy, request: Request, response: Response, stored: StoredResponse, joined: Store
) -> ResponseDecision:
    """Describe joined parts by the stored fields, updated by those of the new part (§3.4)."""
    kept = joined.stored
    size = content_length(kept.response.fields)
    length = size if kept.part is None else kept.part.length
    if policy.max_body is not None and length is not None and length > policy.max_body:
        return Pass(why(Reason.TOO_LARGE, f"{length} bytes of at most {policy.max_body}"))
    updated, _ = _updated(policy, request, stored, response, kept.request_time, kept.response_time)
    kept = kept._replace(response=ranges.complete_head(updated.response, size))
    return joined._replace(stored=kept, ttl=_ttl(policy, request, kept))


def _as_part(kept: StoredResponse, part: ranges.Part) -> StoredResponse:
    """Describe a part as what it is of the complete response; all of that is no part."""
    whole = part.first == 0 and part.size == part.length
    return kept._replace(
        response=ranges.complete_head(kept.response, part.size), part=None if whole else part
    )


def _has_length(response: Response, came: ranges.ContentRange) -> bool:
    """Tell whether a 206 is as long as it says, where it says so."""
    length = content_length(response.fields)
    if length is None:
        return "content-length" not in response.fields
    return length == came.last - came.first + 1


def _answers_a_get(
    policy: Policy, request: Request, response: Response, said: ResponseDirectives
) -> bool:
    """Tell whether a POST's response is what a GET would be answered by (RFC 9110 §9.3.3)."""
    if request.method != "POST" or response.status != 200 or "GET" not in policy.methods:
        return False
    if not invalidation.is_of_target(request, response.fields.get("content-location")):
        return False
    explicit = said.max_age is not None or (policy.shared and said.s_maxage is not None)
    return explicit or ("expires" in response.fields and not said.targeted)


def _refreshed(
    policy: Policy,
    reason: Reason,
    request: Request,
    stored: StoredResponse,
    response: Response,
    request_time: float,
    response_time: float,
) -> ResponseDecision:
    updated, said = _updated(policy, request, stored, response, request_time, response_time)
    refused = _prohibition(policy, request, updated, said)
    if refused is not None:
        return Pass(refused, drop=refused.reason is not Reason.REQUEST_NO_STORE)
    return Refresh(why(reason), updated)


def _updated(
    policy: Policy,
    request: Request,
    stored: StoredResponse,
    response: Response,
    request_time: float,
    response_time: float,
) -> tuple[StoredResponse, ResponseDirectives]:
    """Bring what is stored up to date (§3.2), and return what that says to this cache."""
    shared, said = policy.shared, policy.said(request, response)
    new = storing.dated(response.fields, response_time)
    fields = validation.updated(
        stored.response.fields, new, storing.unstorable(new, said, shared=shared)
    )
    # What either message says of what is not to be stored counts for the fields of both.
    status, _, phrase, version = stored.response
    said = policy.said(request, Response(status, fields, phrase, version))
    kept = fields.without(storing.unstorable(fields, said, shared=shared))
    head = Response(status, kept, phrase, version)
    if kept is not fields:
        said = policy.said(request, head)
    updated = stored._replace(response=head, request_time=request_time, response_time=response_time)
    return updated, said


def _prohibition(
    policy: Policy, request: Request, stored: StoredResponse, said: ResponseDirectives
) -> Why | None:
    return storing.prohibition(
        request,
        stored.response.status,
        request_directives(request.fields),
        said,
        shared=policy.shared,
    )


def _ttl(policy: Policy, request: Request, stored: StoredResponse) -> float:
    age = freshness.current_age(stored, stored.response_time)
    return policy.lifetime(request, stored).seconds - age
