"""How a client is driven, and what the behaviours share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

import pytest

from stillfresh import BaseCache, CacheInfo, MemoryCache, Policy
from stillfresh.events import Event, Hook
from stillfresh.testing import ManualClock
from tests.origin import Origin, Reply

E = TypeVar("E", bound=Event)
NewClient: TypeAlias = "Callable[..., Driver]"

# What belongs to one message or one way of sending it, not to the response that is stored.
_OF_THE_MESSAGE = {"age", "cache-status", "connection", "transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Head:
    """What a caller sees before the body.

    Attributes:
        lines: header lines in their order; those of one name stand apart, as they came.
        info: what the cache says it did.
    """

    status: int
    reason: str
    lines: tuple[tuple[str, str], ...]
    info: CacheInfo

    @property
    def from_cache(self) -> bool:
        return self.info.from_cache

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.lines if known.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        return ", ".join(self.all(name))

    @property
    def lasting(self) -> list[tuple[str, str]]:
        """The lines that are the same whether the response was stored or not."""
        return sorted(line for line in self.lines if line[0].lower() not in _OF_THE_MESSAGE)


@dataclass(frozen=True, slots=True)
class Answer(Head):
    """A whole response; the body is as the caller gets it, without its content coding."""

    body: bytes


class Stream(ABC):
    """A response whose body is read bit by bit."""

    head: Head

    @abstractmethod
    def read(self) -> bytes:
        """Return the next bytes; nothing at the end.

        Of a chunked body that is what has come, of another at most 64 KiB.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop reading, wherever that is."""

    def rest(self) -> bytes:
        """Read to the end."""
        return b"".join(iter(self.read, b""))


class Driver(ABC):
    """One client with a cache, as blocking calls; an async client brings its own loop.

    Redirects aren't followed, and nothing is waited for longer than ten seconds.

    Attributes:
        broken: what the client raises where the connection ends in the middle of a body.
        lost: what its caller can catch where a stored body is damaged, beside `BodyLost`.
        cannot: what the client can't do, as the name of the behaviour's test and the reason; one
            that passes after all is a failure.
    """

    broken: type[Exception]
    lost: type[Exception]
    cannot: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        """Send a request, and read all of the response."""

    @abstractmethod
    def stream(self, url: str, headers: Mapping[str, str] | None = None) -> Stream:
        """Send a GET, and return when the head of the response is here."""

    @abstractmethod
    def settle(self, timeout: float) -> bool:
        """Wait until nothing is refreshed behind any more, and tell whether nothing is."""

    @abstractmethod
    def close(self) -> None:
        """Close the client."""

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("GET", url, headers)

    def head(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("HEAD", url, headers)


@dataclass
class Heard:
    """The events that a hook was given."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


class Suite:
    """The fixtures, and what a subclass has to say.

    Attributes:
        driver: the class of what `make_client` returns.
    """

    driver: ClassVar[type[Driver]]

    @pytest.fixture(autouse=True)
    def what_the_client_cannot_do(self, request: pytest.FixtureRequest) -> None:
        assert isinstance(request.node, pytest.Function)
        for name in (request.node.name, request.node.originalname):
            if name in self.driver.cannot:
                reason = self.driver.cannot[name]
                request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
                return

    def make_client(
        self,
        cache: BaseCache,
        *,
        policy: Policy | None,
        hook: Hook,
        clock: Callable[[], float],
    ) -> Driver:
        """Return a client in front of `cache`."""
        raise NotImplementedError

    def make_cache(self, place: Path, clock: ManualClock) -> BaseCache:
        """Return an empty cache; it may use the empty directory `place`."""
        return MemoryCache(clock=clock)

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def heard(self) -> Heard:
        return Heard()

    @pytest.fixture
    def cache(self, tmp_path: Path, clock: ManualClock) -> Iterator[BaseCache]:
        place = tmp_path / "cache"
        place.mkdir(mode=0o700)
        with self.make_cache(place, clock) as cache:
            yield cache

    @pytest.fixture
    def new_client(self, cache: BaseCache, clock: ManualClock, heard: Heard) -> Iterator[NewClient]:
        made = []

        def new(policy: Policy | None = None, cache: BaseCache = cache, **given: Any) -> Driver:
            settings = {"hook": heard, "clock": clock, **given}
            made.append(self.make_client(cache, policy=policy, **settings))
            return made[-1]

        yield new
        for client in made:
            client.close()

    @pytest.fixture
    def client(self, new_client: NewClient) -> Driver:
        return new_client()


def fresh(body: bytes | Iterable[bytes] = b"hello", seconds: int = 60, **fields: str) -> Reply:
    """Return a reply that may be stored for a minute; `etag="x"` becomes `ETag: x`, and so on."""
    headers = {"Cache-Control": f"max-age={seconds}"}
    headers |= {name.replace("_", "-").title(): value for name, value in fields.items()}
    return Reply(headers=headers, body=body)


def paths(origin: Origin) -> list[tuple[str, str]]:
    """Return method and path of all that the origin was asked."""
    return [(request.method, request.path) for request in origin.received]
