"""A directory that CacheControl has filled goes on working when stillfresh takes it over."""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cachecontrol import CacheControl
from cachecontrol import caches as theirs

import stillfresh
from stillfresh import CorruptEntry, Outcome
from stillfresh.clients.requests import CachedResponse, CachedSession
from stillfresh.events import Event, StoreFailed
from stillfresh.rfc9111.dates import format_date
from stillfresh.testing import ManualClock
from tests.origin import Origin, Received, Reply

BODY = random.Random(2).randbytes(50_000)
LONG = random.Random(3).randbytes(1_500_000)
KINDS = {
    "one file": (theirs.FileCache, stillfresh.FileCache),
    "two files": (theirs.SeparateBodyFileCache, stillfresh.SeparateBodyFileCache),
}


@pytest.fixture
def clock() -> ManualClock:
    """CacheControl knows no clock but the real one, so that is where ours begins."""
    return ManualClock(float(int(time.time())))


@pytest.fixture
def headers(clock: ManualClock) -> dict[str, str]:
    return {"Date": format_date(clock()), "Cache-Control": "max-age=6000", "ETag": '"1"'}


class Directory:
    """One directory, used by CacheControl and then by us."""

    def __init__(self, place: Path, clock: ManualClock, kind: str) -> None:
        self.place = place
        self._theirs, self._ours = KINDS[kind]
        self.events: list[Event] = []
        self.session = CachedSession(
            self._ours(place, clock=clock), hook=self.events.append, clock=clock
        )
        self.session.trust_env = False

    def fill(self, url: str, **options: Any) -> requests.Response:
        """Have CacheControl store a response, and see that it did."""
        cache: Any = self._theirs(str(self.place))
        with CacheControl(requests.Session(), cache=cache) as session:
            session.trust_env = False
            session.get(url, timeout=10, **options)
            response: requests.Response = session.get(url, timeout=10, **options)
            assert response.from_cache  # type: ignore[attr-defined]
            return response

    def get(self, url: str, **options: Any) -> CachedResponse:
        response = self.session.get(url, timeout=10, **options)
        assert isinstance(response, CachedResponse)
        return response

    def failures(self) -> list[StoreFailed]:
        return [event for event in self.events if isinstance(event, StoreFailed)]

    def file(self) -> Path:
        """Find the one entry file."""
        (file,) = (
            file for file in self.place.rglob("*") if file.is_file() and len(file.name) == 56
        )
        return file


@pytest.fixture(params=KINDS)
def directory(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> Iterator[Directory]:
    place = tmp_path / "cache"
    place.mkdir(mode=0o700)
    directory = Directory(place, clock, request.param)
    yield directory
    directory.session.close()


@pytest.mark.parametrize("body", [BODY, LONG, b""], ids=["short", "long", "empty"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_fresh_response_is_a_hit(
    origin: Origin, directory: Directory, headers: dict[str, str], body: bytes, *, stream: bool
) -> None:
    url = origin.on("/", Reply(headers=headers | {"X-Odd": "a, b"}, body=body, reason="Quite So"))
    before = directory.fill(url)
    hit = directory.get(url, stream=stream)
    assert hit.cache.outcome is Outcome.HIT
    assert hit.content == body
    assert (hit.status_code, hit.reason, hit.headers["X-Odd"]) == (200, "Quite So", "a, b")
    assert hit.raw.version == before.raw.version
    assert len(origin.received) == 1
    assert not directory.failures()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_compressed_response_is_decoded(
    origin: Origin, directory: Directory, headers: dict[str, str], framing: str
) -> None:
    packed = gzip.compress(BODY)
    body = packed if framing == "length" else [packed[:100], packed[100:]]
    url = origin.on("/", Reply(headers=headers | {"Content-Encoding": "gzip"}, body=body))
    directory.fill(url)
    assert directory.get(url).content == BODY
    assert len(origin.received) == 1


def test_a_stale_response_is_revalidated_and_becomes_ours(
    origin: Origin, directory: Directory, headers: dict[str, str], clock: ManualClock
) -> None:
    refreshed = Reply(304, {"Cache-Control": "max-age=60", "X-New": "1"})
    url = origin.on("/", Reply(headers=headers, body=BODY), refreshed)
    directory.fill(url)
    clock.advance(6001)
    revalidated = directory.get(url)
    assert revalidated.cache.outcome is Outcome.REVALIDATED
    assert revalidated.content == BODY
    assert origin.received[-1].header("If-None-Match") == '"1"'
    for _ in range(2):
        hit = directory.get(url)
        assert hit.cache.outcome is Outcome.HIT
        assert (hit.content, hit.headers["X-New"]) == (BODY, "1")
    assert not directory.failures()


def test_a_changed_response_replaces_it(
    origin: Origin, directory: Directory, headers: dict[str, str], clock: ManualClock
) -> None:
    url = origin.on("/", Reply(headers=headers, body=BODY), Reply(headers=headers, body=b"new"))
    directory.fill(url)
    clock.advance(6001)
    assert directory.get(url).content == b"new"
    assert directory.get(url).content == b"new"


def test_an_unsafe_request_throws_it_out(
    origin: Origin, directory: Directory, headers: dict[str, str]
) -> None:
    url = origin.on("/", Reply(headers=headers, body=BODY))
    directory.fill(url)
    directory.session.post(url, data=b"x")
    assert not directory.get(url).from_cache


def test_a_redirect_is_followed(
    origin: Origin, directory: Directory, headers: dict[str, str]
) -> None:
    origin.on("/2", Reply(headers=headers, body=BODY))
    url = origin.on("/1", Reply(301, headers | {"Location": "/2"}))
    directory.fill(url)
    response = directory.get(url)
    assert response.content == BODY
    assert len(origin.received) == 2


def test_a_variant_is_selected_by_what_it_varied_on(
    origin: Origin, directory: Directory, headers: dict[str, str]
) -> None:
    def answer(request: Received) -> Reply:
        tongue = request.header("Accept-Language") or "none"
        return Reply(headers=headers | {"Vary": "Accept-Language"}, body=tongue.encode())

    url = origin.on("/", answer)
    directory.fill(url, headers={"Accept-Language": "en"})
    assert directory.get(url, headers={"Accept-Language": "en"}).from_cache
    german = directory.get(url, headers={"Accept-Language": "de"})
    assert (german.content, german.from_cache) == (b"de", False)


def test_it_is_nobodys_who_has_credentials(
    origin: Origin, directory: Directory, headers: dict[str, str]
) -> None:
    """Who had asked isn't in the record, so it may have been anybody."""
    url = origin.on("/", Reply(headers=headers, body=BODY))
    directory.fill(url)
    assert not directory.get(url, auth=("me", "secret")).from_cache


def test_a_head_is_answered_by_it(
    origin: Origin, directory: Directory, headers: dict[str, str]
) -> None:
    url = origin.on("/", Reply(headers=headers, body=BODY))
    directory.fill(url)
    response = directory.session.head(url)
    assert response.headers["Content-Length"] == str(len(BODY))
    assert len(origin.received) == 1


def damaged_by_shortening(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def damaged_by_appending(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\x00")


def damaged_by_emptying(file: Path) -> None:
    file.write_bytes(b"")


DAMAGES = [damaged_by_shortening, damaged_by_appending, damaged_by_emptying, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("late", [0, 6001])
def test_a_body_that_is_not_the_records_is_refused(
    origin: Origin,
    tmp_path: Path,
    clock: ManualClock,
    headers: dict[str, str],
    damage: Callable[[Path], Any],
    late: int,
) -> None:
    directory = Directory(tmp_path, clock, "two files")
    url = origin.on("/", Reply(headers=headers, body=BODY))
    directory.fill(url)
    damage(directory.file().with_suffix(".body"))
    clock.advance(late)
    response = directory.get(url)
    assert response.content == BODY
    assert response.cache.outcome is Outcome.MISS
    assert [type(failure.error) for failure in directory.failures()] == [CorruptEntry]
    # The origin's answer has the same old Date.
    assert directory.get(url).from_cache is (late == 0)
    directory.session.close()


def test_a_pair_torn_between_two_versions_is_refused(
    origin: Origin, tmp_path: Path, clock: ManualClock, headers: dict[str, str]
) -> None:
    """CacheControl writes the record first; killed then, the body beside it is an older one."""
    directory = Directory(tmp_path, clock, "two files")
    url = origin.on("/", Reply(headers=headers, body=BODY), Reply(headers=headers, body=LONG))
    directory.fill(url)
    body = directory.file().with_suffix(".body").read_bytes()
    cache = theirs.SeparateBodyFileCache(str(tmp_path))
    cache.delete(url)
    directory.fill(url)
    directory.file().with_suffix(".body").write_bytes(body)
    assert directory.get(url).content == LONG
    assert directory.failures()
    directory.session.close()


@pytest.mark.parametrize("damage", DAMAGES[:3])
def test_a_damaged_record_is_a_miss(
    origin: Origin, directory: Directory, headers: dict[str, str], damage: Callable[[Path], Any]
) -> None:
    url = origin.on("/", Reply(headers=headers, body=BODY))
    directory.fill(url)
    damage(directory.file())
    response = directory.get(url)
    assert response.content == BODY
    assert not response.from_cache
    assert directory.get(url).from_cache


def test_a_flipped_bit_in_a_record_breaks_nothing(
    origin: Origin, tmp_path: Path, clock: ManualClock, headers: dict[str, str]
) -> None:
    """There is no checksum to tell by, so what is served may differ; but something is."""
    directory = Directory(tmp_path, clock, "one file")
    url = origin.on("/", Reply(headers=headers, body=b"body"))
    directory.fill(url)
    file = directory.file()
    whole = file.read_bytes()
    for at in range(len(whole)):
        for bit in (1, 0x80):
            flipped = bytearray(whole)
            flipped[at] ^= bit
            file.write_bytes(flipped)
            assert directory.get(url, allow_redirects=False).status_code
    directory.session.close()
