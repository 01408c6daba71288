"""What deciding costs: no files, no requests, no sockets.

    decode + on_request  a record is read and the policy asked whether it is fresh
    whole exchange       the engine from request to answer, on a MemoryCache

CacheControl's `cached_request` on its DictCache does the like of a whole exchange: key, lookup,
reading the record, deciding. It also builds urllib3's response, so a control does just that with
what it has found, and is taken off. Goal: a whole exchange costs no more than theirs.
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
_THEIRS: Final = "CacheControl's cached_request on DictCache"
_BUILD: Final = "urllib3's response, as theirs builds it"


class _Ports(LocalCachePorts):
    """Ports whose way to the origin is never taken."""

    def __init__(self, cache: MemoryCache) -> None:
        super().__init__(cache)
        self.vault = Vault()

    def now(self) -> float:
        return time.time()

    listening = False

    def emit(self, event: events.Event) -> None:
        events.emit(events.log_event, event)

    async def send(self, request: Request) -> Upstream:
        raise AssertionError(request)

    async def discard(self, upstream: Upstream) -> None:
        raise AssertionError(upstream)


def run(options: Options) -> list[Report]:
    rounds = 5 if options.quick else 50
    calls = _ours() | _theirs()
    samples = interleaved({name: _repeated(call) for name, call in calls.items()}, rounds)
    times = {name: median(samples[name]) / _CALLS for name in calls}
    theirs = times[_THEIRS] - times[_BUILD]
    report = Report("decisions: a hit, decided", ("what", "µs", "x theirs"))
    for name, each in times.items():
        report.add(name, each, None if name == _BUILD else each / theirs)
    report.add("theirs without building", theirs, 1.0)
    report.expect("a whole exchange costs no more than theirs", met=times[_EXCHANGE] <= theirs)
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
