"""A world for the engine: a cache, an origin and a clock in memory, all of them watched.

The ports are the same for both kinds of client. With `suspends` every one of them gives way once,
as an async client's would; a test can then drive the coroutine step by step, or leave it to
asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from stillfresh import CacheInfo, Policy
from stillfresh.engine.credentials import Vault
from stillfresh.engine.answers import Answer
from stillfresh.engine.exchange import exchange
from stillfresh.engine.ports import run
from stillfresh.events import Event
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Request, Response
from stillfresh.testing import ManualClock

T = TypeVar("T")
E = TypeVar("E", bound=Event)
URL = "http://origin.example/"


@dataclass(eq=False)
class FakeEntry:
    key: str
    metadata: bytes
    version: str
    body: bytes
    has_body: bool = True
    at: int = 0
    is_open: bool = True


@dataclass(eq=False)
class FakeWriter:
    key: str
    parts: list[bytes] = field(default_factory=list)
    is_open: bool = True


@dataclass(eq=False)
class FakeUpstream:
    response: Response
    body: bytes
    is_open: bool = True


@dataclass(frozen=True)
class Told:
    """What the origin is made to say."""

    status: int = 200
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b"hello"


Handler: TypeAlias = Callable[[Request], Told]
Reply: TypeAlias = Told | Handler | Exception
Got: TypeAlias = Answer[FakeEntry, FakeWriter, FakeUpstream]


def told(body: bytes = b"hello", status: int = 200, **fields: str) -> Told:
    """Return a response that is fresh for a minute, unless it says otherwise."""
    named = {"Cache-Control": "max-age=60"}
    named |= {name.replace("_", "-").title(): value for name, value in fields.items()}
    return Told(status, tuple(named.items()), body)


class World:
    """The ports of one client, and all that passes through them.

    Attributes:
        kept: what the cache holds: metadata, body, version.
        replies: what the origin says next; the last one stays.
        sent: the requests that reached the origin.
        calls: every call of a port, in order.
        faults: what a port raises instead of doing its work.
        meanwhile: what somebody else does just after a port has done its work.
        refreshing: the keys that were to be refreshed behind.
    """

    def __init__(self, *replies: Reply, policy: Policy | None = None) -> None:
        self.suspends = False
        self.listening = True
        self.policy = policy or Policy()
        self.clock = ManualClock()
        self.vault = Vault()
        self.kept: dict[str, tuple[bytes, bytes | None, str]] = {}
        self.replies: list[Reply] = list(replies)
        self.sent: list[Request] = []
        self.calls: list[str] = []
        self.events: list[Event] = []
        self.faults: dict[str, BaseException] = {}
        self.meanwhile: dict[str, Callable[[], None]] = {}
        self.handles: list[FakeEntry | FakeWriter | FakeUpstream] = []
        self.refreshing: list[str] = []
        self._versions = 0

    # What a test does.

    def ask(
        self, method: str = "GET", url: str = URL, headers: Mapping[str, str] | None = None
    ) -> Got:
        """Have one request answered, as a blocking client does."""
        return run(self.asking(method, url, headers))

    def get(self, headers: Mapping[str, str] | None = None) -> tuple[bytes, CacheInfo]:
        """Get the page, read to its end."""
        answer = self.ask(headers=headers)
        return self.consume(answer), answer.info

    def asking(
        self, method: str = "GET", url: str = URL, headers: Mapping[str, str] | None = None
    ) -> Coroutine[Any, Any, Got]:
        request = Request(method, url, Fields((headers or {}).items()))
        return exchange(request, self.policy, self)

    def consume(self, answer: Got) -> bytes:
        """Read an answer's body as a client does, and close everything."""
        return run(self.consuming(answer))

    async def consuming(self, answer: Got) -> bytes:
        body = b""
        if answer.entry is not None:
            try:
                async for chunk in self._stored(answer):
                    body += chunk
                    if answer.recorder is not None:
                        await answer.recorder.write(chunk)
            except Exception as error:
                assert answer.lost is not None
                raise await answer.lost(error) from error
            finally:
                await self.close(answer.entry)
        if answer.upstream is None or answer.info.from_cache:
            return body
        answer.upstream.is_open = False
        rest = answer.upstream.body
        if answer.recorder is not None:
            for at in range(0, len(rest), 3):
                await answer.recorder.write(rest[at : at + 3])
            await answer.recorder.finish()
        return body + rest

    async def _stored(self, answer: Got) -> AsyncIterator[bytes]:
        entry = answer.entry
        assert entry is not None
        if answer.pieces is None:
            while chunk := await self.read(entry, 3):
                yield chunk
            return
        for piece in answer.pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            await self.seek(entry, piece.first)
            left = piece.size
            while left:
                chunk = await self.read(entry, min(3, left))
                assert chunk
                left -= len(chunk)
                yield chunk

    def left_open(self) -> list[object]:
        return [handle for handle in self.handles if handle.is_open]

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    # The ports.

    listening = True

    def now(self) -> float:
        return self.clock()

    def emit(self, event: Event) -> None:
        self.events.append(event)

    async def send(self, request: Request) -> FakeUpstream:
        await self._step("send")
        self.sent.append(request)
        reply = self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        said = reply(request) if callable(reply) else reply
        response = Response(said.status, Fields(said.fields), "", 11)
        return self._opened(FakeUpstream(response, said.body))

    def is_failure(self, error: Exception) -> bool:
        return isinstance(error, OSError)

    def refresh(self, key: str) -> None:
        self.refreshing.append(key)

    async def discard(self, upstream: FakeUpstream) -> None:
        upstream.is_open = False
        await self._step("discard")

    async def open(self, key: str) -> FakeEntry | None:
        await self._step("open")
        if key not in self.kept:
            return None
        metadata, body, version = self.kept[key]
        return self._opened(FakeEntry(key, metadata, version, body or b"", body is not None))

    def describe(self, entry: FakeEntry) -> tuple[bytes, str, int, bool]:
        return entry.metadata, entry.version, len(entry.body), entry.has_body

    def embed(self, entry: FakeEntry, body: bytes) -> FakeEntry:
        entry.is_open = False
        return self._opened(FakeEntry(entry.key, entry.metadata, entry.version, body))

    async def prime(self, entry: FakeEntry) -> None:
        assert entry.is_open
        await self._step("prime")

    async def seek(self, entry: FakeEntry, offset: int) -> None:
        assert entry.is_open
        await self._step("seek")
        entry.at = offset

    async def read(self, entry: FakeEntry, size: int) -> bytes:
        assert entry.is_open
        await self._step("read")
        chunk = entry.body[entry.at : entry.at + size]
        entry.at += len(chunk)
        return chunk

    async def close(self, entry: FakeEntry) -> None:
        entry.is_open = False
        await self._step("close")

    async def writer(self, key: str) -> FakeWriter:
        await self._step("writer")
        return self._opened(FakeWriter(key))

    async def write(self, writer: FakeWriter, chunk: bytes) -> None:
        assert writer.is_open
        await self._step("write")
        writer.parts.append(chunk)

    async def commit(self, writer: FakeWriter, metadata: bytes) -> str:
        assert writer.is_open
        await self._step("commit")
        writer.is_open = False
        body = b"".join(writer.parts) if writer.parts else None
        self.put(writer.key, metadata, body)
        version = self.kept[writer.key][2]
        self._after("commit")
        return version

    async def abort(self, writer: FakeWriter) -> None:
        writer.is_open = False
        await self._step("abort")

    async def update(self, key: str, metadata: bytes, version: str) -> bool:
        await self._step("update")
        present = self.kept.get(key)
        if present is None or present[2] != version or version.startswith("foreign"):
            return False
        self.kept[key] = (metadata, present[1], version)
        return True

    async def remove(self, key: str) -> bool:
        await self._step("remove")
        return self.kept.pop(key, None) is not None

    def put(self, key: str, metadata: bytes, body: bytes | None, *, foreign: bool = False) -> None:
        """Keep a version, as a writer of anybody's would."""
        self._versions += 1
        name = f"{'foreign-' if foreign else ''}{self._versions}"
        self.kept[key] = (metadata, body, name)

    def _opened(self, handle: T) -> T:
        assert isinstance(handle, FakeEntry | FakeWriter | FakeUpstream)
        self.handles.append(handle)
        return handle

    async def _step(self, name: str) -> None:
        self.calls.append(name)
        if self.suspends:
            await asyncio.sleep(0)
        if name in self.faults:
            raise self.faults[name]

    def _after(self, name: str) -> None:
        if name in self.meanwhile:
            self.meanwhile.pop(name)()


def steps(coroutine: Coroutine[Any, Any, T], number: int) -> Iterator[T]:
    """Drive a coroutine through `number` suspensions; yield what it returns if it ends before."""
    try:
        for _ in range(number + 1):
            coroutine.send(None)
    except StopIteration as stop:
        yield stop.value


def cancel(coroutine: Coroutine[Any, Any, object]) -> None:
    """Cancel a suspended coroutine, and let it clean up as an event loop would."""
    try:
        coroutine.throw(asyncio.CancelledError)
        while True:
            coroutine.send(None)
    except asyncio.CancelledError:
        return
    except StopIteration:
        raise AssertionError("the cancellation was swallowed") from None
