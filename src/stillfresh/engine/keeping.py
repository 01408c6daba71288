"""Keeping: what becomes of the cache when the origin has answered.

Responses are recorded while their callers read them, put where the next look finds them, brought
up to date, joined with what is stored of them, and thrown out.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Generic

from stillfresh import events
from stillfresh.engine import records
from stillfresh.engine.flights import Fate
from stillfresh.engine.lookup import credentials_of
from stillfresh.engine.ports import E, W
from stillfresh.engine.recorder import Recorder
from stillfresh.rfc9111 import invalidation, reception
from stillfresh.rfc9111.decisions import Reason, Refresh, Why, why
from stillfresh.rfc9111.fields import content_length
from stillfresh.rfc9111.freshness import date_of
from stillfresh.rfc9111.groups import group_key, invalidated_groups
from stillfresh.rfc9111.keys import changed_key, primary_key, search_key, selection_of, variant_key
from stillfresh.rfc9111.messages import StoredResponse
from stillfresh.rfc9111.ranges import is_strong
from stillfresh.rfc9111.reuse import LONGEST_USE
from stillfresh.rfc9111.search import reduced, search_variance

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.engine.answers import CacheInfo
    from stillfresh.engine.flights import Lead
    from stillfresh.engine.guard import Guard
    from stillfresh.engine.lookup import Found, Lookup
    from stillfresh.engine.ports import CachePorts, Useful
    from stillfresh.rfc9111.decisions import Store
    from stillfresh.rfc9111.messages import Request, Response, Selection
    from stillfresh.rfc9111.policy import Policy

# How many different sets of selecting fields are remembered for one URI.
_MOST_SETS: Final = 8
# How many variants of one URI are remembered with their tags, to ask about all at once.
_MOST_TAGS: Final = 16
# How many values of No-Vary-Search are remembered for one path.
_MOST_SEARCHES: Final = 8
_COPY_STEP: Final = 1 << 18
# How often a record is changed anew because somebody else was quicker: each time one of them has
# got on.
_TRIES: Final = 16
# What is made of what is stored.
_GROWING: Final = (Reason.COMPLETED, Reason.JOINED)
# What breaks off is nobody's fault who waits for it: another one may have more luck.
_ABANDONED: Final = frozenset({Reason.CUT_OFF, Reason.BROKEN_OFF})


class Keeper(Generic[E, W]):
    """What one exchange does to the cache.

    Attributes:
        request: what it is about.
        lookup: what has been found for it.
        lead: its hold on those who wait for what is recorded.
        recorder: writes the response that is on its way to the caller, if one is.
    """

    __slots__ = (
        "_asked",
        "_flights",
        "_guard",
        "_is_overtaken",
        "_own",
        "_policy",
        "_ports",
        "lead",
        "lookup",
        "recorder",
        "request",
        "tell",
    )

    def __init__(
        self,
        request: Request,
        policy: Policy,
        ports: CachePorts[E, W],
        guard: Guard[E, W],
        lookup: Lookup[E, W],
        tell: Callable[..., None],
        lead: Lead | None = None,
    ) -> None:
        """Keep for `request`; `tell(kind, key, why, ...)` is told of what was decided.

        Others may wait for what is recorded, if it has the `lead`.
        """
        self.request = request
        self._policy = policy
        self._ports = ports
        self._guard = guard
        self.lookup = lookup
        self.tell = tell
        self.lead = lead
        self.recorder: Recorder[E, W] | None = None
        self._flights = ports.flights()
        self.asking()

    def asking(self) -> None:
        """Note that the origin is asked now."""
        self._asked = self._flights.moment
        self._is_overtaken = False
        # The moments of what the answer to the request has invalidated itself.
        self._own: tuple[int, ...] = ()

    def overtaken(self, response: Response) -> Why | None:
        """Return why an answer isn't to be stored any more: it is older than an invalidation.

        That it has a clean end, and comes late, makes it no better than what was thrown out (§4.4).
        """
        lookup = self.lookup
        if self._flights.moment == self._asked:
            return None
        keys = [lookup.own_key, lookup.primary_key]
        if "no-vary-search" in response.fields:
            # It stands for other URLs too, which nobody knew when one of them was invalidated.
            keys.append(search_key(lookup.own_key))
        if self._is_overtaken or any(map(self._is_invalidated, keys)):
            return why(Reason.INVALIDATED)
        return None

    def _is_invalidated(self, key: str) -> bool:
        """Tell whether others have invalidated a key since the origin was asked."""
        moment = self._flights.invalidated_at(key)
        return moment > self._asked and moment not in self._own

    async def record(self, decision: Store, info: CacheInfo) -> Recorder[E, W] | None:
        """Begin to write a response; None if the cache can't.

        What is joined with it must have been made sure of; of a completed response the caller's
        reading brings the stored part.
        """
        moving = decision.why.reason not in _GROWING
        placed = await self._place(decision.stored, self.lookup.found, moving=moving)
        writer = None if placed is None else await self._guard.writer(placed[0])
        behind: bytes | None = b""
        if writer is not None and decision.why.reason is Reason.JOINED:
            behind = await self._join(decision, writer)
        if placed is None or writer is None or behind is None:
            info.storing = why(Reason.NOT_KEPT)
            self.tell(events.NotStored, info.key, info.storing, decision.stored.response.status)
            return None
        key, stored = placed
        info.key = key
        recorder = self.recorder = Recorder(
            self._guard,
            self._ports.abort,
            key,
            writer,
            records.encode(stored),
            plan=_Plan(self, decision, info, placed),
            expected=decision.length,
            limit=self._policy.max_body,
            behind=behind,
        )
        if self.lead is not None:
            self.lead.expect(stored)
        else:
            self._flights.may_share(self.lookup.primary_key)
        if decision.length == 0:
            await recorder.finish()
        return recorder

    async def refresh(self, found: Found[E], stored: StoredResponse) -> bool | None:
        """Write the record of a refreshed response; None if the body got lost over it."""
        lookup = self.lookup
        names = self._policy.selecting_names(self.request, stored.response)
        selection = selection_of(self.request.fields, names, lookup.conceal)
        if self._policy.match_language:
            selection = _with_language_of(found.stored, selection)
        selected = found is lookup.primary or selection == found.stored.selection
        if not selected or not lookup.is_in_place(stored):
            # It is selected by more, or for other URLs, than what leads to its key.
            await self._guard.remove(found.key)
            return False
        if selection != stored.selection:
            stored = stored._replace(selection=selection)
        if self.lead is not None:
            self.lead.ending()
        if not found.stored.legacy:
            return await self._update(found, _refreshing(stored, found.stored))
        if self.request.method != "GET":
            return False
        stored = stored._replace(legacy=False, generation=_new_generation())
        return await self._copy(found, found.key, stored)

    async def refresh_others(
        self, found: Found[E], response: Response, at: float, *, copied: bool
    ) -> None:
        """Freshen what else has the strong tag of a 304 (§4.3.4)."""
        primary, tag = self.lookup.primary, response.fields.get("etag")
        if primary is None or not primary.stored.variants or not is_strong(tag):
            return
        keys = [key for key, known in primary.stored.variants if known == tag]
        if primary.stored.response.fields.get("etag") == tag:
            keys.append(primary.key)
        for key in keys:
            if key == found.key and not copied:
                continue
            other = primary if key == primary.key else await self.lookup.load(key)
            if other is None:
                continue
            try:
                await self._refresh_other(found, other, response, at)
            finally:
                if other is not primary:
                    await self._ports.close(other.entry)

    async def _refresh_other(
        self, found: Found[E], other: Found[E], response: Response, at: float
    ) -> None:
        concealed = self._policy.concealed
        whose = credentials_of(other.stored.selection, concealed)
        if whose != credentials_of(found.stored.selection, concealed):
            # What is said to one user is nothing to tell another.
            return
        plain = self.request._replace(fields=self.request.fields.without({"range"}))
        decision = self._policy.on_response(plain, response, other.stored, at, at)
        if not isinstance(decision, Refresh) or other.stored.legacy:
            return
        before, after = other.stored.response.fields, decision.stored.response.fields
        if before.get("no-vary-search") != after.get("no-vary-search"):
            # Whether that leads to its key nobody knows who asks for another URL.
            await self._guard.remove(other.key)
            return
        await self._update(other, _refreshing(decision.stored, other.stored))

    async def copy_variant(self, found: Found[E], stored: StoredResponse) -> bool | None:
        """Store a variant for what this request selects by too; None if the body got lost."""
        placed = await self._place(stored, None, moving=False)
        return False if placed is None else await self._copy(found, *placed)

    async def invalidate(self, response: Response, now: float) -> None:
        """Throw out what an unsafe request has made doubtful (§4.4, RFC 9875 §2.2.1)."""
        request, policy = self.request, self._policy
        reason = why(Reason.INVALIDATED, f"{request.method} {response.status}")
        urls = invalidation.invalidated_keys(request, response)
        if policy.stores(request) and response.status == 200:
            # By a rule, that is what its content is answered by: it has changed nothing.
            urls = ()
        for url in urls:
            key = policy.primary_key(request._replace(method="GET", url=url, content=None))
            keys = [key]
            if "?" in key:
                variances = map(search_variance, await self.lookup.search_values(key))
                keys += [reduced(key, variance) for variance in variances if variance is not None]
            for doubtful in dict.fromkeys(keys):
                # Its own answer may be what is there now (RFC 9110 §8.7), unless it comes too late.
                self._is_overtaken |= self._is_invalidated(doubtful)
                self._own += (self._flights.invalidated(doubtful, search_key(doubtful)),)
                known = await self._guard.remove(doubtful)
                if policy.may_key_content(url):
                    known |= await self._put(changed_key(doubtful), repr(now).encode())
                if known:
                    self.tell(events.Invalidated, doubtful, reason)
        for group in sorted(invalidated_groups(request, response)):
            key = group_key(primary_key(request.url), group)
            if await self._put(key, repr(now).encode()):
                self.tell(events.Invalidated, key, reason)

    async def _join(self, decision: Store, writer: W) -> bytes | None:
        """Copy what goes before, and return what goes behind; None if either can't be read."""
        found, guard = self.lookup.found, self._guard
        if found is None:
            return None
        if not await self._copied(found, decision.before, writer):
            return None
        if decision.after is None:
            return b""
        behind = None
        try:
            if await guard.seek(found.key, found.entry, decision.after):
                size = found.size - decision.after
                behind = await guard.read(found.key, found.entry, size)
        finally:
            if behind is None:
                await self._ports.abort(writer)
        return behind

    async def _copied(self, found: Found[E], size: int, writer: W) -> bool:
        done = False
        try:
            if await self._guard.seek(found.key, found.entry, 0):
                while size > 0:
                    step = min(size, _COPY_STEP)
                    chunk = await self._guard.read(found.key, found.entry, step)
                    if not chunk or not await self._guard.write(found.key, writer, chunk):
                        return False
                    size -= len(chunk)
                done = True
        finally:
            if not done:
                await self._ports.abort(writer)
        return done

    async def has_more(self, key: str, stored: StoredResponse, size: int) -> bool:
        """Tell whether there is more of a response by now than so many bytes."""
        now = await self.lookup.load(key)
        if now is None:
            return False
        await self._ports.close(now.entry)
        is_more = now.stored.part is None or now.size >= size
        return is_more and reception.is_the_same(now.stored, stored)

    async def _place(
        self, stored: StoredResponse, replaced: Found[E] | None, *, moving: bool
    ) -> tuple[str, StoredResponse] | None:
        """Decide under which key a response goes, and with which set of variants.

        `replaced` is what it takes the place of, whatever it is selected by itself. What is made
        of what is stored stays beside it; else it may be `moving` to where it stands for others.
        """
        lookup = self.lookup
        if lookup.has_secrets:
            await lookup.learn_to_conceal()
        names = self._policy.selecting_names(self.request, stored.response)
        selection = selection_of(self.request.fields, names, lookup.conceal)
        primary = await self._move(stored, moving=moving)
        known = None if primary is None or primary.stored.legacy else primary.stored
        if known is None:
            return lookup.primary_key, _described(
                stored, lookup.primary_key, selection, _new_generation()
            )
        assert primary is not None  # noqa: S101 - `known` is of it
        if primary is replaced or known.selection == selection:
            placed = _described(stored, lookup.primary_key, selection, known.generation)
            return lookup.primary_key, placed._replace(others=known.others, variants=known.variants)
        key = variant_key(lookup.primary_key, known.generation, selection)
        tag = stored.response.fields.get("etag")
        if credentials_of(selection, self._policy.concealed):
            tag = None
        placed = _described(stored, lookup.primary_key, selection, known.generation)
        if not await self._remember(primary, tuple(sorted(names)), key, tag, placed):
            return None
        return key, placed

    async def _remember(
        self,
        primary: Found[E],
        names: tuple[str, ...],
        key: str,
        tag: str | None,
        variant: StoredResponse,
    ) -> bool:
        """Have the primary record lead to a variant: to look for it, and to ask about it."""

        def leading(known: StoredResponse) -> StoredResponse:
            others, variants = known.others, known.variants
            if names not in others:
                others = (*others, names)[-_MOST_SETS:]
            if tag is not None and (key, tag) not in variants:
                kept = [variant for variant in variants if variant[0] != key]
                variants = (*kept, (key, tag))[-_MOST_TAGS:]
            return _leading_on(known, known._replace(others=others, variants=variants))

        return await self._update(primary, leading, variant)

    async def _move(self, stored: StoredResponse, *, moving: bool) -> Found[E] | None:
        """Go to the key under which a response is for no URL that it is not for (No-Vary-Search).

        Returns the primary that is there, as far as it is known.
        """
        lookup, own = self.lookup, self.lookup.own_key
        if moving and "no-vary-search" in stored.response.fields:
            await self._announce(stored.response)
        key = lookup.key_for(stored)
        if key == lookup.primary_key or (not moving and lookup.is_in_place(stored)):
            return lookup.primary
        if moving:
            if lookup.primary_key == own:
                # What is stored for this one URL would be found before.
                await self._guard.remove(own)
            await lookup.close()
            lookup.primary = lookup.found = None
        lookup.primary_key = key
        return None

    async def _announce(self, response: Response) -> None:
        """Have what is equivalent by No-Vary-Search be found by the other URLs of its path."""
        value = response.fields.get("no-vary-search")
        if value is None or search_variance(value) is None:
            return
        own = self.lookup.own_key
        known = await self.lookup.search_values(own)
        if value not in known:
            index = "\n".join([*known, value][-_MOST_SEARCHES:])
            await self._put(search_key(own), index.encode("utf-8", "surrogatepass"))

    async def _put(self, key: str, metadata: bytes) -> bool:
        """Store metadata without a body."""
        writer = await self._guard.writer(key)
        if writer is None:
            return False
        # It says something of responses, of any there may be.
        version = await self._guard.commit(key, writer, metadata, lambda: LONGEST_USE)
        return version is not None

    async def _update(
        self,
        found: Found[E],
        change: Callable[[StoredResponse], StoredResponse],
        *others: StoredResponse,
    ) -> bool:
        """Swap a record for what `change` makes of it, which is of use for `others` too.

        The origin has been asked since it was read, which takes as long as it likes: what somebody
        else has made of it meanwhile, another variant say, is not undone but changed in turn.
        """
        guard = self._guard
        for _ in range(_TRIES):
            changed = change(found.stored)
            if changed is found.stored:
                return True
            metadata, useful = records.written(changed), self._useful(changed, *others)
            if await guard.update(found.key, found.metadata, metadata, found.version, useful):
                found.stored, found.metadata = changed, metadata
                return True
            now = None if guard.failed else await self.lookup.load(found.key)
            if now is None:
                return False
            await self._ports.close(now.entry)
            if now.version != found.version or now.metadata == found.metadata:
                # Another one has taken its place, of which this one says nothing; or nobody was
                # quicker, and the cache just won't.
                return False
            found.stored, found.metadata = now.stored, now.metadata
        return False

    def _useful(self, *stored: StoredResponse) -> Useful:
        """Return what says for how long any of these is of use."""
        return lambda: max(self.useful_for(one) for one in stored)

    def useful_for(self, stored: StoredResponse) -> float:
        """Return for how many seconds a response is of use."""
        return self._policy.useful_for(self.request, stored)

    async def _copy(self, found: Found[E], key: str, stored: StoredResponse) -> bool | None:
        """Store the body of `found` with another record; None if the body can't be read on.

        It is read, so the caller gets it from a new beginning: of the copy if there is one.
        """
        guard = self._guard
        writer = await guard.writer(key)
        if writer is None:
            return False
        copied: str | None = None
        chunk: bytes | None
        try:
            while chunk := await guard.read(found.key, found.entry, _COPY_STEP):
                if not await guard.write(key, writer, chunk):
                    break
            if chunk == b"" and self.overtaken(stored.response) is None:
                useful = self._useful(stored)
                copied = await guard.commit(key, writer, records.written(stored), useful)
        finally:
            if copied is None:
                await self._ports.abort(writer)
        if copied is not None and self.overtaken(stored.response) is not None:
            await guard.remove(key)
        await self._ports.close(found.entry)
        again = None if chunk is None else await self.lookup.load(key if copied else found.key)
        if again is None:
            return None
        found.entry = again.entry
        # Anything else that is there by now has a head of its own.
        return copied is not None if again.version == (copied or found.version) else None


class _Plan(Generic[E, W]):
    """What is to become of the body of one response."""

    __slots__ = ("_decision", "_info", "_keeper", "_key", "_stored")

    def __init__(
        self,
        keeper: Keeper[E, W],
        decision: Store,
        info: CacheInfo,
        placed: tuple[str, StoredResponse],
    ) -> None:
        self._keeper = keeper
        self._decision = decision
        self._info = info
        self._key, self._stored = placed

    def useful(self) -> float:
        # The same response, of which the most is known already.
        return self._keeper.useful_for(self._decision.stored)

    def overtaken(self) -> Why | None:
        return self._keeper.overtaken(self._stored.response)

    def committing(self) -> None:
        if self._keeper.lead is not None:
            self._keeper.lead.ending()

    def cut_off(self, size: int) -> bytes | None:
        keeper, stored = self._keeper, self._stored
        if self._decision.why.reason is Reason.JOINED or keeper.request.method != "GET":
            return None
        found = keeper.lookup.found
        if found is not None and reception.is_the_same(found.stored, stored):
            is_whole = found.stored.part is None
            if is_whole or size <= found.size:
                return None
        part = reception.cut_off(stored, size)
        return None if part is None else records.encode(part)

    async def outdone(self, size: int) -> bool:
        return await self._keeper.has_more(self._key, self._stored, size)

    def ended(self, reason: Why | None, size: int) -> None:
        keeper, info, decision = self._keeper, self._info, self._decision
        response = decision.stored.response
        if reason is None:
            info.stored = True
            if decision.why.reason is Reason.JOINED:
                part = decision.stored.part
                size = part.length if part else content_length(response.fields) or size
            keeper.tell(events.Stored, self._key, decision.why, size)
        elif reason.reason is Reason.CUT_OFF:
            info.storing = reason
            keeper.tell(events.Stored, self._key, reason, size)
        else:
            info.storing = reason
            keeper.tell(events.NotStored, keeper.lookup.primary_key, reason, response.status)
        if keeper.lead is not None:
            keeper.lead.land(_fate(reason))


def _new_generation() -> str:
    return os.urandom(8).hex()


def _fate(reason: Why | None) -> Fate:
    """Say what recording has come to, to those who wait for it."""
    if reason is None:
        return Fate.STORED
    return Fate.ABANDONED if reason.reason in _ABANDONED else Fate.UNSHARED


def _with_language_of(stored: StoredResponse, selection: Selection) -> Selection:
    """Leave what a response was selected by in Accept-Language, though another got it."""
    name = "accept-language"
    old = dict(stored.selection)
    return tuple(
        (field, old[name] if field == name and name in old else value) for field, value in selection
    )


def _refreshing(
    stored: StoredResponse, before: StoredResponse
) -> Callable[[StoredResponse], StoredResponse]:
    """Return what makes of the record that is there the refreshed one.

    `before` is what was refreshed. What somebody else has refreshed since stays, if the origin said
    that later, though it came before.
    """

    def refreshed(now: StoredResponse) -> StoredResponse:
        is_as_before = (now.request_time, now.response_time) == (
            before.request_time,
            before.response_time,
        )
        return now if not is_as_before and _is_later(now, stored) else _leading_on(stored, now)

    return refreshed


def _is_later(one: StoredResponse, other: StoredResponse) -> bool:
    """Compare by what the origin says, then by who was asked first."""
    said = date_of(one.response.fields, one.response_time)
    other_said = date_of(other.response.fields, other.response_time)
    return said > other_said if said != other_said else one.request_time > other.request_time


def _leading_on(stored: StoredResponse, now: StoredResponse) -> StoredResponse:
    """Have a record lead to the variants that the one does which is there `now`."""
    if (stored.others, stored.variants) == (now.others, now.variants):
        return stored
    return stored._replace(others=now.others, variants=now.variants)


def _described(
    stored: StoredResponse, url: str, selection: Selection, generation: str
) -> StoredResponse:
    return StoredResponse(
        url,
        stored.response,
        stored.request_time,
        stored.response_time,
        selection,
        generation,
        part=stored.part,
    )
