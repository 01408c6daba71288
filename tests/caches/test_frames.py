import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillfresh.caches import frames
from stillfresh.caches.frames import BODY_ELSEWHERE, HAS_BODY, Frame
from stillfresh.errors import CorruptEntry

# Any str, lone surrogates included.
keys = st.text(st.characters(codec=None, exclude_categories=()))
times = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def framed(draw: st.DrawFn) -> tuple[Frame, bytes]:
    """Draw a frame and its body."""
    body = draw(st.binary())
    elsewhere = draw(st.booleans())
    size = draw(st.integers(0, 2**63)) if elsewhere else len(body)
    frame = Frame(
        key=draw(keys),
        metadata=draw(st.binary()),
        flags=HAS_BODY | BODY_ELSEWHERE if elsewhere else draw(st.sampled_from([0, HAS_BODY])),
        body_size=size,
        digest=frames.digest(body),
        version=frames.new_version(),
        stored_at=draw(times),
        expires_at=draw(st.none() | times),
    )
    return frame, b"" if elsewhere else body


def encode_whole(frame: Frame, body: bytes) -> bytes:
    head, tail = frames.encode(frame)
    assert len(head) == frames.HEAD_SIZE
    return head + body + tail


def small(key: str = "key", body: bytes = b"the body") -> bytes:
    digest, version = frames.digest(body), frames.new_version()
    return encode_whole(
        Frame(key, b"the metadata", HAS_BODY, len(body), digest, version, 1.5, None), body
    )


@given(framed())
def test_what_is_encoded_is_decoded(given_frame: tuple[Frame, bytes]) -> None:
    frame, body = given_frame
    assert frames.decode_whole(encode_whole(frame, body)) == (frame, body)


@given(framed())
def test_a_head_says_where_everything_is(given_frame: tuple[Frame, bytes]) -> None:
    frame, body = given_frame
    data = encode_whole(frame, body)
    head = frames.parse_head(data)
    assert head.frame_size == len(data)
    assert head.tail_at == frames.HEAD_SIZE + frame.inline_size
    assert data[head.tail_at :].endswith(frame.metadata)
    assert head.tail_at + head.key_size + head.metadata_size == len(data)


@given(st.binary())
@example(b"")
@example(frames.MAGIC)
@example(frames.MAGIC + bytes(frames.HEAD_SIZE - len(frames.MAGIC)))
@example(frames.MAGIC + b"\x01\0" + b"\xff" * 200)
def test_any_bytes_are_a_frame_or_corrupt(data: bytes) -> None:
    with contextlib.suppress(CorruptEntry):
        frames.decode_whole(data)


@given(framed(), st.binary(), st.data())
def test_a_frame_that_is_tampered_with_never_passes(
    given_frame: tuple[Frame, bytes], junk: bytes, data: st.DataObject
) -> None:
    frame, body = given_frame
    whole = encode_whole(frame, body)
    at = data.draw(st.integers(0, len(whole)))
    until = data.draw(st.integers(at, len(whole)))
    changed = whole[:at] + junk + whole[until:]
    try:
        found, found_body = frames.decode_whole(changed)
    except CorruptEntry:
        return
    # Only the body may differ: that is for its digest to notice.
    assert found == frame
    assert len(found_body) == len(body)
    if frames.digest(found_body) == found.digest or not body:
        assert found_body == body


def test_no_bit_of_head_key_and_metadata_can_be_flipped() -> None:
    whole = small(body=b"")
    for bit in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptEntry):
            frames.decode_whole(bytes(changed))


def test_no_frame_can_be_cut_or_lengthened() -> None:
    whole = small()
    for size in range(len(whole)):
        with pytest.raises(CorruptEntry):
            frames.decode_whole(whole[:size])
    with pytest.raises(CorruptEntry):
        frames.decode_whole(whole + b"\0")


def test_another_format_is_not_taken_for_this_one() -> None:
    whole = bytearray(small())
    whole[len(frames.MAGIC)] += 1
    with pytest.raises(CorruptEntry, match="known format"):
        frames.decode_whole(bytes(whole))


def test_versions_do_not_repeat() -> None:
    assert len({frames.new_version() for _ in range(1000)}) == 1000


def test_the_format_on_disk_does_not_change() -> None:
    # Whoever changes this makes every stored entry unreadable: a new FORMAT and a new folder.
    frame = Frame("key", b"meta", HAS_BODY, 4, frames.digest(b"body"), "00ff" * 4, 1.5, 2.5)
    assert encode_whole(frame, b"body").hex(" ", -8).split() == [
        "897366726573680a",  # magic
        "0100010003000000",  # format, flags, length of the key
        "0400000000000000",  # length of the metadata
        "0400000000000000",  # length of the body
        "177aefccffa6f74a",  # xxh3 of the body,
        "cbf1c497eac76e10",  #   128 bits
        "00ff00ff00ff00ff",  # version
        "000000000000f83f",  # stored at
        "0000000000000440",  # expires at
        "c9ea52553eb5334a",  # checksum
        b"bodykeym".hex(),
        b"eta".hex(),
    ]
