"""Looking into a cache with the engine's eyes: what is stored for a URL, and what would be done.

Nothing is asked of the origin and nothing changes: no entry is used, counted, refreshed or removed,
and no key is made for digests. What would be done is found out by doing it as far as that goes
(`exchange.consider`); so there is no second set of rules here that could differ from the first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NoReturn

from stillfresh.caches.base import host_of
from stillfresh.engine import legacy, records
from stillfresh.engine.credentials import KeyOfOthers, Vault, is_digest
from stillfresh.engine.exchange import consider
from stillfresh.engine.guard import Guard
from stillfresh.engine.lookup import Found, Lookup
from stillfresh.engine.ports import LocalCachePorts, run
from stillfresh.errors import ConfigError, CorruptEntry, StoreError
from stillfresh.events import StoreFailed
from stillfresh.rfc9111.decisions import (
    Complete,
    Forward,
    Revalidate,
    Serve,
    Unsatisfiable,
    Why,
    why,
)
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.freshness import current_age
from stillfresh.rfc9111.keys import is_variant_key, primary_key, selection_of
from stillfresh.rfc9111.messages import Request, targeted
from stillfresh.rfc9111.policy import Policy
from stillfresh.rfc9111.ranges import strong_validator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stillfresh.caches.base import BaseCache, Entry, EntryWriter
    from stillfresh.events import Event
    from stillfresh.rfc9111.decisions import RequestDecision
    from stillfresh.rfc9111.messages import Selection
    from stillfresh.rfc9111.ranges import Part

# Another program's record doesn't say what it answers.
_NOWHERE: Final = "http://unknown.invalid/"


class Verdict(Enum):
    """What would be done with a request."""

    SERVE = "serve"
    REVALIDATE = "revalidate"
    COMPLETE = "complete"
    FORWARD = "forward"
    UNSATISFIABLE = "unsatisfiable"


_VERDICTS: Final[dict[type, Verdict]] = {
    Serve: Verdict.SERVE,
    Revalidate: Verdict.REVALIDATE,
    Complete: Verdict.COMPLETE,
    Forward: Verdict.FORWARD,
    Unsatisfiable: Verdict.UNSATISFIABLE,
}


@dataclass(frozen=True, slots=True)
class Variant:
    """A stored response, at the moment when somebody looks.

    Attributes:
        key: what the cache has it under.
        version: names what is there; another response has another.
        url: the target URI that it answers, normalised.
        status: its status code.
        reason: its reason phrase.
        fields: the lines of its header, as name and value.
        selection: what selected it (RFC 9111 §4.1): lower-case names of request fields and their
            values; None is a field that wasn't there. Of those in `concealed` the value is "".
        concealed: the names among those whose values are secrets.
        part: the first byte, the last one and the size of the whole (None if unknown) where the
            body is only a part of it (§3.3); None where it is all.
        size: the bytes of the body that are stored, as they came: still encoded.
        received_at: when it came, or was last found to be good still; seconds since the epoch.
        seen_at: when somebody looked; age and `why` are of that moment.
        age: in seconds (§4.2.3).
        lifetime: for how many seconds in all it is fresh (§4.2.1).
        source: what says so, as in `max-age=60`.
        why: whether a plain GET that selects it would be answered with it, or what keeps it from
            that.
        has_strong_validator: whether it can be told from any other (RFC 9110 §8.8.1).
        foreign: whether another program stored it.
    """

    key: str
    version: str
    url: str
    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    selection: Selection
    concealed: frozenset[str]
    part: Part | None
    size: int
    received_at: float
    seen_at: float
    age: float
    lifetime: float
    source: str
    why: Why
    has_strong_validator: bool
    foreign: bool

    @property
    def ttl(self) -> float:
        """For how many seconds more it is fresh; negative if it is stale."""
        return self.lifetime - self.age

    def get(self, name: str) -> str | None:
        """Return the value of a header field, lines joined by commas; None if it has none."""
        return Fields(self.fields).get(name.lower())


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is stored for a URL.

    Attributes:
        key: the primary key that it is stored under, or would be (RFC 9111 §2).
        variants: all of it, the one under that key first.
        selected: the one among them that the request selects (§4.1); None if none is.
        invalidated: why what is there counts as gone, if it does.
        failures: what the cache failed at meanwhile: what is damaged, or can't be reached.
    """

    key: str
    variants: tuple[Variant, ...]
    selected: Variant | None
    invalidated: Why | None
    failures: tuple[StoreError, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would be done with a request, and why.

    Attributes:
        method: of the request.
        url: its target URI, normalised.
        key: the primary key that it is looked up under (RFC 9111 §2).
        verdict: what would be done.
        why: the reason, with its section.
        status: of the response, where a stored one would be served, or none (504).
        stored: what is under the primary key; None if nothing is.
        selected: what the request selects; None if that is nothing.
        differing: the names of request fields by which `stored` isn't selected (§4.1).
        asked: the lines that the request to the origin would have beside the caller's; None where
            the origin would not be asked.
        refreshes: whether what is served would be validated behind (RFC 5861 §3).
        failures: what the cache failed at meanwhile: what is damaged, or can't be reached.
    """

    method: str
    url: str
    key: str
    verdict: Verdict
    why: Why
    status: int | None
    stored: Variant | None
    selected: Variant | None
    differing: tuple[str, ...]
    asked: tuple[tuple[str, str], ...] | None
    refreshes: bool
    failures: tuple[StoreError, ...]


def explain(
    cache: BaseCache,
    url: str,
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    content: bytes | None = None,
    policy: Policy | None = None,
    clock: Callable[[], float] = time.time,
) -> Explanation:
    """Say what would be done with a request now, without doing any of it.

    `headers` are all that the client would send. `content` counts where a rule makes it a part of
    the key.

    Raises:
        ConfigError: the URL is no absolute URL with a host.
        CacheClosed: the cache has been closed.
    """
    request = targeted(Request(method, url, Fields(headers), content))
    return explain_request(cache, request, policy or Policy(), Vault(clock), clock)


def explain_request(
    cache: BaseCache,
    request: Request,
    policy: Policy,
    vault: Vault,
    clock: Callable[[], float],
    *,
    bypass: Why | None = None,
) -> Explanation:
    """Do `explain` for a client, which has a `vault`, and may have a reason to `bypass` the cache.

    Raises:
        ConfigError, CacheClosed: as `explain`.
    """
    ports = _Looking(cache, vault, clock)
    decision, asking, lookup = run(consider(request, policy, ports, bypass=bypass))
    eyes = _Eyes(request, policy, clock())
    stored = None if lookup.primary is None else eyes.variant(lookup.primary)
    found = lookup.found
    selected = stored if found is lookup.primary else None if found is None else eyes.variant(found)
    differing: tuple[str, ...] = ()
    if stored is not None and selected is None:
        kept = lookup.primary.stored.selection if lookup.primary is not None else ()
        mine = dict(selection_of(request.fields, dict(kept), lookup.conceal))
        differing = tuple(name for name, value in kept if mine[name] != value)
    return Explanation(
        request.method,
        primary_key(request.url),
        lookup.primary_key,
        _VERDICTS[type(decision)],
        decision.why,
        _status(decision),
        stored,
        selected,
        differing,
        None if asking is None else _added(request, asking),
        isinstance(decision, Serve) and decision.refresh,
        tuple(ports.failures),
    )


def inspect_url(
    cache: BaseCache,
    url: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    policy: Policy | None = None,
    clock: Callable[[], float] = time.time,
) -> Inspection:
    """Say what is stored for a URL, and which of it a GET with these `headers` selects.

    That takes a listing of what is stored of its host, since nothing else leads to all variants.

    Raises:
        ConfigError: the URL is no absolute URL with a host.
        CacheClosed: the cache has been closed.
    """
    request = targeted(Request("GET", url, Fields(headers)))
    return inspect_request(cache, request, policy or Policy(), Vault(clock), clock)


def inspect_request(
    cache: BaseCache, request: Request, policy: Policy, vault: Vault, clock: Callable[[], float]
) -> Inspection:
    """Do `inspect_url` for a client, which has a `vault`.

    Raises:
        ConfigError, CacheClosed: as `inspect_url`.
    """
    ports = _Looking(cache, vault, clock)
    guard: Guard[Entry, EntryWriter] = Guard(ports, ports.emit)
    try:
        lookup = Lookup(request, policy, ports, guard, ports.vault)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    eyes = _Eyes(request, policy, clock())
    try:
        run(lookup.find(lambda: 0))
        selected = None if lookup.found is None else eyes.variant(lookup.found)
        variants = []
        if lookup.primary is not None:
            variants.append(eyes.variant(lookup.primary))
            variants.extend(map(eyes.variant, _others(cache, lookup.primary, guard)))
        gone = lookup.invalidated
        return Inspection(
            lookup.primary_key,
            tuple(variants),
            selected,
            None if gone is None else why(gone),
            tuple(ports.failures),
        )
    finally:
        run(lookup.close())


def open_variant(cache: BaseCache, variant: Variant) -> Entry | None:
    """Open the body of a stored response; None if another has taken its place, or none.

    Its metadata are a record of the engine's, or another program's. Close it.

    Raises:
        StoreError: what is there is damaged, or the backend failed.
    """
    entry = cache.peek(variant.key)
    if entry is None:
        return None
    try:
        if entry.version != variant.version:
            entry.close()
            return None
        if legacy.is_legacy(entry.metadata):
            stored, body = legacy.decode(entry.metadata, _NOWHERE, lambda _, value: value)
            if body or not entry.has_body:
                entry = LocalCachePorts(cache).embed(entry, body)
            legacy.check_body(stored, entry.size)
    except BaseException:
        entry.close()
        raise
    return entry


class _Looking(LocalCachePorts):
    """The ports of who only looks: nothing is used, nothing goes, and there is no way out."""

    patience: float | None = None
    listening = False

    def __init__(self, cache: BaseCache, vault: Vault, clock: Callable[[], float]) -> None:
        super().__init__(cache)
        self.now = clock
        self.vault = KeyOfOthers(vault)
        self.failures: list[StoreError] = []

    async def open(self, key: str) -> Entry | None:
        return self._cache.peek(key)

    async def open_or_claim(self, key: str, seconds: Callable[[], float]) -> Entry | None:
        return self._cache.peek(key)

    async def remove(self, key: str) -> bool:
        return False

    def emit(self, event: Event) -> None:
        if isinstance(event, StoreFailed):
            self.failures.append(event.error)

    async def send(self, request: Request) -> NoReturn:
        msg = f"who only looks at {request.url} asks nobody"
        raise NotImplementedError(msg)

    async def discard(self, upstream: object) -> None:
        """Have nothing to let go of."""

    def is_failure(self, error: Exception) -> bool:
        return False

    def refresh(self, key: str) -> None:
        """Leave it as it is."""


class _Eyes:
    """How a request sees what is stored."""

    def __init__(self, request: Request, policy: Policy, now: float) -> None:
        self._plain = Request("GET", request.url, Fields(), request.content)
        self._policy = policy
        self._now = now

    def variant(self, found: Found[Entry]) -> Variant:
        stored, policy, now = found.stored, self._policy, self._now
        response = stored.response
        limit = policy.lifetime(self._plain, stored)
        decision = policy.on_request(self._plain, stored, now, size=found.size)
        # Who stored it may have had other secrets, of which there are digests then; and another
        # program has stored them as they are.
        secrets = frozenset(
            name
            for name, value in stored.selection
            if value is not None and (name in policy.concealed or is_digest(value))
        )
        strong = strong_validator(response.fields, stored.response_time)
        return Variant(
            found.key,
            found.version,
            stored.url,
            response.status,
            response.reason,
            response.fields.lines,
            tuple([(name, "" if name in secrets else value) for name, value in stored.selection]),
            secrets,
            stored.part,
            found.size,
            stored.response_time,
            now,
            current_age(stored, now),
            limit.seconds,
            limit.source,
            decision.why,
            strong is not None,
            stored.legacy,
        )


def _others(
    cache: BaseCache, primary: Found[Entry], guard: Guard[Entry, EntryWriter]
) -> Iterator[Found[Entry]]:
    """Find what the primary leads to: who has another generation is led to by nothing any more."""
    try:
        listed = sorted(
            entry.key
            for entry in cache.entries_of(host_of(primary.key))
            if entry.key is not None and is_variant_key(entry.key, primary.key)
        )
    except StoreError as error:
        guard.report("entries", primary.key, error)
        return
    for key in listed:
        entry = run(guard.open(key))
        if entry is None:
            continue
        with entry:
            try:
                stored = records.decode(entry.metadata)
            except CorruptEntry as error:
                guard.report("decode", key, error)
                continue
            if stored.generation == primary.stored.generation:
                yield Found(key, entry, entry.metadata, entry.version, entry.size, stored)


def _status(decision: RequestDecision) -> int | None:
    if isinstance(decision, Serve):
        return decision.response.status
    return 504 if isinstance(decision, Unsatisfiable) else None


def _added(request: Request, asking: Request) -> tuple[tuple[str, str], ...]:
    known = frozenset(request.fields.lines)
    return tuple(line for line in asking.fields.lines if line not in known)
