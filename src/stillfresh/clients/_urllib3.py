"""Responses that are urllib3's to whoever reads them, whose bodies the cache records or stored.

Shared by the clients for requests, which sits on urllib3, and for urllib3 itself. Bodies are stored
as they came, still encoded, and decoded for the caller.
"""

from __future__ import annotations

import io
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, TypeAlias, cast

from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3.exceptions import IncompleteRead, ProtocolError, TimeoutStateError
from urllib3.util import Timeout

from stillfresh.caches.base import Entry, EntryWriter
from stillfresh.engine.answers import Answer
from stillfresh.engine.body import BlockingBody, BlockingTee, Following
from stillfresh.engine.ports import run
from stillfresh.errors import BodyLost
from stillfresh.rfc9111.fields import Fields, content_length
from stillfresh.rfc9111.messages import Response

if TYPE_CHECKING:
    from collections.abc import Generator

    from urllib3.util.retry import Retry

    from stillfresh.engine.answers import CacheInfo

CHUNK = 1 << 16

Lines: TypeAlias = tuple[tuple[str, str], ...]


class Sent(NamedTuple):
    """What a response says of its request: urllib3's words for it."""

    method: str | None
    url: str | None = None
    retries: Retry | None = None


def header_dict(lines: Lines) -> HTTPHeaderDict:
    """Make urllib3's kind of mapping of field lines."""
    headers = HTTPHeaderDict()
    for name, value in lines:
        headers.add(name, value)
    return headers


def patience(timeout: object) -> float | None:
    """Return for how many seconds a caller waits for an answer to begin; None is for ever.

    `timeout` is one of urllib3's, or a pair for connecting and reading, as requests has it.
    """
    if isinstance(timeout, tuple) and len(timeout) == 2:
        timeout = timeout[1]
    if isinstance(timeout, Timeout):
        limits = [timeout.total]
        with suppress(TimeoutStateError):
            limits.append(timeout.read_timeout)
        given = [limit for limit in limits if isinstance(limit, int | float)]
        return min(given, default=None)
    return timeout if isinstance(timeout, int | float) else None


class Body(Protocol):
    """What a response reads that comes out of the cache, or begins there."""

    closed: bool

    def read(self, amt: int | None = None) -> bytes: ...
    def tell(self) -> int: ...
    def close(self) -> None: ...


class _NoBody(io.BytesIO):
    """The body of an answer without one: when it is closed it may be read, as http.client's."""

    def read(self, amt: int | None = None, /) -> bytes:
        return b""

    read1 = read

    def tell(self) -> int:
        return 0


class _Raw(HTTPResponse):
    """A urllib3 response that is made when something is asked of it that only urllib3 can answer.

    Most callers read the body to its end and no more, which takes a file; making the response is
    most of what a hit would cost.

    Attributes:
        lost: what a client's callers can catch where a stored body is damaged.
        decodes: whether its readers get it without its content coding, if they don't say.
        from_cache: whether the body came out of the cache.
        cache: what happened, and why.
    """

    lost: type[Exception] = BodyLost
    decodes = False
    from_cache: bool
    cache: CacheInfo

    def __init__(self, body: Body | io.BytesIO, heard: HTTPResponse | None, sent: Sent) -> None:
        """Read `body`, the answer to what was `sent`.

        `heard` is the response of the origin's behind it, which requests takes cookies from.
        """
        self._file = body
        self._original_response = getattr(heard, "_original_response", None)
        self._sent = sent
        self._is_made = False

    def _arguments(self) -> dict[str, Any]:
        """Return what urllib3's constructor is to be given."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        # Whatever isn't there is what urllib3's constructor would have put there.
        if vars(self).get("_is_made", True):
            raise AttributeError(name)
        self._is_made = True
        body = cast("IO[bytes]", self._file)  # urllib3 reads and closes it, no more
        original = self._original_response
        super().__init__(
            body=body,
            preload_content=False,
            decode_content=self.decodes,
            original_response=original,
            **self._arguments(),
        )
        if self.length_remaining is not None:
            self.length_remaining = max(0, self.length_remaining - self._file.tell())
        return getattr(self, name)

    @property
    def closed(self) -> bool:
        """Whether the body is, which urllib3 says when it is at its end, too."""
        return super().closed if self._is_made else self._file.closed

    def close(self) -> None:
        if self._is_made:
            super().close()
        else:
            self._file.close()

    def tell(self) -> int:
        return self._file.tell()


class StoredRaw(_Raw):
    """A response whose body comes out of the cache, or begins there, or is empty.

    Attributes:
        heard: the response of the origin's that refreshed it, if one did: requests takes the
            cookies of that. A stored Set-Cookie has been heard once, and setting it again could
            undo what came after.
        fields: the header lines.
        encoded: whether the body may have a content coding.
    """

    def __init__(
        self,
        body: Body | None,
        response: Response,
        sent: Sent,
        heard: HTTPResponse | None,
    ) -> None:
        super().__init__(_NoBody() if body is None else body, heard, sent)
        self.heard = heard
        self.status = response.status
        self.reason = response.reason
        self._version = response.version
        self._stored = body
        self._headers = HTTPHeaderDict()
        self._lines: Lines | None = response.fields.lines
        self.fields = response.fields
        # Until somebody has looked: urllib3 finds out by itself.
        self.encoded = True

    def _arguments(self) -> dict[str, Any]:
        version, sent, heard = self._version, self._sent, self.heard
        return {
            # The entry knows its length, and says so better.
            "enforce_content_length": False,
            "headers": self.headers,
            "status": self.status,
            "version": version,
            "version_string": f"HTTP/{version // 10}.{version % 10}" if version else "HTTP/?",
            "reason": self.reason,
            "retries": sent.retries if heard is None else heard.retries,
            "request_method": sent.method,
            "request_url": sent.url if heard is None else heard.url,
        }

    @property
    def headers(self) -> HTTPHeaderDict:
        """The fields, made into urllib3's kind of mapping when first asked for."""
        if self._lines is not None:
            lines, self._lines = self._lines, None
            self._headers = header_dict(lines)
        return self._headers

    @headers.setter
    def headers(self, headers: HTTPHeaderDict) -> None:
        self._headers = headers

    def stream(
        self, amt: int | None = CHUNK, decode_content: bool | None = None
    ) -> Generator[bytes, None, None]:
        decode = self.decodes if decode_content is None else decode_content
        try:
            if self._stored is None:
                # urllib3 would ask for more until its body is closed.
                self.close()
            elif decode and self.encoded:
                yield from super().stream(amt, decode)
            else:
                # There is nothing to decode and no connection to look after.
                stored = self._stored
                while not stored.closed and (chunk := stored.read(amt)):
                    yield chunk
                stored.close()
        except ProtocolError as error:
            lost = error.__cause__
            if not isinstance(lost, BodyLost):
                raise
            raise self.lost(str(lost)) from lost
        except BodyLost as lost:
            raise self.lost(str(lost)) from lost

    def release_conn(self) -> None:
        """There is no connection."""

    def drain_conn(self) -> None:
        """Let go of the body, or read on to its end where that comes from the origin."""
        if not self._has_connection:
            self._file.close()
        with suppress(BodyLost):
            super().drain_conn()

    def shutdown(self) -> None:
        """There is no connection, but where the end of the body comes from the origin."""
        if self._has_connection and self.heard is not None:
            self.heard.shutdown()

    @property
    def _has_connection(self) -> bool:
        return not isinstance(self._stored, BlockingBody | None)


class RecordedRaw(_Raw):
    """A response whose body comes from the origin and is recorded on its way.

    What concerns the connection is passed on to the response that urllib3 made.

    Attributes:
        fields: the header lines, with the cache's own.
    """

    def __init__(
        self,
        body: BlockingTee[Any, Any],
        sent: Sent,
        origin: HTTPResponse,
        fields: Fields,
    ) -> None:
        super().__init__(body, origin, sent)
        self._origin = origin
        self._tee = body
        self.fields = fields
        self.status = origin.status
        self.reason = origin.reason
        self.headers = origin.headers

    def _arguments(self) -> dict[str, Any]:
        origin = self._origin
        return {
            "headers": origin.headers,
            "status": origin.status,
            "version": origin.version,
            "version_string": origin.version_string,
            "reason": origin.reason,
            "retries": origin.retries,
            "request_method": self._sent.method,
            "request_url": origin.url,
        }

    def stream(
        self, amt: int | None = CHUNK, decode_content: bool | None = None
    ) -> Generator[bytes, None, None]:
        decode = self.decodes if decode_content is None else decode_content
        if self._origin.chunked:
            # As they come: whoever streams events must not wait for `amt` bytes of them.
            while chunk := self.read1(amt or CHUNK, decode):
                yield chunk
        elif decode and "content-encoding" in self._origin.headers:
            yield from super().stream(amt, decode)
        else:
            # There is nothing to decode, and the origin's response looks after the connection.
            while chunk := self._tee.read(amt):
                yield chunk

    def read_chunked(
        self, amt: int | None = None, decode_content: bool | None = None
    ) -> Generator[bytes, None, None]:
        yield from self.stream(amt, decode_content)

    @property
    def connection(self) -> Any:
        return self._origin.connection

    def release_conn(self) -> None:
        self._origin.release_conn()

    def shutdown(self) -> None:
        # It may well look like a clean end (RFC 9112 §8).
        self._tee.is_cut_short = True
        self._origin.shutdown()


class Source:
    """The encoded bytes of a response of the origin's."""

    __slots__ = ("_raw",)

    def __init__(self, raw: HTTPResponse) -> None:
        self._raw = raw

    def read(self, amt: int | None) -> bytes:
        return self._raw.read(amt, decode_content=False) or b""

    def read1(self, amt: int | None) -> bytes:
        return self._raw.read1(amt, decode_content=False) or b""

    def close(self) -> None:
        self._raw.close()


class Rest(Source):
    """The end of a body; one that comes too early is told as urllib3 tells it."""

    __slots__ = ()

    def read(self, amt: int | None) -> bytes:
        wanted = amt or 0
        chunks = []
        while wanted:
            chunk = super().read(wanted)
            if not chunk:
                self._break_off(wanted)
            wanted -= len(chunk)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def read1(self, amt: int | None) -> bytes:
        chunk = super().read1(amt)
        if not chunk and amt:
            self._break_off(amt)
        return chunk

    def _break_off(self, missing: int) -> NoReturn:
        broken = IncompleteRead(self._raw.tell(), missing)
        message = f"Connection broken: {broken!r}"
        raise ProtocolError(message, broken)


class Upstream:
    """A response of the origin's, as urllib3 gives it; `built` is what a client makes of it."""

    __slots__ = ("built", "raw", "response")

    def __init__(self, raw: HTTPResponse, built: Any = None) -> None:
        """Read the head of `raw`."""
        self.raw = raw
        self.built = built
        self.response = Response(
            raw.status, Fields(raw.headers.iteritems()), raw.reason or "", raw.version
        )

    def discard(self) -> None:
        """Let go of it; nobody wants the body."""
        raw = self.raw
        if raw.length_remaining == 0 and not raw.chunked:
            # Where there is no body, its end has been read with the head.
            if not raw.closed:
                raw.drain_conn()
            raw.release_conn()
        else:
            # Who knows how long the rest is; a new connection costs less.
            raw.close()


FromOrigin = Answer[Entry, EntryWriter, Upstream]


def stored(answer: FromOrigin, sent: Sent, kind: type[StoredRaw]) -> StoredRaw:
    """Make a response of a stored one, or of one that begins in the cache."""
    head, upstream, entry = answer.response, answer.upstream, answer.entry
    body: Body | None = None
    if entry is not None:
        body = beginning = BlockingBody(entry, answer.lost, answer.pieces)
        if upstream is not None and not answer.info.from_cache:
            # Which the law has seen to: nothing is completed whose end nobody knows.
            size = content_length(head.fields) or 0
            body = both = Following(beginning, Rest(upstream.raw), size)
            if answer.recorder is not None:
                body = BlockingTee(both, answer.recorder)
    return kind(body, head, sent, None if upstream is None else upstream.raw)


def passed_on(
    answer: FromOrigin, upstream: Upstream, sent: Sent, kind: type[RecordedRaw] | None = None
) -> HTTPResponse:
    """Add what the cache has to say to a response of the origin's, and record its body."""
    raw, recorder = upstream.raw, answer.recorder
    # The cache's own member is the last line; caches nearer to the origin have spoken before.
    fields = answer.response.fields
    raw.headers.add(*fields.lines[-1])
    if recorder is not None and raw.chunked and not _is_understood(raw):
        run(recorder.abort())
        recorder = None
    if recorder is None:
        return raw
    return (kind or RecordedRaw)(BlockingTee(Source(raw), recorder), sent, raw, fields)


def _is_understood(raw: HTTPResponse) -> bool:
    """Tell whether http.client takes the chunks apart; else urllib3 does, behind our back."""
    return raw.headers.getlist("transfer-encoding")[0].strip().lower() == "chunked"
