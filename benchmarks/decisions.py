"""What deciding costs: no files, no requests, no sockets.

    decode + on_request  a record is read and the policy asked whether it is fresh
    whole exchange       the engine from request to answer, on a MemoryCache

CacheControl's `cached_request` on its DictCache does the like of a whole exchange: key, lookup,
reading the record, deciding. It also builds urllib3's response, so a control does just that with
what it has found, and is taken off. hishel's state machine decides on what its own `unpack` reads;
its whole exchange is `handle_request_with_rfc` on a storage in memory made for this, as it brings
none. Goals: a whole exchange costs no more than either's; deciding takes at most 25 µs, and the
exchange 60, where the machine isn't busy.
"""

from __future__ import annotations

import io
import random
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

import requests
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPResponse

from benchmarks.report import Options, Report
from benchmarks.timing import interleaved, median
from stillfresh import MemoryCache, Outcome, Policy, events
from stillfresh.engine import records
from stillfresh.engine.credentials import Vault
from stillfresh.engine.exchange import exchange
from stillfresh.engine.ports import LocalCachePorts
from stillfresh.engine.ports import run as driven
from stillfresh.rfc9111.decisions import Serve
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.keys import selection_of
from stillfresh.rfc9111.messages import Request, Response, StoredResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.timing import Call
    from stillfresh.engine.ports import Upstream

_URL: Final = "https://example.org/page/"
_BODY: Final = random.Random(4096).randbytes(4096)
# Calls to a sample, so that reading the clock doesn't show.
_CALLS: Final = 20

_DECODE: Final = "records.decode"
_DECIDE: Final = "decode + on_request"
_EXCHANGE: Final = "whole exchange on MemoryCache"
_HISHEL_DECIDE: Final = "hishel: unpack + IdleClient.next"
_HISHEL: Final = "hishel's exchange in memory"
_THEIRS: Final = "CacheControl's cached_request on DictCache"
_BUILD: Final = "urllib3's response, as theirs builds it"


class _Ports(LocalCachePorts):
    """Ports whose way to the origin is never taken."""

    def __init__(self, cache: MemoryCache) -> None:
        super().__init__(cache)
        self.vault = Vault(time.time)

    def now(self) -> float:
        return time.time()

    listening = False
    patience: float | None = None

    def emit(self, event: events.Event) -> None:
        events.emit(events.log_event, event)

    async def send(self, request: Request) -> Upstream:
        raise AssertionError(request)

    async def discard(self, upstream: Upstream) -> None:
        raise AssertionError(upstream)

    def is_failure(self, error: Exception) -> bool:
        raise AssertionError(error)

    def refresh(self, key: str) -> None:
        raise AssertionError(key)


def run(options: Options) -> list[Report]:
    rounds = 5 if options.quick else 50
    calls = _ours() | _hishels() | _theirs()
    samples = interleaved({name: _repeated(call) for name, call in calls.items()}, rounds)
    times = {name: median(samples[name]) / _CALLS for name in calls}
    theirs = times[_THEIRS] - times[_BUILD]
    report = Report("decisions: a hit, decided", ("what", "µs", "x CacheControl's"))
    for name, each in times.items():
        report.add(name, each, None if name == _BUILD else each / theirs)
    report.add("theirs without building", theirs, 1.0)
    whole = times[_EXCHANGE]
    report.expect("a whole exchange costs no more than CacheControl's", met=whole <= theirs)
    report.expect("nor than hishel's", met=whole <= times[_HISHEL])
    report.expect("deciding takes at most 25 µs", met=times[_DECIDE] <= 25)
    report.expect("a whole exchange takes at most 60 µs", met=whole <= 60)
    return [report]


def _ours() -> dict[str, Callable[[], object]]:
    policy, now = Policy(), time.time()
    asked = (("Accept-Encoding", "gzip, deflate"), ("Accept", "*/*"), ("User-Agent", "benchmark"))
    names = ("accept-encoding", "authorization")
    selection = selection_of(Fields(asked), names, lambda _, value: value)
    head = Response(200, Fields(_fields()), "OK")
    record = records.encode(
        StoredResponse(_URL, head, now, now, selection=selection, generation="0123456789abcdef")
    )
    cache = MemoryCache()
    with cache.writer(_URL) as writer:
        writer.write(_BODY)
        writer.commit(record)
    ports = _Ports(cache)

    def request() -> Request:
        # Anew for each call, as a client would: what is looked up in its fields is remembered.
        return Request("GET", _URL, Fields(asked))

    def decide() -> object:
        return policy.on_request(request(), records.decode(record), now)

    def answer() -> Outcome:
        found = driven(exchange(request(), policy, ports))
        assert found.entry is not None
        found.entry.close()
        return found.info.outcome

    assert isinstance(decide(), Serve)
    assert answer() is Outcome.HIT
    return {_DECODE: lambda: records.decode(record), _DECIDE: decide, _EXCHANGE: answer}


def _hishels() -> dict[str, Callable[[], object]]:
    import uuid

    import hishel
    from hishel._core._storages._packing import pack, unpack  # its own format
    from hishel._sync_rfc import handle_request_with_rfc

    headers = hishel.Headers({"accept-encoding": "gzip, deflate", "accept": "*/*"})
    response = hishel.Response(200, hishel.Headers(dict(_fields())))
    packed = pack(hishel.Request("GET", _URL, headers), response)
    options = hishel.CacheOptions(shared=False)

    class Memory(hishel.BaseStorage):
        """Finds its one entry, as its SQLite storage would return it."""

        def get_entries(self, key: str) -> list[hishel.Entry]:
            request, response = unpack(packed)
            response.stream = iter((_BODY,))
            return [hishel.Entry(uuid.uuid4(), request, response)]

        def create_entry(self, *_: object, **__: object) -> hishel.Entry:
            raise AssertionError

        def update_headers(self, *_: object) -> None:
            raise AssertionError

        def remove_entry(self, *_: object) -> None:
            raise AssertionError

        def close(self) -> None:
            """Nothing is open."""

    storage = Memory()

    def request() -> hishel.Request:
        return hishel.Request(
            "GET",
            _URL,
            hishel.Headers({"accept-encoding": "gzip, deflate", "accept": "*/*"}),
        )

    def send(_: hishel.Request) -> hishel.Response:
        raise AssertionError

    def decide() -> object:
        stored = hishel.Entry(uuid.uuid4(), *unpack(packed))
        return hishel.IdleClient(options=options).next(request(), [stored])

    def answer() -> tuple[object, hishel.CacheStatus]:
        return handle_request_with_rfc(request(), send, storage, _URL, options)

    assert isinstance(decide(), hishel.FromCache)
    assert answer()[1]["from_cache"]
    return {_HISHEL_DECIDE: decide, _HISHEL: answer}


def _theirs() -> dict[str, Callable[[], object]]:
    from cachecontrol.cache import DictCache
    from cachecontrol.controller import CacheController

    request = requests.Request("GET", _URL, {"Accept-Encoding": "gzip, deflate"}).prepare()
    controller = CacheController(DictCache())
    fields = dict(_fields())

    def built() -> HTTPResponse:
        return HTTPResponse(
            io.BytesIO(_BODY),
            headers=CaseInsensitiveDict(fields),
            status=200,
            version=11,
            reason="OK",
            preload_content=False,
        )

    controller.cache_response(request, built(), body=_BODY)
    assert controller.cached_request(request)
    return {_THEIRS: lambda: controller.cached_request(request), _BUILD: built}


def _repeated(call: Callable[[], object]) -> Call:
    def repeat(_: int) -> None:
        for _ in range(_CALLS):
            call()

    return repeat


def _fields() -> tuple[tuple[str, str], ...]:
    return (
        ("Date", formatdate(usegmt=True)),
        ("Server", "nginx"),
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(_BODY))),
        ("Connection", "keep-alive"),
        ("Last-Modified", "Mon, 02 Jun 2025 08:30:00 GMT"),
        ("ETag", '"5f2b-1a"'),
        ("Cache-Control", "max-age=86400"),
        ("Vary", "Accept-Encoding"),
        ("Accept-Ranges", "bytes"),
        ("Via", "1.1 edge"),
        ("X-Cache", "MISS"),
        ("X-Request-Id", "4f1a2b90"),
        ("X-Frame-Options", "DENY"),
        ("Strict-Transport-Security", "max-age=300"),
    )
