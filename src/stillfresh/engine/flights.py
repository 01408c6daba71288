"""What is being fetched just now in this process, so that nobody fetches it a second time.

A *flight* is one request on its way to the origin that others wait for. It *lands* when it is known
what came of it: its answer is committed, or can't be shared, or will never come. Whoever leads one
holds a `Lead`; forgotten, it lands, so nobody waits for a leader that is gone.

There are no locks: operations of dictionaries and lists are atomic, and `land` may be called by the
garbage collector, in the middle of anything that would hold one. What can go wrong between two such
operations is that something is fetched twice.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from stillfresh.forks import call_in_children
from stillfresh.memo import brief

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stillfresh.caches.base import Claim
    from stillfresh.engine.waiting import Signal
    from stillfresh.rfc9111.messages import StoredResponse

# What could not be shared is fetched by everybody for themselves so long, in seconds; then it is
# tried again.
_APART: Final = 60.0
# How many URLs are remembered for this.
_REMEMBERED: Final = 1024


class Fate(Enum):
    """What came of a flight."""

    STORED = "what it got is stored"
    UNSHARED = "what it got is for nobody else"
    FAILED = "the origin failed"
    LATE = "those who waited have lost patience"
    ABANDONED = "nobody waits for its answer any more"


class Flight:
    """One request that others may wait for.

    Attributes:
        fate: what came of it; None as long as nobody knows.
        expected: what will be stored if all goes well; None as long as nobody knows.
        thread: where it was begun.
    """

    __slots__ = ("_signals", "expected", "fate", "key", "primary", "thread")

    def __init__(self, primary: str, key: str) -> None:
        """Begin; `primary` is the primary key of what it fetches, `key` says of which of it."""
        self.primary = primary
        self.key = key
        self.thread = threading.get_ident()
        self.fate: Fate | None = None
        self.expected: StoredResponse | None = None
        self._signals: list[Signal] = []

    @contextmanager
    def waking(self, signal: Signal) -> Iterator[None]:
        """Have `signal` set whenever there is something new, within the block."""
        self._signals.append(signal)
        try:
            yield
        finally:
            with suppress(ValueError):
                self._signals.remove(signal)

    @property
    def waiting(self) -> int:
        """How many wait for it."""
        return len(self._signals)

    def tell(self) -> None:
        """Set the signals of all who wait."""
        if self._signals:
            for signal in list(self._signals):
                signal.set()


class Lead:
    """The leader's hold on its flight.

    Attributes:
        flight: the flight.
        last: when another one for the same URL landed, by `time.monotonic()`: whoever has looked
            before may have missed what it stored.
        claim: what keeps other processes from fetching the same.
    """

    __slots__ = ("_flights", "claim", "flight", "last")

    def __init__(self, flights: Flights, flight: Flight, last: float) -> None:
        """Lead `flight`, one of `flights`."""
        self._flights = flights
        self.flight = flight
        self.last = last
        self.claim: Claim | None = None

    def expect(self, stored: StoredResponse) -> None:
        """Let those who wait see what it is that will be stored."""
        self._flights.may_share(self.flight.primary)
        self.flight.expected = stored
        self.flight.tell()

    def ending(self) -> None:
        """Hear that what the claim is for is about to be stored."""
        if self.claim is not None:
            self.claim.ending()

    def land(self, fate: Fate) -> None:
        """Let those who wait go on. May be called twice; the first one counts."""
        claim, self.claim = self.claim, None
        if claim is not None:
            claim.release()
        flight = self.flight
        if flight.fate is None:
            self._flights.landed(flight, fate)
            flight.fate = fate
            flight.tell()

    def __del__(self) -> None:
        """Land, if nobody has thought of it."""
        if self.flight.fate is None:
            self.land(Fate.ABANDONED)


# The flights led by this thread or task, or by one that it was started by.
_led: Final[ContextVar[tuple[Flight, ...]]] = ContextVar("stillfresh_led", default=())


class Flights:
    """All flights for one cache in this process.

    Attributes:
        moment: how many invalidations there have been, which says when something was.
    """

    __slots__ = ("__weakref__", "_forgotten", "_invalidated", "_open", "_past", "moment")

    def __init__(self) -> None:
        """Have none."""
        self._open: dict[str, Flight] = {}
        # By primary key, in brief: what came of it last, and when.
        self._past: dict[str, tuple[Fate, float]] = {}
        self.moment = 0
        # By primary key, in brief: the moment of its invalidation; those up to one are forgotten.
        self._invalidated: dict[str, int] = {}
        self._forgotten = 0
        call_in_children(self.begin)

    def join(self, primary: str, key: str) -> Lead | Flight | None:
        """Lead a flight for `key`, or find the one to wait for; None where there should be none.

        Nobody waits for a flight of its own: it is what would have to go on first.
        """
        past = self._past.get(brief(primary))
        if _keeps_apart(past):
            return None
        last = -math.inf if past is None else past[1]
        flight = Flight(primary, key)
        present = self._open.setdefault(key, flight)
        if present is not flight and present not in _led.get():
            return present
        return self._lead(flight, last)

    def is_apart(self, primary: str) -> bool:
        """Tell whether nobody is to wait for anybody about `primary` (`keep_apart`)."""
        return _keeps_apart(self._past.get(brief(primary)))

    def lead_anew(self, flight: Flight) -> Lead:
        """Lead another flight in the place of one that can't be waited for."""
        return self._lead(Flight(flight.primary, flight.key), -math.inf)

    def _lead(self, flight: Flight, last: float) -> Lead:
        self._open[flight.key] = flight
        _led.set((*[other for other in _led.get() if other.fate is None], flight))
        return Lead(self, flight, last)

    def landed(self, flight: Flight, fate: Fate) -> None:
        """Take note of what came of a flight."""
        # In this order: who doesn't find the flight finds that it was here.
        if fate is Fate.STORED or fate is Fate.UNSHARED:
            self._remember(flight.primary, fate)
        self.detach(flight)

    def detach(self, flight: Flight) -> None:
        """Have nobody else wait for a flight."""
        if self._open.get(flight.key) is flight:
            self._open.pop(flight.key, None)

    def keep_apart(self, primary: str, fate: Fate) -> None:
        """Have nobody wait for anybody about `primary`, for a while, since it was of no use."""
        self._remember(primary, fate)

    def may_share(self, primary: str) -> None:
        """Take that back, unless it took too long: what comes can be stored."""
        name = brief(primary)
        past = self._past.get(name)
        if past is not None and past[0] is Fate.UNSHARED:
            self._past.pop(name, None)

    def invalidated(self, primary: str, *others: str) -> int:
        """Have nobody wait for what was asked for before now, nor store it; return the moment.

        It is noted for `others` that a response may be found by as well.
        """
        moment = self.moment = self.moment + 1
        for key in map(brief, (primary, *others)):
            # The latest last.
            self._invalidated.pop(key, None)
            self._invalidated[key] = moment
        if len(self._invalidated) > _REMEMBERED:
            for key, noted in list(self._invalidated.items())[: _REMEMBERED // 2]:
                self._forgotten = noted
                self._invalidated.pop(key, None)
        for flight in list(self._open.values()):
            if flight.primary == primary:
                self.detach(flight)
        # In other processes it may be under way, too.
        self.keep_apart(primary, Fate.UNSHARED)
        return moment

    def invalidated_at(self, primary: str) -> int:
        """Return the moment of the last invalidation; the latest that it may be, if unknown."""
        return self._invalidated.get(brief(primary), self._forgotten)

    def __len__(self) -> int:
        """Count what is under way."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        """How many wait for something of it."""
        return sum(flight.waiting for flight in list(self._open.values()))

    def _remember(self, primary: str, fate: Fate) -> None:
        name, now = brief(primary), time.monotonic()
        past = self._past.get(name)
        if past is not None and past[0] is Fate.LATE and now - past[1] < _APART:
            # Somebody may still be at it, and not get any further.
            return
        if len(self._past) >= _REMEMBERED:
            self._past.clear()
        self._past[name] = (fate, now)

    def begin(self) -> None:
        """Begin anew, in a child made by `fork()`: who leads is in its parent."""
        self._open.clear()
        self._past.clear()


def _keeps_apart(past: tuple[Fate, float] | None) -> bool:
    """Tell whether what became of the last flight for a URL is that nobody waits for the next."""
    if past is None or past[0] is Fate.STORED:
        return False
    return time.monotonic() - past[1] < _APART


_of_caches: Final[dict[int, Flights]] = {}
_of_places: Final[weakref.WeakValueDictionary[str, Flights]] = weakref.WeakValueDictionary()


class _Placed(Protocol):
    """A cache, blocking or not."""

    @property
    def place(self) -> str | None: ...


def flights_for(cache: _Placed) -> Flights:
    """Return the flights for a cache; caches that have the same entries have the same."""
    flights = _of_caches.get(id(cache))
    if flights is not None:
        return flights
    flights, place = Flights(), cache.place
    if place is not None:
        flights = _of_places.setdefault(place, flights)
    flights = _of_caches.setdefault(id(cache), flights)
    weakref.finalize(cache, _of_caches.pop, id(cache), None).atexit = False
    return flights
