"""Finding the stored response that a request selects (RFC 9111 §4, §4.1).

The common case is one look: the primary key holds the response. Other variants are under keys
derived from it, and what No-Vary-Search makes equivalent is under the key of the one that stands
for all, found by an index of the field's values.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from stillfresh.caches.base import Claim
from stillfresh.engine import legacy, records
from stillfresh.engine.credentials import concealer
from stillfresh.engine.ports import E, W
from stillfresh.engine.recall import recalled
from stillfresh.errors import CorruptEntry
from stillfresh.rfc9111.decisions import Forwarded, Reason
from stillfresh.rfc9111.fields import content_length
from stillfresh.rfc9111.freshness import date_of
from stillfresh.rfc9111.groups import cache_groups, group_key
from stillfresh.rfc9111.keys import changed_key, is_selected, search_key, selection_of, variant_key
from stillfresh.rfc9111.search import reduced, search_variance
from stillfresh.rfc9111.validation import is_entity_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stillfresh.engine.credentials import Vault
    from stillfresh.engine.guard import Guard
    from stillfresh.engine.ports import CachePorts
    from stillfresh.engine.recall import Recall
    from stillfresh.rfc9111.messages import Request, Selection, StoredResponse
    from stillfresh.rfc9111.policy import Policy


@dataclass(slots=True)
class Found(Generic[E]):
    """A stored response and its entry, whose body has `size` bytes, and its record `metadata`."""

    key: str
    entry: E
    metadata: bytes
    version: str
    size: int
    stored: StoredResponse


class Lookup(Generic[E, W]):
    """One request's look into the cache.

    Attributes:
        own_key: the primary key of the request itself.
        primary_key: under which the first variant is, or would be: `own_key`, or one that stands
            for several URLs.
        primary: what is there, selected or not.
        found: what the request selects.
        recall: what was decided about the same request and what it selects.
        invalidated: why what it selects counts as invalidated, though it was still there.
        claim: what keeps others from fetching what isn't there, until one here claims it or not.
        conceal: makes of a selecting value what is kept of it.
    """

    __slots__ = (
        "_guard",
        "_knows_secrets",
        "_policy",
        "_ports",
        "_request",
        "_vault",
        "claim",
        "conceal",
        "found",
        "invalidated",
        "own_key",
        "primary",
        "primary_key",
        "recall",
    )

    def __init__(
        self,
        request: Request,
        policy: Policy,
        ports: CachePorts[E, W],
        guard: Guard[E, W],
        vault: Vault,
    ) -> None:
        """Look nowhere yet.

        Raises:
            ValueError: the URL is no absolute one with a host.
        """
        self._request = request
        self._policy = policy
        self._ports = ports
        self._guard = guard
        self._vault = vault
        self._knows_secrets = False
        self.own_key = self.primary_key = policy.primary_key(request)
        self.conceal: Callable[[str, str], str] = _no_credentials
        self.primary: Found[E] | None = None
        self.found: Found[E] | None = None
        self.recall: Recall | None = None
        self.invalidated: Reason | None = None
        self.claim: Claim | None = None

    @property
    def has_secrets(self) -> bool:
        """Whether the request has something that is to be kept as a digest."""
        return not self._policy.concealed.isdisjoint(self._request.fields.names)

    async def learn_to_conceal(self) -> None:
        """Get the key of digests, for a request that has secrets."""
        policy = self._policy
        if self._knows_secrets:
            return
        self._knows_secrets = True
        secret = policy.secret or await self._vault.secret(self._guard)
        self.conceal = concealer(secret, policy.concealed)

    async def find(self, seconds: Callable[[], float]) -> Forwarded:
        """Look, and say what kind of miss it is if nothing is found.

        What isn't there may be claimed for so many `seconds`, as `CachePorts.open_or_claim` does.
        """
        entry = await self._guard.open_or_claim(self.primary_key, seconds)
        if isinstance(entry, Claim):
            entry, self.claim = None, entry
        primary = None
        if entry is not None:
            primary = self.primary = await self._read(self.primary_key, entry)
        if primary is not None:
            self.recall = recalled(primary.stored, self._policy, self._request)
            if self.recall is not None:
                self.found = primary
                return Forwarded.VARY_MISS
        if self.has_secrets:
            await self.learn_to_conceal()
        if primary is None:
            primary = await self._load_equivalent() if "?" in self.primary_key else None
            if primary is None:
                return Forwarded.URI_MISS
            self.primary = primary
            self.give_up()
        await self._choose(primary)
        found = self.found
        if found is not None:
            await self._mind_invalidations(found)
        return Forwarded.VARY_MISS

    @property
    def is_settled(self) -> bool:
        """Whether a request with the same fields would find the same, unless that changes."""
        found = self.found
        return (
            found is not None
            and found is self.primary
            and not found.stored.others
            and not found.stored.legacy
            and "cache-groups" not in found.stored.response.fields
            and "#" not in self.own_key
        )

    async def think_again(self) -> None:
        """Go on without what was decided the last time, which is over."""
        self.recall = None
        if self.has_secrets:
            await self.learn_to_conceal()

    async def load(self, key: str) -> Found[E] | None:
        """Open an entry and read its record; damage is a miss."""
        entry = await self._guard.open(key)
        return None if entry is None else await self._read(key, entry)

    async def _read(self, key: str, entry: E) -> Found[E] | None:
        metadata, version, size, has_body = self._ports.describe(entry)
        try:
            if not legacy.is_legacy(metadata):
                stored = records.read(metadata)
                if stored.url != self.primary_key:
                    msg = f"{key} holds the record of {stored.url}"
                    raise CorruptEntry(msg)
                if stored.part is not None and stored.part.length != size:
                    msg = f"{key} is of {size} bytes, and its record of {stored.part.length}"
                    raise CorruptEntry(msg)
                return Found(key, entry, metadata, version, size, stored)
            await self._learn_for(entry)
            stored, body = legacy.decode(metadata, self.primary_key, self.conceal)
            if body or not has_body:
                entry, size = self._ports.embed(entry, body), len(body)
                if not body and content_length(stored.response.fields) != 0:
                    msg = "a record of CacheControl's without its body"
                    raise CorruptEntry(msg)
            legacy.check_body(stored, size)
            return Found(key, entry, metadata, version, size, stored)
        except CorruptEntry as error:
            await self._ports.close(entry)
            self._guard.report("decode", key, error)
            return None

    async def _learn_for(self, entry: E) -> None:
        """Get the key of digests, for who has opened an entry."""
        learnt = False
        try:
            if self.has_secrets:
                await self.learn_to_conceal()
            learnt = True
        finally:
            if not learnt:
                await self._ports.close(entry)

    def tags(self) -> tuple[str, ...]:
        """Return the entity tags of the variants to ask about, the newest last (§4.3.1).

        Not where users are told apart: a server whose tags don't would give one what is another's.
        """
        if self.primary is None:
            return ()
        stored, concealed = self.primary.stored, self._policy.concealed
        selecting = {name for name, _ in stored.selection}.union(*stored.others)
        if not self._request.fields.names.isdisjoint(selecting & concealed):
            return ()
        if not self._is_isolated(stored):
            return ()
        known = [tag for _, tag in stored.variants]
        own = stored.response.fields.get("etag")
        if own is not None and not credentials_of(stored.selection, concealed):
            known.append(own)
        return tuple(dict.fromkeys(tag for tag in known if is_entity_tag(tag)))

    async def tagged(self, tag: str) -> Found[E] | None:
        """Open the variant that has an entity tag, and is no particular user's."""
        primary = self.primary
        if primary is None:
            return None
        if primary.stored.response.fields.get("etag") == tag and self._is_nobodys(primary.stored):
            return primary
        key = next((key for key, known in primary.stored.variants if known == tag), None)
        found = None if key is None else await self.load(key)
        if found is not None and not self._is_nobodys(found.stored):
            await self._ports.close(found.entry)
            return None
        return found

    def _is_nobodys(self, stored: StoredResponse) -> bool:
        mine = credentials_of(stored.selection, self._policy.concealed)
        return not mine and self._is_isolated(stored)

    async def set_aside(self) -> None:
        """Go on as if nothing had been found."""
        found, self.found = self.found, None
        if found is not None and found is not self.primary:
            await self._ports.close(found.entry)

    async def let_go(self) -> None:
        """Close what was opened, since it may be another's by the time that it is needed."""
        await self.close()
        self.primary = self.found = None

    def give_up(self) -> None:
        """Release what was claimed with the look, unless somebody has claimed it since."""
        claim, self.claim = self.claim, None
        if claim is not None:
            claim.forgo()

    async def close(self) -> None:
        """Close what was opened."""
        self.give_up()
        try:
            if self.primary is not None:
                await self._ports.close(self.primary.entry)
        finally:
            if self.found is not None and self.found is not self.primary:
                await self._ports.close(self.found.entry)

    async def _load_equivalent(self) -> Found[E] | None:
        """Open what is stored under another URL that stands for this one (No-Vary-Search)."""
        own = self.own_key
        for value in await self.search_values(own):
            variance = search_variance(value)
            if variance is None or (key := reduced(own, variance)) == own:
                continue
            self.primary_key = key
            other = await self.load(key)
            if other is not None:
                if search_variance(other.stored.response.fields.get("no-vary-search")) == variance:
                    return other
                await self._ports.close(other.entry)
        self.primary_key = own
        return None

    async def search_values(self, url: str) -> list[str]:
        """Return the values of No-Vary-Search that responses of this path have had."""
        index = await self._guard.metadata(search_key(url))
        try:
            return [] if index is None else index.decode("utf-8", "surrogatepass").split("\n")
        except UnicodeDecodeError:
            return []

    async def _choose(self, primary: Found[E]) -> None:
        """Choose among the variants: of several that match, the one with the newest Date (§4)."""
        fields = self._request.fields
        matches = self.is_selected(primary.stored)
        found = self.found = primary if matches else None
        others = primary.stored.others
        own_names = tuple(name for name, _ in primary.stored.selection) if others else ()
        for names in others:
            if matches and names == own_names:
                continue
            selection = selection_of(fields, names, self.conceal)
            key = variant_key(self.primary_key, primary.stored.generation, selection)
            other = await self.load(key)
            if other is None:
                continue
            matching = (
                other.stored.selection == selection
                and self._is_isolated(other.stored)
                and self.is_in_place(other.stored)
            )
            if matching and (found is None or _is_newer(other.stored, found.stored)):
                outdone, found, self.found = found, other, other
                if outdone is not None and outdone is not primary:
                    await self._ports.close(outdone.entry)
            else:
                await self._ports.close(other.entry)

    def key_for(self, stored: StoredResponse) -> str:
        """Return the key under which a response to this request stands for all that it is for.

        That is the request's own, unless No-Vary-Search makes other URLs equivalent to it.
        """
        variance = search_variance(stored.response.fields.get("no-vary-search"))
        return self.own_key if variance is None else reduced(self.own_key, variance)

    def is_in_place(self, stored: StoredResponse) -> bool:
        """Tell whether a response is for this request, if it lies under the primary key."""
        return self.primary_key == self.own_key or self.key_for(stored) == self.primary_key

    def is_selected(self, stored: StoredResponse) -> bool:
        """Tell whether the request selects `stored` (§4.1)."""
        return is_selected(
            stored, self._request.fields, self.conceal, by_language=self._policy.match_language
        ) and self._is_isolated(stored)

    def _is_isolated(self, stored: StoredResponse) -> bool:
        """Tell whether what keeps users apart has done so; who stored it may not have known."""
        isolate = self._policy.isolate
        return not isolate or isolate <= {name for name, _ in stored.selection}

    async def drop(self, found: Found[E]) -> None:
        """Remove a stored response that nothing can be made of, and go on without."""
        await self._guard.remove(found.key)
        if self.primary is found:
            await self.let_go()
        else:
            await self.set_aside()

    async def _mind_invalidations(self, found: Found[E]) -> None:
        """Drop what was asked for before a moment that is kept of its invalidation."""
        for key, reason in self._moments(found.stored):
            moment = await self._guard.metadata(key)
            with suppress(TypeError, ValueError):
                if moment is not None and float(moment) >= found.stored.request_time:
                    self.invalidated = reason
                    await self.drop(found)
                    return

    def _moments(self, stored: StoredResponse) -> Iterator[tuple[str, Reason]]:
        """Say under which keys such moments are: of its URI (§4.4), of its groups (RFC 9875)."""
        if "#" in self.own_key:
            for key in {changed_key(self.own_key), changed_key(self.primary_key)}:
                yield key, Reason.INVALIDATED
        for group in sorted(cache_groups(stored.response.fields)):
            yield group_key(self.primary_key, group), Reason.GROUP_INVALIDATED


def _no_credentials(_name: str, value: str) -> str:
    """Keep a value as it is, in a request that has none to hide."""
    return value


def credentials_of(selection: Selection, concealed: frozenset[str]) -> Selection:
    """Return what of a selection says whose the response is."""
    return tuple([pair for pair in selection if pair[0] in concealed and pair[1] is not None])


def _is_newer(one: StoredResponse, other: StoredResponse) -> bool:
    """Compare by Date (§4)."""
    return date_of(one.response.fields, one.response_time) > date_of(
        other.response.fields, other.response_time
    )
