"""Any bytes whatever in an entry file: they are a value, or a miss."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack
import pytest
import xxhash
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stillfresh import BaseCache, SeparateBodyBaseCache, StoreError
from stillfresh.caches import frames
from stillfresh.caches.directory import TAG
from stillfresh.caches.entryfiles import NAME_LENGTH
from stillfresh.testing.conformance.tools import load, store
from tests.faults.conftest import Effort
from tests.faults.kinds import Kind, each_cache, each_tree
from tests.faults.tally import Tally
from tests.faults.ways import Visitor, pages
from tests.origin import Origin

KEY: Final = "https://example.org/"
METADATA: Final = b"metadata"
# In the entry file; beside it.
BODIES: Final = {"within": b"body" * 20, "beside": bytes(range(256)) * 100}


def thought_up(effort: Effort) -> settings:
    """Let Hypothesis think of examples, the same ones at each run."""
    return settings(
        max_examples=effort(30, soak=1000),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )


class Forgery(NamedTuple):
    """The content of an entry file, and what may come out of it.

    Attributes:
        metadata: what is in it; what was stored before may come out as well.
        body: the one that goes with all of them.
    """

    data: bytes
    metadata: tuple[bytes, ...] = ()
    body: bytes = b""


# Bytes that nobody has stored.


def anything(whole: bytes) -> st.SearchStrategy[Forgery]:
    begun = st.sampled_from((b"", b"", frames.MAGIC, whole[:80], b"cc=", b"cc=4,", b"cc=4,\x81"))
    return st.builds(lambda one, other: Forgery(one + other), begun, st.binary(max_size=200))


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> Forgery:
    """Change a file here and there, by what looks as if it belonged there."""
    data = bytearray(whole)
    words = st.sampled_from((b"", frames.MAGIC, b"+sf\n", whole[:80], whole[-60:], bytes(8)))
    numbers = st.integers(0, 2**64 - 1).map(lambda number: number.to_bytes(8, "little"))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = at + draw(st.sampled_from((0, 1, 2, 4, 8, 16, 80)))
        data[at:end] = draw(st.one_of(words, numbers, st.binary(max_size=20)))
    return Forgery(bytes(data))


# Bytes whose checksums are right, though what they say may not be.

_HEAD: Final = struct.Struct("<8s H H I Q Q 16s 8s d d")
_VERSION_AT: Final = struct.calcsize("<8s H H I Q Q 16s")
_AMENDMENT: Final = struct.Struct("<4s Q 8s d d")
_short_sizes: Final = st.sampled_from((0, 1, 80, 2**16, 2**31, 2**32 - 1))
_sizes: Final = st.one_of(_short_sizes, st.sampled_from((2**63 - 1, 2**63, 2**64 - 1)))
_times: Final = st.one_of(st.floats(), st.sampled_from((0.0, 1e18, math.inf, -math.inf, math.nan)))
_versions: Final = st.binary(min_size=8, max_size=8)


@st.composite
def forged(draw: st.DrawFn, whole: bytes) -> Forgery:
    """Make a frame and its amendments, most of their fields as they should be."""

    def mostly(right: Any, other: st.SearchStrategy[Any]) -> Any:
        return draw(st.one_of(st.just(right), st.just(right), other))

    present = frames.parse_head(whole)
    key = mostly(KEY.encode(), st.binary(max_size=30))
    body, metadata = draw(st.binary(max_size=100)), draw(st.binary(max_size=50))
    flags = mostly(frames.HAS_BODY, st.sampled_from((0, 2, 3, 4, 2**16 - 1)))
    inline = b"" if flags & frames.BODY_ELSEWHERE else body
    head = _HEAD.pack(
        frames.MAGIC,
        mostly(frames.FORMAT, st.integers(0, 2**16 - 1)),
        flags,
        mostly(len(key), _short_sizes),
        mostly(len(metadata), _sizes),
        mostly(len(inline), _sizes),
        mostly(frames.digest(inline), st.just(present.digest)),
        mostly(present.version, _versions),
        draw(_times),
        mostly(math.inf, _times),
    )
    data = _sealed(head, inline, key + metadata)
    values = [metadata]
    for _ in range(draw(st.integers(0, 3))):
        values.append(draw(st.binary(max_size=50)))
        amendment = _AMENDMENT.pack(
            b"+sf\n",
            mostly(len(values[-1]), _sizes),
            mostly(present.version, _versions),
            draw(_times),
            mostly(math.inf, _times),
        )
        data += _sealed(amendment, b"", values[-1])
    # What is told of no body is an empty one.
    came = inline if flags & frames.HAS_BODY else b""
    return Forgery(data + mostly(b"", st.binary(max_size=5)), tuple(values), came)


def _sealed(head: bytes, body: bytes, tail: bytes) -> bytes:
    checksum = xxhash.xxh3_64_intdigest(head + tail).to_bytes(8, "little")
    return head + checksum + body + tail


SOURCES: Final = {"anything": anything, "mutated": mutated, "forged": forged}


@dataclass(frozen=True)
class Subject:
    """A cache with an entry whose file will hold something else."""

    cache: BaseCache
    file: Path
    body: bytes
    tagged: bool

    def suffer(self, tally: Tally, forgery: Forgery) -> None:
        """Put bytes into the file, and see that they are a value or a miss in every way."""
        data = forgery.data
        self.file.write_bytes(data)
        tally.tried("files")
        found = tally.attempt(self._classic)
        tally.tried("values", found is not None)
        self._judge(tally, forgery, found)
        found = tally.attempt_or(StoreError, load, self.cache, KEY)
        self._judge(tally, forgery, found)
        for look in (lambda: list(self.cache.entries()), self.cache.stats, self.cache.verify):
            tally.attempt_or(StoreError, look)
        version = data[_VERSION_AT : _VERSION_AT + 8].ljust(8, b"0").hex()
        tally.attempt_or(StoreError, self.cache.update, KEY, METADATA, version=version)

    def _classic(self) -> tuple[bytes, bytes | None] | None:
        value = self.cache.get(KEY)
        if value is None or not isinstance(self.cache, SeparateBodyBaseCache):
            # There is no way to the body.
            return None if value is None else (value, None)
        file = self.cache.get_body(KEY)
        if file is None:
            return value, b""
        with file:
            return value, file.read()

    def _judge(
        self, tally: Tally, forgery: Forgery, found: tuple[bytes, bytes | None] | None
    ) -> None:
        allowed = [(METADATA, self.body)]
        allowed += [(metadata, forgery.body) for metadata in forgery.metadata]
        if not self.tagged or forgery.data.startswith(b"cc="):
            # Another program's value, which has a body only by that one's convention.
            allowed.append((forgery.data, b""))
        if found is not None and found[1] is None:
            found = (found[0], next((body for one, body in allowed if one == found[0]), b""))
        tally.blame_unless(found is None or found in allowed, "wrong", (forgery, found))


@each_tree
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("tagged", [True, False], ids=["ours", "anybody's"])
@pytest.mark.parametrize("source", SOURCES)
def test_any_bytes_in_an_entry_file(
    kind: Kind,
    tmp_path: Path,
    effort: Effort,
    tally: Tally,
    body: bytes,
    tagged: bool,
    source: str,
) -> None:
    tally.expect_no("wrong", "exceptions")
    place = tmp_path / "cache"
    with kind(place) as cache:
        cache.hook = lambda event: None
        store(cache, KEY, METADATA, body)
        if not tagged:
            (place / TAG).unlink()
        (file,) = [path for path in place.rglob("*") if len(path.name) == NAME_LENGTH]
        subject = Subject(cache, file, body, tagged)
        assert load(cache, KEY) == (METADATA, body)

        @thought_up(effort)
        @given(SOURCES[source](file.read_bytes()))
        def suffer(forgery: Forgery) -> None:
            subject.suffer(tally, forgery)
            assert tally.blamed == []

        suffer()


# What a session reads in an entry.

_json: Final = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats())
    | st.text(max_size=10)
    | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=10,
)


@st.composite
def records(draw: st.DrawFn, whole: bytes) -> bytes:
    """Make what looks like a record of ours, or of CacheControl's."""
    prefix, packed = whole[: whole.index(b"\n") + 1], whole[whole.index(b"\n") + 1 :]
    values = list(msgpack.unpackb(packed, strict_map_key=False))
    for _ in range(draw(st.integers(0, 3))):
        values[draw(st.integers(0, len(values) - 1))] = draw(_json)
    response = draw(st.dictionaries(st.sampled_from(_NAMES), _json))
    theirs = {"response": response, "vary": draw(_json)}
    return draw(
        st.one_of(
            st.binary(max_size=100),
            st.binary(max_size=100).map(prefix.__add__),
            st.just(prefix + msgpack.packb(values)),
            st.just(b"cc=4," + msgpack.packb(theirs)),
        )
    )


_NAMES: Final = ("status", "headers", "reason", "version", "body", "strict", "decode_content")


@each_cache
def test_any_record_in_an_entry(
    kind: Kind, tmp_path: Path, origin: Origin, effort: Effort, tally: Tally
) -> None:
    tally.expect_no("exceptions")
    (url,) = pages(origin, 1)
    with kind(tmp_path / "cache") as cache:
        visitor = Visitor(cache)
        visitor.visit(tally, url)
        found = load(cache, url)
        assert found is not None
        metadata, body = found

        @thought_up(effort)
        @given(records(metadata))
        def suffer(record: bytes) -> None:
            store(cache, url, record, body)
            tally.tried("records")
            # What is in a record that makes sense may be another answer.
            tally.attempt(visitor.session.get, url, timeout=30)
            assert tally.blamed == []

        suffer()
