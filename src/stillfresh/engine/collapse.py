"""Collapsing requests (RFC 9111 §4): of many that want the same at once, one asks the origin.

Whoever would ask the origin takes a turn first. Either it leads, in this process (`flights`) and
then among all that share the cache (its `claim`); or it waits for who does, and looks again. It
never waits longer than the policy says, for a leader that waits for it, or for one that is gone.
What it then gets is by the law alone, as if it had come later: nobody is given what it could not
have found by itself.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Generic

from stillfresh.engine.answers import Outcome
from stillfresh.engine.flights import Fate, Flight
from stillfresh.engine.ports import E, U, W
from stillfresh.rfc9111.decisions import Reason, Serve
from stillfresh.rfc9111.keys import selection_of, variant_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.engine.answers import Answer
    from stillfresh.engine.flights import Lead
    from stillfresh.engine.guard import Guard
    from stillfresh.engine.lookup import Lookup
    from stillfresh.engine.ports import Ports
    from stillfresh.engine.waiting import Signal
    from stillfresh.rfc9111.decisions import Forwarded, Why
    from stillfresh.rfc9111.messages import Request, StoredResponse
    from stillfresh.rfc9111.policy import Policy

# How often one request waits: for what turns out to be another variant, then for its own; or for
# the next one that leads, where the first was cancelled.
_ROUNDS: Final = 3
# How long to wait before another process's claim is asked for again, in seconds: at first, and at
# the most.
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05
# Why a stored response is of no use to anybody, whatever else is asked.
_OF_RESPONSE: Final = frozenset({Reason.RESPONSE_NO_CACHE, Reason.STALE, Reason.RULE_REVALIDATE})


class Turn(Generic[E, W, U]):
    """What one exchange does about others that want the same.

    Attributes:
        lead: its hold on the flight that it leads, if it does.
        forwarded: why it would have asked the origin, when it first would have.
        collapsed: whether waiting has saved it a request of its own; None if it didn't wait.
    """

    __slots__ = (
        "_fate",
        "_guard",
        "_key",
        "_names",
        "_policy",
        "_ports",
        "_request",
        "_rounds",
        "_signal",
        "_until",
        "collapsed",
        "forwarded",
        "lead",
    )

    def __init__(
        self,
        request: Request,
        policy: Policy,
        ports: Ports[E, W, U],
        guard: Guard[E, W],
        signal: Callable[[], Signal],
        forwarded: Forwarded,
    ) -> None:
        """Take part for `request`, which is about to be forwarded; `signal` makes signals."""
        self._request = request
        self._policy = policy
        self._ports = ports
        self._guard = guard
        self._signal = signal
        self._rounds = 0
        self._until: float | None = None
        self._key = ""
        # What selects the variants of what is being fetched, as far as that is known.
        self._names: tuple[str, ...] = ()
        self._fate: Fate | None = None
        self.lead: Lead | None = None
        self.forwarded = forwarded
        self.collapsed: bool | None = None

    async def wait(self, lookup: Lookup[E, W], looked: float, reason: Why) -> bool:
        """Wait for who is fetching the same; tell whether to look again before asking the origin.

        `looked` is when one began to look, by `time.monotonic()`, and `reason` why that is not
        enough.
        """
        if self.lead is not None or not self._may_go_on():
            return False
        key = self._key_of(lookup)
        flights = self._ports.flights()
        if self._fate is Fate.STORED and key == self._key:
            self._is_useless(reason, lookup)
            return False
        self._rounds += 1
        self._key = key
        joined = flights.join(lookup.primary_key, key)
        if joined is None:
            return False
        if isinstance(joined, Flight):
            waking = self._signal()
            if not (waking.blocks and joined.thread == threading.get_ident()):
                self.collapsed = False
                await lookup.let_go()
                if not await self._follow(joined, lookup, waking):
                    flights.detach(joined)
                    flights.keep_apart(joined.primary, Fate.LATE)
                return True
            # Its leader can't go on while this thread waits.
            joined = flights.lead_anew(joined)
        self.lead = joined
        return await self._claim(joined, lookup, looked)

    def served(self) -> None:
        """Take note that a stored response is the answer."""
        if self.collapsed is not None:
            self.collapsed = True
        self.land(Fate.STORED)

    def answered(self, answer: Answer[E, W, U]) -> None:
        """Take note of an answer; while a response is recorded, others go on waiting for it."""
        if answer.recorder is not None:
            return
        info = answer.info
        if answer.response.status >= 500 or info.why.reason is Reason.STALE_IF_ERROR:
            self.land(Fate.FAILED)
        else:
            kept = info.stored and info.outcome is not Outcome.MISS
            self.land(Fate.STORED if kept else Fate.UNSHARED)

    def failed(self, error: BaseException) -> None:
        """Take note that there is no answer."""
        self.land(Fate.FAILED if isinstance(error, Exception) else Fate.ABANDONED)

    def land(self, fate: Fate) -> None:
        """Let those go on that wait."""
        if self.lead is not None:
            self.lead.land(fate)

    def _may_go_on(self) -> bool:
        """Tell whether waiting (again) may be of use."""
        if self._rounds == 0:
            return True
        useless = self._fate is Fate.UNSHARED or self._fate is Fate.FAILED
        return not useless and self._rounds < _ROUNDS and self._left() > 0

    def _left(self) -> float:
        """Return for how many seconds it may still wait."""
        now = time.monotonic()
        if self._until is None:
            patience, wait = self._ports.patience, self._policy.collapse_wait
            self._until = now + (wait if patience is None else min(wait, patience))
        return self._until - now

    def _key_of(self, lookup: Lookup[E, W]) -> str:
        """Return what all requests have in common that could get the same answer.

        As long as nobody knows what selects it, that is the URL; and those with different
        credentials never get the same.
        """
        key, primary = lookup.primary_key, lookup.primary
        fields, conceal = self._request.fields, lookup.conceal
        if primary is not None:
            self._names = tuple(name for name, _ in primary.stored.selection)
        if lookup.found is not None:
            key = lookup.found.key
        elif self._names:
            # The same one, whether the first variant is stored already or still on its way.
            key = variant_key(key, "", selection_of(fields, self._names, conceal))
        whose = fields.names & self._policy.concealed
        return f"{key} {selection_of(fields, whose, conceal)}" if whose else key

    async def _follow(self, flight: Flight, lookup: Lookup[E, W], waking: Signal) -> bool:
        """Wait until a flight lands, or is seen to be of no use; False if that took too long."""
        while True:
            with flight.waking(waking):
                self._fate = flight.fate
                if flight.fate is not None or not self._suits(flight.expected, lookup):
                    return True
                left = self._left()
                if left <= 0 or not await waking.wait(left):
                    self._fate = Fate.FAILED
                    return False
            waking = self._signal()

    def _suits(self, expected: StoredResponse | None, lookup: Lookup[E, W]) -> bool:
        """Tell whether what is about to be stored would answer this request too."""
        if expected is None:
            return True
        if not lookup.is_selected(expected):
            self._names = tuple(name for name, _ in expected.selection)
            return False
        decision = self._policy.on_request(self._request, expected, self._ports.now())
        if isinstance(decision, Serve):
            return True
        self._fate = Fate.UNSHARED
        self._is_useless(decision.why, lookup)
        return False

    def _is_useless(self, reason: Why, lookup: Lookup[E, W]) -> None:
        """Take note of why the law lets nobody else have what one has fetched."""
        if reason.reason in _OF_RESPONSE:
            self._ports.flights().keep_apart(lookup.primary_key, Fate.UNSHARED)

    async def _claim(self, lead: Lead, lookup: Lookup[E, W], looked: float) -> bool:
        """Wait for other processes that fetch the same; tell whether to look again."""
        key, longest = lead.flight.key, self._policy.collapse_wait
        claim, pause = await self._guard.claim(key, longest), _FIRST_PAUSE
        waited = claim is None
        if waited:
            self.collapsed = False
            await lookup.let_go()
        while claim is None and (left := self._left()) > 0:
            await self._signal().wait(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
            claim = await self._guard.claim(key, longest)
        if claim is None:
            self._ports.flights().keep_apart(lead.flight.primary, Fate.LATE)
            return True
        lead.claim = claim
        return waited or claim.others or lead.last >= looked
