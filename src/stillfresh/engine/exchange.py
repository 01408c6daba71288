"""One request through the cache: the only orchestration there is.

    look up -> Policy.on_request -> Serve            the stored response
                                 -> Revalidate       ask the origin; 304 refreshes what is stored
                                 -> Forward          ask the origin
                                 -> Unsatisfiable    504
    from the origin -> Policy.on_response -> Store   recorded while the caller reads it
                                          -> Refresh
                                          -> Pass

What the cache can't do is skipped (`guard`); what the origin can't do is the caller's to handle:
errors of `send` pass through.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Generic

from stillfresh import events
from stillfresh.engine import legacy, records
from stillfresh.engine.body import Recorder
from stillfresh.engine.credentials import concealer
from stillfresh.engine.guard import Guard
from stillfresh.engine.ports import E, U, W
from stillfresh.errors import BodyLost, CacheError, ConfigError, CorruptEntry
from stillfresh.rfc9111 import cache_status, invalidation
from stillfresh.rfc9111.decisions import (
    Forwarded,
    Pass,
    Reason,
    Refresh,
    Revalidate,
    Serve,
    Store,
    Unsatisfiable,
    Why,
    why,
)
from stillfresh.rfc9111.fields import Fields, content_length
from stillfresh.rfc9111.freshness import current_age, date_of
from stillfresh.rfc9111.keys import (
    is_selected,
    primary_key,
    selection_of,
    variant_key,
)
from stillfresh.rfc9111.messages import Request, Response, StoredResponse
from stillfresh.rfc9111.policy import Policy, with_age

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.engine.body import Lost
    from stillfresh.engine.ports import Ports

# How many different sets of selecting fields are remembered for one URI.
_MOST_SETS = 8
_COPY_STEP = 1 << 18
_USERINFO = re.compile(r"^([^:/?#]+://)[^/?#]*@")
# Requests that what is stored has no part in answering.
_CALLERS_OWN = frozenset({Reason.RANGE, Reason.PRECONDITION, Reason.REQUEST_CONTENT})


class Outcome(Enum):
    """Where an answer came from."""

    HIT = "hit"
    REVALIDATED = "revalidated"
    MISS = "miss"
    UNSATISFIABLE = "unsatisfiable"


@dataclass(slots=True)
class CacheInfo:
    """What the cache did for one answer.

    Attributes:
        outcome: hit, revalidated, miss or unsatisfiable.
        why: the reason for that, with its section of the RFC.
        key: the key of the stored response, or of the one that would have been.
        age: of a stored response when it was served, in seconds.
        ttl: how long the response stays fresh, in seconds; negative if it is stale.
        stored: whether the answer is in the cache now. Of a miss that is known when its body has
            been read.
        storing: why it was stored, or why not.
    """

    outcome: Outcome
    why: Why
    key: str
    age: float | None = None
    ttl: float | None = None
    stored: bool = False
    storing: Why | None = None

    @property
    def from_cache(self) -> bool:
        """Whether the body came out of the cache."""
        return self.outcome is Outcome.HIT or self.outcome is Outcome.REVALIDATED

    def __str__(self) -> str:
        """Say it in one line."""
        text = f"{self.outcome.value}: {self.why}"
        return text if self.storing is None else f"{text}; {self.storing}"


@dataclass(slots=True)
class Answer(Generic[E, W, U]):
    """What to hand to the caller: a head, and where its body is.

    It is in `entry`, or with `upstream` (to be recorded on its way, if there is a `recorder`), or
    there is none. Where reading `entry` fails, `lost` takes note of that.
    """

    response: Response
    info: CacheInfo
    entry: E | None = None
    upstream: U | None = None
    recorder: Recorder[E, W] | None = None
    lost: Lost | None = None


@dataclass(slots=True)
class _Found(Generic[E]):
    """A stored response and its entry."""

    key: str
    entry: E
    version: str
    stored: StoredResponse


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
    except BaseException:
        await ours.close()
        raise


class _Exchange(Generic[E, W, U]):
    def __init__(self, request: Request, policy: Policy, ports: Ports[E, W, U]) -> None:
        self._request = request
        # Its userinfo is a secret, and events are written to logs.
        self._url = _USERINFO.sub(r"\1", request.url) if "@" in request.url else request.url
        self._policy = policy
        self._ports = ports
        self._guard: Guard[E, W] = Guard(ports, ports.emit)
        try:
            self._primary_key = primary_key(request.url)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self._conceal: Callable[[str, str], str] = _no_credentials
        self._primary: _Found[E] | None = None
        self._found: _Found[E] | None = None
        self._recorder: Recorder[E, W] | None = None

    async def answer(self) -> Answer[E, W, U]:
        policy, request = self._policy, self._request
        missed = Forwarded.URI_MISS
        if policy.looks_up(request):
            if not policy.concealed.isdisjoint(request.fields.names):
                await self._learn_to_conceal()
            missed = await self._look_up()
        found = self._found
        stored = None if found is None else found.stored
        decision = policy.on_request(request, stored, self._ports.now(), missed=missed)
        if isinstance(decision, Serve) and found is not None:
            if await self._ready(found):
                return self._serve(decision, found)
            decision = policy.on_request(request, None, self._ports.now())
        if isinstance(decision, Unsatisfiable):
            return await self._refuse(decision)
        if isinstance(decision, Revalidate) and found is not None:
            return await self._revalidate(decision, found)
        assert not isinstance(decision, Serve | Revalidate)  # noqa: S101 - they need a stored one
        if decision.why.reason in _CALLERS_OWN:
            # Nothing stored is in question, whatever the origin answers.
            await self._set_aside()
        if decision.why.reason is Reason.NO_STORED and self._guard.failed:
            return await self._forward(why(Reason.CACHE_FAILED), Forwarded.MISS)
        return await self._forward(decision.why, decision.forwarded)

    async def pass_by(self, reason: Why) -> Answer[E, W, U]:
        upstream = await self._ports.send(self._request)
        info = CacheInfo(Outcome.MISS, reason, self._primary_key, storing=reason)
        return self._miss(upstream, info, Forwarded.BYPASS, None)

    # Looking up.

    async def _learn_to_conceal(self) -> None:
        """Get the key of digests, for a request that has something to be kept as a digest."""
        secret = self._policy.secret or await self._ports.vault.secret(self._guard)
        self._conceal = concealer(secret, self._policy.concealed)

    async def _look_up(self) -> Forwarded:
        """Find the stored response that the request selects (§4, §4.1)."""
        fields = self._request.fields
        primary = self._primary = await self._load(self._primary_key)
        if primary is None:
            return Forwarded.URI_MISS
        matches = is_selected(primary.stored, fields, self._conceal)
        matches = matches and self._is_isolated(primary.stored)
        found = self._found = primary if matches else None
        others = primary.stored.others
        own_names = tuple(name for name, _ in primary.stored.selection) if others else ()
        for names in others:
            if matches and names == own_names:
                continue
            selection = selection_of(fields, names, self._conceal)
            key = variant_key(self._primary_key, primary.stored.generation, selection)
            other = await self._load(key)
            if other is None:
                continue
            matching = other.stored.selection == selection and self._is_isolated(other.stored)
            if matching and (found is None or _is_newer(other.stored, found.stored)):
                outdone, found, self._found = found, other, other
                if outdone is not None and outdone is not primary:
                    await self._ports.close(outdone.entry)
            else:
                await self._ports.close(other.entry)
        return Forwarded.VARY_MISS

    def _is_isolated(self, stored: StoredResponse) -> bool:
        """Tell whether what keeps users apart has done so; who stored it may not have known."""
        isolate = self._policy.isolate
        return not isolate or isolate <= {name for name, _ in stored.selection}

    async def _set_aside(self) -> None:
        """Go on as if nothing had been found."""
        found, self._found = self._found, None
        if found is not None and found is not self._primary:
            await self._ports.close(found.entry)

    async def _load(self, key: str) -> _Found[E] | None:
        """Open an entry and read its record; damage is a miss."""
        entry = await self._guard.open(key)
        if entry is None:
            return None
        metadata, version, size, has_body = self._ports.describe(entry)
        try:
            if not legacy.is_legacy(metadata):
                stored = records.decode(metadata)
                if stored.url != self._primary_key:
                    msg = f"{key} holds the record of {stored.url}"
                    raise CorruptEntry(msg)
                return _Found(key, entry, version, stored)
            stored, body = legacy.decode(metadata, self._primary_key, self._conceal)
            if body or not has_body:
                entry, size = self._ports.embed(entry, body), len(body)
                if not body and content_length(stored.response.fields) != 0:
                    msg = "a record of CacheControl's without its body"
                    raise CorruptEntry(msg)
            legacy.check_body(stored, size)
            return _Found(key, entry, version, stored)
        except CorruptEntry as error:
            await self._ports.close(entry)
            self._guard.report("decode", key, error)
            return None

    # Answering from the cache.

    async def _ready(self, found: _Found[E]) -> bool:
        """Make sure that the caller can be given `found`; close what the caller doesn't get.

        An entry whose body is lost is as good as none, and forgotten.
        """
        if self._request.method == "HEAD":
            await self.close()
            return True
        if await self._guard.prime(found.key, found.entry):
            if self._primary is not None and self._primary is not found:
                await self._ports.close(self._primary.entry)
            return True
        await self.close()
        self._found = None
        if self._primary is found:
            self._primary = None
        return False

    def _body_of(self, found: _Found[E]) -> E | None:
        return None if self._request.method == "HEAD" else found.entry

    def _serve(self, decision: Serve, found: _Found[E]) -> Answer[E, W, U]:
        age, ttl = decision.age, decision.ttl
        info = CacheInfo(Outcome.HIT, decision.why, found.key, age, ttl, stored=True)
        self._tell(events.Hit, found.key, decision.why, age, ttl)
        response = _with_status(decision.response, cache_status.hit(ttl))
        return Answer(response, info, self._body_of(found), lost=partial(self._lose, found))

    async def _lose(self, found: _Found[E], error: Exception) -> BodyLost:
        """Tell of a body that broke off under its reader, and see that it is the last one to."""
        lost = error
        if not isinstance(lost, BodyLost):
            lost = BodyLost(f"{type(error).__name__}: {error}")
        self._guard.report("read", found.key, lost)
        with suppress(CacheError):
            await self._guard.remove(found.key)
        return lost

    async def _refuse(self, decision: Unsatisfiable) -> Answer[E, W, U]:
        await self.close()
        member = cache_status.unsatisfiable(str(decision.why))
        fields = Fields([("Content-Length", "0"), ("Cache-Status", member)])
        info = CacheInfo(Outcome.UNSATISFIABLE, decision.why, self._primary_key)
        return Answer(Response(504, fields, "Gateway Timeout"), info)

    # Asking the origin.

    async def _revalidate(self, decision: Revalidate, found: _Found[E]) -> Answer[E, W, U]:
        request_time = self._ports.now()
        upstream = await self._ports.send(decision.request)
        response_time = self._ports.now()
        if upstream.response.status != 304:
            return await self._take(
                upstream, decision.why, decision.forwarded, request_time, response_time
            )
        answer = self._policy.on_response(
            self._request, upstream.response, found.stored, request_time, response_time
        )
        await self._ports.discard(upstream)
        if isinstance(answer, Refresh):
            served = await self._refresh(answer, found, decision, upstream)
            if served is not None:
                return served
        elif isinstance(answer, Pass) and answer.drop:
            await self._guard.remove(found.key)
            if self._primary is found:
                await self.close()
                self._primary = self._found = None
        # The 304 is of no use, so ask again for all of it.
        await self._set_aside()
        return await self._forward(decision.why, decision.forwarded)

    async def _refresh(
        self, answer: Refresh, found: _Found[E], decision: Revalidate, upstream: U
    ) -> Answer[E, W, U] | None:
        """Serve what is stored, described anew; None if its body is lost."""
        if not await self._ready(found):
            return None
        kept = await self._keep(found, answer.stored)
        if kept is None:
            return None
        now = self._ports.now()
        age = current_age(answer.stored, now)
        ttl = self._policy.lifetime(answer.stored).seconds - age
        info = CacheInfo(Outcome.REVALIDATED, decision.why, found.key, age, ttl, kept, answer.why)
        member = cache_status.forwarded(decision.forwarded, status=304, ttl=ttl, stored=kept)
        self._tell(events.Revalidated, found.key, decision.why, age, ttl)
        response = _with_status(with_age(answer.stored.response, age), member)
        return Answer(
            response, info, self._body_of(found), upstream, lost=partial(self._lose, found)
        )

    async def _keep(self, found: _Found[E], stored: StoredResponse) -> bool | None:
        """Write the record of a refreshed response; None if the body got lost over it."""
        names = self._policy.selecting_names(stored.response)
        selection = selection_of(self._request.fields, names, self._conceal)
        if found is not self._primary and selection != found.stored.selection:
            # It is selected by more than the fields that lead to its key.
            await self._guard.remove(found.key)
            return False
        stored = stored._replace(selection=selection)
        if not found.stored.legacy:
            return await self._guard.update(found.key, records.encode(stored), found.version)
        return self._request.method == "GET" and await self._adopt(found, stored)

    async def _adopt(self, found: _Found[E], stored: StoredResponse) -> bool | None:
        """Store another program's response, proven to be good, as one of ours."""
        guard, key = self._guard, found.key
        stored = stored._replace(legacy=False, generation=_new_generation())
        writer = await guard.writer(key)
        if writer is None:
            return False
        adopted: str | None = None
        chunk: bytes | None
        try:
            while chunk := await guard.read(key, found.entry, _COPY_STEP):
                if not await guard.write(key, writer, chunk):
                    break
            if chunk == b"":
                adopted = await guard.commit(key, writer, records.encode(stored))
        finally:
            if adopted is None:
                await self._ports.abort(writer)
        # Its body has been read, so the caller gets it from a new beginning.
        await self._ports.close(found.entry)
        again = None if chunk is None else await self._load(key)
        if again is None:
            return None
        found.entry = again.entry
        # Anything else that is there by now has a head of its own.
        return adopted is not None if again.version == (adopted or found.version) else None

    async def _forward(self, reason: Why, forwarded: Forwarded) -> Answer[E, W, U]:
        request_time = self._ports.now()
        upstream = await self._ports.send(self._request)
        return await self._take(upstream, reason, forwarded, request_time, self._ports.now())

    async def _take(
        self,
        upstream: U,
        reason: Why,
        forwarded: Forwarded,
        request_time: float,
        response_time: float,
    ) -> Answer[E, W, U]:
        """Hand on a response of the origin's, and keep what may be kept of it."""
        try:
            return await self._hand_on(upstream, reason, forwarded, request_time, response_time)
        except BaseException:
            if self._recorder is not None:
                await self._recorder.abort()
            await self._ports.discard(upstream)
            raise

    async def _hand_on(
        self,
        upstream: U,
        reason: Why,
        forwarded: Forwarded,
        request_time: float,
        response_time: float,
    ) -> Answer[E, W, U]:
        request, response = self._request, upstream.response
        await self._invalidate(response)
        # A 304 to nothing that we have asked is the caller's.
        found = self._found if response.status != 304 else None
        decision = self._policy.on_response(
            request,
            response,
            None if found is None else found.stored,
            request_time,
            response_time,
        )
        info = CacheInfo(Outcome.MISS, reason, self._primary_key, storing=decision.why)
        recorder = None
        if isinstance(decision, Store):
            recorder = await self._record(decision, info)
            info.ttl = self._policy.lifetime(decision.stored).seconds - current_age(
                decision.stored, response_time
            )
        elif isinstance(decision, Refresh) and found is not None:
            info.stored = bool(await self._keep(found, decision.stored))
        elif isinstance(decision, Pass):
            if decision.drop and found is not None:
                await self._guard.remove(found.key)
            self._emit_not_stored(decision.why, response.status)
        await self.close()
        return self._miss(upstream, info, forwarded, recorder)

    def _miss(
        self,
        upstream: U,
        info: CacheInfo,
        forwarded: Forwarded,
        recorder: Recorder[E, W] | None,
    ) -> Answer[E, W, U]:
        _request, response = self._request, upstream.response
        self._tell(events.Miss, self._primary_key, info.why, response.status)
        stored = recorder is not None or info.stored
        member = cache_status.forwarded(forwarded, status=response.status, stored=stored)
        return Answer(_with_status(response, member), info, None, upstream, recorder)

    async def _invalidate(self, response: Response) -> None:
        """Throw out what an unsafe request has made doubtful (§4.4)."""
        request = self._request
        for key in invalidation.invalidated_keys(request, response):
            if await self._guard.remove(key):
                reason = why(Reason.INVALIDATED, f"{request.method} {response.status}")
                self._tell(events.Invalidated, key, reason)

    # Keeping.

    async def _record(self, decision: Store, info: CacheInfo) -> Recorder[E, W] | None:
        response = decision.stored.response
        placed = await self._place(decision.stored)
        writer = None if placed is None else await self._guard.writer(placed[0])
        if placed is None or writer is None:
            info.storing = why(Reason.NOT_KEPT)
            self._emit_not_stored(info.storing, response.status)
            return None
        key, stored = placed
        info.key = key

        def ended(reason: Why | None, size: int) -> None:
            if reason is not None:
                info.storing = reason
                self._emit_not_stored(reason, response.status)
                return
            info.stored = True
            self._tell(events.Stored, key, decision.why, size)

        expected = 0 if response.status == 204 else content_length(response.fields)
        recorder = self._recorder = Recorder(
            self._guard,
            self._ports.abort,
            key,
            writer,
            records.encode(stored),
            expected=expected,
            limit=self._policy.max_body,
            ended=ended,
        )
        if expected == 0:
            await recorder.finish()
        return recorder

    async def _place(self, stored: StoredResponse) -> tuple[str, StoredResponse] | None:
        """Decide under which key a response goes, and with which set of variants."""
        names = tuple(sorted(self._policy.selecting_names(stored.response)))
        selection = selection_of(self._request.fields, names, self._conceal)
        stored = stored._replace(selection=selection)
        primary = self._primary
        if (
            primary is None
            or primary.stored.legacy
            or primary is self._found
            or primary.stored.selection == selection
        ):
            return self._primary_key, _with_set_of(primary, stored)
        if names not in primary.stored.others:
            others = (*primary.stored.others, names)[-_MOST_SETS:]
            known = primary.stored._replace(others=others)
            if not await self._guard.update(primary.key, records.encode(known), primary.version):
                return None
        generation = primary.stored.generation
        key = variant_key(self._primary_key, generation, selection)
        return key, stored._replace(generation=generation)

    def _emit_not_stored(self, reason: Why, status: int) -> None:
        self._tell(events.NotStored, self._primary_key, reason, status)

    def _tell(self, kind: type[events.Decided], key: str, reason: Why, *more: float) -> None:
        """Tell of a decision, if anybody wants to hear of it."""
        if self._ports.listening:
            self._ports.emit(kind(key, self._request.method, self._url, str(reason), *more))

    async def close(self) -> None:
        """Close what was opened."""
        if self._primary is not None:
            await self._ports.close(self._primary.entry)
        if self._found is not None and self._found is not self._primary:
            await self._ports.close(self._found.entry)


def _no_credentials(_name: str, value: str) -> str:
    """Keep a value as it is, in a request that has none to hide."""
    return value


def _new_generation() -> str:
    return os.urandom(8).hex()


def _with_set_of(primary: _Found[E] | None, stored: StoredResponse) -> StoredResponse:
    if primary is None or primary.stored.legacy:
        return stored._replace(generation=_new_generation())
    known = primary.stored
    return stored._replace(generation=known.generation, others=known.others)


def _with_status(response: Response, member: str) -> Response:
    fields = cache_status.appended(response.fields, member)
    return Response(response.status, fields, response.reason, response.version)


def _is_newer(one: StoredResponse, other: StoredResponse) -> bool:
    """Compare by Date (§4)."""
    return date_of(one.response.fields, one.response_time) > date_of(
        other.response.fields, other.response_time
    )
