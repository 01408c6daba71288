"""Our caches under CacheControl's own adapter, in the place of its own."""

from __future__ import annotations

import io
import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import cachecontrol.caches.file_cache as theirs
import filelock
import msgpack
import pytest
import redis
import requests
from cachecontrol import CacheControl, CacheController
from cachecontrol.cache import BaseCache, SeparateBodyBaseCache
from cachecontrol.cache import DictCache as TheirDictCache
from cachecontrol.caches import RedisCache as TheirRedisCache
from cachecontrol.serialize import Serializer
from urllib3 import HTTPResponse

import stillfresh
from stillfresh.caches.base import EntryWriter
from stillfresh.clients.requests import CachedSession
from stillfresh.errors import ConfigError, CorruptEntry
from stillfresh.events import Event, StoreFailed
from stillfresh.integrations.cachecontrol import (
    DictCache,
    FileCache,
    RedisCache,
    SeparateBodyFileCache,
    url_to_file_path,
)
from stillfresh.rfc9111.dates import format_date
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance import SeparateBodyCacheConformance
from stillfresh.testing.conformance.tools import content, elsewhere, load_pair, store
from tests.caches.helpers import files_below
from tests.faults.children import in_child, mount_small_disk, needs_fork, small_disk
from tests.origin import Framing, Origin, Received, Reply
from tests.redis_servers import RedisServer, free_port, needs_redis

__all__ = ["small_disk"]

OnFiles = FileCache | SeparateBodyFileCache
ON_FILES: Final = (FileCache, SeparateBodyFileCache)
THEIRS: Final = {
    FileCache: theirs.FileCache,
    SeparateBodyFileCache: theirs.SeparateBodyFileCache,
}
BODY: Final = content("body", 50_000)
LONG: Final = content("long", 1_500_000)
KEY: Final = "https://example.org/a"


@pytest.mark.one_in(4)
class TestConformance(SeparateBodyCacheConformance):
    closes = False

    def make_cache(self, place: Path, clock: ManualClock) -> SeparateBodyFileCache:
        return SeparateBodyFileCache(place, clock=clock)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "web"


@pytest.fixture(params=ON_FILES)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def cache(kind: Callable[[Path], OnFiles], root: Path) -> OnFiles:
    return kind(root)


@pytest.fixture
def pairs(root: Path) -> SeparateBodyFileCache:
    made = SeparateBodyFileCache(root)
    made.hook = lambda event: None
    return made


@pytest.fixture
def visit() -> Iterator[Callable[..., Any]]:
    """Get a URL by CacheControl, by one session for each cache."""
    sessions: dict[int, requests.Session] = {}

    def get(cache: Any, url: str, **options: Any) -> Any:
        session = sessions.setdefault(id(cache), CacheControl(requests.Session(), cache=cache))
        session.trust_env = False
        return session.get(url, timeout=10, **options)

    yield get
    for session in sessions.values():
        session.close()


def headers(**more: str) -> dict[str, str]:
    """Make what CacheControl needs to store a response; it tells the time by the real clock."""
    fresh = {"Date": format_date(int(time.time())), "Cache-Control": "max-age=6000"}
    return fresh | {name.replace("_", "-"): value for name, value in more.items()}


def record(body: bytes = b"", status: int = 200, **fields: str) -> bytes:
    """Make what CacheControl writes for a response."""
    request = requests.Request("GET", KEY).prepare()
    response = HTTPResponse(b"", headers(**fields), status=status, preload_content=False)
    return Serializer().dumps(request, response, body)


# What they are.


def test_it_is_one_of_cachecontrols_and_one_of_ours(kind: Any, root: Path) -> None:
    cache: object = kind(root)
    theirs = [isinstance(cache, base) for base in (BaseCache, SeparateBodyBaseCache)]
    ours = [
        isinstance(cache, base) for base in (stillfresh.BaseCache, stillfresh.SeparateBodyBaseCache)
    ]
    assert theirs == ours == [True, kind is SeparateBodyFileCache]


def test_the_one_in_memory_is_one_of_cachecontrols_too() -> None:
    cache = DictCache({KEY: b"value"})
    assert isinstance(cache, BaseCache)
    assert isinstance(cache, stillfresh.MemoryCache)
    assert cache.get(KEY) == b"value"


def test_the_arguments_are_cachecontrols(kind: Any, tmp_path: Path) -> None:
    lock = object()
    arguments = (str(tmp_path / "web"), True, 0o640, 0o750, lock)
    ours, other = kind(*arguments), THEIRS[kind](*arguments)  # type: ignore[arg-type]
    for name in ("directory", "forever", "filemode", "dirmode", "lock_class"):
        assert getattr(ours, name) == getattr(other, name)
    by_default, others = kind(str(tmp_path)), THEIRS[kind](str(tmp_path))
    for name in ("directory", "forever", "filemode", "dirmode", "lock_class"):
        assert getattr(by_default, name) == getattr(others, name)


def test_a_lock_is_only_used_when_it_was_asked_for(kind: Any, root: Path) -> None:
    cache = kind(root)
    assert cache.lock_class is filelock.FileLock
    cache.set(KEY, b"value")
    cache.set(KEY, b"another")
    assert cache.get(KEY) == b"another"
    assert not (root / ".lock").exists()
    made: list[str] = []

    def lock(path: str) -> filelock.BaseFileLock:
        made.append(path)
        return filelock.FileLock(path)

    cache.lock_class = lock
    cache.set(KEY, b"third")
    assert cache.get(KEY) == b"third"
    assert made == [str(root / ".lock")]


@pytest.mark.parametrize("key", [KEY, "", "http://x/?a=1&b=%20#c", "caf\xe9"])
def test_files_have_the_names_that_cachecontrol_gives_them(
    cache: OnFiles, root: Path, key: str
) -> None:
    other = THEIRS[type(cache)](str(root))
    assert cache.encode(key) == other.encode(key)
    assert cache._fn(key) == other._fn(key)  # noqa: SLF001 - "some may depend on it"
    cache.set(key, b"value")
    assert cache.get(key) == b"value"
    assert Path(cache.path(key)).is_file()


def test_the_file_of_a_url_is_found(cache: OnFiles, root: Path) -> None:
    url = "HTTP://Example.org"
    other = THEIRS[type(cache)](str(root))
    assert url_to_file_path(url, cache) == theirs.url_to_file_path(url, other)  # type: ignore[arg-type]


def test_nothing_is_deleted_of_what_is_forever(kind: Any, root: Path) -> None:
    cache = kind(root, forever=True)
    cache.set(KEY, b"value")
    cache.delete(KEY)
    assert cache.get(KEY) == b"value"


def test_it_moves_when_it_is_told_another_directory(kind: Any, root: Path, tmp_path: Path) -> None:
    cache = kind(root)
    cache.set("here", b"1")
    cache.directory = tmp_path / "elsewhere"
    assert cache.get("here") is None
    cache.set("there", b"2")
    assert cache.get("there") == b"2"
    assert [entry.key for entry in cache.entries()] == ["there"]
    cache.directory = str(root)
    assert cache.get("here") == b"1"
    assert [entry.key for entry in cache.entries()] == ["here"]
    assert kind(tmp_path / "elsewhere").get("there") == b"2"


def test_files_get_the_mode_that_is_assigned(cache: OnFiles) -> None:
    cache.filemode = 0o640
    cache.dirmode = 0o750
    cache.set(KEY, b"value")
    assert cache.get(KEY) == b"value"
    file = Path(cache.path(KEY))
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o640, 0o750)


def test_where_it_can_not_move_to_it_stays(cache: OnFiles, root: Path, tmp_path: Path) -> None:
    cache.set(KEY, b"value")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError):
        cache.directory = tmp_path / "file"
    assert cache.directory == root
    assert cache.get(KEY) == b"value"


def test_it_can_be_pickled(cache: OnFiles) -> None:
    cache.set(KEY, b"value")
    cache.close()
    copy = pickle.loads(pickle.dumps(cache))  # noqa: S301 - of our own
    assert (copy.directory, copy.get(KEY)) == (cache.directory, b"value")


def test_a_body_is_taken_from_a_file(pairs: SeparateBodyFileCache) -> None:
    pairs.set(KEY, record(Content_Length=str(len(LONG))))
    pairs.set_body_from_io(KEY, io.BytesIO(LONG))
    body = pairs.get_body(KEY)
    assert body is not None
    with body:
        assert body.read() == LONG


# By CacheControl's adapter.


@pytest.mark.parametrize("make", [*ON_FILES, DictCache])
@pytest.mark.parametrize("body", [b"", BODY, LONG], ids=["empty", "short", "long"])
@pytest.mark.parametrize("framing", [Framing.LENGTH, Framing.CHUNKED])
def test_the_second_request_is_a_hit(
    origin: Origin,
    visit: Callable[..., Any],
    root: Path,
    make: Callable[..., Any],
    body: bytes,
    framing: Framing,
) -> None:
    cache = DictCache() if make is DictCache else make(root)
    url = origin.on("/", Reply(headers=headers(), body=body, framing=framing))
    assert visit(cache, url).content == body
    answer = visit(cache, url)
    assert (answer.content, answer.from_cache) == (body, True)


def test_a_directory_of_cachecontrols_is_still_warm(
    origin: Origin, visit: Callable[..., Any], kind: Any, root: Path
) -> None:
    urls = [
        origin.on("/short", Reply(headers=headers(), body=BODY)),
        origin.on("/long", Reply(headers=headers(ETag='"1"'), body=LONG)),
        origin.on("/moved", Reply(301, headers(Location="/short"), body=b"over there")),
        origin.on("/tagged", Reply(308, headers(Location="/long", ETag='"1"'), body=b"there")),
    ]
    before = [visit(THEIRS[kind](str(root)), url) for url in urls]
    asked = len(origin.received)
    after = [visit(kind(root), url) for url in urls]
    assert [answer.content for answer in after] == [answer.content for answer in before]
    assert all(answer.from_cache for answer in after)
    assert len(origin.received) == asked


def test_what_the_origin_confirms_is_refreshed(
    origin: Origin, visit: Callable[..., Any], cache: OnFiles
) -> None:
    stale = {"Date": format_date(int(time.time()) - 9000), "Cache-Control": "max-age=1"}
    url = origin.on(
        "/",
        Reply(headers=stale | {"ETag": '"1"'}, body=BODY),
        Reply(304, headers(ETag='"1"', X_New="yes")),
    )
    visit(cache, url)
    for _ in range(3):
        answer = visit(cache, url)
        assert (answer.content, answer.headers["X-New"]) == (BODY, "yes")
    assert [request.header("If-None-Match") for request in origin.received] == [None, '"1"']


@pytest.mark.parametrize("body", [b"", BODY, LONG], ids=["empty", "short", "long"])
def test_what_is_confirmed_of_cachecontrols_is_fresh_from_then_on(
    origin: Origin, visit: Callable[..., Any], kind: Any, root: Path, body: bytes
) -> None:
    stale = {"Date": format_date(int(time.time()) - 9000), "Cache-Control": "max-age=1"}
    # Without a length, nothing but the file for its body says that there is an empty one.
    is_unsaid = not body and kind is SeparateBodyFileCache
    framing = Framing.CHUNKED if is_unsaid else Framing.LENGTH
    url = origin.on(
        "/",
        Reply(headers=stale | {"ETag": '"1"'}, body=body, framing=framing),
        Reply(304, headers(ETag='"1"')),
    )
    visit(THEIRS[kind](str(root)), url)
    cache = kind(root)
    for _ in range(3):
        answer = visit(cache, url)
        assert (answer.content, answer.from_cache) == (body, True)
    assert [request.header("If-None-Match") for request in origin.received] == [None, '"1"']
    assert cache.verify().is_sound
    assert [entry.foreign for entry in cache.entries()] == [False]


def test_a_confirmation_does_not_undo_what_has_been_stored_meanwhile(
    pairs: SeparateBodyFileCache, root: Path
) -> None:
    other = theirs.SeparateBodyFileCache(str(root))
    other.set(KEY, record(Content_Length=str(len(BODY))))
    other.set_body(KEY, BODY)
    assert pairs.get(KEY) is not None
    pairs.set(KEY, record(X_New="yes"))
    elsewhere(lambda: store(SeparateBodyFileCache(root), KEY, b"newer", b"body"))
    pairs.close()
    assert pairs.get(KEY) == b"newer"


@pytest.mark.parametrize("is_replaced", [True, False], ids=["replaced", "deleted"])
def test_nor_what_happens_while_its_body_is_copied(root: Path, *, is_replaced: bool) -> None:
    other = theirs.SeparateBodyFileCache(str(root))

    class Interrupted(SeparateBodyFileCache):
        def writer(self, key: str) -> EntryWriter:
            other.delete(key)
            if is_replaced:
                other.set(key, record(X_New="newer"))
                other.set_body(key, b"newer")
            return super().writer(key)

    other.set(KEY, record())
    other.set_body(KEY, BODY)
    cache = Interrupted(root)
    assert cache.get(KEY) is not None
    cache.set(KEY, record(X_New="yes"))
    cache.close()
    if is_replaced:
        assert load_pair(cache, KEY) == (record(X_New="newer"), b"newer")
    else:
        assert cache.get(KEY) is None


def test_a_record_with_its_body_in_it_is_not_updated_without_that(
    pairs: SeparateBodyFileCache, root: Path
) -> None:
    theirs.FileCache(str(root)).set(KEY, record(BODY))
    entry = pairs.open(KEY)
    assert entry is not None
    with entry:
        assert pairs.update(KEY, b"new", version=entry.version) is False
    assert pairs.get(KEY) == record(BODY)


@pytest.mark.parametrize(
    "response",
    [
        {"surprise": 1},
        {"status": "200"},
        {"headers": {"Date": 5}},
        {"headers": {5: "Date"}},
        {"headers": [["Date", "today"]]},
        {"headers": {"Date": "today"}},
        {"headers": {"Date": "Mon, 99 Foo 2020 25:00:00 GMT"}},
        {"headers": {"Date": "Mon, 01 Jan 99999 00:00:00 GMT"}},
        {"body": 5},
        {"reason": 5},
        {"version": "1.1"},
    ],
    ids=str,
)
def test_a_record_that_cachecontrol_would_stumble_over_is_a_miss(
    cache: OnFiles, root: Path, response: dict[str, Any]
) -> None:
    whole = {"body": b"body", "headers": {}, "status": 200, "version": 11, "reason": "OK"}
    whole["decode_content"] = True
    other = theirs.FileCache(str(root))
    cache.hook = lambda event: None
    for content_of, found in ((whole | response, False), (whole, True)):
        value = b"cc=4," + msgpack.packb({"response": content_of, "vary": {}})
        other.set(KEY, value)
        assert (cache.get(KEY) == value) is found


@pytest.mark.parametrize(
    ("length", "is_found"),
    [("4", True), ("004", True), ("5", False), ("9" * 5000, False), ("four", True), ("4, 4", True)],
)
def test_a_length_is_compared_where_it_is_one(
    cache: OnFiles, root: Path, length: str, *, is_found: bool
) -> None:
    cache.hook = lambda event: None
    value = record(b"body", Content_Length=length)
    theirs.FileCache(str(root)).set(KEY, value)
    assert (cache.get(KEY) == value) is is_found


@pytest.mark.parametrize("record", [5, [], {}, {"response": 5}], ids=str)
@pytest.mark.parametrize("vary", [{5: None}, ["Accept"], None], ids=str)
def test_so_is_what_is_no_record_at_all(
    cache: OnFiles, root: Path, record: object, vary: object
) -> None:
    other = theirs.FileCache(str(root))
    cache.hook = lambda event: None
    response = {"body": b"", "headers": {"Content-Length": "0"}, "status": 200, "version": 11}
    for value in (record, {"response": response, "vary": vary}):
        other.set(KEY, b"cc=4," + msgpack.packb(value))
        assert cache.get(KEY) is None


def test_a_session_that_is_closed_leaves_the_cache_to_others(
    origin: Origin, visit: Callable[..., Any], root: Path
) -> None:
    url = origin.on("/", Reply(headers=headers(), body=BODY))
    for cache in (FileCache(root / "1"), SeparateBodyFileCache(root / "2"), DictCache()):
        for number in range(3):
            with CacheControl(requests.Session(), cache=cache) as session:
                session.trust_env = False
                answer = session.get(url, timeout=10)
            assert (answer.content, answer.from_cache) == (BODY, number > 0)  # type: ignore[attr-defined]


def test_our_own_client_takes_what_cachecontrol_has_stored(
    origin: Origin, visit: Callable[..., Any], cache: OnFiles
) -> None:
    url = origin.on("/", Reply(headers=headers(), body=BODY))
    visit(cache, url)
    with CachedSession(cache) as session:
        session.trust_env = False
        answer = session.get(url)
    assert answer.content == BODY
    assert getattr(answer, "from_cache")  # noqa: B009
    assert len(origin.received) == 1


# What can't be a whole response.


def two_versions(origin: Origin, root: Path, visit: Callable[..., Any]) -> str:
    """Have CacheControl store a response that the origin has replaced since."""
    url = origin.on(
        "/",
        Reply(headers=headers(), body=BODY),
        Reply(headers=headers(), body=LONG),
    )
    visit(theirs.SeparateBodyFileCache(str(root)), url)
    return url


def lose_the_body(path: Path) -> None:
    path.with_name(path.name + ".body").unlink()


def cut_the_body(path: Path) -> None:
    body = path.with_name(path.name + ".body")
    body.write_bytes(body.read_bytes()[:-1])


def empty_the_body(path: Path) -> None:
    path.with_name(path.name + ".body").write_bytes(b"")


def cut_the_record(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty_the_record(path: Path) -> None:
    path.write_bytes(b"")


def write_no_map(path: Path) -> None:
    path.write_bytes(b"cc=4,\x05")


def write_another_map(path: Path) -> None:
    path.write_bytes(b"cc=4,\x81\xa8response\xc0")


DAMAGES: Final = [
    lose_the_body,
    cut_the_body,
    empty_the_body,
    cut_the_record,
    empty_the_record,
    write_no_map,
    write_another_map,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_pair_of_cachecontrols_that_is_damaged_is_asked_for_again(
    origin: Origin,
    visit: Callable[..., Any],
    pairs: SeparateBodyFileCache,
    root: Path,
    damage: Callable[[Path], None],
) -> None:
    url = two_versions(origin, root, visit)
    damage(Path(pairs.path(url)))
    assert visit(pairs, url).content == LONG
    answer = visit(pairs, url)
    assert (answer.content, answer.from_cache) == (LONG, True)


def test_a_bodyless_pair_without_a_length_is_refused(
    origin: Origin, visit: Callable[..., Any], pairs: SeparateBodyFileCache, root: Path
) -> None:
    url = origin.on(
        "/",
        Reply(headers=headers(), body=BODY, framing=Framing.CHUNKED),
        Reply(headers=headers(), body=LONG),
    )
    visit(theirs.SeparateBodyFileCache(str(root)), url)
    lose_the_body(Path(pairs.path(url)))
    assert visit(pairs, url).content == LONG


def test_a_pair_is_no_value_for_a_cache_of_one_file(
    origin: Origin, visit: Callable[..., Any], root: Path
) -> None:
    """The record alone says that the body is empty."""
    url = two_versions(origin, root, visit)
    assert visit(FileCache(root), url).content == LONG


def test_a_pair_of_ours_is_no_value_for_a_cache_of_one_file(root: Path) -> None:
    with SeparateBodyFileCache(root) as pairs:
        pairs.set(KEY, record())
        pairs.set_body(KEY, BODY)
    assert FileCache(root).get(KEY) is None
    memory = DictCache()
    store(memory, KEY, b"metadata", b"body")
    assert memory.get(KEY) is None


def test_a_value_of_one_file_is_served_by_a_cache_of_pairs(
    origin: Origin, visit: Callable[..., Any], pairs: SeparateBodyFileCache, root: Path
) -> None:
    url = origin.on("/", Reply(headers=headers(), body=BODY))
    visit(theirs.FileCache(str(root)), url)
    answer = visit(pairs, url)
    assert (answer.content, answer.from_cache) == (BODY, True)


@pytest.mark.parametrize("fields", [{}, {"Content_Length": "50000"}])
def test_a_record_that_was_left_without_its_body_is_no_response(
    origin: Origin,
    visit: Callable[..., Any],
    pairs: SeparateBodyFileCache,
    fields: dict[str, Any],
) -> None:
    """As after Ctrl-C between CacheControl's two calls."""
    url = origin.on("/", Reply(headers=headers(), body=BODY))
    elsewhere(lambda: pairs.set(url, record(**fields)))
    assert pairs.get(url) is None
    assert visit(pairs, url).content == BODY
    assert visit(pairs, url).from_cache


def test_a_redirect_needs_no_body(
    origin: Origin, visit: Callable[..., Any], pairs: SeparateBodyFileCache
) -> None:
    moved = headers(Location="/new", ETag='"1"')
    url = origin.on("/", Reply(301, moved, body=b"It has moved"))
    for _ in range(2):
        answer = visit(pairs, url, allow_redirects=False)
    assert (answer.status_code, answer.from_cache) == (301, True)


def test_any_value_that_is_not_cachecontrols_is_a_value(cache: OnFiles) -> None:
    for value in (b"", b"value", b"cc=5,", b"\0"):
        cache.set(KEY, value)
        assert cache.get(KEY) == value


def test_what_is_torn_is_found_by_a_verification(
    origin: Origin, visit: Callable[..., Any], pairs: SeparateBodyFileCache, root: Path
) -> None:
    url = two_versions(origin, root, visit)
    assert pairs.verify().is_sound
    cut_the_body(Path(pairs.path(url)))
    assert list(pairs.verify().damaged) == [pairs.encode(url)]


def test_it_says_what_it_refuses(
    origin: Origin, visit: Callable[..., Any], pairs: SeparateBodyFileCache, root: Path
) -> None:
    url = two_versions(origin, root, visit)
    cut_the_body(Path(pairs.path(url)))
    told: list[Event] = []
    pairs.hook = told.append
    assert pairs.get(url) is None
    (event,) = told
    assert isinstance(event, StoreFailed)
    assert isinstance(event.error, CorruptEntry)


def test_no_damage_to_a_record_raises_anything(pairs: SeparateBodyFileCache) -> None:
    """There is no checksum to tell by: each is a miss, or a response that CacheControl can read."""
    whole = record(Content_Length=str(len(BODY)), ETag='"1"', Vary="Accept, Accept-Language")
    path = Path(pairs.path(KEY))
    path.parent.mkdir(parents=True)
    path.with_name(path.name + ".body").write_bytes(BODY)
    controller = CacheController(pairs)
    request = requests.Request("GET", KEY, headers={"Accept": "*/*"}).prepare()
    for at in range(len(whole)):
        for bit in (1, 0x20, 0x40, 0x80):
            damaged = bytearray(whole)
            damaged[at] ^= bit
            path.write_bytes(damaged)
            controller.cached_request(request)
            controller.conditional_headers(request)
            path.with_name(path.name + ".body").write_bytes(BODY)
        path.write_bytes(whole[:at])
        assert controller.cached_request(request) is False


# Where things go wrong.


@needs_fork
def test_a_full_disk_breaks_no_request(kind: Any, small_disk: Path, origin: Origin) -> None:
    def answer(request: Received) -> Reply:
        return Reply(headers=headers(ETag=f'"{request.path}"'), body=LONG)

    urls = [origin.on(f"/{number}", answer) for number in range(4)]

    def job() -> list[bool]:
        mount_small_disk(small_disk, "size=2m")
        cache = kind(small_disk / "web")
        cache.hook = lambda event: None
        with CacheControl(requests.Session(), cache=cache) as session:
            session.trust_env = False
            right = [session.get(url, timeout=10).content == LONG for url in urls * 2]
        left = [name for name in files_below(small_disk / "web") if "tmp" in name]
        return [*right, not left]

    assert all(in_child(job))


def test_a_directory_that_is_gone_breaks_no_request(
    origin: Origin, visit: Callable[..., Any], cache: OnFiles, root: Path
) -> None:
    url = origin.on("/", Reply(headers=headers(), body=BODY))
    visit(cache, url)
    shutil.rmtree(root)
    root.write_bytes(b"a file where the directory was")
    cache.hook = lambda event: None
    assert visit(cache, url).content == BODY
    root.unlink()
    assert visit(cache, url).content == BODY
    assert visit(cache, url).from_cache


def test_theirs_in_memory_starts_ours(origin: Origin, visit: Callable[..., Any]) -> None:
    url = origin.on("/", Reply(headers=headers(), body=BODY))
    other = TheirDictCache()
    visit(other, url)
    answer = visit(DictCache(other.data), url)
    assert (answer.content, answer.from_cache) == (BODY, True)


# On Redis.


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.client() as made:
        made.flushall()
        yield made


@needs_redis
@pytest.mark.filterwarnings("ignore:.*setex:DeprecationWarning")
def test_what_cachecontrol_left_on_redis_is_warm(
    origin: Origin, visit: Callable[..., Any], client: Any
) -> None:
    url = origin.on("/", Reply(headers=headers(), body=BODY))
    visit(TheirRedisCache(client), url)
    cache = RedisCache(client)
    assert isinstance(cache, BaseCache)
    assert cache.conn is client
    assert visit(cache, url).from_cache
    cache.delete(url)
    assert visit(cache, url).content == BODY
    cache.close()
    answer = visit(RedisCache(client), url)
    assert (answer.content, answer.from_cache) == (BODY, True)
    assert len(origin.received) == 2


@needs_redis
def test_a_redis_that_is_down_breaks_no_request(
    origin: Origin, visit: Callable[..., Any], tmp_path: Path
) -> None:
    url = origin.on("/", Reply(headers=headers(), body=BODY))
    with redis.Redis(port=free_port()) as client:
        cache = RedisCache(client)
        cache.hook = lambda event: None
        for _ in range(2):
            assert visit(cache, url).content == BODY
