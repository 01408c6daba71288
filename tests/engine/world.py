"""A world for the engine: a cache, an origin and a clock in memory, all of them watched.

The ports are the same for both kinds of client. With `suspends` every one of them gives way once,
as an async client's would; a test can then drive the coroutine step by step, or leave it to
asyncio.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import msgpack
import trio

from stillfresh import CacheInfo, Policy
from stillfresh.caches.base import Claim
from stillfresh.engine import records
from stillfresh.engine.answers import Answer
from stillfresh.engine.credentials import Vault
from stillfresh.engine.exchange import exchange
from stillfresh.engine.flights import Flights
from stillfresh.engine.ports import Useful, run
from stillfresh.engine.waiting import Signal, ThreadSignal
from stillfresh.events import Event
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Request, Response, StoredResponse
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


def document(body: bytes, etag: str = '"1"', **fields: str) -> Handler:
    """Return an origin that has one document, and answers conditions and ranges as it should."""

    def answer(request: Request) -> Told:
        asked = request.fields
        length = str(len(body))
        whole = told(body, 200, **{"etag": etag, "content_length": length} | fields)
        if etag in (asked.get("if-none-match") or ""):
            return Told(304, (("ETag", etag), ("Cache-Control", "max-age=60")), b"")
        match = re.fullmatch("bytes=([0-9]*)-([0-9]*)", asked.get("range") or "")
        if match is None or asked.get("if-range") not in {None, etag}:
            return whole
        first = int(match[1]) if match[1] else max(0, len(body) - int(match[2]))
        last = min(len(body) - 1, int(match[2]) if match[1] and match[2] else len(body))
        if first > last:
            return Told(416, (("Content-Range", f"bytes */{length}"),), b"")
        size = str(last - first + 1)
        part = {"content_range": f"bytes {first}-{last}/{length}", "content_length": size}
        return told(body[first : last + 1], 206, **{"etag": etag} | fields | part)

    return answer


def legacy(body: bytes = b"", **headers: str) -> bytes:
    """Write a record as CacheControl does; `ETag="x"`, `Content_Length="5"`."""
    fields = {"Cache-Control": "max-age=60"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    held = {"body": body, "headers": fields, "status": 200, "version": 11, "reason": "OK"}
    packed: bytes = msgpack.packb({"response": held, "vary": {}}, use_bin_type=True)
    return b"cc=4," + packed


class Unheard(bytes):
    """Bytes that nobody recognises, though they are the same."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


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
        signal: what is waited for where others fetch the same.
        claims: the keys that some process fetches, if there are several; they share this.
        spare: those that this one has claimed with a look and nobody has taken up, if it does so.
        forgetful: whether nothing is known of a record from when it was read before.
        step: how many bytes of a body are read at once.
        holding: whether the next request is still held back on its way to the origin.
    """

    def __init__(self, *replies: Reply, policy: Policy | None = None) -> None:
        self.suspends = False
        self.listening = True
        self.policy = policy or Policy()
        self.clock = ManualClock()
        self.vault = Vault(self.clock)
        self.kept: dict[str, tuple[bytes, bytes | None, str]] = {}
        self.replies: list[Reply] = list(replies)
        self.sent: list[Request] = []
        self.calls: list[str] = []
        self.events: list[Event] = []
        self.faults: dict[str, BaseException] = {}
        self.meanwhile: dict[str, Callable[[], None]] = {}
        self.handles: list[FakeEntry | FakeWriter | FakeUpstream] = []
        self.refreshing: list[str] = []
        self.forgetful = False
        self.step = 3
        self.signal: Callable[[], Signal] = ThreadSignal
        self.claims: set[str] | None = None
        self.spare: set[str] | None = None
        self.holding: Callable[[], bool] | None = None
        self.under_way = Flights()
        self._versions = 0
        self._asked: dict[tuple[tuple[str, str], ...], Fields] = {}

    # What a test does.

    def ask(
        self,
        method: str = "GET",
        url: str = URL,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Got:
        """Have one request answered, as a blocking client does."""
        return run(self.asking(method, url, headers, content))

    def get(
        self, headers: Mapping[str, str] | None = None, url: str = URL
    ) -> tuple[bytes, CacheInfo]:
        """Get the page, read to its end."""
        answer = self.ask(url=url, headers=headers)
        return self.consume(answer), answer.info

    def cut_off(
        self, size: int, headers: Mapping[str, str] | None = None, url: str = URL
    ) -> CacheInfo:
        """Get the page, of which no more than `size` bytes arrive."""
        answer = self.ask(url=url, headers=headers)
        assert len(self.consume(answer, size)) == size
        return answer.info

    def asking(
        self,
        method: str = "GET",
        url: str = URL,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Coroutine[Any, Any, Got]:
        lines = tuple((headers or {}).items())
        # As clients do, who say the same most of the time.
        fields = self._asked.setdefault(lines, Fields(lines))
        return exchange(Request(method, url, fields, content), self.policy, self)

    def consume(self, answer: Got, stop: int | None = None) -> bytes:
        """Read an answer's body as a client does, and close everything.

        With `stop` the connection breaks after so many bytes.
        """
        return run(self.consuming(answer, stop))

    async def consuming(self, answer: Got, stop: int | None = None) -> bytes:
        body, recorder = b"", answer.recorder
        if answer.entry is not None:
            try:
                async with aclosing(self._stored(answer)) as stored:
                    async for whole in stored:
                        chunk = whole if stop is None else whole[: stop - len(body)]
                        body += chunk
                        if recorder is not None:
                            await recorder.write(chunk)
                        if len(body) == stop:
                            break
            except Exception as error:
                if recorder is not None:
                    await recorder.abort()
                if answer.upstream is not None:
                    answer.upstream.is_open = False
                assert answer.lost is not None
                raise await answer.lost(error) from error
            finally:
                await self.close(answer.entry)
        if answer.upstream is not None and not answer.info.from_cache:
            answer.upstream.is_open = False
            rest = answer.upstream.body[: None if stop is None else stop - len(body)]
            body += rest
            for at in range(0, len(rest) if recorder is not None else 0, self.step):
                assert recorder is not None
                await recorder.write(rest[at : at + self.step])
        if recorder is not None:
            await (recorder.finish() if stop is None else recorder.abort())
        return body

    async def _stored(self, answer: Got) -> AsyncGenerator[bytes, None]:
        entry = answer.entry
        assert entry is not None
        if answer.pieces is None:
            while chunk := await self.read(entry, self.step):
                yield chunk
            return
        for piece in answer.pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            await self.seek(entry, piece.first)
            left = piece.size
            while left:
                chunk = await self.read(entry, min(self.step, left))
                assert chunk
                left -= len(chunk)
                yield chunk

    def forget(self) -> None:
        """Have kept nothing of what has passed through so far, not even what is stored."""
        for those in (self.kept, self._asked):
            those.clear()
        for past in (self.sent, self.calls, self.events, self.handles, self.refreshing):
            past.clear()

    def record(self, key: str = URL) -> StoredResponse:
        """Return what is known of a stored response."""
        return records.decode(self.kept[key][0])

    def bodies(self) -> list[bytes]:
        """Return all bodies that are stored, the first one first."""
        return [body for _, body, _ in self.kept.values() if body is not None]

    def left_open(self) -> list[object]:
        return [handle for handle in self.handles if handle.is_open]

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    # The ports.

    listening = True
    is_own = False
    patience: float | None = None

    def now(self) -> float:
        return self.clock()

    def emit(self, event: Event) -> None:
        self.events.append(event)

    async def send(self, request: Request) -> FakeUpstream:
        await self._step("send")
        holding, self.holding = self.holding, None
        while holding is not None and holding():
            await give_way(0.001)
        self.sent.append(request)
        reply = self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        said = reply(request) if callable(reply) else reply
        response = Response(said.status, Fields(said.fields), "", 11)
        bodiless = said.status in {204, 304} or request.method == "HEAD"
        return self._opened(FakeUpstream(response, b"" if bodiless else said.body))

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

    async def open_or_claim(
        self, key: str, seconds: Callable[[], float]
    ) -> FakeEntry | Claim | None:
        entry = await self.open(key)
        claims, spare = self.claims, self.spare
        if entry is not None or claims is None or spare is None or key in claims or not seconds():
            return entry

        def give_up() -> None:
            if key in spare:
                spare.remove(key)
                claims.remove(key)

        claims.add(key)
        spare.add(key)
        return Claim(give_up)

    def describe(self, entry: FakeEntry) -> tuple[bytes, str, int, bool]:
        metadata = Unheard(entry.metadata) if self.forgetful else entry.metadata
        return metadata, entry.version, len(entry.body), entry.has_body

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
        self._after("write")

    async def commit(
        self, writer: FakeWriter, metadata: bytes, useful: Useful | None = None
    ) -> str:
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

    async def update(
        self, key: str, old: bytes, new: bytes, version: str, useful: Useful | None = None
    ) -> bool:
        await self._step("update")
        present = self.kept.get(key)
        if present is None or present[2] != version or version.startswith("foreign"):
            return False
        if present[0] != bytes(old):
            return False
        self.kept[key] = (new, present[1], version)
        return True

    async def remove(self, key: str) -> bool:
        await self._step("remove")
        return self.kept.pop(key, None) is not None

    async def claim(self, key: str, seconds: float) -> Claim | None:
        claims = self.claims
        if claims is None:
            return Claim()
        if self.spare and key in self.spare:
            self.spare.remove(key)
            return Claim(lambda: claims.discard(key))
        await self._step("claim")
        if key in claims:
            return None
        claims.add(key)
        return Claim(lambda: claims.discard(key), others=True)

    def flights(self) -> Flights:
        return self.under_way

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
            await give_way()
        if name in self.faults:
            raise self.faults[name]

    def _after(self, name: str) -> None:
        if name in self.meanwhile:
            self.meanwhile.pop(name)()


async def give_way(seconds: float = 0) -> None:
    """Suspend once, and be cancelled if that is due; under trio, under asyncio, or step by step."""
    if trio.lowlevel.in_trio_task():
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


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
