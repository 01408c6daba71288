"""requests: `CachedSession`, or a `CacheAdapter` to mount on a session of one's own.

The adapter stands where requests' `HTTPAdapter` does, and is one: what has to go to the origin
goes through it unchanged, with its pools, retries, proxies and TLS settings. Only `raw` differs
from what requests would have: a urllib3 response whose bytes are recorded while they are read, or
come out of the cache. Bodies are stored as they came, still encoded, and decoded for the caller.
"""

from __future__ import annotations

import copy
import io
import os
import time
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, NoReturn, Protocol, cast

try:
    import requests
    from requests.adapters import HTTPAdapter
    from requests.cookies import extract_cookies_to_jar
    from requests.exceptions import (
        ChunkedEncodingError,
        InvalidURL,
        RetryError,
        SSLError,
        Timeout,
    )
    from requests.structures import CaseInsensitiveDict
    from requests.utils import get_encoding_from_headers
    from urllib3 import HTTPHeaderDict, HTTPResponse
    from urllib3.exceptions import IncompleteRead, ProtocolError
except ImportError as error:
    msg = "stillfresh.clients.requests needs requests: pip install 'stillfresh[requests]'"
    raise ImportError(msg) from error

from stillfresh import events
from stillfresh.caches.urls import cache_of
from stillfresh.engine.behind import LEFT_OUT, Behind
from stillfresh.engine.body import BlockingBody, BlockingTee, Following
from stillfresh.engine.credentials import Vault
from stillfresh.engine.exchange import exchange
from stillfresh.engine.ports import LocalCachePorts, run
from stillfresh.engine.waiting import ThreadSignal
from stillfresh.errors import BodyLost, ConfigError
from stillfresh.rfc9111.decisions import Reason, Why, why
from stillfresh.rfc9111.fields import Fields, content_length
from stillfresh.rfc9111.messages import Request, Response
from stillfresh.rfc9111.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from stillfresh.caches.base import BaseCache, Entry, EntryWriter
    from stillfresh.caches.urls import CacheLike
    from stillfresh.engine.answers import Answer, CacheInfo
    from stillfresh.engine.body import Recorder

__all__ = ["CacheAdapter", "CachedResponse", "CachedSession", "StoredBodyLost"]

_CHUNK = 1 << 16


class StoredBodyLost(BodyLost, ChunkedEncodingError):
    """A stored body broke off or turned out to be wrong while it was being read."""


class CachedResponse(requests.Response):
    """A `requests.Response` that knows what the cache did.

    Attributes:
        from_cache: whether the body came out of the cache.
        cache: what happened, and why.
    """

    __attrs__ = [  # noqa: RUF012 - requests declares it so
        *requests.Response.__attrs__,
        "from_cache",
        "cache",
    ]

    from_cache: bool
    cache: CacheInfo


class CacheAdapter(HTTPAdapter):
    """Answers a session's requests from a cache where it may.

    Raises:
        ConfigError: `cache` can't be made sense of.
    """

    __attrs__ = [  # noqa: RUF012 - requests declares it so
        *HTTPAdapter.__attrs__,
        "policy",
        "_given",
        "_hook",
        "_clock",
    ]

    def __init__(
        self,
        cache: CacheLike | None = None,
        *,
        policy: Policy | None = None,
        hook: events.Hook | None = None,
        clock: Callable[[], float] = time.time,
        **adapter_options: Any,
    ) -> None:
        """Answer from `cache`.

        Args:
            cache: a cache, a URL or path of one, or an object with `get`, `set` and `delete`;
                None is the default cache in the platform's cache folder. A cache object stays
                open when the adapter is closed; one that the adapter made is closed with it.
            policy: the user's settings.
            hook: is given every event; the default logs to the logger `stillfresh`.
            clock: the time, in seconds since the epoch.
            adapter_options: what `HTTPAdapter` takes: `pool_maxsize`, `max_retries`, ...
        """
        self.policy = policy or Policy()
        self._given = cache
        self._hook = hook
        self._clock = clock
        self._cache: BaseCache | None = cache_of(cache)
        self._vault = Vault()
        self._behind = Behind(self._tell_failed)
        self._closings = 0
        super().__init__(**adapter_options)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Come out of a pickle with nothing open."""
        self._cache = None
        self._vault = Vault()
        self._behind = Behind(self._tell_failed)
        self._closings = 0
        super().__setstate__(state)

    @property
    def cache(self) -> BaseCache:
        """The cache; opened anew if the adapter made it and was closed, as sessions may be."""
        if self._cache is None:
            self._cache = cache_of(self._given)
        return self._cache

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        """Answer `request` from the cache, from the origin, or from both."""
        options = {
            "stream": stream,
            "timeout": timeout,
            "verify": verify,
            "cert": cert,
            "proxies": proxies,
        }
        return self._answer(request, options, self.policy, self.cache)

    def _answer(
        self,
        request: requests.PreparedRequest,
        options: Mapping[str, Any],
        policy: Policy,
        cache: BaseCache,
    ) -> CachedResponse:
        ports = _Ports(self, request, options, cache)
        bypass = _distrust(request, options["verify"])
        try:
            answer = run(exchange(ports.request, policy, ports, bypass=bypass))
        except ConfigError as error:
            raise InvalidURL(str(error), request=request) from error
        response = _build(self, request, answer)
        response.from_cache = answer.info.from_cache
        response.cache = answer.info
        return response

    def refresh_behind(
        self, key: str, request: requests.PreparedRequest, options: Mapping[str, Any]
    ) -> None:
        """Make `request` again in a thread, so that what is stored for it is fresh the next time.

        A refresh of the same `key` that is still under way is enough.
        """
        again = request.copy()
        for name in LEFT_OUT:
            again.headers.pop(name, None)
        policy = replace(self.policy, stale_while_revalidate=0)
        cache, closings = self.cache, self._closings

        def work() -> None:
            try:
                streamed = {**options, "stream": True}
                with self._answer(again, streamed, policy, cache) as response:
                    for _ in response.raw.stream(_CHUNK, decode_content=False):
                        pass
            finally:
                if self._closings != closings:
                    # What it has opened since belongs to nobody.
                    super(CacheAdapter, self).close()

        self._behind.start(key, work)

    def _tell_failed(self, key: str, error: Exception) -> None:
        events.emit(self._hook or events.log_event, events.RefreshFailed(key, error))

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until no refresh is under way, `timeout` seconds at most; tell whether none is."""
        return self._behind.settle(timeout)

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> CachedResponse:
        """Make requests' kind of response of urllib3's."""
        if not isinstance(resp, _StoredRaw):
            return _as_cached(super().build_response(req, resp))
        # The quicker way for a hit: no header is looked up to be copied.
        response = CachedResponse()
        response.status_code = resp.status
        response.headers = resp.joined_headers()
        response.encoding = get_encoding_from_headers(response.headers)
        response.raw = resp
        response.reason = resp.reason or ""
        response.url = req.url or ""
        response.request = req
        response.connection = self
        if resp.heard is not None:
            extract_cookies_to_jar(response.cookies, req, resp)
        return response

    def close(self) -> None:
        """Close the connections, and the cache if the adapter made it."""
        self._closings += 1
        super().close()
        cache, self._cache = self._cache, None
        is_ours = self._given is None or isinstance(self._given, str | os.PathLike)
        if cache is not None and is_ours:
            cache.close()

    def send_uncached(
        self, request: requests.PreparedRequest, options: Mapping[str, Any]
    ) -> requests.Response:
        """Send `request` to the origin, as `HTTPAdapter` does."""
        return super().send(request, **options)


class CachedSession(requests.Session):
    """A `requests.Session` whose `http:` and `https:` requests go through one `CacheAdapter`."""

    def __init__(
        self,
        cache: CacheLike | None = None,
        *,
        policy: Policy | None = None,
        hook: events.Hook | None = None,
        clock: Callable[[], float] = time.time,
        **adapter_options: Any,
    ) -> None:
        """Take what `CacheAdapter` takes."""
        super().__init__()
        adapter = CacheAdapter(cache, policy=policy, hook=hook, clock=clock, **adapter_options)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    @property
    def cache(self) -> BaseCache:
        """The cache behind the `https:` adapter."""
        adapter = self.get_adapter("https://")
        if not isinstance(adapter, CacheAdapter):
            message = "another adapter has been mounted in the place of the caching one"
            raise ConfigError(message)
        return adapter.cache


class _Upstream:
    """A response of the origin's that requests has built."""

    __slots__ = ("built", "response")

    def __init__(self, built: requests.Response) -> None:
        self.built = built
        raw = built.raw
        self.response = Response(
            raw.status, Fields(raw.headers.iteritems()), raw.reason or "", raw.version
        )


class _Ports(LocalCachePorts):
    """What one exchange needs."""

    signal = ThreadSignal

    def __init__(
        self,
        adapter: CacheAdapter,
        prepared: requests.PreparedRequest,
        options: Mapping[str, Any],
        cache: BaseCache,
    ) -> None:
        super().__init__(cache)
        self.vault = adapter._vault  # noqa: SLF001 - the adapter's own ports
        self.now = adapter._clock  # noqa: SLF001
        self._hook = adapter._hook or events.log_event  # noqa: SLF001
        self.listening = events.is_listening(self._hook)
        self._adapter = adapter
        self._prepared = prepared
        self._options = options
        method, url = prepared.method or "GET", prepared.url or ""
        content = None
        if adapter.policy.rules and adapter.policy.wants_content(method, url):
            content = _content(prepared)
        self.request = Request(method, url, _fields(prepared, options["cert"]), content)

    def emit(self, event: events.Event) -> None:
        events.emit(self._hook, event)

    async def send(self, request: Request) -> _Upstream:
        prepared = self._prepared
        if request is not self.request:
            # Its own `copy()` would copy the cookies too.
            prepared = copy.copy(prepared)
            prepared.headers = prepared.headers.copy()
            known = frozenset(self.request.fields)
            for name, value in request.fields:
                if (name, value) not in known:
                    prepared.headers[name] = value
        built = self._adapter.send_uncached(prepared, self._options)
        # Our conditions are no part of what the caller may send again, as for an answer to a 401.
        built.request = self._prepared
        return _Upstream(built)

    def is_failure(self, error: Exception) -> bool:
        # A certificate that is wrong is nothing to get over with what is stored.
        unreachable = isinstance(error, requests.ConnectionError | RetryError | Timeout)
        return unreachable and not isinstance(error, SSLError)

    def refresh(self, key: str) -> None:
        self._adapter.refresh_behind(key, self._prepared, self._options)

    async def prime(self, entry: Entry) -> None:
        if self._options["stream"]:
            entry.check()
        else:
            # `get` returns the whole body, so it can be known to be right before.
            entry.verify()

    async def discard(self, upstream: _Upstream) -> None:
        raw = upstream.built.raw
        if raw.length_remaining == 0 and not raw.chunked:
            raw.drain_conn()
            raw.release_conn()
        else:
            # Who knows how long the rest is; a new connection costs less.
            raw.close()


class _Body(Protocol):
    """What a response reads that comes out of the cache, or begins there."""

    closed: bool

    def read(self, amt: int | None = None) -> bytes: ...
    def tell(self) -> int: ...
    def close(self) -> None: ...


class _Raw(HTTPResponse):
    """A urllib3 response that is made when something is asked of it that only urllib3 can answer.

    Most callers read the body to its end and no more, which takes a file; making the response is
    most of what a hit would cost.
    """

    def __init__(
        self,
        body: _Body | io.BytesIO,
        heard: HTTPResponse | None,
        made: Callable[[], dict[str, Any]],
    ) -> None:
        """Read `body`; `made` returns what urllib3's constructor is to be given.

        `heard` is the response of the origin's behind it, which requests takes cookies from.
        """
        self._file = body
        self._original_response = getattr(heard, "_original_response", None)
        self._made: Callable[[], dict[str, Any]] | None = made

    def __getattr__(self, name: str) -> Any:
        # Whatever isn't there is what urllib3's constructor would have put there.
        made = vars(self).get("_made")
        if made is None:
            raise AttributeError(name)
        self._made = None
        body = cast("IO[bytes]", self._file)  # urllib3 reads and closes it, no more
        original = self._original_response
        super().__init__(
            body=body,
            preload_content=False,
            decode_content=False,
            original_response=original,
            **made(),
        )
        if self.length_remaining is not None:
            self.length_remaining = max(0, self.length_remaining - self._file.tell())
        return getattr(self, name)

    @property
    def closed(self) -> bool:
        """Whether the body is, which urllib3 says when it is at its end, too."""
        return self._file.closed if self._made is not None else super().closed

    def close(self) -> None:
        if self._made is not None:
            self._file.close()
        else:
            super().close()

    def tell(self) -> int:
        return self._file.tell()


class _StoredRaw(_Raw):
    """A response whose body comes out of the cache, or begins there, or is empty.

    `heard` is the response of the origin's that refreshed it, if one did: requests takes the
    cookies of that. A stored Set-Cookie has been heard once, and setting it again could undo what
    came after.
    """

    def __init__(
        self,
        body: _Body | None,
        response: Response,
        request: requests.PreparedRequest,
        heard: HTTPResponse | None,
    ) -> None:
        def made() -> dict[str, Any]:
            version = response.version
            return {
                # The entry knows its length, and says so better.
                "enforce_content_length": False,
                "headers": self.headers,
                "status": response.status,
                "version": version,
                "version_string": f"HTTP/{version // 10}.{version % 10}" if version else "HTTP/?",
                "reason": response.reason,
                "retries": None if heard is None else heard.retries,
                "request_method": request.method,
                "request_url": None if heard is None else heard.url,
            }

        super().__init__(io.BytesIO() if body is None else body, heard, made)
        self.heard = heard
        self.status = response.status
        self.reason = response.reason
        self._stored = body
        self._headers = HTTPHeaderDict()
        self._lines: tuple[tuple[str, str], ...] | None = response.fields.lines
        self._all_lines = response.fields.lines
        # Until somebody has looked: urllib3 finds out by itself.
        self._encoded = True

    @property
    def headers(self) -> HTTPHeaderDict:
        """The fields, made into urllib3's kind of mapping when first asked for."""
        if self._lines is not None:
            lines, self._lines = self._lines, None
            for name, value in lines:
                self._headers.add(name, value)
        return self._headers

    @headers.setter
    def headers(self, headers: HTTPHeaderDict) -> None:
        self._headers = headers

    def joined_headers(self) -> CaseInsensitiveDict[str]:
        """Return the headers as requests has them: lines of one name joined."""
        joined = CaseInsensitiveDict(self._all_lines)
        if len(joined) < len(self._all_lines):
            joined = CaseInsensitiveDict(self.headers)
        self._encoded = "content-encoding" in joined
        return joined

    def stream(
        self, amt: int | None = _CHUNK, decode_content: bool | None = None
    ) -> Generator[bytes, None, None]:
        try:
            if self._stored is None:
                # urllib3 would ask for more until its body is closed.
                self.close()
            elif decode_content and self._encoded:
                yield from super().stream(amt, decode_content)
            else:
                # There is nothing to decode and no connection to look after.
                while chunk := self._stored.read(amt):
                    yield chunk
                self._stored.close()
        except ProtocolError as error:
            lost = error.__cause__
            if not isinstance(lost, BodyLost):
                raise
            raise StoredBodyLost(str(lost)) from lost
        except BodyLost as lost:
            raise StoredBodyLost(str(lost)) from lost

    def release_conn(self) -> None:
        """There is no connection."""

    def drain_conn(self) -> None:
        """There is no connection."""


class _RecordedRaw(_Raw):
    """A response whose body comes from the origin and is recorded on its way.

    What concerns the connection is passed on to the response that urllib3 made.
    """

    def __init__(
        self,
        body: BlockingTee[Any, Any],
        request: requests.PreparedRequest,
        origin: HTTPResponse,
    ) -> None:
        def made() -> dict[str, Any]:
            return {
                "headers": origin.headers,
                "status": origin.status,
                "version": origin.version,
                "version_string": origin.version_string,
                "reason": origin.reason,
                "retries": origin.retries,
                "request_method": request.method,
                "request_url": origin.url,
            }

        super().__init__(body, origin, made)
        self._origin = origin
        self._tee = body

    def stream(
        self, amt: int | None = _CHUNK, decode_content: bool | None = None
    ) -> Generator[bytes, None, None]:
        if self._origin.chunked:
            # As they come: whoever streams events must not wait for `amt` bytes of them.
            while chunk := self.read1(amt or _CHUNK, decode_content):
                yield chunk
        elif decode_content and "content-encoding" in self._origin.headers:
            yield from super().stream(amt, decode_content)
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

    def drain_conn(self) -> None:
        self._origin.drain_conn()

    def shutdown(self) -> None:
        self._origin.shutdown()


class _Source:
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


class _Rest(_Source):
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


def _build(
    adapter: CacheAdapter,
    request: requests.PreparedRequest,
    answer: Answer[Entry, EntryWriter, _Upstream],
) -> CachedResponse:
    """Make of an answer what requests' own adapter would return."""
    head, upstream, entry = answer.response, answer.upstream, answer.entry
    if entry is None and upstream is not None and not answer.info.from_cache:
        return _tell(upstream.built, head, request, answer.recorder)
    body: _Body | None = None
    if entry is not None:
        body = stored = BlockingBody(entry, answer.lost, answer.pieces)
        if upstream is not None and not answer.info.from_cache:
            # Which the law has seen to: nothing is completed whose end nobody knows.
            size = content_length(head.fields) or 0
            body = both = Following(stored, _Rest(upstream.built.raw), size)
            if answer.recorder is not None:
                body = BlockingTee(both, answer.recorder)
    heard = None if upstream is None else upstream.built.raw
    raw = _StoredRaw(body, head, request, heard)
    return adapter.build_response(request, raw)


def _content(prepared: requests.PreparedRequest) -> bytes | None:
    """Return the request's content if it is at hand; a stream is not."""
    body = prepared.body
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else None


def _tell(
    built: requests.Response,
    head: Response,
    request: requests.PreparedRequest,
    recorder: Recorder[Entry, EntryWriter] | None,
) -> CachedResponse:
    """Add what the cache has to say to a response of the origin's, and record its body."""
    # The cache's own member is the last line; caches nearer to the origin have spoken before.
    name, member = head.fields.lines[-1]
    built.raw.headers.add(name, member)
    before = built.headers.get(name)
    built.headers[name] = f"{before}, {member}" if before else member
    if recorder is not None and built.raw.chunked and not _is_understood(built.raw):
        run(recorder.abort())
        recorder = None
    if recorder is not None:
        tee = BlockingTee(_Source(built.raw), recorder)
        built.raw = _RecordedRaw(tee, request, built.raw)
    return _as_cached(built)


def _is_understood(raw: HTTPResponse) -> bool:
    """Tell whether http.client takes the chunks apart; else urllib3 does, behind our back."""
    return raw.headers.getlist("transfer-encoding")[0].strip().lower() == "chunked"


def _as_cached(response: requests.Response) -> CachedResponse:
    if isinstance(response, CachedResponse):
        return response
    # Its attributes are all there, so it needs none of the ones that `__init__` would make.
    cached = CachedResponse.__new__(CachedResponse)
    vars(cached).update(vars(response))
    return cached


def _distrust(prepared: requests.PreparedRequest, verify: Any) -> Why | None:
    """Return why a response could be anybody's, and must not be given to who wants to be sure."""
    if verify is False and (prepared.url or "").lower().startswith("https:"):
        return why(Reason.UNVERIFIED)
    return None


def _fields(prepared: requests.PreparedRequest, cert: Any) -> Fields:
    """Read the request's fields; requests takes values as bytes too.

    A client certificate says who asks as Authorization does, so it counts as such a field here. It
    is never sent as one.
    """
    lines = [
        (name, value if isinstance(value, str) else value.decode("latin-1"))
        for name, value in prepared.headers.lower_items()
    ]
    if cert:
        lines.append(("authorization", f"certificate {cert!r}"))
    return Fields(lines)
