"""requests: `CachedSession`, or a `CacheAdapter` to mount on a session of one's own.

The adapter stands where requests' `HTTPAdapter` does, and is one: what has to go to the origin
goes through it unchanged, with its pools, retries, proxies and TLS settings. Only `raw` differs
from what requests would have: a urllib3 response whose bytes are recorded while they are read, or
come out of the cache. Bodies are stored as they came, still encoded, and decoded for the caller.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self

try:
    import requests
    from requests.adapters import HTTPAdapter
    from requests.cookies import RequestsCookieJar, extract_cookies_to_jar
    from requests.exceptions import (
        ChunkedEncodingError,
        InvalidURL,
        RetryError,
        SSLError,
        Timeout,
    )
    from requests.models import REDIRECT_STATI
    from requests.structures import CaseInsensitiveDict
    from requests.utils import get_encoding_from_headers
except ImportError as error:
    msg = "stillfresh.clients.requests needs requests: pip install 'stillfresh[requests]'"
    raise ImportError(msg) from error

from stillfresh.clients import _urllib3
from stillfresh.clients._base import CacheSide, ClientPorts, credential, unverified
from stillfresh.clients._urllib3 import CHUNK, RecordedRaw, Sent, Upstream
from stillfresh.engine.behind import LEFT_OUT, Behind
from stillfresh.engine.exchange import exchange
from stillfresh.engine.inspection import explain_request, inspect_request
from stillfresh.engine.ports import LocalCachePorts, run
from stillfresh.engine.waiting import ThreadSignal
from stillfresh.errors import BodyLost, ConfigError
from stillfresh.memo import remembered
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stillfresh import events
    from stillfresh.caches.base import BaseCache
    from stillfresh.caches.urls import CacheLike
    from stillfresh.clients._base import taking_what
    from stillfresh.clients._urllib3 import FromOrigin, Lines
    from stillfresh.engine.answers import CacheInfo
    from stillfresh.engine.inspection import Explanation, Inspection
    from stillfresh.rfc9111.decisions import Why
    from stillfresh.rfc9111.policy import Policy

    _theirs: Final = requests.Session()

__all__ = ["CacheAdapter", "CachedResponse", "CachedSession", "StoredBodyLost"]


class StoredBodyLost(BodyLost, ChunkedEncodingError):
    """A stored body broke off or turned out to be wrong while it was being read."""


class _StoredRaw(_urllib3.StoredRaw):
    lost = StoredBodyLost


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

    @classmethod
    def blank(cls) -> Self:
        """Make a response of which all is still to be said.

        As the constructor does; but that makes a jar for cookies, which costs more than the rest
        and which a hit has no use for, so here that is made when somebody asks for it.
        """
        if not _IS_KNOWN:
            return cls()
        response = cls.__new__(cls)
        vars(response).update(_PLAIN)
        response.history = []
        return response

    @property
    def is_redirect(self) -> bool:
        """Whether it sends the session elsewhere; a session asks of each response."""
        return self.status_code in REDIRECT_STATI and super().is_redirect

    def __getattr__(self, name: str) -> Any:
        if name != "cookies":
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=self)
        self.cookies = RequestsCookieJar()
        return self.cookies


class _Unbuilt(CachedResponse):
    """What the origin has answered, of which `_build` makes more once the cache has seen it."""


# What requests' adapter does by itself: a subclass, or who patches it, may do otherwise.
_SEND: Final = HTTPAdapter.send
_BUILD: Final = HTTPAdapter.build_response

# What requests' constructor sets, and whether that is no more than what is known here.
_MADE: Final = vars(requests.Response())
_PLAIN: Final = {
    name: value
    for name, value in _MADE.items()
    if value is None or isinstance(value, bool | timedelta)
}
_IS_KNOWN: Final = _MADE.keys() - _PLAIN.keys() == {"headers", "history", "cookies"}


class CacheAdapter(HTTPAdapter):
    """Answers a session's requests from a cache where it may.

    Raises:
        ConfigError: `cache` can't be made sense of.
    """

    __attrs__ = [  # noqa: RUF012 - requests declares it so
        *HTTPAdapter.__attrs__,
        "_side",
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
        self._side = CacheSide(cache, policy=policy, hook=hook, clock=clock)
        self._begin()
        super().__init__(**adapter_options)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Come out of a pickle with nothing open."""
        super().__setstate__(state)
        self._begin()

    def _begin(self) -> None:
        self._behind = Behind(self._side.tell_failed)

    @property
    def policy(self) -> Policy:
        """The user's settings."""
        return self._side.policy

    @property
    def cache(self) -> BaseCache:
        """The cache; opened anew if the adapter made it and was closed, as sessions may be."""
        return self._side.cache

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: dict[str, str] | None = None,
    ) -> CachedResponse:
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
        cache, closings = self.cache, self._side.closings

        def work() -> None:
            try:
                streamed = {**options, "stream": True}
                with self._answer(again, streamed, policy, cache) as response:
                    for _ in response.raw.stream(CHUNK, decode_content=False):
                        pass
            finally:
                if self._side.closings != closings:
                    # What it has opened since belongs to nobody.
                    super(CacheAdapter, self).close()

        self._behind.start(key, work)

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until no refresh is under way, `timeout` seconds at most; tell whether none is."""
        return self._behind.settle(timeout)

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> CachedResponse:
        """Make requests' kind of response of urllib3's."""
        if isinstance(req, _Outgoing):
            return self._unbuilt(req, resp)
        if not isinstance(resp, _StoredRaw) and not self._is_plain():
            return _as_cached(super().build_response(req, resp))
        # As requests does, in fewer steps.
        response = CachedResponse.blank()
        heard: Any = resp
        if isinstance(resp, _StoredRaw | RecordedRaw):
            fields = resp.fields
            response.headers = _Headers.of(fields.lines)
            response.encoding = _encoding(fields.get("content-type") or "")
            if isinstance(resp, _StoredRaw):
                heard = resp.heard
                resp.encoded = "content-encoding" in fields
        else:
            response.headers = CaseInsensitiveDict(resp.headers)
            response.encoding = get_encoding_from_headers(response.headers)
        response.status_code = resp.status
        response.raw = resp
        response.reason = resp.reason or ""
        response.url = req.url or ""
        response.request = req
        response.connection = self
        if heard is not None and ("set-cookie" in heard.headers or "set-cookie2" in heard.headers):
            extract_cookies_to_jar(response.cookies, req, resp)
        return response

    def _is_plain(self) -> bool:
        """Tell whether nobody has a hand in what is sent, and in what responses are built.

        Then they are built once what the cache has to say is known, and not before.
        """
        mine = type(self)
        return (
            mine.build_response is CacheAdapter.build_response
            and mine.send_uncached is CacheAdapter.send_uncached
            and getattr(super().build_response, "__func__", None) is _BUILD
            and getattr(super().send, "__func__", None) is _SEND
        )

    def _unbuilt(self, sent: _Outgoing, raw: Any) -> _Unbuilt:
        response = _Unbuilt.blank()
        response.raw = raw
        response.status_code = raw.status
        response.request = sent
        response.connection = self
        return response

    def explain(
        self, request: requests.PreparedRequest, *, verify: Any = True, cert: Any = None
    ) -> Explanation:
        """Say what would be done with `request` now, and why, without doing any of it.

        `verify` and `cert` are what `send` would be given.
        """
        side, seen = self._side, self._seen(request, cert)
        bypass = _distrust(request, verify)
        return explain_request(self.cache, seen, side.policy, side.vault, side.clock, bypass=bypass)

    def inspect(self, request: requests.PreparedRequest, *, cert: Any = None) -> Inspection:
        """Say what is stored for the URL of `request`, a GET, and what of it that selects."""
        side, seen = self._side, self._seen(request, cert)
        return inspect_request(self.cache, seen, side.policy, side.vault, side.clock)

    def _seen(self, request: requests.PreparedRequest, cert: Any) -> Request:
        """Return a request as the cache sees it."""
        return _Ports(self, request, {"stream": True, "cert": cert}, self.cache).request

    def close(self) -> None:
        """Close the connections, and the cache if the adapter made it."""
        self._side.closings += 1
        super().close()
        self._side.close()

    def send_uncached(
        self, request: requests.PreparedRequest, options: Mapping[str, Any]
    ) -> requests.Response:
        """Send `request` to the origin, as `HTTPAdapter` does."""
        return super().send(request, **options)


class CachedSession(requests.Session):
    """A `requests.Session` whose `http:` and `https:` requests go through one `CacheAdapter`.

    So its responses are `CachedResponse`s, and that is what type checkers are told. What comes
    through another adapter, mounted beside this one or in its place, is as that one makes it.
    """

    if TYPE_CHECKING:

        @taking_what(_theirs.request)
        def request(self, *args: Any, **options: Any) -> CachedResponse: ...

        @taking_what(_theirs.get)
        def get(self, *args: Any, **options: Any) -> CachedResponse: ...

        @taking_what(_theirs.options)
        def options(self, *args: Any, **options: Any) -> CachedResponse: ...

        @taking_what(_theirs.head)
        def head(self, *args: Any, **options: Any) -> CachedResponse: ...

        @taking_what(_theirs.post)
        def post(self, *args: Any, **options: Any) -> CachedResponse: ...

        @taking_what(_theirs.put)
        def put(self, *args: Any, **options: Any) -> CachedResponse: ...

        @taking_what(_theirs.patch)
        def patch(self, *args: Any, **options: Any) -> CachedResponse: ...

        @taking_what(_theirs.delete)
        def delete(self, *args: Any, **options: Any) -> CachedResponse: ...

        @taking_what(_theirs.send)
        def send(self, *args: Any, **options: Any) -> CachedResponse: ...

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
        return self._caching("https://").cache

    def explain(
        self, method: str, url: str, *, verify: Any = None, cert: Any = None, **options: Any
    ) -> Explanation:
        """Say what would be done with a request now, and why, without doing any of it.

        `options` are those of `requests.Request`: `headers`, `params`, `auth`, `data`, ...
        `verify` and `cert` are the session's where they aren't given, as they are of a request.
        """
        prepared = self.prepare_request(requests.Request(method, url, **options))
        asked = prepared.url or ""
        settings = self.merge_environment_settings(asked, {}, None, verify, cert)
        return self._caching(asked).explain(
            prepared, verify=settings["verify"], cert=settings["cert"]
        )

    def inspect(self, url: str, *, cert: Any = None, **options: Any) -> Inspection:
        """Say what is stored for a URL, and what of it a GET with these `options` selects."""
        prepared = self.prepare_request(requests.Request("GET", url, **options))
        cert = self.cert if cert is None else cert
        return self._caching(prepared.url or "").inspect(prepared, cert=cert)

    def _caching(self, url: str) -> CacheAdapter:
        adapter = self.get_adapter(url)
        if not isinstance(adapter, CacheAdapter):
            message = "another adapter has been mounted in the place of the caching one"
            raise ConfigError(message)
        return adapter


class _Outgoing(requests.PreparedRequest):
    """What is sent to the origin: a caller's request, which may have got conditions of ours."""

    def __init__(self, caller: requests.PreparedRequest, lines: list[tuple[str, str]]) -> None:
        """Ask what the `caller` asks, with `lines` in the place of its lines of those names."""
        # Its own `copy()` would copy the cookies too.
        vars(self).update(vars(caller))
        if lines:
            self.headers = CaseInsensitiveDict([*caller.headers.items(), *lines])


class _Ports(ClientPorts, LocalCachePorts):
    """What one exchange needs."""

    signal = ThreadSignal

    def __init__(
        self,
        adapter: CacheAdapter,
        prepared: requests.PreparedRequest,
        options: Mapping[str, Any],
        cache: BaseCache,
    ) -> None:
        side = adapter._side  # noqa: SLF001 - the adapter's own ports
        method, url = prepared.method or "GET", prepared.url or ""
        content = _content(prepared) if side.wants_content(method, url) else None
        fields = side.fields_of(list(prepared.headers.lower_items()), _fields)
        if options["cert"]:
            fields = fields.adding(*credential(options["cert"]))
        ClientPorts.__init__(self, side, Request(method, url, fields, content))
        LocalCachePorts.__init__(self, cache)
        # `get` returns the whole body.
        self.whole = not options["stream"]
        self._adapter = adapter
        self._prepared = prepared
        self._options = options

    async def send(self, request: Request) -> Upstream:
        prepared, added = self._prepared, list[tuple[str, str]]()
        if request is not self.request:
            known = frozenset(self.request.fields.lines)
            added = [line for line in request.fields.lines if line not in known]
        if type(prepared) is requests.PreparedRequest and self._adapter._is_plain():  # noqa: SLF001
            outgoing: requests.PreparedRequest = _Outgoing(prepared, added)
        elif added:
            outgoing = copy.copy(prepared)
            outgoing.headers = CaseInsensitiveDict([*prepared.headers.items(), *added])
        else:
            outgoing = prepared
        try:
            built = self._adapter.send_uncached(outgoing, self._options)
        except requests.RequestException as error:
            if error.request is outgoing:
                error.request = prepared
            raise
        # Our conditions are no part of what the caller may send again, as for an answer to a 401.
        built.request = prepared
        return Upstream(built.raw, built)

    @property
    def patience(self) -> float | None:
        return _urllib3.patience(self._options["timeout"])

    def is_failure(self, error: Exception) -> bool:
        # A certificate that is wrong is nothing to get over with what is stored.
        unreachable = isinstance(error, requests.ConnectionError | RetryError | Timeout)
        return unreachable and not isinstance(error, SSLError)

    def refresh(self, key: str) -> None:
        self._adapter.refresh_behind(key, self._prepared, self._options)

    async def discard(self, upstream: Upstream) -> None:
        upstream.discard()


def _build(
    adapter: CacheAdapter, request: requests.PreparedRequest, answer: FromOrigin
) -> CachedResponse:
    """Make of an answer what requests' own adapter would return."""
    upstream = answer.upstream
    sent = Sent(request.method)
    if answer.entry is not None or upstream is None or answer.info.from_cache:
        return adapter.build_response(request, _urllib3.stored(answer, sent, _StoredRaw))
    raw = _urllib3.passed_on(answer, upstream, sent)
    built: requests.Response = upstream.built
    if isinstance(built, _Unbuilt):
        return adapter.build_response(request, raw)
    # Somebody has a hand in it.
    name, member = answer.response.fields.lines[-1]
    before = built.headers.get(name)
    built.headers[name] = f"{before}, {member}" if before else member
    built.raw = raw
    return _as_cached(built)


class _Headers(CaseInsensitiveDict[str]):
    """Headers of a response, which become a mapping when somebody looks into them."""

    @classmethod
    def of(cls, lines: Lines) -> Self:
        """Take field lines, of which requests joins those of one name."""
        headers = cls.__new__(cls)
        vars(headers)["lines"] = lines
        return headers

    def __getattr__(self, name: str) -> Any:
        lines = vars(self).get("lines")
        made = {} if lines is None else vars(_by_name(lines))
        if name not in made:
            raise AttributeError(name)
        # In one step: another one who looks at the same time may have changed it already.
        return vars(self).setdefault(name, made[name])

    def __reduce__(self) -> tuple[type, tuple[list[tuple[str, str]]]]:
        """Go into a pickle as what requests has."""
        return CaseInsensitiveDict, (list(self.items()),)


def _by_name(lines: Lines) -> CaseInsensitiveDict[str]:
    """Return headers as requests has them: lines of one name joined."""
    joined = CaseInsensitiveDict(lines)
    return joined if len(joined) == len(lines) else CaseInsensitiveDict(_urllib3.header_dict(lines))


@remembered()
def _encoding(content_type: str) -> str | None:
    """Return the encoding of the text that a Content-Type says, as requests reads it."""
    return get_encoding_from_headers(CaseInsensitiveDict({"content-type": content_type}))


def _content(prepared: requests.PreparedRequest) -> bytes | None:
    """Return the request's content if it is at hand; a stream is not."""
    body = prepared.body
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else None


def _as_cached(response: requests.Response) -> CachedResponse:
    if isinstance(response, CachedResponse):
        return response
    # Its attributes are all there, so it needs none of the ones that `__init__` would make.
    cached = CachedResponse.__new__(CachedResponse)
    vars(cached).update(vars(response))
    return cached


def _distrust(prepared: requests.PreparedRequest, verify: Any) -> Why | None:
    """Return why a response could be anybody's, and must not be given to who wants to be sure."""
    # As requests takes it: None and "" are no, too.
    if not verify and (prepared.url or "").lower().startswith("https:"):
        return unverified()
    return None


def _fields(lines: list[tuple[str, str | bytes]]) -> Fields:
    """Read the fields of a request; requests takes values as bytes too."""
    return Fields(
        [
            (name, value if isinstance(value, str) else value.decode("latin-1"))
            for name, value in lines
        ]
    )
