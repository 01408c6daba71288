"""One request through the cache: the only orchestration there is.

    look up -> Policy.on_request -> Serve            the stored response
                                 -> Revalidate       ask the origin; 304 refreshes what is stored
                                 -> Complete         ask the origin for the rest of a stored part
                                 -> Forward          ask the origin
                                 -> Unsatisfiable    504
    from the origin -> Policy.on_response -> Store   recorded while the caller reads it
                                          -> Refresh
                                          -> Pass
    or from none    -> Policy.on_failure  -> Serve   the stored response, stale

Who would ask the origin waits first for others that ask for the same (`collapse`), and looks again.

What the cache can't do is skipped (`guard`); what the origin can't do is the caller's to handle:
errors of `send` pass through where nothing stored may stand in.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

from stillfresh import events
from stillfresh.engine.answers import Answer, CacheInfo, Outcome
from stillfresh.engine.collapse import Turn
from stillfresh.engine.guard import Guard
from stillfresh.engine.keeping import Keeper
from stillfresh.engine.lookup import Found, Lookup
from stillfresh.engine.ports import E, U, W
from stillfresh.engine.recall import remember
from stillfresh.errors import BodyLost, CacheError, ConfigError
from stillfresh.rfc9111 import cache_status
from stillfresh.rfc9111.decisions import (
    Complete,
    Forward,
    Forwarded,
    Pass,
    Reason,
    Refresh,
    RequestDecision,
    Revalidate,
    Serve,
    Store,
    Unsatisfiable,
    Why,
    why,
)
from stillfresh.rfc9111.directives import request_directives
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.invalidation import SAFE
from stillfresh.rfc9111.messages import Request, Response
from stillfresh.rfc9111.validation import asks_for_news

if TYPE_CHECKING:
    from stillfresh.engine.ports import Ports
    from stillfresh.engine.recorder import Recorder
    from stillfresh.rfc9111.messages import StoredResponse
    from stillfresh.rfc9111.policy import Policy

_USERINFO = re.compile(r"^([^:/?#]+://)[^/?#]*@")
# Requests that what is stored has no part in answering, whatever the origin says.
_CALLERS_OWN = (Reason.PRECONDITION, Reason.REQUEST_CONTENT)
# RFC 5861 §4: what counts as an error of the origin's.
_ERRORS = frozenset({500, 502, 503, 504})


async def exchange(
    request: Request, policy: Policy, ports: Ports[E, W, U], *, bypass: Why | None = None
) -> Answer[E, W, U]:
    """Answer `request` from the cache, from the origin, or from both.

    With a reason to `bypass` the cache, the origin is asked, and what is stored is neither used
    nor changed.

    Raises:
        ConfigError: the URL is no absolute URL with a host.
        CacheClosed: the cache has been closed.
    """
    ours = _Exchange(request, policy, ports)
    try:
        return await (ours.answer() if bypass is None else ours.pass_by(bypass))
    except BaseException as error:
        await ours.fail(error)
        raise


class Considered(NamedTuple, Generic[E, W]):
    """What would be done with a request, and what that rests on.

    Attributes:
        decision: of the law, for the reason that the engine would give.
        asking: what the origin would be asked; None where it would not be.
        lookup: what was looked at, closed by now.
    """

    decision: RequestDecision
    asking: Request | None
    lookup: Lookup[E, W]


async def consider(
    request: Request, policy: Policy, ports: Ports[E, W, U], *, bypass: Why | None = None
) -> Considered[E, W]:
    """Take the steps of `exchange` up to the one that serves, or asks the origin.

    That changes no more than looking does: what `ports` removes, if it removes anything.

    Raises:
        ConfigError: the URL is no absolute URL with a host.
        CacheClosed: the cache has been closed.
    """
    ours = _Exchange(request, policy, ports)
    try:
        return await (ours.consider() if bypass is None else ours.consider_passing_by(bypass))
    except BaseException as error:
        await ours.fail(error)
        raise


class _Exchange(Generic[E, W, U]):
    def __init__(self, request: Request, policy: Policy, ports: Ports[E, W, U]) -> None:
        self._request = request
        self._policy = policy
        self._ports = ports
        self._guard: Guard[E, W] = Guard(ports, ports.emit)
        try:
            self._lookup: Lookup[E, W] = Lookup(request, policy, ports, self._guard, ports.vault)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self._kept_by: Keeper[E, W] | None = None
        self._turn: Turn[E, W, U] | None = None
        self._collapses: bool | None = None
        self._tell = _Teller(ports, request)
        self._request_time = 0.0
        self._response_time = 0.0

    async def answer(self) -> Answer[E, W, U]:
        while True:
            looked = time.monotonic()
            decision, found = await self._decide()
            if isinstance(decision, Serve):
                assert found is not None  # noqa: S101 - there is something to serve
                if self._turn is not None:
                    self._turn.served()
                return self._serve(decision, found)
            if isinstance(decision, Unsatisfiable):
                return await self._refuse(decision)
            if not await self._look_again(decision, looked):
                self._lookup.give_up()
                break
        if found is None or isinstance(decision, Forward):
            assert isinstance(decision, Forward)  # noqa: S101 - the others need a stored one
            answer = await self._miss(decision)
        elif isinstance(decision, Revalidate):
            answer = await self._revalidate(decision, found)
        else:
            answer = await self._complete(decision, found)
        if self._turn is not None:
            self._turn.answered(answer)
        return answer

    async def consider(self) -> Considered[E, W]:
        decision, found = await self._decide()
        asking: Request | None = None
        if isinstance(decision, Complete) and found is not None:
            if await self._has_beginning(found):
                asking = decision.request
            else:
                decision = Forward(decision.why, decision.forwarded)
        elif isinstance(decision, Revalidate):
            asking = decision.request
        if isinstance(decision, Forward):
            decision = self._as_forwarded(decision)
            asks = self._asks_about_variants(decision)
            asking = self._about_variants() if asks else self._request
        await self._lookup.close()
        return Considered(decision, asking, self._lookup)

    async def consider_passing_by(self, reason: Why) -> Considered[E, W]:
        if self._may_not_pass_by():
            return Considered(Unsatisfiable(reason), None, self._lookup)
        return Considered(Forward(reason, Forwarded.BYPASS), self._request, self._lookup)

    async def _decide(self) -> tuple[RequestDecision, Found[E] | None]:
        """Look, and decide; what is to be served is ready then."""
        policy, request, lookup = self._policy, self._request, self._lookup
        missed = Forwarded.URI_MISS
        if policy.looks_up(request):
            missed = await lookup.find(self._seconds)
        found = lookup.found
        now = self._ports.now()
        if found is None:
            return policy.on_request(request, None, now, missed=missed), None
        again = None
        if lookup.recall is not None:
            again = lookup.recall.again(request, found.stored, now)
            if again is None:
                await lookup.think_again()
        decision = again or policy.on_request(request, found.stored, now, size=found.size)
        if isinstance(decision, Serve) and not await self._ready(found, decision):
            return policy.on_request(request, None, now), None
        return decision, found

    async def pass_by(self, reason: Why) -> Answer[E, W, U]:
        if self._may_not_pass_by():
            return await self._refuse(Unsatisfiable(reason))
        upstream = await self._ports.send(self._request)
        info = CacheInfo(Outcome.MISS, reason, self._lookup.primary_key, storing=reason)
        return self._handed_on(upstream, info, Forwarded.BYPASS, None)

    def _may_not_pass_by(self) -> bool:
        request = self._request
        # What is unsafe is written through (§4), whatever it says.
        return request.method in SAFE and request_directives(request.fields).only_if_cached

    async def fail(self, error: BaseException) -> None:
        """Leave nothing behind."""
        if self._turn is not None:
            self._turn.failed(error)
        await self._lookup.close()

    @property
    def _keeper(self) -> Keeper[E, W]:
        """What changes the cache; a hit has no need of it."""
        if self._kept_by is None:
            self._kept_by = Keeper(
                self._request,
                self._policy,
                self._ports,
                self._guard,
                self._lookup,
                self._tell,
                None if self._turn is None else self._turn.lead,
            )
        return self._kept_by

    # Answering from the cache.

    async def _ready(self, found: Found[E], decision: Serve) -> bool:
        """Make sure that the caller can be given what was decided; close what it doesn't get.

        An entry whose body is lost is as good as none, and forgotten.
        """
        lookup, pieces = self._lookup, decision.pieces
        if pieces == ():
            await lookup.close()
            return True
        # A part can't be checked without the whole.
        whole = pieces is None or await self._guard.seek(found.key, found.entry, 0)
        if whole and await self._guard.prime(found.key, found.entry):
            if lookup.primary is not None and lookup.primary is not found:
                await self._ports.close(lookup.primary.entry)
            return True
        await lookup.close()
        lookup.found = None
        if lookup.primary is found:
            lookup.primary = None
        return False

    def _serve(self, decision: Serve, found: Found[E]) -> Answer[E, W, U]:
        age, ttl, reason = decision.age, decision.ttl, decision.why
        info = CacheInfo(Outcome.HIT, reason, found.key, age, ttl, stored=True)
        self._tell(events.Hit, found.key, reason, age, ttl)
        # Of a fresh response ttl says all there is to say.
        detail = None if reason.reason is Reason.FRESH else str(reason)
        key, turn = self._key(found.key), self._turn
        if turn is None or not turn.collapsed:
            member = cache_status.hit(ttl, key=key, detail=detail)
        else:
            info.collapsed = True
            member = cache_status.forwarded(
                turn.forwarded, collapsed=True, ttl=ttl, key=key, detail=detail
            )
        if decision.refresh:
            self._ports.refresh(found.key)
        recall = self._lookup.recall
        if recall is None and self._lookup.is_settled:
            recall = remember(found.stored, self._policy, self._request, decision)
        if recall is None:
            head = cache_status.appended(decision.response, member)
        else:
            head = recall.head(decision, member)
        return self._stored(found, decision, head, info)

    def _stored(
        self, found: Found[E], decision: Serve, response: Response, info: CacheInfo
    ) -> Answer[E, W, U]:
        if decision.pieces == ():
            return Answer(response, info)
        lost = partial(self._lose, found)
        return Answer(response, info, found.entry, lost=lost, pieces=decision.pieces)

    async def _lose(self, found: Found[E], error: Exception) -> BodyLost:
        """Tell of a body that broke off under its reader, and see that it is the last one to."""
        lost = error
        if not isinstance(lost, BodyLost):
            lost = BodyLost(f"{type(error).__name__}: {error}")
        self._guard.report("read", found.key, lost)
        with suppress(CacheError):
            await self._guard.remove(found.key)
        return lost

    async def _refuse(self, decision: Unsatisfiable) -> Answer[E, W, U]:
        await self._lookup.close()
        member = cache_status.unsatisfiable(str(decision.why))
        fields = Fields([("Content-Length", "0"), ("Cache-Status", member)])
        info = CacheInfo(Outcome.UNSATISFIABLE, decision.why, self._lookup.primary_key)
        return Answer(Response(504, fields, "Gateway Timeout"), info)

    # Asking the origin.

    def _seconds(self) -> float:
        """Return for how long to claim what isn't there, if `Turn` will claim it as it is."""
        ports, lookup = self._ports, self._lookup
        if self._turn is not None or ports.signal is None or lookup.has_secrets:
            return 0
        if not self._may_collapse() or ports.flights().is_apart(lookup.primary_key):
            return 0
        return self._policy.collapse_wait

    def _may_collapse(self) -> bool:
        """Tell whether the request may wait for another one's response, or be waited for."""
        if self._collapses is None:
            self._collapses = self._policy.collapses(self._request)
        return self._collapses

    async def _look_again(self, decision: Complete | Revalidate | Forward, looked: float) -> bool:
        """Wait for others that ask for the same; tell whether to look again, with a new lookup."""
        request, policy, ports, signal = (
            self._request,
            self._policy,
            self._ports,
            self._ports.signal,
        )
        if signal is None or self._guard.failed or not self._may_collapse():
            return False
        if self._turn is None:
            self._turn = Turn(request, policy, ports, self._guard, signal, decision.forwarded)
        if not await self._turn.wait(self._lookup, looked, decision.why):
            return False
        await self._lookup.close()
        # What it has found to be invalidated is gone, and that was the reason all the same.
        invalidated = self._lookup.invalidated
        self._lookup = Lookup(request, policy, ports, self._guard, ports.vault)
        self._lookup.invalidated = invalidated
        return True

    @property
    def _collapsed(self) -> bool | None:
        return None if self._turn is None else self._turn.collapsed

    async def _send(self, request: Request) -> U | Answer[E, W, U]:
        """Ask the origin; where it fails, answer with what is stored if that may stand in."""
        found = self._lookup.found
        self._keeper.asking()
        self._request_time = self._ports.now()
        try:
            upstream = await self._ports.send(request)
        except Exception as error:
            if found is not None and self._ports.is_failure(error):
                served = await self._instead(found, type(error).__name__)
                if served is not None:
                    return served
            raise
        self._response_time = self._ports.now()
        status = upstream.response.status
        if found is None or status not in _ERRORS:
            return upstream
        served = None
        try:
            served = await self._instead(found, f"status {status}")
        except BaseException:
            await self._ports.discard(upstream)
            raise
        if served is None:
            return upstream
        await self._ports.discard(upstream)
        return served

    async def _instead(self, found: Found[E], failure: str) -> Answer[E, W, U] | None:
        """Answer with a stored response in the place of an origin that failed (RFC 5861 §4)."""
        decision = self._policy.on_failure(
            self._request, found.stored, self._ports.now(), failure, size=found.size
        )
        if decision is None or not await self._ready(found, decision):
            return None
        return self._serve(decision, found)

    async def _miss(self, decision: Forward) -> Answer[E, W, U]:
        if decision.why.reason in _CALLERS_OWN:
            await self._lookup.set_aside()
        decision = self._as_forwarded(decision)
        if self._asks_about_variants(decision):
            return await self._select(decision)
        return await self._forward(decision.why, decision.forwarded)

    def _as_forwarded(self, decision: Forward) -> Forward:
        """Give the reason that the law doesn't know, of what has become of what was stored."""
        reason, lookup = decision.why.reason, self._lookup
        if reason in _CALLERS_OWN:
            return decision
        if reason is Reason.NO_STORED and self._guard.failed:
            return Forward(why(Reason.CACHE_FAILED), Forwarded.MISS)
        if lookup.invalidated is not None:
            return Forward(why(lookup.invalidated), Forwarded.STALE)
        return decision

    async def _forward(self, reason: Why, forwarded: Forwarded) -> Answer[E, W, U]:
        upstream = await self._send(self._request)
        if isinstance(upstream, Answer):
            return upstream
        return await self._take(upstream, reason, forwarded)

    async def _revalidate(self, decision: Revalidate, found: Found[E]) -> Answer[E, W, U]:
        upstream = await self._send(decision.request)
        if isinstance(upstream, Answer):
            return upstream
        if upstream.response.status != 304:
            return await self._take(upstream, decision.why, decision.forwarded)
        outcome = self._policy.on_response(
            self._request,
            upstream.response,
            found.stored,
            self._request_time,
            self._response_time,
        )
        if not isinstance(outcome, Refresh) and self._is_callers(decision, upstream.response):
            # It is about what the caller has: nothing that we have asked.
            return await self._take(upstream, decision.why, decision.forwarded)
        await self._ports.discard(upstream)
        if isinstance(outcome, Refresh):
            served = await self._refreshed(outcome, found, decision, upstream)
            if served is not None:
                return served
        elif isinstance(outcome, Pass) and outcome.drop:
            await self._lookup.drop(found)
        # The 304 is of no use, so ask again for all of it.
        await self._lookup.set_aside()
        return await self._forward(decision.why, decision.forwarded)

    def _is_callers(self, decision: Revalidate, response: Response) -> bool:
        """Tell whether a 304 that isn't about what is stored answers the caller's own question."""
        if not asks_for_news(self._request):
            return False
        fields = response.fields
        return decision.request is self._request or "etag" in fields or "last-modified" in fields

    async def _refreshed(
        self,
        outcome: Refresh,
        found: Found[E],
        decision: Revalidate | Forward,
        upstream: U,
        *,
        copied: bool = False,
    ) -> Answer[E, W, U] | None:
        """Serve what is stored, described anew; None if its body is lost."""
        now, stored = self._ports.now(), outcome.stored
        served = self._policy.answer(self._request, stored, now, found.size, decision.why)
        if served is None or not await self._ready(found, served):
            return None
        await self._keeper.refresh_others(
            found, upstream.response, self._response_time, copied=copied
        )
        keep = self._keeper.copy_variant if copied else self._keeper.refresh
        kept = await keep(found, stored)
        if kept is None:
            return None
        info = CacheInfo(
            Outcome.REVALIDATED, decision.why, found.key, served.age, served.ttl, kept, outcome.why
        )
        info.collapsed = self._collapsed
        member = cache_status.forwarded(
            decision.forwarded,
            status=304,
            ttl=served.ttl,
            stored=kept,
            collapsed=info.collapsed,
            key=self._key(found.key),
            detail=str(decision.why),
        )
        self._tell(events.Revalidated, found.key, decision.why, served.age, served.ttl)
        answer = self._stored(found, served, cache_status.appended(served.response, member), info)
        answer.upstream = upstream
        return answer

    def _asks_about_variants(self, decision: Forward) -> bool:
        request = self._request
        return (
            decision.why.reason is Reason.NOT_SELECTED
            and request.method == "GET"
            and not asks_for_news(request)
            and "range" not in request.fields
            and not request_directives(request.fields).no_store
            and bool(self._lookup.tags())
        )

    def _about_variants(self) -> Request:
        """Return the request, with the tags of all variants (§4.3.1)."""
        tags = ", ".join(self._lookup.tags())
        fields = self._request.fields.replacing(("If-None-Match", tags))
        return self._request._replace(fields=fields)

    async def _select(self, decision: Forward) -> Answer[E, W, U]:
        """Ask which of the variants stored is the one for this request (§4.3.1)."""
        lookup = self._lookup
        upstream = await self._send(self._about_variants())
        if isinstance(upstream, Answer):
            return upstream
        if upstream.response.status != 304:
            return await self._take(upstream, decision.why, decision.forwarded)
        await self._ports.discard(upstream)
        tag = upstream.response.fields.get("etag")
        found = None if tag is None else await lookup.tagged(tag)
        if found is not None:
            lookup.found = found
            outcome = self._policy.on_response(
                self._request,
                upstream.response,
                found.stored,
                self._request_time,
                self._response_time,
            )
            if isinstance(outcome, Refresh):
                served = await self._refreshed(outcome, found, decision, upstream, copied=True)
                if served is not None:
                    return served
        await lookup.set_aside()
        return await self._forward(decision.why, decision.forwarded)

    async def _complete(self, decision: Complete, found: Found[E]) -> Answer[E, W, U]:
        """Ask for what is missing, and give the caller both (§3.4)."""
        plain = Forward(decision.why, decision.forwarded)
        if not await self._has_beginning(found):
            return await self._miss(plain)
        upstream = await self._send(decision.request)
        if isinstance(upstream, Answer):
            return upstream
        response = upstream.response
        if response.status not in {206, 416}:
            return await self._take(upstream, decision.why, decision.forwarded)
        rest = self._policy.on_completion(
            self._request, response, found.stored, self._request_time, self._response_time
        )
        if rest is None:
            await self._ports.discard(upstream)
            await self._lookup.drop(found)
            return await self._miss(plain)
        return await self._completed(decision, rest, found, upstream)

    async def _has_beginning(self, found: Found[E]) -> bool:
        """Make sure of a stored part that is to be completed; one that is lost is forgotten."""
        if await self._guard.prime(found.key, found.entry):
            return True
        await self._lookup.drop(found)
        return False

    async def _completed(
        self, decision: Complete, rest: Store, found: Found[E], upstream: U
    ) -> Answer[E, W, U]:
        info = CacheInfo(Outcome.COMPLETED, decision.why, found.key, ttl=rest.ttl, storing=rest.why)
        lookup, keeper = self._lookup, self._keeper
        try:
            recorder = await keeper.record(rest, info)
            if lookup.primary is not None and lookup.primary is not found:
                await self._ports.close(lookup.primary.entry)
        except BaseException:
            await self._give_up(upstream)
            raise
        self._tell(events.Miss, found.key, decision.why, upstream.response.status)
        info.collapsed = self._collapsed
        member = cache_status.forwarded(
            decision.forwarded,
            status=upstream.response.status,
            stored=recorder is not None,
            collapsed=info.collapsed,
            key=self._key(found.key),
            detail=str(decision.why),
        )
        lost = partial(self._lose, found)
        response = cache_status.appended(rest.stored.response, member)
        return Answer(response, info, found.entry, upstream, recorder, lost)

    async def _give_up(self, upstream: U) -> None:
        """Let go of a response that nobody is going to read, and of what was to be kept of it."""
        try:
            if self._keeper.recorder is not None:
                await self._keeper.recorder.abort()
        finally:
            await self._ports.discard(upstream)

    async def _take(self, upstream: U, reason: Why, forwarded: Forwarded) -> Answer[E, W, U]:
        """Hand on a response of the origin's, and keep what may be kept of it."""
        request, response, lookup = self._request, upstream.response, self._lookup
        recorder = None
        try:
            if request.method not in SAFE:
                await self._keeper.invalidate(response, self._response_time)
            # A 304 to nothing that we have asked is the caller's.
            found = lookup.found if response.status != 304 else None
            stored: StoredResponse | None = None if found is None else found.stored
            decision = self._policy.on_response(
                request, response, stored, self._request_time, self._response_time
            )
            info = CacheInfo(Outcome.MISS, reason, lookup.primary_key, storing=decision.why)
            if isinstance(decision, Store):
                info.ttl = decision.ttl
                recorder = await self._keeper.record(decision, info)
            elif isinstance(decision, Refresh) and found is not None:
                info.stored = bool(await self._keeper.refresh(found, decision.stored))
            elif isinstance(decision, Pass):
                if decision.drop and found is not None:
                    await self._guard.remove(found.key)
                self._tell(events.NotStored, lookup.primary_key, decision.why, response.status)
            if lookup.primary is not None:
                await lookup.close()
            return self._handed_on(upstream, info, forwarded, recorder)
        except BaseException:
            await self._give_up(upstream)
            raise

    def _handed_on(
        self,
        upstream: U,
        info: CacheInfo,
        forwarded: Forwarded,
        recorder: Recorder[E, W] | None,
    ) -> Answer[E, W, U]:
        response = upstream.response
        self._tell(events.Miss, self._lookup.primary_key, info.why, response.status)
        info.collapsed = self._collapsed
        member = cache_status.forwarded(
            forwarded,
            status=response.status,
            stored=recorder is not None or info.stored,
            collapsed=info.collapsed,
            key=self._key(info.key),
            detail=str(info.why),
        )
        return Answer(cache_status.appended(response, member), info, None, upstream, recorder)

    def _key(self, key: str) -> str | None:
        """Return the key for Cache-Status where it isn't just the URL (RFC 9211 §2.7)."""
        return None if "#" not in key else key


class _Teller:
    """Tells of decisions, if anybody wants to hear of them."""

    __slots__ = ("_ports", "_request")

    def __init__(self, ports: Ports[Any, Any, Any], request: Request) -> None:
        self._ports = ports
        self._request = request

    def __call__(self, kind: type[events.Decided], key: str, reason: Why, *more: float) -> None:
        if self._ports.listening:
            method, url, *_ = self._request
            if "@" in url:
                # Its userinfo is a secret, and events are written to logs.
                url = _USERINFO.sub(r"\1", url)
            self._ports.emit(kind(key, method, url, str(reason), *more))
